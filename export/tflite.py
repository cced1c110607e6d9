"""Export to a single .tflite file for phones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minialbert_tf.config import MiniAlbertConfig
from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import Card, write_bundle
from minialbert_tf.export.conversion import Conversion, convert
from minialbert_tf.export.recipes import GRAPHS, RECIPES
from minialbert_tf.files import check_free
from minialbert_tf.models import (
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
    PretrainedModel,
)
from minialbert_tf.tokenization import as_tokenizer

DEFAULT_LENGTHS = (32, 64, 128, 256, 512)
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
    sequence_lengths: Sequence[int] | None = None,
    force: bool = False,
    *,
    graph: str = "unrolled",
    dynamic: bool = False,
    recursions: int | None = None,
) -> Card:
    """Writes one file that holds the network, its vocabulary, labels and configuration.

    Each length L becomes a signature `length_L` with inputs `input_ids` and `attention_mask`, int32 [1, L] (and
    `token_type_ids` for sequence classification), and the output `logits`, float32; all share the same weights. Only
    TFLite's built-in operators are used. `minialbert_tf.Tagger.from_tflite` reads the file.

    Args:
        model: A `MiniAlbertForTokenClassification` or `MiniAlbertForSequenceClassification`.
        path: Where to write, by convention ending in .tflite.
        tokenizer: What `as_tokenizer` takes; the model's own by default.
        quantization: A name in `minialbert_tf.export.recipes.RECIPES`, which says what it means. "int8" stores
            weights in 8 bits and computes with 8-bit activations scaled per token; "float32" leaves everything as
            trained.
        sequence_lengths: The lengths L, [CLS] and [SEP] included; by default `DEFAULT_LENGTHS` as far as the model
            goes.
        force: Whether an existing file is replaced.
        graph: "unrolled" repeats the block in the graph, which every delegate takes; "loop" has it once, for runtimes
            that would otherwise hold its packed weights once for each recursion.
        dynamic: Whether there is one signature only, named after the longest L, that takes sequences of any length up
            to it. Runs on CPUs; delegates for GPUs and NPUs want fixed lengths.
        recursions: How often the block is applied; by default as often as the model does.

    Returns:
        The card that the file holds.

    Raises:
        InputError: If an argument is out of range, the file exists and `force` is false, or the converter fails.
    """
    model_class, task = _checked_task(model)
    check_free(path, force)
    if quantization not in RECIPES:
        raise InputError(f"quantization must be one of {', '.join(RECIPES)}. Received: {quantization!r}")
    if graph not in GRAPHS:
        raise InputError(f"graph must be one of {', '.join(GRAPHS)}. Received: {graph!r}")
    config = _shallower(model.config, recursions)
    lengths = _checked_lengths(sequence_lengths, config.max_position_embeddings)
    tokenizer = model.tokenizer if tokenizer is None else as_tokenizer(tokenizer)
    if tokenizer is None:
        raise InputError("The model has no tokenizer of its own: pass tokenizer=, such as a folder with vocab.txt.")
    conversion = Conversion(
        model_class=model_class.__name__,
        quantization=quantization,
        lengths=lengths[-1:] if dynamic else lengths,
        recursions=config.num_hidden_layers,
        dynamic=dynamic,
        loop=graph == "loop",
    )
    _, flatbuffer = convert(model, conversion)
    return write_bundle(
        path,
        flatbuffer,
        task=task,
        labels=config.labels,
        sequence_lengths=conversion.lengths,
        quantization=quantization,
        tokenizer=tokenizer,
        config=config.to_dict(),
        force=force,
    )


def _checked_task(model: PretrainedModel) -> tuple[type[PretrainedModel], str]:
    for cls, task in _TASKS.items():
        if isinstance(model, cls):
            return cls, task
    names = " or ".join(cls.__name__ for cls in _TASKS)
    raise InputError(f"Only a {names} can be exported. Received: {type(model).__name__}")


def _shallower(config: MiniAlbertConfig, recursions: int | None) -> MiniAlbertConfig:
    if recursions is None:
        return config
    if type(recursions) is not int or not 0 < recursions <= config.num_hidden_layers:
        raise InputError(
            f"recursions must be a number from 1 to num_hidden_layers={config.num_hidden_layers}. "
            f"Received: {recursions!r}"
        )
    return config.replace(num_hidden_layers=recursions)


def _checked_lengths(lengths: Sequence[int] | None, longest: int) -> tuple[int, ...]:
    if lengths is None:
        lengths = sorted({min(length, longest) for length in DEFAULT_LENGTHS})
    valid = all(isinstance(length, int) and MIN_LENGTH <= length <= longest for length in lengths)
    if not lengths or not valid or len(set(lengths)) < len(lengths):
        raise InputError(
            f"sequence_lengths must be different integers from {MIN_LENGTH} to max_position_embeddings={longest}. "
            f"Received: {list(lengths)}"
        )
    return tuple(sorted(lengths))
