"""What a flatbuffer consists of: its operators, and its weights beside those of the model."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from ai_edge_litert import schema_py_generated as schema

from minialbert_tf.export.flatbuffer import kind_of
from minialbert_tf.export.measurements import Part, Weights
from minialbert_tf.export.recipes import FLOAT_BITS, Recipe
from minialbert_tf.models import MiniAlbertForSequenceClassification

_OPERATOR_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_TYPE = schema.TensorType
_BITS = {_TYPE.FLOAT32: 32, _TYPE.FLOAT16: 16, _TYPE.INT32: 32, _TYPE.INT16: 16, _TYPE.INT8: 8, _TYPE.INT4: 4}


class _Matrix(NamedTuple):
    """A matrix of weights as a flatbuffer stores it."""

    rows: int
    columns: int
    bits: int

    @property
    def bytes(self) -> int:
        """Its size; two values of 4 bits share a byte."""
        return -(-self.rows * self.columns * self.bits // 8)


def count_operators(content: schema.ModelT) -> dict[str, int]:
    """Returns how many operators of each kind there are, custom ones by their own names, in alphabetical order."""
    counts: Counter[str] = Counter()
    for subgraph in content.subgraphs:
        for operator in subgraph.operators:
            code = content.operatorCodes[operator.opcodeIndex]
            custom = code.customCode.decode() if code.customCode else None
            counts[custom or _OPERATOR_NAMES[kind_of(code)]] += 1
    return dict(sorted(counts.items()))


def custom_operators(content: schema.ModelT) -> tuple[str, ...]:
    """Returns the names of operators that are not TFLite's own."""
    return tuple(sorted(code.customCode.decode() for code in content.operatorCodes if code.customCode))


def weigh_constants(content: schema.ModelT, model: Any, recursions: int, recipe: Recipe) -> Weights:
    """Compares a flatbuffer's constants with what a recipe makes of a model's weights."""
    left = _matrices_of_file(content)
    parts: dict[str, Part] = {}
    for name, matrix in _matrices_of_model(model, recursions, recipe):
        there = min(left[matrix], 1)  # none where another matrix has the same content, such as zeros
        left[matrix] -= there
        part = parts.get(name, Part(0, matrix.bits, 0))
        parts[name] = Part(
            part.parameters + matrix.rows * matrix.columns, matrix.bits, part.bytes + there * matrix.bytes
        )
    total = sum(len(buffer.data) for buffer in content.buffers if buffer.data is not None)
    return Weights(
        parts=parts,
        other_bytes=total - sum(part.bytes for part in parts.values()),
        surplus=tuple(f"{count} of {m.rows} x {m.columns} in {m.bits} bits" for m, count in (+left).items()),
    )


def _matrices_of_model(model: Any, recursions: int, recipe: Recipe) -> Iterator[tuple[str, _Matrix]]:
    """Yields each matrix that a recipe should store, with its part of the model, as `InferenceGraph` names it."""
    encoder = model.encoder.recursive_encoder
    block, embeddings = encoder.block, model.encoder.embeddings
    dense = [("block", getattr(block.attention, name)) for name in ("query", "key", "value", "output_projection")]
    dense += [("block", block.intermediate), ("block", block.output_dense), ("classifier", model.classifier)]
    if encoder.use_adapter:
        for stack in (encoder.attention_adapters, encoder.feed_forward_adapters):
            for adapter in stack[:recursions]:
                dense += [("adapter", adapter.down), ("adapter", adapter.up)]
    if embeddings.projector is not None:
        dense.append(("projector", embeddings.projector))
    shapes = [(part, tuple(layer.kernel.shape)[::-1]) for part, layer in dense]
    shapes += [(name, tuple(getattr(embeddings, name).shape)) for name in ("word_embeddings", "position_embeddings")]
    if recipe.is_integer:
        shapes.append(("word_scales", (model.config.vocab_size, 1)))
    for part, (rows, columns) in shapes:
        yield part, _Matrix(rows, columns, recipe.bits_of(part))
    if isinstance(model, MiniAlbertForSequenceClassification):  # else the positions have the first type's row
        rows, columns = embeddings.token_type_embeddings.shape
        yield "token_type_embeddings", _Matrix(rows, columns, recipe.activation_bits or FLOAT_BITS)


def _matrices_of_file(content: schema.ModelT) -> Counter[_Matrix]:
    """Counts the different constants of two or more dimensions, by kind."""
    found: dict[int, _Matrix] = {}
    for subgraph in content.subgraphs:
        for tensor in subgraph.tensors:
            data = content.buffers[tensor.buffer].data
            if data is not None and len(data) and tensor.shape is not None and len(tensor.shape) > 1:
                *rows, columns = (int(size) for size in tensor.shape)
                found[tensor.buffer] = _Matrix(math.prod(rows), columns, _BITS[tensor.type])
    return Counter(found.values())
