"""Files of a corpus as blocks of lines, read one after the other."""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Final, cast

from minialbert_tf.data.corpus import find_files
from minialbert_tf.errors import InputError
from minialbert_tf.pipelines.processes import Block, Model
from minialbert_tf.pipelines.records import (
    AUTO,
    FORMATS,
    Failure,
    Item,
    Line,
    Record,
    format_of,
    is_compressed,
    read_lines,
)

BLOCK_LINES: Final = 128
BLOCK_BYTES: Final = 1 << 16
_SMALL_BYTES: Final = 1 << 18  # below it, starting processes takes longer than they save
_COMPRESSION: Final = 4


def distinct_files(patterns: Sequence[str]) -> list[Path]:
    """Returns the files of a corpus, each once however many patterns match it, after opening each once.

    Raises:
        DataError: If a pattern matches no file.
        OSError: If one cannot be opened, which is better known now than after hours.
    """
    files: dict[Path, Path] = {}
    for path in find_files(patterns):
        path.open("rb").close()
        files.setdefault(path.resolve(), path)
    return list(files.values())


def check_format(format: str) -> str:
    """Returns the format.

    Raises:
        InputError: If there is none of that name.
    """
    if format not in (AUTO, *FORMATS):
        raise InputError(f"format must be one of {', '.join((AUTO, *FORMATS))}. Received: {format}")
    return format


def workers_for(files: Iterable[Path], model: Model) -> int:
    """Returns the number of processes that pay for the texts of some files."""
    size = sum(path.stat().st_size * (_COMPRESSION if path.suffix == ".gz" else 1) for path in files)
    return 1 if size < _SMALL_BYTES else model.default_workers()


def read_blocks(files: Sequence[Path], format: str = AUTO, skip: int = 0) -> Iterator[Block]:
    """Reads files in blocks of about a second's work, which may reach over several files.

    Args:
        files: The files, plain or gzip-compressed.
        format: One of `FORMATS`, or "auto".
        skip: How many lines to leave out.
    """
    sized = (
        (line, len(line.content) if isinstance(line, Line) else 0, position)
        for line, position in islice(_read(files, format), skip, None)
    )
    yield from _blocks(sized)


def blocks_of_texts(texts: Iterable[str], name: str) -> Iterator[Block]:
    """Puts the texts of a file into such blocks."""
    records = (Record(number, f"{name}:{number}", text) for number, text in enumerate(texts, start=1))
    yield from _blocks((record, len(record.text), 0) for record in records)


def _blocks(lines: Iterable[tuple[Item, int, int]]) -> Iterator[Block]:
    """Puts lines into blocks; each comes with its size and the position behind it."""
    block: list[Item] = []
    size = 0
    position = 0
    for line, line_size, position in lines:
        block.append(line)
        size += line_size
        if len(block) >= BLOCK_LINES or size >= BLOCK_BYTES:
            yield Block(block, position)
            block, size = [], 0
    if block:
        yield Block(block, position)


def _read(files: Iterable[Path], format: str) -> Iterator[tuple[Line | Failure, int]]:
    """Yields lines, each with the bytes of files, compressed or not, that are read by then."""
    before = 0
    for path in files:
        with path.open("rb") as raw:
            file = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if is_compressed(raw) else raw
            for line in read_lines(file, str(path), format_of(path.name, format)):
                yield line, before + raw.tell()
        before += path.stat().st_size
