import gzip

import pytest

from minialbert_tf.data import corpus
from minialbert_tf.data.corpus import find_files, read_documents
from minialbert_tf.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b.txt").write_text("third\n\n  fourth \n", encoding="utf-8")
    (tmp_path / "deep").mkdir()
    with gzip.open(tmp_path / "deep" / "c.txt.gz", "wt", encoding="utf-8") as file:
        file.write("fünfter\nsixth")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst\r\nsecond\r\n")
    return tmp_path


def test_names_and_patterns_find_files_in_order(folder):
    assert find_files([f"{folder}/*.txt"]) == [folder / "a.txt", folder / "b.txt"]
    assert find_files([f"{folder}/b.txt", f"{folder}/**/*.gz"]) == [folder / "b.txt", folder / "deep" / "c.txt.gz"]
    (folder / "odd[1].txt").write_text("x")
    assert find_files([f"{folder}/odd[1].txt"]) == [folder / "odd[1].txt"]


@pytest.mark.parametrize("patterns", [[], ["missing.txt"], ["*.nothing"], ["."]])
def test_a_corpus_must_exist(patterns):
    with pytest.raises(DataError, match="A corpus must"):
        find_files(patterns)


def test_documents_are_lines_or_separated_by_blank_lines(folder):
    files = [folder / "a.txt", folder / "b.txt", folder / "deep" / "c.txt.gz"]
    assert list(read_documents(files)) == ["first", "second", "third", "fourth", "fünfter", "sixth"]
    assert list(read_documents(files, "blank-line")) == ["first second", "third", "fourth", "fünfter sixth"]


def test_only_line_feeds_end_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("one\u2028two\x0cthree\x85four\n", encoding="utf-8")
    assert list(read_documents([tmp_path / "a.txt"])) == ["one\u2028two\x0cthree\x85four"]


@pytest.mark.parametrize("separator", corpus.SEPARATORS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"fine\n\x00\x01binary", r"a.txt:2: A corpus must be text, and this file is binary"),
        (b"fine\nfine\n\xff\xfe", r"a.txt:3: The text must be UTF-8. Received: byte 0xff"),
        (b"fine\n" + b"a" * 101, r"a.txt:2: A document must have at most 100 bytes"),
        (
            gzip.compress(b"fine\n" * 1000, mtime=0)[:-20],
            r"a.txt:\d+: The file must be readable. Received: Compressed file ended",
        ),
        (gzip.compress(b"fine", mtime=0)[:12] + b"\xff" * 20, r"a.txt:1: The file must be readable"),
        (gzip.compress(b"a" * 10**7, mtime=0), r"a.txt:1: A document must have at most 100 bytes"),
    ],
)
def test_what_is_no_text_is_refused_with_file_and_line(tmp_path, monkeypatch, separator, content, message):
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 100)
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_documents([tmp_path / "a.txt"], separator))
    assert "\n" not in str(caught.value)


def test_a_document_of_many_lines_is_refused_where_it_becomes_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 100)
    (tmp_path / "a.txt").write_text("forty characters, of which there is many\n" * 5)
    with pytest.raises(DataError, match=r"a.txt:3: A document must have at most"):
        list(read_documents([tmp_path / "a.txt"], "blank-line"))
    assert len(list(read_documents([tmp_path / "a.txt"]))) == 5


def test_a_folder_among_the_files_is_refused(tmp_path):
    with pytest.raises(DataError, match="must be readable"):
        list(read_documents([tmp_path]))
