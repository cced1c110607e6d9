"""Moving weights between checkpoints under the original's PyTorch names and Keras models."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from minialbert_tf.checkpoints.hub import SAFETENSORS_FILE, resolve
from minialbert_tf.checkpoints.reader import find_weights, read_tensors, write_safetensors
from minialbert_tf.config import CONFIG_FILE, TransformerConfig, read_json
from minialbert_tf.errors import CheckpointError, InputError
from minialbert_tf.files import replacing, write_json
from minialbert_tf.tokenization import WordPieceTokenizer

if TYPE_CHECKING:
    from minialbert_tf.models import PretrainedModel

Model = TypeVar("Model", bound="PretrainedModel")
logger = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")


class LoadReport(NamedTuple):
    """What became of the tensors of a checkpoint and the variables of a model; `str()` gives readable lines."""

    source: str
    loaded: tuple[str, ...]
    ignored: tuple[str, ...]
    initialised: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} tensors loaded"]
        if self.ignored:
            lines.append(f"ignored, not used by this model: {', '.join(self.ignored)}")
        if self.initialised:
            lines.append(f"newly initialised, to be trained: {', '.join(self.initialised)}")
        return "\n".join(lines)


class UnusedTensors(NamedTuple):
    """Tensors of a checkpoint that no variable takes but a round trip keeps."""

    arrays: dict[str, np.ndarray]


def load_pretrained(
    cls: type[Model], path_or_hub_id: str | Path, changes: Mapping[str, Any], new_head: bool = False
) -> Model:
    """Builds a `cls` from a checkpoint; see `PretrainedModel.from_pretrained`."""
    path = resolve(path_or_hub_id)
    folder = path if path.is_dir() else path.parent
    config = cls.config_class.from_dict(read_json(folder / CONFIG_FILE)).replace(**changes)
    tensors = read_tensors(find_weights(path))
    tokenizer = load_tokenizer(folder, config)
    model = cls(config)
    model.load_report = load_tensors(model, tensors, source=str(path), new_head=new_head)
    model.tokenizer = tokenizer
    if model.load_report.initialised:
        logger.warning("%s", model.load_report)
    return model


def load_tokenizer(folder: Path, config: TransformerConfig) -> WordPieceTokenizer | None:
    """Reads the checkpoint's tokenizer, if it has one.

    Raises:
        InputError: If it is damaged, or has ids that the model's embedding table lacks.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    tokenizer = WordPieceTokenizer.from_pretrained(folder)
    if len(tokenizer.vocabulary) > config.vocab_size:
        raise InputError(
            f"The tokenizer must not have more pieces than vocab_size={config.vocab_size}. "
            f"Received: {len(tokenizer.vocabulary)} in {folder}"
        )
    return tokenizer


def load_tensors(
    model: "PretrainedModel", tensors: Mapping[str, np.ndarray], source: str, new_head: bool = False
) -> LoadReport:
    """Assigns the tensors of a checkpoint to the variables of a model, all or none.

    Args:
        model: The model.
        tensors: Arrays by checkpoint name, of a model with or without head.
        source: What to call the checkpoint in messages.
        new_head: Leaves the head as it was initialised.

    Raises:
        CheckpointError: If any tensor is missing, unexpected or wrongly shaped; the message lists every one. Only a
            head's own tensors may be missing, all together, or left over.
    """
    naming = model.naming
    prefix = naming.prefix(tensors, model.config)
    tensors, problems = _modern(model, tensors, prefix)
    rows = [row._replace(name=naming.in_file(row.name, prefix)) for row in model.weight_rows()]
    head_names = {row.name for row in model.head_rows or ()}
    initialised = head_names if new_head or head_names.isdisjoint(tensors) else set()
    rows = [row for row in rows if row.name not in initialised]
    leftover = tensors.keys() - {row.name for row in rows}
    unused = {prefix + name: name for name in naming.unused if prefix + name in tensors}
    ignored = leftover & (unused.keys() | naming.heads)

    problems += [f"unexpected {name} {tensors[name].shape}" for name in sorted(leftover - ignored)]
    assignments = []
    for row in rows:
        variable = row.variable(model)
        if row.name not in tensors:
            problems.append(f"missing {row.name} for {row.path} {tuple(variable.shape)}")
            continue
        array = tensors[row.name]
        expected = row.convert(np.empty(tuple(variable.shape), np.bool_)).shape
        if array.shape != expected or array.dtype.kind != "f":
            problems.append(
                f"wrong {row.name} for {row.path}: expected float {expected}, received {array.dtype} {array.shape}"
            )
        assignments.append((variable, row.convert(array)))
    if problems:
        raise CheckpointError(f"{source} does not fit {type(model).__name__}: {'; '.join(problems)}")

    for variable, array in assignments:
        variable.assign(np.asarray(array, np.float32))
    model.unused_tensors = UnusedTensors({name: tensors[theirs] for theirs, name in unused.items()})
    return LoadReport(source, tuple(row.name for row in rows), tuple(sorted(ignored)), tuple(sorted(initialised)))


def named_tensors(model: "PretrainedModel", dtype: str = "float32") -> dict[str, np.ndarray]:
    """Returns the weights of a model under the original's names, as `load_tensors` reads them.

    Args:
        model: The model.
        dtype: "float32" or "float16".
    """
    naming = model.naming
    prefix = "" if model.head_rows is None else naming.head_prefix
    tensors = {naming.in_file(name, prefix): array for name, array in model.unused_tensors.arrays.items()}
    for row in model.weight_rows():
        array = row.convert(np.asarray(row.variable(model)))
        tensors[naming.in_file(row.name, prefix)] = np.ascontiguousarray(array, dtype=dtype)
    return tensors


def save_pretrained(model: "PretrainedModel", folder: str | Path, force: bool, dtype: str) -> None:
    """Writes a checkpoint folder; see `PretrainedModel.save_pretrained`."""
    if dtype not in ("float32", "float16"):
        raise InputError(f"dtype must be float32 or float16. Received: {dtype!r}")
    config = {**model.config.to_dict(), "architectures": [type(model).__name__], "torch_dtype": dtype}
    with replacing(folder, force) as new:
        new.mkdir()
        write_json(new / CONFIG_FILE, config)
        write_safetensors(new / SAFETENSORS_FILE, named_tensors(model, dtype))
        if model.tokenizer is not None:
            model.tokenizer.save(new)


def _modern(
    model: "PretrainedModel", tensors: Mapping[str, np.ndarray], prefix: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the tensors under their present names, each once, and what contradicts that."""
    modern: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        new = model.naming.modern(name)
        modern[name if new in tensors else new] = array
    problems = []
    for second, first in model.tied.items():
        first = model.naming.in_file(first, prefix)
        if second not in modern:
            continue
        array = modern.pop(second)
        if not np.array_equal(modern.setdefault(first, array), array):
            problems.append(f"untied {second}: must equal {first}")
    return modern, problems
