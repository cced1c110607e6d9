"""From a model to a verified .tflite file, in a process of its own: the converter leaks memory on every call."""

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
from minialbert_tf.config import MiniAlbertConfig
from minialbert_tf.data.conll import Sentence
from minialbert_tf.errors import InputError
from minialbert_tf.export.measurements import Measurements
from minialbert_tf.export.probes import Probe
from minialbert_tf.models import (
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
    PretrainedModel,
)
from minialbert_tf.tokenization import WordPieceTokenizer
from minialbert_tf.weight_cache import FOLDER_VARIABLE

MODEL_CLASSES: dict[str, type[PretrainedModel]] = {
    "token-classification": MiniAlbertForTokenClassification,
    "text-classification": MiniAlbertForSequenceClassification,
}
_CHECKPOINT = "model"
_REQUEST = "request.json"
_FILE = "quantized.tflite"
_MEASUREMENTS = "measurements.json"
_STANDARD_ERROR = 2


@dataclass(frozen=True)
class Conversion:
    """What to make of a model.

    Attributes:
        task: A key of `MODEL_CLASSES`.
        quantization: A key of `minialbert_tf.export.recipes.RECIPES`.
        lengths: The L of the signatures; just the longest if `dynamic`.
        config: What the file states as config.json; its num_hidden_layers may be less than the model's.
        dynamic: Whether the one signature takes sequences of any length.
        loop: Whether the recursion is a loop in the graph.
        calibration: Piece ids of texts in a row, on which ranges of activations are measured.
    """

    task: str
    quantization: str
    lengths: tuple[int, ...]
    config: dict[str, Any]
    dynamic: bool = False
    loop: bool = False
    calibration: tuple[int, ...] = ()

    @property
    def recursions(self) -> int:
        """How often the block is applied."""
        return self.config["num_hidden_layers"]

    @property
    def labels(self) -> list[str]:
        """Label names by id."""
        return MiniAlbertConfig.from_dict(self.config).labels


@dataclass(frozen=True)
class Checks:
    """What a file is verified on.

    Attributes:
        probes: Sequences on which it is compared with the network in floats.
        sentences: Labelled sentences on which its F1 is measured.
    """

    probes: tuple[Probe, ...]
    sentences: tuple[Sentence, ...] = ()


def convert(
    model: PretrainedModel, tokenizer: WordPieceTokenizer, conversion: Conversion, checks: Checks
) -> tuple[bytes, Measurements]:
    """Returns the .tflite file that a recipe asks for, and what was measured of it.

    Raises:
        InputError: If the converter fails.
    """
    with tempfile.TemporaryDirectory(prefix="minialbert-") as name:
        folder = Path(name)
        model.save_pretrained(folder / _CHECKPOINT)
        tokenizer.save(folder / _CHECKPOINT)
        request = {"conversion": dataclasses.asdict(conversion), "checks": dataclasses.asdict(checks)}
        (folder / _REQUEST).write_text(json.dumps(request))
        command = [sys.executable, "-m", "minialbert_tf.export.convert", name]
        # The child finds this very package, installed or not, wherever it is started, and leaves no files behind.
        root = str(Path(minialbert_tf.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, FOLDER_VARIABLE: ""}
        # Its standard output is progress, for who looks on; its standard error, TensorFlow's noise and the reason if
        # it fails.
        child = subprocess.run(command, env=environment, stdout=_STANDARD_ERROR, stderr=subprocess.PIPE, text=True)
        if child.returncode:
            lines = [line for line in child.stderr.strip().splitlines() if not line.startswith("INFO:")]
            reason = (lines or ["killed"])[-1]
            raise InputError(f"The TFLite converter failed with status {child.returncode}: {reason}")
        return (folder / _FILE).read_bytes(), Measurements.from_json(json.loads((folder / _MEASUREMENTS).read_text()))


def read_request(folder: Path) -> tuple[Any, Conversion, Checks]:
    """Returns the model, what to make of it and what to verify that on, as `convert` left them."""
    request = json.loads((folder / _REQUEST).read_text())
    conversion = Conversion(**request["conversion"])
    checks = Checks(
        tuple(Probe(**values) for values in request["checks"]["probes"]),
        tuple(Sentence(**values) for values in request["checks"]["sentences"]),
    )
    return MODEL_CLASSES[conversion.task].from_pretrained(folder / _CHECKPOINT), conversion, checks


def file_of(folder: Path) -> Path:
    """Returns where `convert` expects the file."""
    return folder / _FILE


def write_measurements(folder: Path, measured: Measurements) -> None:
    """Leaves what was measured for `convert`."""
    (folder / _MEASUREMENTS).write_text(json.dumps(measured.to_json()))
