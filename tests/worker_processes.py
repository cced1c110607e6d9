"""Processes of workers on this machine, for tests."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
SECONDS = 600  # no process of a test may take longer, on a busy machine


def start(command: list[object], errors: Path | int = subprocess.PIPE, **environment: str) -> subprocess.Popen:
    """Starts Python with a command line; what it writes to standard error is added to a file or kept."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    values = {
        **os.environ,
        "PYTHONPATH": path,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTRAOP_THREADS": "1",
        **environment,
    }
    words = [sys.executable, *map(str, command)]
    if isinstance(errors, int):
        return subprocess.Popen(words, env=values, stdout=subprocess.PIPE, stderr=errors, text=True)
    with errors.open("a") as file:
        return subprocess.Popen(words, env=values, stdout=subprocess.DEVNULL, stderr=file, text=True)


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Waits for processes; returns the status, standard output and standard error of each."""
    try:
        texts = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, out or "", err or "") for process, (out, err) in zip(processes, texts, strict=True)]
