"""Stores the weights of a converted network in fewer bits."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from minialbert_tf.export.flatbuffer import kind_of, read_model, write_model
from minialbert_tf.export.recipes import FLOAT_BITS, HALF_BITS, Recipe

_FULLY_CONNECTED = schema.BuiltinOperator.FULLY_CONNECTED
_EMBEDDING_LOOKUP = schema.BuiltinOperator.EMBEDDING_LOOKUP
_WEIGHTS_INPUT = 1  # of both operators
# The operator versions that TFLite introduced with 4-bit weights; a runtime that is older refuses the file.
_VERSIONS = {_FULLY_CONNECTED: 12, _EMBEDDING_LOOKUP: 4}
_INTEGER_TYPES = {8: schema.TensorType.INT8, 4: schema.TensorType.INT4}
# Shares of a row's largest value at which 4-bit rows are cut off, to choose the best from: so few levels are better
# spent on the many small values than on reaching the largest.
_CLIPPINGS = np.linspace(1.0, 0.5, 26)


def quantize_weights(flatbuffer: bytes, recipe: Recipe) -> bytes:
    """Returns the network with the weights of its matrix products and lookups as the recipe says.

    A matrix has a scale for each row, that is output channel; a lookup's table has one for all rows, because TFLite
    would store a 4-byte scale and an 8-byte zero point with each of V rows.
    """
    model = read_model(flatbuffer)
    stored: dict[tuple[int, int], tuple[int, np.ndarray | None]] = {}  # by buffer and bits: new buffer and scales
    for subgraph in model.subgraphs:
        for operator in list(subgraph.operators):
            code = model.operatorCodes[operator.opcodeIndex]
            kind = kind_of(code)
            if kind not in _VERSIONS or _is_calibrated(subgraph, operator, kind):
                continue
            tensor = subgraph.tensors[operator.inputs[_WEIGHTS_INPUT]]
            bits = recipe.bits_of(_name(subgraph, operator))
            weights = model.buffers[tensor.buffer].data
            if tensor.type == schema.TensorType.FLOAT32 and weights is not None and bits != FLOAT_BITS:
                key = (tensor.buffer, bits)
                if key not in stored:
                    matrix = np.asarray(weights).view(np.float32).reshape(tensor.shape)
                    content, scales = _encode(matrix, bits, by_row=kind == _FULLY_CONNECTED)
                    stored[key] = (_add_buffer(model, content), scales)
                buffer, scales = stored[key]
                if scales is None:
                    _insert_conversion(model, subgraph, operator, buffer)
                else:
                    _set_integers(tensor, buffer, bits, scales)
            if tensor.type in _INTEGER_TYPES.values():
                code.version = max(code.version, _VERSIONS[kind])
                if kind == _FULLY_CONNECTED:
                    operator.builtinOptions.asymmetricQuantizeInputs = True
    return write_model(model)


def quantize_rows(matrix: np.ndarray, bits: int, by_row: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a matrix to symmetric integers.

    Args:
        matrix: float32 (rows, columns).
        bits: 4 or 8.
        by_row: Whether each row has a scale of its own.

    Returns:
        int8 (rows, columns) and float32 scales, (rows, 1) or (1, 1); their product is near the matrix.
    """
    levels = 2 ** (bits - 1) - 1
    axis = 1 if by_row else None
    largest = np.abs(matrix).max(axis=axis, keepdims=True)
    largest = np.where(largest > 0, largest, 1.0)

    def rounded(scales: np.ndarray) -> np.ndarray:
        return np.clip(np.round(matrix / scales), -levels, levels)

    best = (largest / levels).astype(np.float32)
    if bits == 4:
        least = np.full(best.shape, np.inf)
        for clipping in _CLIPPINGS:
            scales = (largest * clipping / levels).astype(np.float32)
            error = np.square(rounded(scales) * scales - matrix).sum(axis=axis, keepdims=True)
            best, least = np.where(error < least, scales, best), np.minimum(error, least)
    return rounded(best).astype(np.int8), best


def _encode(matrix: np.ndarray, bits: int, by_row: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns a buffer's content, uint8, and the scales of integers."""
    if bits == HALF_BITS:
        return matrix.astype(np.float16).view(np.uint8).ravel(), None
    values, scales = quantize_rows(matrix, bits, by_row)
    packed = values.ravel().view(np.uint8)
    if bits == 4:
        nibbles = np.resize(packed, packed.size + packed.size % 2) & 0xF
        return nibbles[::2] | nibbles[1::2] << 4, scales.ravel()
    return packed, scales.ravel()


def _is_calibrated(subgraph: schema.SubGraphT, operator: schema.OperatorT, kind: int) -> bool:
    """Tells whether a matrix product takes integers, and so has integers for weights, too."""
    return kind == _FULLY_CONNECTED and subgraph.tensors[operator.inputs[0]].type != schema.TensorType.FLOAT32


def _set_integers(tensor: schema.TensorT, buffer: int, bits: int, scales: np.ndarray) -> None:
    tensor.buffer = buffer
    tensor.type = _INTEGER_TYPES[bits]
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = scales
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = 0


def _insert_conversion(
    model: schema.ModelT, subgraph: schema.SubGraphT, operator: schema.OperatorT, buffer: int
) -> None:
    """Lets an operator's weights come out of a conversion of half floats."""
    tensor = subgraph.tensors[operator.inputs[_WEIGHTS_INPUT]]
    half = schema.TensorT()
    half.shape, half.type, half.buffer = tensor.shape, schema.TensorType.FLOAT16, buffer
    subgraph.tensors.append(half)
    tensor.buffer = 0
    conversion = schema.OperatorT()
    conversion.opcodeIndex = _operator_code(model, schema.BuiltinOperator.DEQUANTIZE)
    conversion.inputs = np.array([len(subgraph.tensors) - 1], np.int32)
    conversion.outputs = np.array([operator.inputs[_WEIGHTS_INPUT]], np.int32)
    subgraph.operators.insert(0, conversion)


def _operator_code(model: schema.ModelT, kind: int) -> int:
    for index, code in enumerate(model.operatorCodes):
        if kind_of(code) == kind:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, kind, 3
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _add_buffer(model: schema.ModelT, content: np.ndarray) -> int:
    buffer = schema.BufferT()
    buffer.data = content
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _name(subgraph: schema.SubGraphT, operator: schema.OperatorT) -> str:
    """Returns the names of an operator's output and of its weights; the converter keeps one of them."""
    tensors = (subgraph.tensors[operator.outputs[0]], subgraph.tensors[operator.inputs[_WEIGHTS_INPUT]])
    return ";".join((tensor.name or b"").decode() for tensor in tensors)
