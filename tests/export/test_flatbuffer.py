import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tiny_flatbuffer import matrix, network

from minialbert_tf.export.flatbuffer import compact, read_model, write_model


def run(flatbuffer, x):
    interpreter = Interpreter(model_content=flatbuffer)
    return [interpreter.get_signature_runner(f"s{number}")(x=x)["y"] for number in range(2)]


def with_copies():
    """The network with a copy of its weights for the second signature, with what it shares, and with names."""
    model = read_model(network(40, 64))
    copy = schema.BufferT()
    copy.data = np.array(model.buffers[1].data)
    model.buffers += [copy, schema.BufferT()]
    model.subgraphs[1].tensors[1].buffer = 2
    model.subgraphs[1].tensors[2].buffer = 3  # the converter gives activations empty buffers
    return model


def test_equal_buffers_become_one_and_names_go():
    x = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    flatbuffer = write_model(with_copies())
    small = compact(flatbuffer)
    model = read_model(small)
    assert [0 if buffer.data is None else len(buffer.data) for buffer in model.buffers] == [0, 4 * 40 * 64]
    assert {tensor.name for subgraph in model.subgraphs for tensor in subgraph.tensors} <= {None, b""}
    for one, other in zip(run(small, x), run(flatbuffer, x), strict=True):
        assert np.array_equal(one, other)
        assert np.allclose(one, x @ matrix(40, 64).T, atol=1e-4)


def test_different_buffers_stay_apart():
    model = with_copies()
    model.buffers[2].data = model.buffers[2].data.copy()
    model.buffers[2].data[0] ^= 1
    x = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    flatbuffer = write_model(model)
    assert len(read_model(compact(flatbuffer)).buffers) == 3
    for one, other in zip(run(compact(flatbuffer), x), run(flatbuffer, x), strict=True):
        assert np.array_equal(one, other)


def test_equal_scales_stand_once():
    model = with_copies()
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.ones(5000, np.float32)
    flatbuffer = compact(write_model(model))
    assert len(flatbuffer) < 4 * 40 * 64 + 4 * 5000 + 2000
    scales = [tensor.quantization.scale for subgraph in read_model(flatbuffer).subgraphs for tensor in subgraph.tensors]
    assert len(scales) == 6 and all(np.array_equal(each, np.ones(5000)) for each in scales)


def test_metadata_keep_their_buffers():
    model = with_copies()
    entry = schema.MetadataT()
    entry.name, entry.buffer = "min_runtime_version", len(model.buffers)
    content = schema.BufferT()
    content.data = np.frombuffer(b"1.2.3", np.uint8)
    model.buffers.append(content)
    model.metadata = [entry]
    found = read_model(compact(write_model(model)))
    assert bytes(found.buffers[found.metadata[0].buffer].data) == b"1.2.3"


def test_weights_behind_the_flatbuffer_are_found():
    """Files of more than 2 GB, and ai-edge-quantizer's, have them there."""
    model = read_model(network(40, 64))
    weights = bytes(model.buffers[1].data)
    model.buffers[1].data, model.buffers[1].size = None, len(weights)
    model.buffers[1].offset = 1 << 20  # a number as long as the right one
    front = write_model(model)
    model.buffers[1].offset = len(front)
    assert len(write_model(model)) == len(front)
    assert compact(write_model(model) + weights) == compact(network(40, 64))


def test_free_dimensions_get_a_default_size():
    model = read_model(network(40, 64))
    for subgraph in model.subgraphs:
        for index in (0, 2):
            tensor = subgraph.tensors[index]
            tensor.shapeSignature = np.array([-1, tensor.shape[1]], np.int32)
            tensor.shape = np.array([1, tensor.shape[1]], np.int32)
    subgraphs = read_model(compact(write_model(model), default_length=7)).subgraphs
    assert [list(subgraphs[0].tensors[index].shape) for index in range(3)] == [[7, 64], [40, 64], [7, 40]]
    assert list(subgraphs[0].tensors[0].shapeSignature) == [-1, 64]
    assert list(read_model(compact(write_model(model))).subgraphs[0].tensors[0].shape) == [1, 64]
