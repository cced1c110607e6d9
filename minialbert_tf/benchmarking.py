"""Latency, load time, memory and size of .tflite files, each measured in fresh processes."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np

import minialbert_tf
from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import read_bundle
from minialbert_tf.weight_cache import FOLDER_VARIABLE

_MEGA = 1e6


@dataclass(frozen=True)
class Case:
    """What one measurement is of: a file, pieces of a sequence, threads of a call."""

    path: Path
    length: int
    threads: int


@dataclass(frozen=True)
class Measurement:
    """A file's figures at one length and number of threads. MB are 10^6 bytes.

    Attributes:
        file: Path of the file.
        quantization: As its card says.
        size_mb: Its size.
        length: Pieces of the sequence, [CLS] and [SEP] included.
        threads: Threads of one call.
        p50_ms: Median latency of a call.
        p95_ms: 95 % of the calls were as fast.
        tokens_per_second: Pieces by the median latency.
        first_load_ms: From the path to a tagger that is ready, with nothing packed by an earlier start.
        later_load_ms: The same at the next start.
        later_network_ms: The network's part of it; the rest is to check the file and set up the tokenizer.
        resident_mb: What the tagger adds to the process after one call of a later start; None where Linux's /proc is
            missing.
        anonymous_mb: The part of it that no file backs, and that the kernel cannot drop or share.
        tokenizer_mb: The tokenizer's part of `anonymous_mb`.
        f1: Entity F1 on a corpus, 0 to 1; None if there was none.
    """

    file: str
    quantization: str
    size_mb: float
    length: int
    threads: int
    p50_ms: float
    p95_ms: float
    tokens_per_second: float
    first_load_ms: float
    later_load_ms: float
    later_network_ms: float
    resident_mb: float | None
    anonymous_mb: float | None
    tokenizer_mb: float | None
    f1: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


def plan(paths: Sequence[Path], lengths: Sequence[int] | None, threads: Sequence[int]) -> list[Case]:
    """Returns what is to be measured.

    Args:
        paths: Files that `minialbert_tf.export.export_tflite` wrote.
        lengths: Pieces of the sequences; None: the lengths of each file's signatures.
        threads: Numbers of threads.

    Raises:
        InputError: If one of the files cannot be used, is named twice, is too short for a length, or a number is
            less than 1.
    """
    for name, numbers in (("Lengths", lengths or ()), ("Numbers of threads", threads)):
        if len(set(numbers)) < len(numbers) or any(number < 1 for number in numbers):
            raise InputError(f"{name} must be different and at least 1. Received: {' '.join(map(str, numbers))}")
    if len(set(paths)) < len(paths):
        raise InputError(f"The files must be different. Received: {' '.join(map(str, paths))}")
    cases = []
    for path in paths:
        longest = read_bundle(path).card.sequence_lengths
        for length in lengths or longest:
            if length > longest[-1]:
                raise InputError(f"{path} takes at most {longest[-1]} pieces. Received: a length of {length}")
            cases += [Case(path, length, number) for number in threads]
    return cases


def measure(cases: Sequence[Case], seconds: float, scores: Mapping[Path, float]) -> Iterator[Measurement]:
    """Yields the measurement of each case.

    Args:
        cases: What to measure.
        seconds: How long each is run.
        scores: F1 of files, as far as it is known.

    Raises:
        InputError: If a measuring process fails.
    """
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="minialbert-benchmark-") as cache:
            first = _measured_process(case, cache, seconds=0.0)
            later = _measured_process(case, cache, seconds)
        yield _measurement(case, first, later, scores.get(case.path))


def _measured_process(case: Case, cache: str, seconds: float) -> dict[str, Any]:
    module = "minialbert_tf.benchmark_process"
    command = [sys.executable, "-m", module, str(case.path), str(case.length), str(case.threads), str(seconds)]
    # The child finds this very package, installed or not, wherever it is started.
    root = str(Path(minialbert_tf.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, FOLDER_VARIABLE: cache}
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    if child.returncode:
        reason = (child.stderr.strip().splitlines() or ["killed"])[-1]
        raise InputError(f"Measuring {case.path} failed with status {child.returncode}: {reason}")
    return json.loads(child.stdout)


def _measurement(case: Case, first: dict[str, Any], later: dict[str, Any], f1: float | None) -> Measurement:
    p50, p95 = np.percentile(later["call_seconds"], [50, 95])
    memory, tokenizer = later["memory"], later["tokenizer_memory"]
    return Measurement(
        file=str(case.path),
        quantization=read_bundle(case.path).card.quantization,
        size_mb=case.path.stat().st_size / _MEGA,
        length=case.length,
        threads=case.threads,
        p50_ms=p50 * 1000,
        p95_ms=p95 * 1000,
        tokens_per_second=case.length / p50,
        first_load_ms=(first["read_seconds"] + first["load_seconds"]) * 1000,
        later_load_ms=(later["read_seconds"] + later["load_seconds"]) * 1000,
        later_network_ms=later["load_seconds"] * 1000,
        resident_mb=memory and memory["resident"] / _MEGA,
        anonymous_mb=memory and memory["anonymous"] / _MEGA,
        tokenizer_mb=tokenizer and tokenizer["anonymous"] / _MEGA,
        f1=f1,
    )


def describe_machine() -> dict[str, str | int | None]:
    """Returns what the figures depend on: processor, cores, versions."""
    return {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "ai-edge-litert": ai_edge_litert.__version__,
    }


def _processor_name() -> str:
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("length", "length", "d"),
    ("threads", "threads", "d"),
    ("p50 ms", "p50_ms", ".2f"),
    ("p95 ms", "p95_ms", ".2f"),
    ("tokens/s", "tokens_per_second", ",.0f"),
    ("first load ms", "first_load_ms", ".1f"),
    ("later load ms", "later_load_ms", ".1f"),
    ("resident MB", "resident_mb", ".1f"),
    ("anonymous MB", "anonymous_mb", ".1f"),
)


def format_table(measurements: Sequence[Measurement]) -> str:
    """Returns a readable table: a heading for each file, a line for each of its measurements."""
    widths = [max(len(title), 6) for title, _, _ in _COLUMNS]
    lines = []
    for number, row in enumerate(measurements):
        if number == 0 or row.file != measurements[number - 1].file:
            f1 = "" if row.f1 is None else f", F1 {row.f1:.4f}"
            tokenizer = "" if row.tokenizer_mb is None else f", tokenizer {row.tokenizer_mb:.1f} MB anonymous"
            lines += ["", f"{row.file}: {row.size_mb:.2f} MB, {row.quantization}{tokenizer}{f1}"]
            lines.append("  ".join(title.rjust(width) for (title, _, _), width in zip(_COLUMNS, widths, strict=True)))
        values = asdict(row)
        cells = ["-" if values[key] is None else format(values[key], style) for _, key, style in _COLUMNS]
        lines.append("  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))
    return "\n".join(lines[1:])
