import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tiny_flatbuffer import matrix, network

from minialbert_tf.export.flatbuffer import compact, read_model
from minialbert_tf.export.quantize import quantize_rows, quantize_weights
from minialbert_tf.export.recipes import RECIPES

MATRIX = np.random.default_rng(0).normal(size=(30, 64)).astype(np.float32)


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize(("bits", "error"), [(8, 0.02), (4, 0.3)])
def test_rows_are_near_their_products(bits, error, by_row):
    values, scales = quantize_rows(MATRIX, bits, by_row)
    assert values.dtype == np.int8 and np.abs(values).max() == 2 ** (bits - 1) - 1
    assert scales.shape == ((30, 1) if by_row else (1, 1))
    assert np.sqrt(np.mean((values * scales - MATRIX) ** 2)) < error / 2
    assert np.sqrt(np.mean((values * scales - MATRIX) ** 2)) > error / 20  # it does round


def test_four_bits_are_cut_off_where_it_helps():
    outlier = MATRIX.copy()
    outlier[:, 0] = 12
    values, scales = quantize_rows(outlier, 4, by_row=True)
    plain = np.abs(outlier).max(axis=1, keepdims=True) / 7
    error = np.mean((values * scales - outlier) ** 2)
    assert error < 0.9 * np.mean((np.round(outlier / plain) * plain - outlier) ** 2)


def test_a_row_of_zeros():
    values, scales = quantize_rows(np.zeros((2, 4), np.float32), 4, by_row=True)
    assert not values.any() and np.isfinite(scales).all()


def run(flatbuffer, x):
    interpreter = Interpreter(model_content=flatbuffer)
    return [interpreter.get_signature_runner(f"s{number}")(x=x)["y"] for number in range(2)]


def constants(flatbuffer):
    return sum(len(buffer.data) for buffer in read_model(flatbuffer).buffers if buffer.data is not None)


@pytest.mark.parametrize(
    ("name", "tolerance", "size"),
    [("none", 1e-6, 4.0), ("fp16", 1e-3, 2.0), ("int8", 0.02, 1.0), ("int4", 0.25, 0.5)],
)
@pytest.mark.parametrize(("rows", "width"), [(32, 64), (5, 7)])  # an odd number of values, too
def test_products_stay_near_and_weights_shared(rows, width, name, tolerance, size):
    flatbuffer = network(rows, width)
    x = np.random.default_rng(2).normal(size=(3, width)).astype(np.float32)
    exact = x @ matrix(rows, width).T
    quantized = compact(quantize_weights(flatbuffer, RECIPES[name]))
    assert constants(quantized) == np.ceil(rows * width * size)
    for y in run(quantized, x):
        error = np.abs(y - exact).max() / np.abs(exact).max()
        assert error < tolerance
        assert name == "none" or error > tolerance / 100


def test_the_recipe_says_which_part_has_how_many_bits():
    adapter = network(32, 64, ("recursion_0/adapter/down/MatMul", "recursion_0/adapter/down/weights"))
    assert constants(compact(quantize_weights(adapter, RECIPES["int4"]))) == 32 * 64
    block = network(32, 64, ("PartitionedCall", "recursion_0/block/weights"))
    assert constants(compact(quantize_weights(block, RECIPES["int4"]))) == 32 * 64 / 2


def test_old_runtimes_refuse_what_they_cannot_run():
    (code,) = read_model(quantize_weights(network(8, 8), RECIPES["int8"])).operatorCodes
    assert code.version == 12
    (code,) = read_model(quantize_weights(network(8, 8), RECIPES["none"])).operatorCodes
    assert code.version == 5
