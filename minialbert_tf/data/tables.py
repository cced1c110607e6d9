"""Tables for classification and regression: tab-separated files with a header, as in the GLUE benchmark."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from minialbert_tf.data.conll import part_files, read_lines
from minialbert_tf.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """A sentence or a pair of sentences, with the name of its class or its score, if known."""

    text: str
    pair: str | None = None
    label: str | float | None = None


def read_table(
    path: str | Path,
    text_column: str = "sentence",
    pair_column: str | None = None,
    label_column: str | None = "label",
    regression: bool = False,
) -> list[Row]:
    """Reads a table whose first line names the columns. Quotes are text, as in GLUE; empty lines are skipped.

    Args:
        path: A UTF-8 file.
        text_column: Name of the column with the (first) sentence.
        pair_column: Name of the column with the second sentence, for pairs.
        label_column: Name of the column with the class or score; None for unlabelled tables.
        regression: Whether labels are numbers.

    Returns:
        One row per line, at least one. Labels are floats if `regression`, else strings.

    Raises:
        DataError: If a column is missing or a line breaks the format; the message names the line.
    """
    path = Path(path)
    lines = read_lines(path)
    if not any(lines[1:]):
        raise DataError(f"The file must have a header and at least one line. Received: {path}")
    names = lines[0].split("\t")
    text = _column_index(names, text_column, path)
    pair = None if pair_column is None else _column_index(names, pair_column, path)
    label = None if label_column is None else _column_index(names, label_column, path)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) != len(names):
            raise DataError(
                f"{path}:{number}: A line must have as many fields as the header, {len(names)}. Received: {len(fields)}"
            )
        rows.append(
            Row(
                fields[text],
                None if pair is None else fields[pair],
                None if label is None else _parse_label(fields[label], regression, f"{path}:{number}"),
            )
        )
    return rows


def read_table_folder(
    folder: str | Path,
    text_column: str = "sentence",
    pair_column: str | None = None,
    label_column: str | None = "label",
    regression: bool = False,
) -> dict[str, list[Row]]:
    """Reads train.tsv, dev.tsv and test.tsv, whichever exist; the other arguments are those of `read_table`.

    Returns:
        The rows of each part, by "train", "dev" and "test".

    Raises:
        DataError: If none of the files exists or one breaks the format.
    """
    return {
        part: read_table(path, text_column, pair_column, label_column, regression)
        for part, path in part_files(folder).items()
    }


def class_names(rows: Iterable[Row]) -> list[str]:
    """Returns the distinct labels: by number if all of them are numbers, else in alphabetical order."""
    names = sorted({str(row.label) for row in rows if row.label is not None})
    numbers = [_parse_number(name) for name in names]
    if None in numbers:
        return names
    return [name for _, name in sorted(zip(numbers, names, strict=True))]


def _column_index(names: list[str], name: str, path: Path) -> int:
    if names.count(name) != 1:
        columns = ", ".join(names)[:200]
        raise DataError(f"{path}:1: The header must name the column {name!r} once. Received: {columns!r}")
    return names.index(name)


def _parse_label(field: str, regression: bool, place: str) -> str | float:
    label = field.strip()
    if not label:
        raise DataError(f"{place}: A label must not be empty. Received: {field!r}")
    if not regression:
        return label
    value = _parse_number(label)
    if value is None:
        raise DataError(f"{place}: A label must be a finite number. Received: {label[:80]!r}")
    return value


def _parse_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
