"""Corpora for named-entity recognition: files with a token and its tag on each line."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from minialbert_tf.errors import DataError

_TAG = re.compile(r"O|[BI]-\S+")
_OTHER_SCHEME = re.compile(r"[ELMSUW]-\S+")


@dataclass(frozen=True, slots=True)
class Sentence:
    """The words of one sentence and their IOB2 tags; both have the same length."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


class _Token(NamedTuple):
    """A word, its tag as the file has it, and the line they stand on."""

    word: str
    tag: str
    line: int


def read_lines(path: Path) -> list[str]:
    """Reads a text file as UTF-8, with or without a byte order mark, with Unix, Windows or old Mac line ends.

    Only these end a line: the characters U+2028, form feed and the like belong to the text.

    Returns:
        The lines without their ends. A last line that is not ended counts; there is no empty line after the last end.

    Raises:
        DataError: If the file cannot be read or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"The file must be readable ({error.strerror}). Received: {path}") from error
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: The text must be UTF-8. Received: byte 0x{data[error.start]:02x}") from error
    return text.removesuffix("\n").split("\n") if text else []


def part_files(folder: str | Path) -> dict[str, Path]:
    """Finds train.tsv, dev.tsv and test.tsv.

    Returns:
        The path of each part that exists, by "train", "dev" and "test", in this order.

    Raises:
        DataError: If `folder` is no folder or has none of the files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"The data must be a folder with train.tsv, dev.tsv or test.tsv. Received: {folder}")
    files = {part: folder / f"{part}.tsv" for part in ("train", "dev", "test")}
    files = {part: path for part, path in files.items() if path.is_file()}
    if not files:
        raise DataError(f"The folder must have one of train.tsv, dev.tsv and test.tsv. Received: {folder}")
    return files


def read_conll(path: str | Path) -> list[Sentence]:
    """Reads a corpus: a token and its tag on each line, an empty line between sentences.

    Columns are separated by a tab or, in lines without one, by spaces; of more than two columns the first and the last
    count, as in CoNLL-2003. Lines that start with -DOCSTART- only end a sentence. IOB1 tags become IOB2.

    Args:
        path: A UTF-8 file.

    Returns:
        The sentences, at least one, each with at least one word.

    Raises:
        DataError: If the file breaks the format; the message names the line.
    """
    path = Path(path)
    sentences = list(_split_sentences(path))
    if not sentences:
        raise DataError(f"The file must have at least one sentence. Received: {path}")
    _check_scheme(sentences, path)
    return [Sentence(tuple(token.word for token in tokens), _to_iob2(tokens)) for tokens in sentences]


def read_ner_folder(folder: str | Path) -> dict[str, list[Sentence]]:
    """Reads train.tsv, dev.tsv and test.tsv, whichever exist.

    Returns:
        The sentences of each part, by "train", "dev" and "test".

    Raises:
        DataError: If none of the files exists or one breaks the format.
    """
    return {part: read_conll(path) for part, path in part_files(folder).items()}


def label_names(sentences: Iterable[Sentence]) -> list[str]:
    """Returns "O", then B- and I- of every entity type in alphabetical order, whether or not both occur."""
    types = sorted({tag[2:] for sentence in sentences for tag in sentence.tags if tag != "O"})
    return ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]


def check_labels(sentences: Iterable[Sentence], labels: Sequence[str], path: str | Path) -> None:
    """Refuses tags that a model was not trained on.

    Args:
        sentences: A dev or test part.
        labels: The label names of the training part.
        path: Where the sentences come from, for the message.

    Raises:
        DataError: If a tag is not among `labels`; the message lists all of them.
    """
    unknown = sorted({tag for sentence in sentences for tag in sentence.tags} - set(labels))
    if unknown:
        raise DataError(f"{path}: Every tag must be one of {', '.join(labels)}. Received: {', '.join(unknown)}")


def _split_sentences(path: Path) -> Iterator[list[_Token]]:
    tokens: list[_Token] = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip(" \t") and not line.startswith("-DOCSTART-"):
            tokens.append(_parse_token(line, path, number))
        elif tokens:
            yield tokens
            tokens = []
    if tokens:
        yield tokens


def _parse_token(line: str, path: Path, number: int) -> _Token:
    columns = line.split("\t") if "\t" in line else line.strip(" ").split(" ")
    word, tag = columns[0], columns[-1].strip(" ")
    if len(columns) == 1:
        raise DataError(f"{path}:{number}: A line must have a token and a tag. Received: {line[:80]!r}")
    if not word.strip():
        raise DataError(f"{path}:{number}: A token must not be blank. Received: {line[:80]!r}")
    if not _TAG.fullmatch(tag):
        hint = "; BIOES and BILOU tags must be converted to IOB2 first" if _OTHER_SCHEME.fullmatch(tag) else ""
        raise DataError(f"{path}:{number}: A tag must be O, B-TYPE or I-TYPE{hint}. Received: {tag[:80]!r}")
    return _Token(word, tag, number)


def _check_scheme(sentences: list[list[_Token]], path: Path) -> None:
    """Refuses a file whose tags are neither all IOB2 nor all IOB1.

    The two differ in the first word of a span. In IOB2 it is always B-. In IOB1 it is I-, and B- stands only directly
    after a span of the same type. So a span that follows anything else shows the scheme, and two can contradict.
    """
    iob1: _Token | None = None
    iob2: _Token | None = None
    for tokens in sentences:
        before = ""
        for token in tokens:
            if token.tag[0] == "I" and token.tag[2:] != before:
                iob1 = iob1 or token
            elif token.tag[0] == "B" and token.tag[2:] != before:
                iob2 = iob2 or token
            before = token.tag[2:]
    if iob1 and iob2:
        raise DataError(
            f"{path}:{iob1.line}: I- must follow a B- or I- tag of its type, because the spans of this file open with "
            f"B- (as in line {iob2.line}, {iob2.tag}). Received: {iob1.tag}"
        )


def _to_iob2(tokens: list[_Token]) -> tuple[str, ...]:
    """Opens every span with B-; this leaves IOB2 as it is."""
    tags, before = [], ""
    for token in tokens:
        kind = token.tag[2:]
        tags.append(f"B-{kind}" if kind and kind != before else token.tag)
        before = kind
    return tuple(tags)
