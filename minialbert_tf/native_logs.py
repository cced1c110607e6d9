"""Keeping the logs of native libraries off standard error.

TensorFlow and LiteRT log their start and end from C++, before or without any Python setting of a log level (LiteRT
issue 7420).
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STDERR = 2
_lock = threading.Lock()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discards what native code, and any other thread, writes to the process's standard error meanwhile."""
    with _lock:
        if not _has_stderr():
            yield
            return
        saved = os.dup(_STDERR)
        _discard()
        try:
            yield
        finally:
            os.dup2(saved, _STDERR)
            os.close(saved)


def leave_stderr_to_python() -> None:
    """Discards what native code writes to standard error from now on; Python goes on writing to it.

    Meant for a program of our own, not for a library: the process's file descriptor 2 is gone afterwards.
    """
    if _has_stderr() and sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr.flush()
        sys.stderr = os.fdopen(os.dup(_STDERR), "w", buffering=1, errors="backslashreplace")
        _discard()


def _has_stderr() -> bool:
    if sys.__stderr__ is None:  # closed before Python began, and its number may belong to another file
        return False
    with suppress(OSError):
        os.fstat(_STDERR)
        return True
    return False


def _discard() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
