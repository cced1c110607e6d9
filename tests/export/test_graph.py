import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import tiny_config

import minialbert_tf as ma
from minialbert_tf.export.graph import InferenceGraph, scaled_rows
from minialbert_tf.export.quantize import quantize_rows

LENGTH = 12


def build(model_class=ma.MiniAlbertForTokenClassification, **changes):
    sizes = {"embedding_size": 16, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    model = model_class(tiny_config(vocab_size=50, initializer_range=0.2, **{**sizes, **changes}))
    generator = np.random.default_rng(0)
    for variable in model.variables:  # biases of 0 and gammas of 1 would hide mistakes
        variable.assign(np.asarray(variable) + generator.normal(size=variable.shape) * 0.1)
    return model


def inputs_of(graph):
    generator = np.random.default_rng(1)
    mask = np.array([[1] * 9 + [0] * 3], np.int32)
    inputs = {
        "input_ids": generator.integers(0, 50, (1, LENGTH)).astype(np.int32),
        "attention_mask": mask,
        "token_type_ids": generator.integers(0, 2, (1, LENGTH)).astype(np.int32),
    }
    return {name: inputs[name] for name in graph.input_names}


def run(graph, inputs):
    return tf.function(graph.logits)(*map(tf.constant, inputs.values())).numpy()


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("scale_rows", [False, True])
@pytest.mark.parametrize(
    "changes",
    [{}, {"use_adapter": False}, {"hidden_act": "relu"}, {"hidden_act": "gelu_new"}, {"num_hidden_layers": 1}],
)
def test_it_computes_what_the_model_does(changes, scale_rows, loop):
    model = build(**changes)
    graph = InferenceGraph(model, model.config.num_hidden_layers, loop, scale_rows)
    inputs = inputs_of(graph)
    expected = np.asarray(model(inputs))[:, :9]
    found = run(graph, inputs)
    assert found.shape == (1, LENGTH, model.config.num_labels)
    assert np.abs(found[:, :9] - expected).max() < 1e-5
    kernel = model.encoder.recursive_encoder.block.attention.key.kernel
    kernel.assign(np.asarray(kernel) * 1.05)
    assert np.abs(run(graph, inputs)[:, :9] - expected).max() > 1e-3  # the control


def test_without_a_projector():
    model = build()
    wide = ma.MiniAlbertForTokenClassification(model.config.replace(embedding_size=32))
    graph = InferenceGraph(wide, 3, loop=False, scale_rows=False)
    inputs = inputs_of(graph)
    assert np.abs(run(graph, inputs) - np.asarray(wide(inputs)))[:, :9].max() < 1e-5


def test_a_sequence_head_takes_pairs():
    model = build(ma.MiniAlbertForSequenceClassification, num_labels=3)
    graph = InferenceGraph(model, 3, loop=False, scale_rows=True)
    assert graph.input_names == ("input_ids", "attention_mask", "token_type_ids")
    inputs = inputs_of(graph)
    expected = np.asarray(model(inputs))
    assert run(graph, inputs).shape == (1, 3)
    assert np.abs(run(graph, inputs) - expected).max() < 1e-5
    one_text = {**inputs, "token_type_ids": 0 * inputs["token_type_ids"]}
    assert np.abs(run(graph, one_text) - expected).max() > 1e-3


@pytest.mark.parametrize("loop", [False, True])
def test_fewer_recursions_are_the_first_ones(loop):
    model = build()
    graph = InferenceGraph(model, 2, loop, scale_rows=False)
    inputs = inputs_of(graph)
    states = model.encoder(inputs)["hidden_states"]
    assert np.abs(run(graph, inputs) - np.asarray(model.classifier(states[2])))[:, :9].max() < 1e-5
    assert np.abs(run(graph, inputs) - np.asarray(model.classifier(states[3])))[:, :9].max() > 1e-3


def test_row_scales_survive_eight_bits():
    generator = np.random.default_rng(2)
    table = generator.normal(size=(40, 16)).astype(np.float32) * generator.uniform(0.001, 5, (40, 1))
    table[7] = 0
    rows, scales = scaled_rows(table.astype(np.float32))
    assert np.abs(rows).max() <= 1
    assert np.abs(rows * scales - table).max() < 1e-6
    values, unit = quantize_rows(scales, 8, by_row=False)
    assert np.abs(values * unit - scales).max() < 1e-6 * scales.max()
    # The control: without the factors, one scale for the whole table loses its small rows.
    small = np.abs(table).max(axis=1) < 2
    whole, one_scale = quantize_rows(table.astype(np.float32), 8, by_row=False)
    split, unit = quantize_rows(rows, 8, by_row=False)
    error = np.abs(split * unit * scales - table)[small].max()
    assert np.abs(whole * one_scale - table)[small].max() > 2 * error
