"""Keeps what XNNPACK has packed of a model's weights, from one start to the next.

XNNPACK packs a weight for each of its uses: six recursions in five signatures hold 230 MB of a 12 MB file. Given a
cache it packs each once, and from a file on disk it maps what an earlier start has packed: pages that the system can
drop and share. But it checks neither that such a file is whole nor that it is of the same weights, and answers nonsense
if not. So a file here is named after what it depends on and after its own SHA-256, which is checked before use.
"""

import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ai_edge_litert

FOLDER_VARIABLE = "MINIALBERT_CACHE"
IN_MEMORY = ":memory"  # XNNPACK's name for a cache without a file
_SUFFIX = ".xnnpack"
_KEPT_FILES = 8
_CHUNK = 1 << 20
# XNNPACK aborts the process where it cannot write. It writes less than the model's size, but unpacks half floats.
_MOST_OF_MODEL = 2


@contextmanager
def packed_weights(model_sha256: str, model_bytes: int) -> Iterator[str]:
    """Gives the `xnnpack_weight_cache_path` to load a model with, inside the block.

    A first start packs into a new file, which later ones find. Where no file can be read or written the cache is in
    memory. Any number of processes may do this at once.

    Args:
        model_sha256: SHA-256 of the flatbuffer.
        model_bytes: Its size.
    """
    folder = cache_folder()
    found, new = None, None
    if folder is not None:
        key = _key(model_sha256)
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = _find(folder, key)
            new = None if found else _reserve(folder, key, _MOST_OF_MODEL * model_bytes)
    if folder is None or new is None:
        yield str(found or IN_MEMORY)
        return
    try:
        yield str(new)
        with suppress(OSError):
            new.replace(folder / f"{key}-{_digest(new)}{_SUFFIX}")
            _drop_oldest(folder)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def cache_folder() -> Path | None:
    """Returns the folder: $MINIALBERT_CACHE, or one in the user's caches; None if the variable is empty."""
    if FOLDER_VARIABLE in os.environ:
        return Path(os.environ[FOLDER_VARIABLE]) if os.environ[FOLDER_VARIABLE] else None
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home
        return None
    if sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        caches = home / "Library" / "Caches"
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(caches) / "minialbert"


def _key(model_sha256: str) -> str:
    """Returns a name for all that decides the content: weights, XNNPACK, and the processor it chooses kernels for."""
    parts = (model_sha256, ai_edge_litert.__version__, platform.machine(), processor_features())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def processor_features() -> str:
    """Returns what the processor says it can do, as one line; empty where nothing tells."""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                return line
    return os.environ.get("PROCESSOR_IDENTIFIER", "")  # Windows has it


def _find(folder: Path, key: str) -> Path | None:
    """Returns the file for a key, if there is one that is whole."""
    for path in folder.glob(f"{key}-*{_SUFFIX}"):
        if path.name == f"{key}-{_digest(path)}{_SUFFIX}":
            with suppress(OSError):  # somebody else's file, or a disk that is only read
                os.utime(path)
            return path
        path.unlink()
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reserve(folder: Path, key: str, size: int) -> Path:
    """Returns the path of a file yet to be written, after making sure that so much can be."""
    handle, name = tempfile.mkstemp(prefix=f".{key}.", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for _ in range(0, size, _CHUNK):
                file.write(bytes(_CHUNK))
    finally:
        path.unlink()
    return path


def _drop_oldest(folder: Path) -> None:
    paths = sorted((*folder.glob(f"*{_SUFFIX}"), *folder.glob(".*.*")), key=lambda path: path.stat().st_mtime)
    for path in paths[:-_KEPT_FILES]:
        path.unlink()
