from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import tiny_config

from minialbert_tf.data.tables import Row
from minialbert_tf.errors import CheckpointError, DataError
from minialbert_tf.text_evaluation import check_classes, evaluate_texts
from minialbert_tf.tokenization import SPECIAL_TOKENS, WordPieceTokenizer

TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "b", "c"], lowercase=True)
A, B, C = 5, 6, 7


class FirstPieceModel:
    """Predicts from the first piece of a text alone."""

    def __init__(self, answers, **config):
        self.config = tiny_config(**config)
        self.tokenizer = TOKENIZER
        width = len(next(iter(answers.values())))
        self._answers = np.array([answers.get(piece, [0] * width) for piece in range(C + 1)], np.float32)

    def __call__(self, inputs, training):
        self.longest = inputs["input_ids"].shape[1]
        return tf.gather(self._answers, inputs["input_ids"][:, 1])


def test_classes():
    model = FirstPieceModel({A: [1, 0, 0], B: [0, 2, 1], C: [0, 0, 3]}, id2label={0: "no", 1: "maybe", 2: "yes"})
    # Of different lengths, so that batches change their order.
    rows = [Row("a " * 9, None, "no"), Row("b", None, "maybe"), Row("c " * 5, None, "maybe"), Row("c c", None, "maybe")]
    report = evaluate_texts(model, rows, regression=False)
    assert report.scores["accuracy"] == 0.5
    assert report.scores["macro_f1"] == pytest.approx((1 + 2 * 1 / (1 + 3) + 0) / 3)
    assert report.to_json() == {**report.scores, "texts": 4}
    assert str(report) == "accuracy 0.5000, macro_f1 0.5000 on 4 texts"


def test_numbers():
    model = FirstPieceModel({A: [1.0], B: [2.0], C: [4.0]}, num_labels=1)
    rows = [Row("a", "b", 0.0), Row("b b b", "a", 2.0), Row("c", "c c", 2.5)]
    report = evaluate_texts(model, rows, regression=True)
    assert report.scores["pearson"] == pytest.approx(np.corrcoef([0.0, 2.0, 2.5], [1.0, 2.0, 4.0])[0, 1])
    assert report.scores["mse"] == pytest.approx((1.0 + 0.0 + 1.5**2) / 3)


def test_the_correlation_with_a_constant_is_zero():
    model = FirstPieceModel({A: [1.0], B: [1.0]}, num_labels=1)
    report = evaluate_texts(model, [Row("a", None, 0.0), Row("b", None, 2.0)], regression=True)
    assert report.scores == {"pearson": 0.0, "mse": 1.0}


def test_long_texts_are_cut_at_what_the_model_takes():
    model = FirstPieceModel({A: [1, 0]}, id2label={0: "no", 1: "yes"})
    for max_length, expected in ((None, 32), (16, 16)):
        evaluate_texts(model, [Row("a " * 500, None, "yes")], False, max_length)
        assert model.longest == expected


def test_a_model_needs_its_tokenizer():
    with pytest.raises(CheckpointError, match="must have its tokenizer"):
        evaluate_texts(SimpleNamespace(tokenizer=None), [], regression=False)


def test_other_classes_are_refused(tmp_path):
    rows = [Row("a", None, "yes"), Row("a", None, "maybe"), Row("a", None, "2")]
    check_classes(rows[:1], ["no", "yes"], tmp_path / "dev.tsv")
    with pytest.raises(DataError, match=r"dev\.tsv must use only the classes no, yes\. Received also: 2, maybe"):
        check_classes(rows, ["no", "yes"], tmp_path / "dev.tsv")
