import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from minialbert_tf.distillation import AttentionDivergence, CosineDistance, LossWeights, OutputDivergence
from minialbert_tf.errors import InputError

RANDOM = np.random.default_rng(0)
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_attention_divergence_averages_over_rows_of_tokens_and_all_columns():
    teacher, student = (softmax(RANDOM.normal(size=(2, 3, 4, 4))).astype(np.float32) for _ in range(2))
    rows = [(b, a, q) for b in range(2) for a in range(3) for q in range(4) if MASK[b, q]]
    expected = np.mean([teacher[row] * (np.log(teacher[row]) - np.log(student[row])) for row in rows])
    assert float(AttentionDivergence()(teacher, student, MASK)) == pytest.approx(expected, rel=1e-5)
    assert float(AttentionDivergence()(teacher, teacher, MASK)) == 0


def test_attention_divergence_bears_maps_with_zeros():
    sharp = np.eye(4, dtype=np.float32)[None, None].repeat(2, axis=0)
    loss = AttentionDivergence()(sharp, np.roll(sharp, 1, axis=-1), MASK)
    assert np.isfinite(loss)
    assert float(loss) == pytest.approx(-np.log(1e-12) / 4, rel=1e-4)


def test_cosine_distance_counts_tokens_only_and_not_lengths():
    teacher, student = RANDOM.normal(size=(2, 2, 4, 8)).astype(np.float32)
    cosines = np.sum(teacher * student, -1) / np.linalg.norm(teacher, axis=-1) / np.linalg.norm(student, axis=-1)
    expected = np.mean(1 - cosines[MASK == 1])
    assert float(CosineDistance()(teacher, student, MASK)) == pytest.approx(expected, rel=1e-5)
    changed = np.where(MASK[..., None] == 0, 7.0, 3 * student)
    assert float(CosineDistance()(teacher, changed, MASK)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_output_divergence_is_a_mean_over_rows(temperature):
    teacher, student = RANDOM.normal(size=(2, 2, 4, 8)).astype(np.float32)
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    divergences = temperature**2 * np.sum(p * (np.log(p) - np.log(q)), axis=-1)
    loss = OutputDivergence(temperature)
    assert float(loss(teacher, student)) == pytest.approx(divergences.mean(), rel=1e-4)
    assert float(loss(teacher, student, MASK)) == pytest.approx(divergences[MASK == 1].mean(), rel=1e-4)


def test_a_batch_without_masked_positions_costs_nothing():
    nothing = tf.zeros((1, 0, 8))
    assert float(OutputDivergence()(nothing, nothing)) == 0


@pytest.mark.parametrize("loss", [AttentionDivergence(1e-9), CosineDistance(), OutputDivergence(2.0)])
def test_losses_survive_serialisation(loss):
    again = keras.utils.deserialize_keras_object(keras.utils.serialize_keras_object(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match=r"temperature must be positive. Received: 0"):
        OutputDivergence(0)
    with pytest.raises(InputError, match=r"must be 0 or more. Received: hidden=-1"):
        LossWeights(hidden=-1)
    with pytest.raises(InputError, match=r"Received: mlm=nan"):
        LossWeights(mlm=float("nan"))
