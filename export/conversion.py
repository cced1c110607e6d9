"""From a model to TFLite flatbuffers, in a process of their own: the converter leaks memory on every call."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minialbert_tf
from minialbert_tf.errors import InputError
from minialbert_tf.models import PretrainedModel

_CHECKPOINT = "model"
_CONVERSION = "conversion.json"
_FLOAT = "float.tflite"
_QUANTIZED = "quantized.tflite"


@dataclass(frozen=True)
class Conversion:
    """What to make of a model.

    Attributes:
        model_class: Name of the class in `minialbert_tf`.
        quantization: A key of `minialbert_tf.export.recipes.RECIPES`.
        lengths: The L of the signatures; just the longest if `dynamic`.
        recursions: How often the block is applied.
        dynamic: Whether the one signature takes sequences of any length.
        loop: Whether the recursion is a loop in the graph.
        calibration: Sequences of piece ids on which ranges of activations are measured.
    """

    model_class: str
    quantization: str
    lengths: tuple[int, ...]
    recursions: int
    dynamic: bool = False
    loop: bool = False
    calibration: tuple[tuple[int, ...], ...] = ()


def convert(model: PretrainedModel, conversion: Conversion) -> tuple[bytes, bytes]:
    """Returns the flatbuffer in floats, for comparison, and the one that the recipe asks for.

    Raises:
        InputError: If the converter fails.
    """
    with tempfile.TemporaryDirectory(prefix="minialbert-") as name:
        folder = Path(name)
        model.save_pretrained(folder / _CHECKPOINT)
        (folder / _CONVERSION).write_text(json.dumps(dataclasses.asdict(conversion)))
        command = [sys.executable, "-m", "minialbert_tf.export.convert", name]
        # The child finds this very package, installed or not, wherever it is started.
        root = str(Path(minialbert_tf.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        child = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
        if child.returncode:
            reason = (child.stderr.strip().splitlines() or ["killed"])[-1]
            raise InputError(f"The TFLite converter failed with status {child.returncode}: {reason}")
        return (folder / _FLOAT).read_bytes(), (folder / _QUANTIZED).read_bytes()


def read_request(folder: Path) -> tuple[Any, Conversion]:
    """Returns the model and what to make of it, as `convert` left them for the other process."""
    conversion = Conversion(**json.loads((folder / _CONVERSION).read_text()))
    return getattr(minialbert_tf, conversion.model_class).from_pretrained(folder / _CHECKPOINT), conversion


def write_answer(folder: Path, in_floats: bytes, quantized: bytes) -> None:
    """Leaves the flatbuffers for `convert`."""
    (folder / _FLOAT).write_bytes(in_floats)
    (folder / _QUANTIZED).write_bytes(quantized)
