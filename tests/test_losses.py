import numpy as np
import pytest
import tensorflow as tf

from minialbert_tf.losses import SequenceLoss, TokenCrossEntropy


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_token_loss_is_the_mean_over_labelled_positions():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    labels = np.array([[0, -100, 3], [-100, -100, 1]])
    chosen = [-log_softmax(logits)[0, 0, 0], -log_softmax(logits)[0, 2, 3], -log_softmax(logits)[1, 2, 1]]
    assert float(TokenCrossEntropy()(labels, logits)) == pytest.approx(np.mean(chosen), abs=1e-6)


def test_token_loss_without_labels_is_zero():
    assert float(TokenCrossEntropy()(np.full((2, 3), -100), np.ones((2, 3, 4), np.float32))) == 0


@pytest.mark.parametrize(
    ("labels", "logits", "expected"),
    [
        (np.array([1.0, -1.0]), np.array([[0.5], [1.0]]), (0.25 + 4.0) / 2),
        (np.array([1, 0]), np.array([[0.0, 0.0], [0.0, 0.0]]), np.log(2)),
        (np.array([[1], [0]]), np.array([[0.0, 0.0], [0.0, 0.0]]), np.log(2)),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), np.zeros((2, 2)), np.log(2)),
    ],
)
def test_the_kind_of_sequence_loss_follows_from_the_labels(labels, logits, expected):
    assert float(SequenceLoss()(labels, logits.astype(np.float32))) == pytest.approx(expected, abs=1e-6)


def test_problem_type_wins_over_the_shape():
    loss = SequenceLoss("regression")(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]], np.float32))
    assert float(loss) == pytest.approx(2.0)
    assert SequenceLoss.from_config(SequenceLoss("regression").get_config()).problem_type == "regression"


@pytest.mark.parametrize(
    ("problem_type", "labels", "blank"),
    [
        ("single_label_classification", np.array([1, 0]), np.array([-100])),
        ("regression", np.array([[1.0, 2.0], [0.0, 3.0]], np.float32), np.full((1, 2), np.nan, np.float32)),
        (
            "multi_label_classification",
            np.array([[1.0, 0.0], [0.0, 0.0]], np.float32),
            np.full((1, 2), np.nan, np.float32),
        ),
    ],
)
def test_texts_without_a_label_count_nowhere(problem_type, labels, blank):
    logits = tf.Variable(np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32))
    loss = SequenceLoss(problem_type)
    with tf.GradientTape() as tape:
        found = loss(np.concatenate([labels, blank]), logits)
    gradient = tape.gradient(found, logits).numpy()
    assert float(found) == pytest.approx(float(loss(labels, logits[:2])), rel=1e-6)
    assert np.isfinite(gradient).all() and not gradient[2].any() and gradient[:2].all()
    assert float(loss(np.concatenate([blank, blank, blank]), logits)) == 0
