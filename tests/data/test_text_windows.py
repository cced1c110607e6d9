from collections import Counter
from itertools import islice

import numpy as np
import pytest

from minialbert_tf.data.text_windows import WindowPlan, Windows
from minialbert_tf.errors import DataError, InputError
from minialbert_tf.tokenization import WordPieceTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENIZER = WordPieceTokenizer.train([" ".join(LETTERS)], 40, lowercase=True)


def windows_of(tmp_path, documents, plan, **options):
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(documents), encoding="utf-8")
    return Windows([path], TOKENIZER, plan, **options)


def texts(windows, count, first=0):
    """The windows as strings of letters; every window must be framed by [CLS] and [SEP]."""
    found = []
    for ids in islice(windows.stream(first), count):
        assert ids.dtype == np.int32
        assert (ids[0], ids[-1]) == (TOKENIZER.cls_id, TOKENIZER.sep_id)
        found.append("".join(TOKENIZER.vocabulary[piece] for piece in ids[1:-1]))
    return found


def spaced(text):
    return " ".join(text)


def test_windows_overlap_by_the_stride_and_end_where_the_document_ends(tmp_path):
    windows = windows_of(tmp_path, [spaced(LETTERS), spaced("xyz")], WindowPlan(length=12, stride=6))
    assert sorted(texts(windows, 5)) == sorted(["abcdefghij", "ghijklmnop", "mnopqrstuv", "qrstuvwxyz", "xyz"])


def test_packed_windows_hold_every_piece_once_and_only_the_last_is_not_full(tmp_path):
    documents = [spaced(LETTERS[start:]) for start in range(20)]
    windows = windows_of(tmp_path, documents, WindowPlan(length=16, packed=True), buffer=1)
    everything = "".join(documents).replace(" ", "")
    count = -(-len(everything) // 14)
    found = texts(windows, count)
    assert Counter("".join(found)) == Counter(everything)
    assert sorted(map(len, found))[1:] == [14] * (count - 1)
    assert {text for text in found if len(text) == 14} <= {
        everything[i : i + 14] for i in range(0, len(everything), 14)
    }


def test_at_most_k_windows_of_a_document_and_others_in_the_next_pass(tmp_path):
    plan = WindowPlan(length=12, stride=2, per_document=2)
    windows = windows_of(tmp_path, [spaced(LETTERS)] * 3 + [spaced("xyz")], plan)
    passes = [texts(windows, 7, first) for first in (0, 7, 14)]
    for found in passes:
        assert found.count("xyz") == 1
    assert sorted(passes[0]) != sorted(passes[1]) != sorted(passes[2])


@pytest.mark.parametrize("plan", [WindowPlan(12, 6, per_document=2), WindowPlan(12, packed=True)])
def test_the_stream_goes_on_from_any_window(tmp_path, plan):
    documents = [spaced(LETTERS[start:]) for start in range(12)]
    options = {"seed": 3, "buffer": 5}
    everything = texts(windows_of(tmp_path, documents, plan, **options), 60)
    for first in (0, 1, 7, 17, 18, 19, 36, 59):
        assert texts(windows_of(tmp_path, documents, plan, **options), 60 - first, first) == everything[first:], first
    assert texts(windows_of(tmp_path, documents, plan, seed=4, buffer=5), 60) != everything


def test_each_pass_has_all_windows_in_another_order(tmp_path):
    documents = [spaced(LETTERS[start : start + 4]) for start in range(20)]
    found = texts(windows_of(tmp_path, documents, WindowPlan(12, 6)), 60)
    passes = [found[:20], found[20:40], found[40:]]
    assert sorted(passes[0]) == sorted(passes[1]) == sorted(passes[2])
    assert passes[0] != passes[1] != passes[2]


def test_memory_holds_the_buffer_and_not_the_corpus(tmp_path, monkeypatch):
    read = []
    original = Windows._encode

    def counted(self, documents):
        read.extend(documents)
        return original(self, documents)

    monkeypatch.setattr(Windows, "_encode", counted)
    windows = windows_of(tmp_path, [spaced("abcd")] * 5000, WindowPlan(12, 6), buffer=10)
    assert len(texts(windows, 20)) == 20
    assert len(read) <= 512


@pytest.mark.parametrize("documents", [[], ["", "  "], ["\u200b"]])
def test_an_empty_corpus_is_refused(tmp_path, documents):
    with pytest.raises(DataError, match=r"must hold some text. Received: .*corpus.txt"):
        next(windows_of(tmp_path, documents, WindowPlan()).stream())


def test_a_corpus_of_unknown_words_alone_is_refused_after_one_pass(tmp_path):
    stream = windows_of(tmp_path, ["9", "\u2603"], WindowPlan()).stream()
    assert [list(next(stream)[1:-1]) for _ in range(2)] == [[TOKENIZER.unk_id]] * 2
    with pytest.raises(DataError, match=r"must have words that the vocabulary knows. Received: .*corpus.txt"):
        next(stream)


@pytest.mark.parametrize("plan", [{"length": 7}, {"stride": 0}, {"stride": 255}, {"per_document": 0}])
def test_plans_out_of_range_are_refused(plan):
    with pytest.raises(InputError, match=f"windows' {next(iter(plan))} must be"):
        WindowPlan(**plan)
