"""Export to a single .tflite file for phones."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import minialbert_tf
from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import Card, write_bundle
from minialbert_tf.export.flatbuffer import compact
from minialbert_tf.export.signatures import save_signatures
from minialbert_tf.files import check_free
from minialbert_tf.models import (
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
    PretrainedModel,
)
from minialbert_tf.tokenization import as_tokenizer

QUANTIZATIONS = ("int8", "float32")
DEFAULT_LENGTHS = (64, 128, 256)
MIN_LENGTH = 8  # [CLS], [SEP], and windows that can overlap

_TASKS = {
    MiniAlbertForTokenClassification: "token-classification",
    MiniAlbertForSequenceClassification: "text-classification",
}


def export_tflite(
    model: PretrainedModel,
    path: str | Path,
    tokenizer: Any = None,
    quantization: str = "int8",
    sequence_lengths: Sequence[int] = DEFAULT_LENGTHS,
    force: bool = False,
) -> Card:
    """Writes one file that holds the network, its vocabulary, labels and configuration.

    Each length L becomes a signature `length_L` with inputs `input_ids` and `attention_mask`, int32 [1, L] (and
    `token_type_ids` for sequence classification), and the output `logits`, float32; all share the same weights. Only
    TFLite's built-in operators are used. `minialbert_tf.Tagger.from_tflite` reads the file.

    Args:
        model: A `MiniAlbertForTokenClassification` or `MiniAlbertForSequenceClassification`.
        path: Where to write, by convention ending in .tflite.
        tokenizer: What `as_tokenizer` takes; the model's own by default.
        quantization: "int8" stores weights in 8 bits and computes with 8-bit activations scaled per call (dynamic
            range); "float32" leaves everything as trained.
        sequence_lengths: The lengths L, [CLS] and [SEP] included.
        force: Whether an existing file is replaced.

    Returns:
        The card that the file holds.

    Raises:
        InputError: If an argument is out of range, the file exists and `force` is false, or the converter fails.
    """
    task = _checked_task(model)
    check_free(path, force)
    if quantization not in QUANTIZATIONS:
        raise InputError(f"quantization must be one of {', '.join(QUANTIZATIONS)}. Received: {quantization!r}")
    lengths = _checked_lengths(sequence_lengths, model.config.max_position_embeddings)
    tokenizer = model.tokenizer if tokenizer is None else as_tokenizer(tokenizer)
    if tokenizer is None:
        raise InputError("The model has no tokenizer of its own: pass tokenizer=, such as a folder with vocab.txt.")
    return write_bundle(
        path,
        _convert(model, lengths, quantization),
        task=task,
        labels=model.config.labels,
        sequence_lengths=lengths,
        quantization=quantization,
        tokenizer=tokenizer,
        config=model.config.to_dict(),
        force=force,
    )


def _convert(model: PretrainedModel, lengths: Sequence[int], quantization: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="minialbert-") as folder:
        saved_model, converted = Path(folder) / "saved_model", Path(folder) / "model.tflite"
        save_signatures(model, saved_model, lengths)
        command = [sys.executable, "-m", "minialbert_tf.export.convert", str(saved_model), str(converted), quantization]
        # The child finds this very package, installed or not, wherever it is started.
        root = str(Path(minialbert_tf.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        child = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
        if child.returncode:
            reason = (child.stderr.strip().splitlines() or ["killed"])[-1]
            raise InputError(f"The TFLite converter failed with status {child.returncode}: {reason}")
        return compact(converted.read_bytes())


def _checked_task(model: PretrainedModel) -> str:
    for cls, task in _TASKS.items():
        if isinstance(model, cls):
            return task
    names = " or ".join(cls.__name__ for cls in _TASKS)
    raise InputError(f"Only a {names} can be exported. Received: {type(model).__name__}")


def _checked_lengths(lengths: Sequence[int], longest: int) -> tuple[int, ...]:
    valid = all(isinstance(length, int) and MIN_LENGTH <= length <= longest for length in lengths)
    if not lengths or not valid or len(set(lengths)) < len(lengths):
        raise InputError(
            f"sequence_lengths must be different integers from {MIN_LENGTH} to max_position_embeddings={longest}. "
            f"Received: {list(lengths)}"
        )
    return tuple(sorted(lengths))
