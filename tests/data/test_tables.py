"""Tables with a header: columns by name, labels as classes or numbers, and what is refused at which line."""

from pathlib import Path

import pytest

from minialbert_tf.data.tables import Row, class_names, read_table, read_table_folder
from minialbert_tf.errors import DataError

SST2 = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "glue" / "SST-2"

TEXT = "sentence\tlabel\nIt works .\t1\nNo effect .\t0\n"
ROWS = [Row("It works .", None, "1"), Row("No effect .", None, "0")]


@pytest.fixture
def table(tmp_path):
    """Writes a file and gives its path."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "train.tsv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        TEXT.removesuffix("\n"),
        TEXT.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.replace("\n", "\n\n"),
        "label\tindex\tsentence\n1\t0\tIt works .\n0\t1\tNo effect .\n",
    ],
    ids=["plain", "no_final_newline", "crlf", "bom", "empty_lines", "other_order"],
)
def test_variants_of_the_format_read_alike(table, content):
    assert read_table(table(content)) == ROWS


def test_columns_are_chosen_by_name(table):
    path = table("id\tquestion\tpassage\tanswer\n7\tWhy ?\tBecause .\tyes\n")
    assert read_table(path, "question", "passage", "answer") == [Row("Why ?", "Because .", "yes")]
    assert read_table(path, "passage", label_column=None) == [Row("Because .")]


def test_quotes_and_odd_characters_are_text(table):
    text = "\"It 's \x00 \u2028 \x0c 'fine"
    assert read_table(table(f'sentence\tlabel\n{text}\t"a"\n')) == [Row(text, None, '"a"')]


def test_regression_labels_are_numbers(table):
    path = table("sentence\tlabel\na\t2.5\nb\t-1e1\nc\t 3 \n")
    assert [row.label for row in read_table(path, regression=True)] == [2.5, -10.0, 3.0]
    assert [row.label for row in read_table(path)] == ["2.5", "-1e1", "3"]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "two", "1,5", "0x10"])
def test_labels_that_are_no_numbers_are_refused_in_regression(table, number):
    path = table(f"sentence\tlabel\na\t1\nb\t{number}\n")
    assert len(read_table(path)) == 2
    with pytest.raises(DataError, match=f"{path}:3: .*finite number. Received: '{number}'"):
        read_table(path, regression=True)


@pytest.mark.parametrize(
    "content, line, words",
    [
        ("sentence\tlabel\na\t1\nb\n", 3, "as many fields as the header, 2. Received: 1"),
        ("sentence\tlabel\n\na\t1\tx\n", 3, "as many fields as the header, 2. Received: 3"),
        ("sentence\tlabel\na\t\n", 2, "A label must not be empty"),
        ("sentence\tlabel\na\t \n", 2, "A label must not be empty"),
        ("text\tlabel\na\t1\n", 1, "'sentence' once. Received: 'text, label'"),
        ("sentence\ta\nb\tc\n", 1, "'label' once. Received: 'sentence, a'"),
        ("sentence\tlabel\tlabel\na\t1\t2\n", 1, "'label' once"),
        ("sentence,label\na,1\n", 1, "'sentence' once. Received: 'sentence,label'"),
        (b"sentence\tlabel\na\t1\n\xe9t\xe9\t1\n", 3, "UTF-8. Received: byte 0xe9"),
    ],
)
def test_a_broken_line_is_named(table, content, line, words):
    path = table(content)
    with pytest.raises(DataError) as error:
        read_table(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_pair_column_is_named(table):
    with pytest.raises(DataError, match="'second' once"):
        read_table(table(TEXT), pair_column="second")


@pytest.mark.parametrize("content", ["", "\n", "sentence\tlabel\n", "sentence\tlabel\n\n\n"])
def test_a_table_without_rows_is_refused(table, content):
    with pytest.raises(DataError, match="a header and at least one line"):
        read_table(table(content))


def test_a_folder_gives_the_parts_that_exist(tmp_path):
    (tmp_path / "dev.tsv").write_text("text\tother\tscore\na\tb\t0.5\n")
    (tmp_path / "train.tsv").write_text("text\tother\tscore\nc\td\t1\n")
    parts = read_table_folder(tmp_path, "text", "other", "score", regression=True)
    assert parts == {"train": [Row("c", "d", 1.0)], "dev": [Row("a", "b", 0.5)]}
    with pytest.raises(DataError, match=f"{tmp_path / 'train.tsv'}:1"):
        read_table_folder(tmp_path)


@pytest.mark.parametrize(
    "labels, names",
    [
        ("10 9 1 9", "1 9 10"),
        ("0.5 -1 -10 2", "-10 -1 0.5 2"),
        ("b a 10 9", "10 9 a b"),
        ("nan 2 10", "10 2 nan"),
        ("yes no yes", "no yes"),
    ],
)
def test_class_names_are_sorted_by_number_or_else_by_letter(labels, names):
    assert class_names([Row("text", None, label) for label in labels.split()]) == names.split()


@pytest.mark.skipif(not SST2.is_dir(), reason="needs the public corpora")
def test_sst2_is_read_whole():
    parts = read_table_folder(SST2)
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 67349, "dev": 872}
    assert class_names(parts["train"]) == class_names(parts["dev"]) == ["0", "1"]
    assert all(row.text and row.pair is None for row in parts["train"])
