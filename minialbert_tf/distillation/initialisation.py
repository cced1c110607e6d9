"""A student's first weights, computed from its teacher's."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from minialbert_tf.adapter import BottleneckAdapter
from minialbert_tf.attention import attention_bias
from minialbert_tf.distillation.layer_map import LayerMap
from minialbert_tf.errors import InputError
from minialbert_tf.pretrained import Head, Inputs, PretrainedModel

_TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")
_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings", "type_vocab_size")
_RIDGE = 1e-5  # of the mean variance


def initialise(
    student: PretrainedModel,
    teacher: PretrainedModel,
    samples: Iterable[Inputs],
    start_layer: int | None = None,
    layer_map: LayerMap | Iterable[int] | None = None,
) -> None:
    """Sets a student's weights so that it begins near its teacher.

    The embedding tables are the teacher's in the E directions in which its embeddings vary most on the samples (a
    truncated singular value decomposition), and the projector is their least-squares map back to the teacher's
    embeddings. The block is a layer of the teacher or the mean of all. Each adapter is the identity on the states that
    it gets, as far as a LayerNorm can be: its bottleneck adds nothing at first.

    Args:
        student: A MiniALBERT of the teacher's sizes; E and the number of heads may differ.
        teacher: A BERT.
        samples: Batches of text as `MiniAlbertModel` takes them; some thousand tokens are enough.
        start_layer: The teacher's layer that becomes the block, from 1; None takes the mean of all.
        layer_map: The teacher's layer for each recursion, see `Distiller`.

    Raises:
        InputError: If the models' sizes differ, or the teacher has no such layer.
    """
    source, target = (model.encoder if isinstance(model, Head) else model for model in (teacher, student))
    _check(source, target, start_layer)
    layers = LayerMap.of(layer_map, target.config.num_hidden_layers, source.config.num_hidden_layers).layers
    batches = [(np.asarray(inputs["input_ids"]), np.asarray(inputs["attention_mask"])) for inputs in samples]
    _set_embeddings(source.embeddings, target.embeddings, batches)
    chosen = source.blocks if start_layer is None else [source.blocks[start_layer - 1]]
    for variable, *others in zip(
        target.recursive_encoder.block.weights, *(block.weights for block in chosen), strict=True
    ):
        variable.assign(np.mean([np.asarray(other) for other in others], axis=0))
    if target.config.use_adapter:
        _set_adapters(source, target.recursive_encoder, batches, layers)


def _check(source: PretrainedModel, target: PretrainedModel, start_layer: int | None) -> None:
    for name in _SIZES:
        taught, learned = getattr(source.config, name), getattr(target.config, name)
        if taught != learned:
            raise InputError(
                f"A student that starts from its teacher's weights must have the teacher's {name}. "
                f"Received: student {learned}, teacher {taught}"
            )
    layers = source.config.num_hidden_layers
    if start_layer is not None and not 1 <= start_layer <= layers:
        raise InputError(f"The layer to start from must be from 1 to {layers}, the teacher's. Received: {start_layer}")


def _set_embeddings(source: Any, target: Any, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    tables = [np.asarray(getattr(source, name)) for name in _TABLES]
    if target.projector is None:
        target.set_weights(source.get_weights())
        return
    # The teacher's LayerNorm drops a vector's mean and length: neither may decide which directions count.
    centred = [table - table.mean(axis=1, keepdims=True) for table in tables]
    directions = _embed(centred, batches)
    _, vectors = np.linalg.eigh(directions.T @ directions)
    basis = vectors[:, : -target.embedding_size - 1 : -1]  # (H, E), those of the largest eigenvalues
    reduced = [table @ basis for table in centred]
    for name, table in zip(_TABLES, reduced, strict=True):
        getattr(target, name).assign(table)
    gamma, beta = np.asarray(source.norm.gamma), np.asarray(source.norm.beta)
    kernel, bias = _least_squares(_embed(reduced, batches), directions * gamma + beta)
    target.norm.gamma.assign(np.ones(len(basis.T)))
    target.norm.beta.assign(np.zeros(len(basis.T)))
    target.projector.kernel.assign(kernel)
    target.projector.bias.assign(bias)


def _embed(tables: Sequence[np.ndarray], batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Returns the embeddings (tokens, E) after a LayerNorm without weights."""
    words, positions, types = tables
    sums = [(words[ids] + positions[: ids.shape[1]] + types[0])[mask != 0] for ids, mask in batches]
    return _normalise(np.concatenate(sums))


def _normalise(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)


def _least_squares(inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel and bias of the linear map from (tokens, E) that comes nearest to (tokens, H)."""
    mean_in, mean_out = inputs.mean(axis=0), targets.mean(axis=0)
    centred = inputs - mean_in
    gram = centred.T @ centred
    ridge = _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    kernel = np.linalg.solve(gram + ridge, centred.T @ (targets - mean_out))
    return kernel, mean_out - mean_in @ kernel


def _set_adapters(
    source: PretrainedModel, recursive: Any, batches: Sequence[tuple[np.ndarray, np.ndarray]], layers: Sequence[int]
) -> None:
    block = recursive.block
    masks = [mask for _, mask in batches]
    states = [source({"input_ids": ids, "attention_mask": mask})["hidden_states"] for ids, mask in batches]
    for k, (before, after) in enumerate(
        zip(recursive.attention_adapters, recursive.feed_forward_adapters, strict=True)
    ):
        layer = layers[k - 1] if k else 0
        inputs = [states_of_batch[layer] for states_of_batch in states]
        _make_identity(before, inputs, masks)
        adapted = [before(hidden) for hidden in inputs]
        attended = [
            block.attention_norm(hidden + block.attention(hidden, attention_bias(tf.convert_to_tensor(mask)))[0])
            for hidden, mask in zip(adapted, masks, strict=True)
        ]
        _make_identity(after, attended, masks)


def _make_identity(adapter: BottleneckAdapter, batches: Sequence[tf.Tensor], masks: Sequence[np.ndarray]) -> None:
    states = np.concatenate(
        [np.asarray(hidden, np.float32)[mask != 0] for hidden, mask in zip(batches, masks, strict=True)]
    )
    normal = _normalise(states)
    mean, variance = normal.mean(axis=0), normal.var(axis=0)
    slope = ((normal - mean) * states).mean(axis=0) / (variance + _RIDGE)
    for weight in adapter.up.weights:
        weight.assign(np.zeros(weight.shape))
    adapter.norm.gamma.assign(slope)
    adapter.norm.beta.assign(states.mean(axis=0) - slope * mean)
