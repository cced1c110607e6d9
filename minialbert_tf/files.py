"""Writing files and folders so that nothing is lost or left half-written."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minialbert_tf.errors import InputError


def check_free(path: str | Path, force: bool = False) -> Path:
    """Returns `path`, or refuses it before any work is done.

    Args:
        path: A file or folder that is about to be written.
        force: Whether replacing an existing one is wanted.

    Raises:
        InputError: If it exists (an empty folder counts as free) and `force` is false, or has no name of its own.
    """
    path = Path(path)
    if path.name in ("", ".."):
        raise InputError(f"The output must have a name, which takes its place when all is written. Received: {path}")
    occupied = any(path.iterdir()) if path.is_dir() else path.exists()
    if occupied and not force:
        raise InputError(f"The output must not exist yet; use force (--force) to replace it. Received: {path}")
    return path


@contextmanager
def replacing(path: str | Path, force: bool = False) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what is written there takes its place when the block ends well.

    The block creates a file or a folder at the yielded path. If it raises, or the process dies, `path` is as it was.

    Raises:
        InputError: If `path` exists and `force` is false.
    """
    path = check_free(path, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        new = scratch / path.name
        yield new
        for file in [new] if new.is_file() else new.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if path.is_dir():  # a folder cannot be replaced in one step: the old one steps aside first
            path.rename(scratch / "old")
            try:
                new.rename(path)
            except OSError:
                (scratch / "old").rename(path)
                raise
        else:
            new.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes readable JSON into a file that is not yet in its place (see `replacing`)."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
