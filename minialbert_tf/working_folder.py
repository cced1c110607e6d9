"""The folder beside an output in which a run keeps its state, to go on after it was killed."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minialbert_tf.config import read_json
from minialbert_tf.errors import InputError
from minialbert_tf.files import replacing, write_json

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows
    flock = None  # type: ignore[assignment]

_SETTINGS = "settings.json"


def open_folder(folder: Path, settings: Mapping[str, Any], restart: bool = False) -> None:
    """Makes the working folder of a run, or checks that it belongs to the same run.

    Args:
        folder: The folder.
        settings: All that decides the result, as JSON values.
        restart: Whether to drop what another run has left there.

    Raises:
        InputError: If the folder was made with other settings (the message names them), or is none of a run.
    """
    path = folder / _SETTINGS
    if not path.is_file() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"The working folder must be free or of a run; move what is there. Received: {folder}")
    if restart or not path.is_file():
        with replacing(folder, force=True) as new:
            new.mkdir()
            write_json(new / _SETTINGS, settings)
        return
    saved, wanted = _flat(read_json(path)), _flat(settings)
    differing = [
        f"{key}: {saved.get(key)!r} then, {wanted.get(key)!r} now"
        for key in sorted(saved.keys() | wanted.keys())
        if saved.get(key) != wanted.get(key)
    ]
    if differing:
        raise InputError(
            f"Only a run with the same settings can be resumed in {folder}; use --restart to begin anew. "
            f"Received: {'; '.join(differing)}"
        )


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the settings with those in dicts named by their path, such as "weights.mlm"."""
    if not isinstance(settings, Mapping):
        return {prefix: settings}
    names = {key: f"{prefix}.{key}" if prefix else key for key in settings}
    return {name: value for key, path in names.items() for name, value in _flat(settings[key], path).items()}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from using a working folder meanwhile; a lock ends with its process, however that ends.

    Raises:
        InputError: If another process uses it.
    """
    if flock is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise InputError(f"Only one run at a time may use a working folder. Received: {folder}") from None
        yield
    finally:
        os.close(handle)
