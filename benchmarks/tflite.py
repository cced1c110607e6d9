"""Our .tflite files beside what else one might put on a phone, full size, one thread, in one run.

    pip install --target onnx-site onnxruntime onnx tf2onnx      # optional, for ONNX Runtime
    python -m benchmarks.tflite --vocabulary vocab.txt --onnx-site onnx-site

Files of random weights are made once. Then every case runs in a process of its own, and the cases take turns for some
rounds, so that whatever else the machine does slows all alike. Latencies are medians of the rounds' medians. The first
round is the first start and packs the weights, all others find them packed. Memory is what loading and one call add to
the process, without the tokenizer: resident, and the anonymous part that the system cannot drop or share.

The rate of 8-bit products is that of the operations of a call's matrix products with weights by the time of the whole
call. The machine's peak is the best that LiteRT or ONNX Runtime reaches on a product with a matrix of 3072 x 3072.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

import minialbert_tf as ma
from minialbert_tf.benchmarking import describe_machine
from minialbert_tf.tokenization import read_vocabulary
from minialbert_tf.weight_cache import FOLDER_VARIABLE

LENGTH, SHORT = 128, 20
PRODUCT_ROWS, PRODUCT_WIDTH = (128, 512, 2048), 3072


@dataclass(frozen=True)
class Case:
    """What runs: a file in an engine, on so many tokens."""

    name: str
    engine: str
    file: str
    tokens: int


CASES = (
    Case("ours int8", "ours", "ours_int8.tflite", LENGTH),
    Case("ours int8, one length", "ours", "ours_int8_one.tflite", LENGTH),
    Case("ours int4", "ours", "ours_int4.tflite", LENGTH),
    Case("ours float32, one length", "ours", "ours_float_one.tflite", LENGTH),
    Case("plain int8", "interpreter", "plain.tflite", LENGTH),
    Case("plain int8, one length", "interpreter", "plain_128.tflite", LENGTH),
    Case("BERT int8", "ours", "bert.tflite", LENGTH),
    Case("ours int8, short text", "ours", "ours_int8.tflite", SHORT),
    Case("plain int8, short text padded to 512", "interpreter", "plain_512.tflite", SHORT),
)
ONNX_CASES = (
    Case("ONNX int8", "onnx", "onnx_int8.onnx", LENGTH),
    Case("ONNX int8, short text", "onnx", "onnx_int8.onnx", SHORT),
)
PRODUCTS = tuple(Case(f"LiteRT product {rows}", "interpreter", "products.tflite", rows) for rows in PRODUCT_ROWS)
ONNX_PRODUCTS = tuple(Case(f"ONNX product {rows}", "onnx", "products.onnx", rows) for rows in PRODUCT_ROWS)


@dataclass(frozen=True)
class Figures:
    """What was measured of a case; memory in bytes, time in seconds."""

    size: int
    first_load: float
    load: float
    call: float
    resident: float
    anonymous: float


def measure(
    cases: Sequence[Case], folder: Path, rounds: int, seconds: float, onnx_site: Path | None
) -> dict[str, Figures]:
    """Returns the figures of each case by its name."""
    results: dict[str, list[dict[str, Any]]] = {case.name: [] for case in cases}
    site = [str(onnx_site)] if onnx_site else []
    with tempfile.TemporaryDirectory() as cache, tqdm(total=rounds * len(cases), unit="process", disable=None) as bar:
        for _ in range(rounds):
            for number, case in enumerate(cases):
                module = [sys.executable, "-m", "benchmarks.tflite_process", case.engine]
                command = [*module, str(folder / case.file), str(case.tokens), str(seconds), *site]
                environment = {**os.environ, FOLDER_VARIABLE: f"{cache}/{number}"}
                child = subprocess.run(command, env=environment, check=True, capture_output=True)
                results[case.name].append(json.loads(child.stdout))
                bar.update()
    return {case.name: _figures(folder / case.file, results[case.name]) for case in cases}


def _figures(path: Path, results: Sequence[dict[str, Any]]) -> Figures:
    first, *later = results

    def network_memory(name: str) -> float:
        return statistics.median(each["memory"][name] - (each["tokenizer_memory"] or {name: 0})[name] for each in later)

    return Figures(
        size=path.stat().st_size,
        first_load=first["load_seconds"],
        load=statistics.median(each["load_seconds"] for each in later),
        call=statistics.median(statistics.median(each["call_seconds"]) for each in results),
        resident=network_memory("resident"),
        anonymous=network_memory("anonymous"),
    )


def call_operations(tokens: int) -> float:
    """Returns the operations, two for each multiplication, of a call's products with weights."""
    config = ma.MiniAlbertConfig()
    hidden = config.hidden_size
    block = 4 * hidden**2 + 2 * hidden * config.intermediate_size + 4 * hidden * config.bottleneck_size
    return 2 * tokens * (config.num_hidden_layers * block + config.embedding_size * hidden)


