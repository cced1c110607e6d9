"""Corpora of words and tags: what is read, what is converted, and what is refused at which line."""

from pathlib import Path

import pytest

from minialbert_tf.data.conll import Sentence, check_labels, label_names, read_conll, read_ner_folder
from minialbert_tf.errors import DataError
from minialbert_tf.ner import decode_spans

SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

NALOXONE = Sentence(("Naloxone", "helps", "."), ("B-Chemical", "O", "O"))
PAIN = Sentence(("No", "knee", "pain"), ("O", "B-Disease", "I-Disease"))
TEXT = "Naloxone\tB-Chemical\nhelps\tO\n.\tO\n\nNo\tO\nknee\tB-Disease\npain\tI-Disease\n"


@pytest.fixture
def corpus(tmp_path):
    """Writes a file and gives its path."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "train.tsv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


VARIANTS = {
    "plain": TEXT,
    "empty line at the end": TEXT + "\n",
    "no final newline": TEXT.removesuffix("\n"),
    "runs of blank lines": "\n\n \n" + TEXT.replace("\n\n", "\n\n\t\n\n") + "\n\n\n",
    "crlf": TEXT.replace("\n", "\r\n"),
    "cr": TEXT.replace("\n", "\r"),
    "a space": TEXT.replace("\t", " "),
    "spaces": TEXT.replace("\t", "   "),
    "four columns by tabs": TEXT.replace("\t", "\tNN\tB-NP\t"),
    "four columns by spaces": TEXT.replace("\t", " NN B-NP "),
    "docstart": "-DOCSTART- -X- -X- O\n\n" + TEXT.replace("\n\n", "\n-DOCSTART-\tO\n"),
    "byte order mark": "\ufeff" + TEXT,
}


@pytest.mark.parametrize("content", VARIANTS.values(), ids=VARIANTS)
def test_variants_of_the_format_read_alike(corpus, content):
    assert read_conll(corpus(content)) == [NALOXONE, PAIN]


def test_a_file_of_three_columns_gives_the_last_as_tag(corpus):
    (sentence,) = read_conll(corpus("Naloxone\tO\tB-Chemical\n"))
    assert sentence.tags == ("B-Chemical",)


@pytest.mark.parametrize("word", ["a b", "\x00", "a\x1cb", "a\x0cb", "a\u2028b", "a\x85b", "💊", "دواء", "-", "#"])
def test_odd_words_are_kept_as_they_are(corpus, word):
    assert read_conll(corpus(f"{word}\tO\n")) == [Sentence((word,), ("O",))]


@pytest.mark.parametrize(
    "iob1, iob2",
    [
        ("I-X I-X O I-X", "B-X I-X O B-X"),
        ("I-X B-X I-X", "B-X B-X I-X"),
        ("I-X I-Y B-Y O", "B-X B-Y B-Y O"),
        ("O I-X | I-X", "O B-X | B-X"),
    ],
)
def test_iob1_becomes_iob2(corpus, iob1, iob2):
    lines = "\n".join("" if tag == "|" else f"word\t{tag}" for tag in iob1.split())
    read = [tag for sentence in read_conll(corpus(lines)) for tag in (*sentence.tags, "|")]
    assert " ".join(read[:-1]) == iob2


@pytest.mark.parametrize("tags", ["B-X I-X O B-X", "B-X B-X I-X", "B-X B-Y I-Y", "O O", "B-X-1 I-X-1"])
def test_iob2_is_left_alone(corpus, tags):
    (sentence,) = read_conll(corpus("\n".join(f"word\t{tag}" for tag in tags.split())))
    assert " ".join(sentence.tags) == tags


@pytest.mark.parametrize(
    "tags, line, tag",
    [
        ("B-X O I-X", 3, "I-X"),
        ("B-X I-Y", 2, "I-Y"),
        ("I-X O B-X", 1, "I-X"),
        ("B-X O I-X O I-Z O B-Y", 3, "I-X"),
        ("B-X | I-X", 3, "I-X"),
        ("B-X I-X O B-Y O I-Y", 6, "I-Y"),
    ],
)
def test_a_span_without_b_in_an_iob2_file_is_refused(corpus, tags, line, tag):
    path = corpus("\n".join("" if tag == "|" else f"word\t{tag}" for tag in tags.split()))
    with pytest.raises(DataError) as error:
        read_conll(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert str(error.value).endswith(f"Received: {tag}")
    assert f"(as in line {1 + tags.split().index('B-X')}, B-X)" in str(error.value)


@pytest.mark.parametrize(
    "content, line, words",
    [
        ("a\tO\nb\n", 2, "a token and a tag. Received: 'b'"),
        ("a O\nb\n", 2, "a token and a tag"),
        ("a\tO\r\n\r\nb\r\n", 3, "a token and a tag"),
        ("a\tO\nb\rc\tO\n", 2, "a token and a tag. Received: 'b'"),
        ("\tO\n", 1, "must not be blank"),
        ("a\tO\n \tO\n", 2, "must not be blank"),
        ("\u00a0\tO\n", 1, "must not be blank"),
        ("a\tB-\n", 1, "Received: 'B-'"),
        ("a\tI-\n", 1, "Received: 'I-'"),
        ("a\t\n", 1, "Received: ''"),
        ("a\to\n", 1, "Received: 'o'"),
        ("a\tChemical\n", 1, "Received: 'Chemical'"),
        ("a\tB-X Y\n", 1, "Received: 'B-X Y'"),
        ("a\tB-X\nb\tE-X\n", 2, "BIOES"),
        ("a\tS-X\n", 1, "BIOES"),
        ("a\tU-X\n", 1, "BILOU"),
        (b"a\tO\n\xff\xfeb\tO\n", 2, "UTF-8. Received: byte 0xff"),
        (b"a\tO\r\n\r\nb\xc3\tO\r\n", 3, "UTF-8. Received: byte 0xc3"),
    ],
)
def test_a_broken_line_is_named(corpus, content, line, words):
    path = corpus(content)
    with pytest.raises(DataError) as error:
        read_conll(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "-DOCSTART- O\n\n"])
def test_a_file_without_sentences_is_refused(corpus, content):
    with pytest.raises(DataError, match="at least one sentence"):
        read_conll(corpus(content))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.tsv"):
        with pytest.raises(DataError, match="must be readable"):
            read_conll(path)


def test_a_folder_gives_the_parts_that_exist(tmp_path):
    (tmp_path / "test.tsv").write_text("a\tO\n")
    (tmp_path / "train.tsv").write_text(TEXT)
    (tmp_path / "other.tsv").write_text("broken\n")
    parts = read_ner_folder(tmp_path)
    assert list(parts) == ["train", "test"]
    assert parts["train"] == [NALOXONE, PAIN]


def test_a_folder_without_parts_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"one of train\.tsv, dev\.tsv and test\.tsv"):
        read_ner_folder(tmp_path)
    with pytest.raises(DataError, match="must be a folder"):
        read_ner_folder(tmp_path / "absent")


def test_label_names_have_both_tags_of_each_type():
    assert label_names([PAIN, NALOXONE]) == ["O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease"]
    assert label_names([Sentence(("a",), ("O",))]) == ["O"]


def test_labels_that_train_lacks_are_listed():
    check_labels([PAIN], label_names([PAIN]), "dev.tsv")
    other = Sentence(("a", "b", "c"), ("B-Gene", "I-Gene", "B-Cell"))
    with pytest.raises(DataError, match=r"^dev\.tsv: .*Received: B-Cell, B-Gene, I-Gene$"):
        check_labels([PAIN, other], label_names([PAIN]), "dev.tsv")


@pytest.mark.parametrize(
    "name, sentences, mentions",
    [
        ("ncbi-disease", (5424, 923, 940), (5134, 787, 960)),
        ("bc5cdr", (4560, 4581, 4797), (9385, 9593, 9809)),
        ("linnaeus", (11935, 4078, 7142), (2119, 711, 1433)),
        ("anatem", (5861, 2118, 3830), (6946, 2139, 4616)),
    ],
)
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the public corpora")
def test_public_corpora_have_their_published_counts(name, sentences, mentions):
    parts = read_ner_folder(SHARED_DATA / name)
    assert tuple(map(len, parts.values())) == sentences
    assert tuple(_count_mentions(part) for part in parts.values()) == mentions


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the public corpora")
def test_wikigold_is_converted_from_iob1():
    path = SHARED_DATA / "wikigold" / "all.tsv"
    sentences = read_conll(path)
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line]
    assert len(sentences) == 1696
    assert [word for sentence in sentences for word in sentence.words] == [line[0] for line in lines]
    assert _count_mentions(sentences) == 3558
    # Lenient decoding finds the same spans in the tags as they were: conversion lost and added none.
    start, spans = 0, 0
    for sentence in sentences:
        original = [line[1] for line in lines[start : start + len(sentence.tags)]]
        assert decode_spans(original) == decode_spans(sentence.tags)
        assert not any(tag.startswith("B-") for tag in original)
        spans += sum(tag.startswith("B-") for tag in sentence.tags)
        start += len(original)
    assert spans == 3558


def _count_mentions(sentences: list[Sentence]) -> int:
    return sum(tag.startswith("B-") for sentence in sentences for tag in sentence.tags)
