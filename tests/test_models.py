"""Keras behaviour of the models: one contract for every head, under both flavours of Keras."""

import numpy as np
import pytest
import tensorflow as tf
from golden_values import inputs_of, load_expected, load_model
from tensorflow import keras

from minialbert_tf.adapter import BottleneckAdapter
from minialbert_tf.attention import SelfAttention
from minialbert_tf.config import MiniAlbertConfig
from minialbert_tf.embeddings import FactorizedEmbeddings
from minialbert_tf.encoder import RecursiveEncoder, TransformerBlock
from minialbert_tf.errors import InputError
from minialbert_tf.models import (
    MiniAlbertForMaskedLM,
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
    MiniAlbertModel,
)

TINY = MiniAlbertConfig(
    vocab_size=60,
    embedding_size=16,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=24,
    reduction_factor=4,
    num_labels=5,
)
INPUTS = {
    "input_ids": np.arange(20, dtype=np.int32).reshape(2, 10),
    "attention_mask": np.array([[1] * 10, [1] * 6 + [0] * 4], np.int32),
}
LABELS = {
    MiniAlbertForTokenClassification: np.tile(np.arange(5, dtype=np.int32), (2, 2)),
    MiniAlbertForSequenceClassification: np.array([1, 4], np.int32),
    MiniAlbertForMaskedLM: np.where(np.arange(20).reshape(2, 10) % 4, -100, 7).astype(np.int32),
}
HEADS = list(LABELS)


@pytest.fixture
def policy():
    yield keras.mixed_precision.set_global_policy
    keras.mixed_precision.set_global_policy("float32")


def parameters(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 11_877_440), ({"use_adapter": False}, 10_964_480), ({"embedding_size": 312}, 17_448_960)],
)
def test_full_size_has_the_published_number_of_parameters(changes, expected):
    assert MiniAlbertModel(MiniAlbertConfig(**changes)).count_params() == expected