def print_table(cases: Sequence[Case], figures: dict[str, Figures]) -> None:
    print("| case | tokens | file MB | latency ms | load ms: first, later | memory MB: resident, anonymous |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case in cases:
        each = figures[case.name]
        print(
            f"| {case.name} | {case.tokens} | {each.size / 1e6:.1f} | {each.call * 1e3:.1f} | "
            f"{each.first_load * 1e3:.0f}, {each.load * 1e3:.1f} | "
            f"{each.resident / 1e6:.1f}, {each.anonymous / 1e6:.1f} |"
        )


def print_comparisons(figures: dict[str, Figures]) -> None:
    """Prints what the figures were taken for."""
    ours, one = figures["ours int8"], figures["ours int8, one length"]
    plain, plain_one = figures["plain int8"], figures["plain int8, one length"]
    short, padded = figures["ours int8, short text"], figures["plain int8, short text padded to 512"]
    in_floats = figures["ours float32, one length"]
    print(f"\nanonymous memory: {ours.anonymous / 1e6:.1f} MB, with one length {one.anonymous / 1e6:.1f} MB")
    print(f"later load by the plain file's: {ours.load / plain.load:.2f}", end=", ")
    print(f"with one length {one.load / plain_one.load:.2f}")
    print(f"int8 latency by float32's: {one.call / in_floats.call:.2f}", end="; ")
    print(f"by the plain file's: {one.call / plain_one.call:.2f}")
    print(f"a text of {SHORT} tokens is {ours.call / short.call:.1f} times as fast as padded to {LENGTH}", end=", ")
    print(f"{padded.call / short.call:.1f} times as the plain file's padded to 512")


def print_rates(figures: dict[str, Figures]) -> None:
    """Prints the rate of 8-bit products beside the machine's."""
    products = [case for case in (*PRODUCTS, *ONNX_PRODUCTS) if case.name in figures]
    peaks = {case.name: 2 * case.tokens * PRODUCT_WIDTH**2 / figures[case.name].call for case in products}
    best = max(peaks.values())
    rate = call_operations(LENGTH) / figures["ours int8, one length"].call
    print(f"8-bit products: {rate / 1e9:.0f} GOP/s over the whole call, {rate / best:.0%} of the peak {best / 1e9:.0f}")
    print("; ".join(f"{name} rows: {peak / 1e9:.0f} GOP/s" for name, peak in peaks.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=Path, required=True, help="a vocab.txt, such as BERT's cased one")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/tflite"), help="for the files (default: build/tflite)"
    )
    parser.add_argument("--onnx-site", type=Path, help="folder of onnxruntime, onnx and tf2onnx")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=float, default=0.5, help="for a case in a round (default: 0.5)")
    arguments = parser.parse_args()

    from benchmarks.tflite_files import make_files  # tensorflow

    pieces = read_vocabulary(arguments.vocabulary.read_text(encoding="utf-8"))
    make_files(arguments.folder, ma.WordPieceTokenizer(pieces, lowercase=False), arguments.onnx_site)
    cases = (*CASES, *(ONNX_CASES if arguments.onnx_site else ()))
    products = (*PRODUCTS, *(ONNX_PRODUCTS if arguments.onnx_site else ()))
    figures = measure((*cases, *products), arguments.folder, arguments.rounds, arguments.seconds, arguments.onnx_site)
    print(shlex.join(["python", "-m", "benchmarks.tflite", *sys.argv[1:]]))
    print(", ".join(f"{name} {value}" for name, value in describe_machine().items()), end="\n\n")
    print_table(cases, figures)
    print_comparisons(figures)
    print_rates(figures)


if __name__ == "__main__":
    main()
