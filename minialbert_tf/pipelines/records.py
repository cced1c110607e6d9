"""The records of a corpus: one on each line of its files, and one JSON line for what became of each.

A line of a text file is a text. A line of a JSONL file is an object with a "text" and, if it likes, an "id"; its other
fields are handed through. Every line becomes one line of the output or one of the errors, whatever is in it.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import IO, Any, Final

from minialbert_tf.errors import InputError
from minialbert_tf.tagger import Entity

FORMATS: Final = ("text", "jsonl")
AUTO: Final = "auto"  # by the file's name
MAX_RECORD_BYTES: Final = 1_000_000
_JSONL_SUFFIXES = frozenset((".jsonl", ".ndjson"))
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it stands in a file.

    Attributes:
        source: Where it is from, "FILE:NUMBER", numbers from 1.
        content: Its bytes, line end included.
        format: One of `FORMATS`.
    """

    source: str
    content: bytes
    format: str


@dataclass(frozen=True, slots=True)
class Record:
    """A text to tag.

    Attributes:
        id: Its own id, or its source.
        source: Where it is from.
        text: The text.
        fields: What else its line had.
    """

    id: str | int
    source: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that cannot be tagged.

    Attributes:
        id: Its own id if it is known, or its source.
        source: Where it is from.
        error: Why, in one line.
        unreadable: Whether the rest of its file is lost, too.
    """

    id: str | int
    source: str
    error: str
    unreadable: bool = False


Item = Line | Record | Failure  # what is yet to be parsed, to be tagged, or neither


@dataclass(frozen=True, slots=True)
class Tagged:
    """A record and the entities in its text."""

    record: Record
    entities: list[Entity]


Outcome = Tagged | Failure


def format_of(name: str, wanted: str = AUTO) -> str:
    """Returns the format of a file: the wanted one, or what its name says, with or without .gz."""
    if wanted != AUTO:
        return wanted
    suffixes = [suffix for suffix in PurePath(name).suffixes if suffix != ".gz"]
    return "jsonl" if suffixes and suffixes[-1] in _JSONL_SUFFIXES else "text"


def is_compressed(file: IO[bytes]) -> bool:
    """Tells whether a file at its start is gzip-compressed, whatever its name is, and leaves it at its start."""
    compressed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    return compressed


def read_lines(file: IO[bytes], name: str, format: str, first: int = 1) -> Iterator[Line | Failure]:
    """Reads the lines of an open file, from line `first` on, where it stands.

    A line that is too long, and one where the file turns out to be damaged, is a failure; neither takes more memory
    than `MAX_RECORD_BYTES`.
    """
    number = first
    try:
        while content := file.readline(MAX_RECORD_BYTES + 1):
            source = f"{name}:{number}"
            if len(content) > MAX_RECORD_BYTES:
                _skip_rest(file, content)
                error = f"A record must have at most {MAX_RECORD_BYTES:,} bytes. Received: more"
                yield Failure(source, source, error)
            else:
                yield Line(source, content.removeprefix(_BYTE_ORDER_MARK) if number == 1 else content, format)
            number += 1
    except _DAMAGED as error:
        source = f"{name}:{number}"
        message = f"The file must be whole; from this line on it is lost. Received: {error}"
        yield Failure(source, source, message, unreadable=True)


def _skip_rest(file: IO[bytes], content: bytes) -> None:
    while content and not content.endswith(b"\n"):
        content = file.readline(MAX_RECORD_BYTES)


def parse(line: Line) -> Record | Failure:
    """Returns the record of a line."""
    try:
        text = line.content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        wrong = line.content[error.start]
        return Failure(line.source, line.source, f"A record must be UTF-8. Received: byte 0x{wrong:02x}")
    return Record(line.source, line.source, text) if line.format == "text" else _parse_json(line.source, text)


def _parse_json(source: str, text: str) -> Record | Failure:
    try:
        fields = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        return Failure(source, source, f"A record must be JSON. Received: {error}")
    if not isinstance(fields, dict):
        return Failure(source, source, f"A record must be a JSON object. Received: {type(fields).__name__}")
    own_id = fields.pop("id", source)
    if isinstance(own_id, bool) or not isinstance(own_id, str | int):
        return Failure(source, source, f"An id must be a string or an integer. Received: {type(own_id).__name__}")
    if "text" not in fields:
        return Failure(own_id, source, "A record must have a text. Received: none")
    content = fields.pop("text")
    if not isinstance(content, str):
        return Failure(own_id, source, f"A text must be a string. Received: {type(content).__name__}")
    return Record(own_id, source, content, fields)


def _refuse(constant: str) -> float:
    raise ValueError(f"the number {constant}")


def _finite(digits: str) -> float:
    value = float(digits)
    return _refuse(digits) if value in (float("inf"), float("-inf")) else value


def result_line(tagged: Tagged, with_id: bool = True) -> bytes:
    """Returns a line of the output: id, text, entities, then the record's other fields.

    Raises:
        InputError: If its fields are nested too deeply to be written.
    """
    record = tagged.record
    start = {"id": record.id} if with_id else {}
    line = {**start, "text": record.text, "entities": [entity.to_json() for entity in tagged.entities]}
    try:
        return _json_line({**line, **{name: value for name, value in record.fields.items() if name not in line}})
    except RecursionError as error:
        raise InputError("A record's fields must not be nested so deeply.") from error


def failure_line(failure: Failure) -> bytes:
    """Returns a line of the errors: id, source, error."""
    return _json_line({"id": failure.id, "source": failure.source, "error": " ".join(failure.error.split())})


def _json_line(value: dict[str, Any]) -> bytes:
    """Returns JSON in UTF-8, with escapes only where it holds half a surrogate pair, which UTF-8 cannot."""
    try:
        return (json.dumps(value, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(value) + "\n").encode()
