"""A flatbuffer small enough to write by hand."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from minialbert_tf.export.flatbuffer import write_model


def network(rows, width, names=("block/MatMul", "block/weights")):
    """A flatbuffer that multiplies (3, width) with a matrix (rows, width), in two signatures over one buffer."""
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = matrix(rows, width).view(np.uint8).ravel()
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 5
    model.operatorCodes = [code]
    model.subgraphs, model.signatureDefs = [], []
    for number in range(2):
        subgraph = schema.SubGraphT()
        shapes = [("x", (3, width), 0), (names[1], (rows, width), 1), (names[0], (3, rows), 0)]
        subgraph.tensors = [tensor(*each) for each in shapes]
        subgraph.inputs, subgraph.outputs = [0], [2]
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = [0, 1, -1], [2]
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
        subgraph.operators = [operator]
        model.subgraphs.append(subgraph)
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = f"s{number}", number
        signature.inputs, signature.outputs = [tensor_map("x", 0)], [tensor_map("y", 2)]
        model.signatureDefs.append(signature)
    return write_model(model)


def matrix(rows, width):
    return np.random.default_rng(1).normal(size=(rows, width)).astype(np.float32)


def tensor(name, shape, buffer):
    new = schema.TensorT()
    new.name, new.shape, new.buffer, new.type = name, np.array(shape, np.int32), buffer, schema.TensorType.FLOAT32
    return new


def tensor_map(name, index):
    new = schema.TensorMapT()
    new.name, new.tensorIndex = name, index
    return new