@pytest.mark.parametrize("head", HEADS)
def test_learns_to_repeat_one_batch(head):
    keras.utils.set_random_seed(0)
    model = head(TINY.replace(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    model.compile(keras.optimizers.Adam(3e-3))
    losses = model.fit(INPUTS, LABELS[head], epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("head", HEADS)
def test_keras_archive_keeps_weights_optimizer_and_loss(head, tmp_path):
    model = head(TINY)
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(INPUTS, LABELS[head], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(INPUTS), model(INPUTS))
    assert int(loaded.optimizer.iterations) == 1
    losses = [m.evaluate(INPUTS, LABELS[head], verbose=0) for m in (model, loaded)]
    assert losses[0] == losses[1]
    loaded.fit(INPUTS, LABELS[head], verbose=0)


@pytest.mark.parametrize(
    "layer",
    [
        BottleneckAdapter(8, 2),
        SelfAttention(8, 2, dropout=0.1),
        FactorizedEmbeddings(30, 4, 8, max_position_embeddings=12),
        TransformerBlock(8, 2, 16, activation="relu"),
        RecursiveEncoder(TransformerBlock(8, 2, 16), 3, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_rebuild_from_their_config(layer):
    again = type(layer).from_config(layer.get_config())
    for each in (layer, again):
        each.build()
    shapes = [[tuple(weight.shape) for weight in each.weights] for each in (layer, again)]
    assert shapes[0] == shapes[1] and shapes[0]
    assert again.get_config() == layer.get_config()


def test_the_block_is_shared_and_the_adapters_are_not():
    encoder = MiniAlbertModel(TINY).recursive_encoder
    assert parameters(encoder.block.weights) == 4 * (32 * 32 + 32) + 2 * 32 * 48 + 48 + 32 + 4 * 32
    adapters = {id(adapter.down) for adapter in (*encoder.attention_adapters, *encoder.feed_forward_adapters)}
    assert len(adapters) == 2 * TINY.num_hidden_layers


@pytest.mark.parametrize("use_adapter", [True, False])
def test_adapter_training_moves_adapters_and_head_alone(use_adapter):
    model = MiniAlbertForTokenClassification(TINY.replace(use_adapter=use_adapter))
    report = model.train_adapters_only()
    adapters = 6 * (32 * 8 + 8 + 8 * 32 + 32 + 64)
    assert report.trainable == adapters + (32 + 1) * 5
    assert report.total == model.count_params()
    assert "adapters" in str(report) and f"{adapters:,}" in str(report)
    assert model.config.use_adapter

    def values(part):
        return [np.asarray(weight) for weight in part.weights]

    encoder = model.encoder
    frozen = [encoder.embeddings, encoder.recursive_encoder.block]
    free = [*encoder.recursive_encoder.attention_adapters, *encoder.recursive_encoder.feed_forward_adapters]
    before = [values(part) for part in (*frozen, *free, model.classifier)]
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(INPUTS, LABELS[MiniAlbertForTokenClassification], verbose=0)
    after = [values(part) for part in (*frozen, *free, model.classifier)]
    moved = [any((a != b).any() for a, b in zip(x, y, strict=True)) for x, y in zip(before, after, strict=True)]
    assert moved == [False, False] + [True] * 7


def test_full_size_adapter_training_is_the_papers():
    report = MiniAlbertForTokenClassification(MiniAlbertConfig(use_adapter=False, num_labels=5)).train_adapters_only()
    assert report.trainable == 912_960 + (768 + 1) * 5


def test_adapters_added_to_a_checkpoint_are_saved_with_it(tmp_path):
    model = load_model("token_no_adapters")
    model.train_adapters_only()
    inputs = inputs_of(load_expected("token_no_adapters"))
    model.save_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(type(model).from_pretrained(tmp_path / "saved")(inputs), model(inputs))
    model.compile()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(inputs), model(inputs))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_computes_close_and_returns_float32(precision, policy):
    reference = MiniAlbertForTokenClassification(TINY)
    policy(precision)
    model = MiniAlbertForTokenClassification(TINY)
    for source, target in zip(reference.weights, model.weights, strict=True):
        target.assign(source)
    logits = model(INPUTS)
    assert logits.dtype == tf.float32
    assert all(weight.dtype in ("float32", tf.float32) for weight in model.weights)
    difference = np.abs(logits - reference(INPUTS)).max()
    assert 0 < difference < 0.05  # 0 would mean that nothing was computed in half precision
    model.compile(keras.optimizers.Adam(1e-3))
    assert np.isfinite(model.fit(INPUTS, LABELS[MiniAlbertForTokenClassification], verbose=0).history["loss"][0])


def test_trains_under_xla():
    model = MiniAlbertForTokenClassification(TINY.replace(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    plain = MiniAlbertForTokenClassification(model.config)
    for source, target in zip(model.weights, plain.weights, strict=True):
        target.assign(source)
    losses = []
    for each, jit_compile in ((model, True), (plain, False)):
        each.compile(keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        labels = LABELS[MiniAlbertForTokenClassification]
        losses.append([each.fit(INPUTS, labels, verbose=0).history["loss"][0] for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-4)


def test_padding_does_not_change_what_it_follows():
    model = MiniAlbertModel(TINY)
    short = {name: values[1:, :6] for name, values in INPUTS.items()}
    expected = model(short)["last_hidden_state"]
    np.testing.assert_allclose(model(INPUTS)["last_hidden_state"][1:, :6], expected, atol=1e-5)
    unmasked = model({"input_ids": INPUTS["input_ids"]})["last_hidden_state"][1:, :6]
    assert np.abs(unmasked - expected).max() > 1e-3


def test_type_ids_default_to_zero_and_matter():
    model = MiniAlbertModel(TINY)
    ids = INPUTS["input_ids"]
    plain = model({"input_ids": ids})["last_hidden_state"]
    np.testing.assert_array_equal(plain, model({"input_ids": ids, "token_type_ids": 0 * ids})["last_hidden_state"])
    other = model({"input_ids": ids, "token_type_ids": 0 * ids + 1})["last_hidden_state"]
    assert np.abs(plain - other).max() > 1e-3


def test_dropout_is_off_in_inference_and_on_in_training():
    model = MiniAlbertForTokenClassification(TINY)
    np.testing.assert_array_equal(model(INPUTS), model(INPUTS, training=False))
    assert np.abs(model(INPUTS, training=True) - model(INPUTS, training=True)).max() > 0


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((1, 4), np.int32), "Inputs must be a dict of input_ids"),
        ({"attention_mask": np.ones((1, 4))}, "Inputs must be a dict of input_ids"),
        ({"input_ids": np.zeros((1, 4), np.int32), "mask": np.ones((1, 4))}, r"Received: \['input_ids', 'mask'\]"),
        ({"input_ids": np.zeros((1, 25), np.int32)}, "at most max_position_embeddings=24 tokens. Received: 25"),
    ],
)
def test_wrong_inputs_are_named(inputs, message):
    with pytest.raises(InputError, match=message):
        MiniAlbertModel(TINY)(inputs)
