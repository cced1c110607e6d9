import numpy as np
import pytest
from tiny_flatbuffer import network

import minialbert_tf as ma
from minialbert_tf.export.bundle import read_bundle
from minialbert_tf.export.census import count_operators, custom_operators, weigh_constants
from minialbert_tf.export.flatbuffer import compact, read_model, schema
from minialbert_tf.export.quantize import quantize_weights
from minialbert_tf.export.recipes import RECIPES

RECURSIONS = 2


@pytest.fixture
def content(tiny_tagger_file):
    return read_model(tiny_tagger_file.read_bytes()[: read_bundle(tiny_tagger_file).card.model_bytes])


def matrix_tensors(content, shape):
    return [each for graph in content.subgraphs for each in graph.tensors if tuple(each.shape) == shape]


def test_every_matrix_of_the_model_stands_once(content, tiny_tagger):
    weights = weigh_constants(content, tiny_tagger, RECURSIONS, RECIPES["none"])
    assert weights.surplus == ()
    config = tiny_tagger.config
    parts = {name: part.parameters for name, part in weights.parts.items()}
    assert parts == {
        "block": 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size,
        "adapter": 2 * RECURSIONS * 2 * config.hidden_size * config.bottleneck_size,
        "projector": config.hidden_size * config.embedding_size,
        "word_embeddings": config.vocab_size * config.embedding_size,
        "position_embeddings": config.max_position_embeddings * config.embedding_size,
        "classifier": 3 * config.hidden_size,
    }
    assert all(part.bytes == 4 * part.parameters for part in weights.parts.values())
    vectors = 4 * (tiny_tagger.count_params() - sum(parts.values()))
    assert 0 < weights.other_bytes < vectors + 2000  # in a new model many are equal, and stand once


def test_a_second_copy_of_a_matrix_is_surplus(content, tiny_tagger):
    config = tiny_tagger.config
    intermediate = matrix_tensors(content, (config.intermediate_size, config.hidden_size))[-1]
    copy = schema.BufferT()
    copy.data = content.buffers[intermediate.buffer].data.copy()
    copy.data[0] ^= 1
    content.buffers.append(copy)
    intermediate.buffer = len(content.buffers) - 1
    weights = weigh_constants(content, tiny_tagger, RECURSIONS, RECIPES["none"])
    assert weights.surplus == (f"1 of {config.intermediate_size} x {config.hidden_size} in 32 bits",)
    assert weights.parts["block"].bytes == 4 * weights.parts["block"].parameters


def test_a_matrix_in_other_bits_than_the_recipe_says_is_surplus(content, tiny_tagger):
    weights = weigh_constants(content, tiny_tagger, RECURSIONS, RECIPES["fp16"])
    assert f"1 of {tiny_tagger.config.vocab_size} x 16 in 32 bits" in weights.surplus
    assert weights.parts["word_embeddings"].bytes == 0


def test_fewer_recursions_have_fewer_adapters(content, tiny_tagger):
    weights = weigh_constants(content, tiny_tagger, 1, RECIPES["none"])
    assert set(weights.surplus) == {"2 of 2 x 32 in 32 bits", "2 of 32 x 2 in 32 bits"}


def test_equal_matrices_stand_once(content, tiny_tagger):
    up = matrix_tensors(content, (32, tiny_tagger.config.bottleneck_size))
    for each in up:
        each.buffer = up[0].buffer
    weights = weigh_constants(content, tiny_tagger, RECURSIONS, RECIPES["none"])
    assert weights.surplus == ()
    assert weights.parts["adapter"].bytes < 4 * weights.parts["adapter"].parameters


def test_bits_of_four_share_bytes(tiny_tagger):
    content = read_model(compact(quantize_weights(network(5, 7), RECIPES["int4"])))
    weights = weigh_constants(content, tiny_tagger, RECURSIONS, RECIPES["int4"])
    assert weights.surplus == ("1 of 5 x 7 in 4 bits",)
    assert weights.other_bytes == 18


def test_pairs_have_types(content, tiny_tagger):
    pairs = ma.MiniAlbertForSequenceClassification(tiny_tagger.config)
    for name, bits in (("int8", 32), ("int8-static", 8), ("int16x8", 16)):
        assert weigh_constants(content, pairs, RECURSIONS, RECIPES[name]).parts["token_type_embeddings"].bits == bits


def test_operators_are_counted_by_name(content):
    counts = count_operators(content)
    assert list(counts) == sorted(counts)
    assert counts["FULLY_CONNECTED"] == 2 * (2 + RECURSIONS * 10) and counts["SOFTMAX"] == 2 * RECURSIONS
    assert custom_operators(content) == ()
    used = content.subgraphs[0].operators[0].opcodeIndex
    content.operatorCodes[used].customCode = b"FlexErf"
    assert custom_operators(content) == ("FlexErf",)
    assert count_operators(content)["FlexErf"] >= 1


def test_shapes_are_plain_numbers(content, tiny_tagger):
    part = weigh_constants(content, tiny_tagger, RECURSIONS, RECIPES["none"]).parts["block"]
    assert not isinstance(part.bytes, np.integer) and not isinstance(part.parameters, np.integer)
