import gzip
import io
import json

import pytest
from corpus_samples import HOSTILE, TAGGED

from minialbert_tf.pipelines import records
from minialbert_tf.pipelines.records import Failure, Line, Record, Tagged, failure_line, parse, read_lines, result_line
from minialbert_tf.tagger import Entity

ERRORS = {
    7: "must be JSON. Received: Unterminated string",
    8: "must be JSON",
    9: "must be a JSON object. Received: list",
    10: "must have a text. Received: none",
    11: "must be a string. Received: int",
    12: "must be a string or an integer. Received: bool",
    13: "must be JSON. Received: the number NaN",
    14: "must be JSON. Received: the number 1e999",
    15: "must be UTF-8. Received: byte 0xff",
    16: "must be JSON. Received: maximum recursion depth",
    17: "must be JSON. Received: Exceeds the limit",
    18: "must have at most 1,000,000 bytes. Received: more",
}


def read(content: bytes, name: str = "f.jsonl", format: str = "jsonl") -> list:
    return [
        line if isinstance(line, Failure) else parse(line) for line in read_lines(io.BytesIO(content), name, format)
    ]


def test_every_line_is_a_record_or_a_failure_of_its_own():
    items = read(b"\n".join(HOSTILE))
    assert [item.source for item in items] == [f"f.jsonl:{number}" for number in range(1, len(HOSTILE) + 1)]
    assert [number for number, item in enumerate(items, start=1) if isinstance(item, Record)] == TAGGED
    assert ERRORS.keys() == set(range(1, len(HOSTILE) + 1)) - set(TAGGED)
    for number, message in ERRORS.items():
        assert message in items[number - 1].error
        written = failure_line(items[number - 1])
        assert written.count(b"\n") == 1 and len(written) < 400


def test_ids_and_fields():
    items = read(b"\n".join(HOSTILE))
    assert [items[number - 1].id for number in TAGGED] == [
        "f.jsonl:1",
        "a-1",
        "a-1",
        7,
        *(f"f.jsonl:{n}" for n in (5, 6, 19)),
    ]
    assert items[9].id == "no-text" and items[10].id == "x" and items[11].id == "f.jsonl:12"
    entity = Entity("own", "X", 0, 3, 0.5)
    line = json.loads(result_line(Tagged(items[1], [entity])))
    assert list(line) == ["id", "text", "entities", "year", "nested"]
    assert line["entities"] == [entity.to_json()] and line["nested"] == {"k": [1, None]}
    assert "id" not in json.loads(result_line(Tagged(items[1], []), with_id=False))


def test_lines_of_text():
    content = b"\xef\xbb\xbfone\r\n\n two \xe2\x80\xa8 \n\xef\xbb\xbfthree"
    texts = [record.text for record in read(content, format="text")]
    assert texts == ["one", "", " two \u2028 ", "\ufeffthree"]


def test_output_is_utf8_except_for_half_a_surrogate_pair():
    assert "α".encode() in result_line(Tagged(Record("1", "f:1", "α"), []))
    assert json.loads(result_line(Tagged(Record("1", "f:1", "α\ud800"), [])))["text"] == "α\ud800"


def test_the_longest_record_is_exactly_that():
    for size, error in ((records.MAX_RECORD_BYTES, False), (records.MAX_RECORD_BYTES + 1, True)):
        first, second = read_lines(io.BytesIO(b"a" * (size - 1) + b"\nb"), "f", "text")
        assert isinstance(first, Failure) == error and second == Line("f:2", b"b", "text")


@pytest.mark.parametrize("damage", ["truncated", "garbled", "trailing"])
def test_a_damaged_file_is_read_as_far_as_it_goes(damage):
    whole = gzip.compress(b"".join(b"line %d\n" % number for number in range(20_000)), compresslevel=1)
    content = {
        "truncated": whole[: len(whole) // 2],
        "garbled": whole[: len(whole) // 2] + bytes(100) + whole[len(whole) // 2 + 100 :],
        "trailing": whole + b"no gzip",
    }[damage]
    *lines, last = read_lines(gzip.GzipFile(fileobj=io.BytesIO(content)), "f.gz", "text")
    intact = len(lines) // 3  # what follows the damage may look like lines, too, until the checksum
    assert [line.content for line in lines[:intact]] == [b"line %d\n" % number for number in range(intact)]
    assert intact > 500
    assert last.unreadable and "must be whole" in last.error and last.source == f"f.gz:{len(lines) + 1}"


def test_formats_by_name():
    names = {
        "a.txt": "text",
        "a.jsonl": "jsonl",
        "a.ndjson.gz": "jsonl",
        "a.jsonl.txt": "text",
        "a": "text",
        "a.gz": "text",
    }
    assert {name: records.format_of(name) for name in names} == names
    assert records.format_of("a.txt", "jsonl") == "jsonl" and records.format_of("a.jsonl", "text") == "text"
