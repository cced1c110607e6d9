"""Processes of workers on this machine, for tests."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
SECONDS = 600  # no process of a test may take longer, on a busy machine


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def tf_config(ports: list[int], index: int) -> str:
    """Returns the TF_CONFIG of one of several workers on this machine."""
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


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
