"""Plain text as a stream of documents: files of any size, compressed or not, of which memory holds little."""

import glob
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from minialbert_tf.errors import DataError

SEPARATORS = ("line", "blank-line")
MAX_DOCUMENT_BYTES: Final = 10_000_000
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GLOB_CHARACTERS = frozenset("*?[")


def find_files(patterns: Iterable[str]) -> list[Path]:
    """Returns the files of a corpus: names, and patterns such as "texts/**/*.txt.gz", whose matches are sorted.

    Raises:
        DataError: If a name is no file, a pattern matches none, or there is not a single one.
    """
    files: list[Path] = []
    for pattern in patterns:
        found = [Path(pattern)] if Path(pattern).is_file() else []
        if not found and _GLOB_CHARACTERS & set(pattern):
            names = glob.glob(pattern, recursive=True)  # noqa: PTH207  (Path.glob takes no absolute pattern)
            found = sorted(path for path in map(Path, names) if path.is_file())
        if not found:
            raise DataError(f"A corpus must be existing text files or a pattern that matches some. Received: {pattern}")
        files += found
    if not files:
        raise DataError("A corpus must have at least one file.")
    return files


def read_documents(files: Sequence[Path], separator: str = "line") -> Iterator[str]:
    """Reads the documents of text files in UTF-8, plain or gzip-compressed, one at a time.

    Args:
        files: The files.
        separator: "line" where each line is a document, "blank-line" where blank lines stand between documents.

    Yields:
        Documents that are not blank; the lines of one are joined by spaces.

    Raises:
        DataError: If a file cannot be read, is binary or not UTF-8, or a document is longer than
            `MAX_DOCUMENT_BYTES`; the message names file and line.
    """
    for path in files:
        document: list[str] = []
        size = 0
        for number, line in _read_lines(path):
            if separator == "line":
                if line:
                    yield line
            elif line:
                document.append(line)
                size += len(line)
                if size > MAX_DOCUMENT_BYTES:
                    raise DataError(_too_long(path, number))
            elif document:
                yield " ".join(document)
                document, size = [], 0
        if document:
            yield " ".join(document)


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the number of each line, from 1, and its text without white space at its ends."""
    number = 0
    try:
        with _open(path) as file:
            while line := file.readline(MAX_DOCUMENT_BYTES + 1):
                number += 1
                if len(line) > MAX_DOCUMENT_BYTES:
                    raise DataError(_too_long(path, number))
                yield number, _decode(line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line, path, number)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}:{number + 1}: The file must be readable. Received: {error}") from error


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(len(_GZIP)) == _GZIP
    return gzip.open(path) if compressed else path.open("rb")  # type: ignore[return-value]


def _decode(line: bytes, path: Path, number: int) -> str:
    if b"\0" in line:
        raise DataError(f"{path}:{number}: A corpus must be text, and this file is binary. Received: a NUL byte")
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: The text must be UTF-8. Received: byte 0x{line[error.start]:02x}") from error


def _too_long(path: Path, number: int) -> str:
    return f"{path}:{number}: A document must have at most {MAX_DOCUMENT_BYTES:,} bytes. Received: more"
