"""Measures one file in one engine, in a process that does nothing else: prints one JSON object.

python -m benchmarks.tflite_process ENGINE FILE LENGTH SECONDS [ONNX_SITE]
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minialbert_tf import benchmark_process
from minialbert_tf.benchmark_process import growth, memory_in_use, time_calls


def ours(path: Path, length: int, seconds: float) -> dict[str, Any]:
    """Measures the Tagger's runtime, with the weight cache."""
    return benchmark_process.measure(str(path), length, threads=1, seconds=seconds)


def interpreter(path: Path, length: int, seconds: float) -> dict[str, Any]:
    """Measures LiteRT's plain interpreter on the shortest signature that holds so many tokens."""
    from ai_edge_litert.interpreter import Interpreter

    def load() -> Callable[[], Any]:
        loaded = Interpreter(str(path), num_threads=1)
        loaded.allocate_tensors()
        lengths = sorted(int(name.removeprefix("length_")) for name in loaded.get_signature_list())
        runner = loaded.get_signature_runner(f"length_{next(each for each in lengths if length <= each)}")
        inputs = {
            name: np.ones(detail["shape"], detail["dtype"]) for name, detail in runner.get_input_details().items()
        }
        return lambda: runner(**inputs)

    return _measure(load, seconds)


def onnx(path: Path, length: int, seconds: float) -> dict[str, Any]:
    """Measures ONNX Runtime; dimensions that the file leaves free are `length`."""
    from onnxruntime import InferenceSession, SessionOptions

    types = {"tensor(int32)": np.int32, "tensor(uint8)": np.uint8}

    def load() -> Callable[[], Any]:
        options = SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs = {
            each.name: np.ones([size if isinstance(size, int) else length for size in each.shape], types[each.type])
            for each in session.get_inputs()
        }
        return lambda: session.run(None, inputs)

    return _measure(load, seconds)


def _measure(load: Callable[[], Callable[[], Any]], seconds: float) -> dict[str, Any]:
    before = memory_in_use()
    started = time.perf_counter()
    call = load()
    load_seconds = time.perf_counter() - started
    call()
    in_use = memory_in_use()
    return {
        "load_seconds": load_seconds,
        "call_seconds": time_calls(call, seconds),
        "memory": growth(before, in_use),
        "tokenizer_memory": None,
    }


ENGINES = {"ours": ours, "interpreter": interpreter, "onnx": onnx}


def main() -> None:
    engine, path, length, seconds, *site = sys.argv[1:]
    sys.path.extend(site)
    json.dump(ENGINES[engine](Path(path), int(length), float(seconds)), sys.stdout)


if __name__ == "__main__":
    main()
