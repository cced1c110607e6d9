"""Measures one .tflite file in a process that does nothing else, so that time and memory are its own.

    python -m minialbert_tf.benchmark_process FILE LENGTH THREADS SECONDS

prints one JSON object, see `measure`. Packed weights are taken from, and left in, $MINIALBERT_CACHE.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIN_CALLS = 20
_WARM_UP_CALLS = 2
_KIB = 1024


def measure(path: str, length: int, threads: int, seconds: float) -> dict[str, Any]:
    """Loads a file and runs it.

    Args:
        path: A file that `minialbert_tf.export.export_tflite` wrote.
        length: Pieces of the sequence to run.
        threads: Number of threads that one call uses.
        seconds: How long to repeat the call, `MIN_CALLS` times at least; 0 for not at all.

    Returns:
        `read_seconds` to check the file and set up its tokenizer; `load_seconds` to load its network; `call_seconds`
        of each call; and by how many bytes the process grew (see `memory_in_use`) until the tokenizer was set up,
        `tokenizer_memory`, and until the network had run once, `memory`.
    """
    # Imported before the first look at the memory: their share is the same for all files.
    from minialbert_tf.export.bundle import read_bundle
    from minialbert_tf.litert_runtime import LiteRTRuntime

    before = memory_in_use()
    started = time.perf_counter()
    bundle = read_bundle(path)
    read_seconds = time.perf_counter() - started
    with_tokenizer = memory_in_use()
    started = time.perf_counter()
    runtime = LiteRTRuntime(bundle, threads)
    load_seconds = time.perf_counter() - started
    vocabulary_size = len(bundle.tokenizer.vocabulary)
    sequence = [number % vocabulary_size for number in range(length)]
    runtime.predict([sequence])
    in_use = memory_in_use()
    return {
        "read_seconds": read_seconds,
        "load_seconds": load_seconds,
        "call_seconds": time_calls(lambda: runtime.predict([sequence]), seconds) if seconds else [],
        "tokenizer_memory": growth(before, with_tokenizer),
        "memory": growth(before, in_use),
    }


def time_calls(call: Callable[[], Any], seconds: float) -> list[float]:
    """Returns the seconds of each of the calls that `seconds` have room for, `MIN_CALLS` at least."""
    for _ in range(_WARM_UP_CALLS):
        call()
    calls: list[float] = []
    while len(calls) < MIN_CALLS or sum(calls) < seconds:
        started = time.perf_counter()
        call()
        calls.append(time.perf_counter() - started)
    return calls


def memory_in_use() -> dict[str, int] | None:
    """Returns the bytes that the process has in memory: `resident` in all, and `anonymous`, which no file backs.

    The kernel can drop and share pages of files, such as those of weights; anonymous ones it cannot. None where the
    kernel does not tell.
    """
    gc.collect()
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    except OSError:  # not Linux
        return None
    sizes = dict(line.split(":", 1) for line in lines)
    return {name: int(sizes[key].split()[0]) * _KIB for name, key in (("resident", "Rss"), ("anonymous", "Anonymous"))}


def growth(before: dict[str, int] | None, after: dict[str, int] | None) -> dict[str, int] | None:
    """Returns the difference of two looks at the memory."""
    if before is None or after is None:
        return None
    return {name: after[name] - before[name] for name in before}


if __name__ == "__main__":
    file, *numbers = sys.argv[1:]
    json.dump(measure(file, int(numbers[0]), int(numbers[1]), float(numbers[2])), sys.stdout)
