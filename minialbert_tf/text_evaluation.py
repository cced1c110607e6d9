"""Scores of a sequence model on a table of labelled texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minialbert_tf.data.batching import BatchedExamples
from minialbert_tf.data.features import text_examples
from minialbert_tf.data.tables import Row
from minialbert_tf.errors import CheckpointError, DataError
from minialbert_tf.models import MiniAlbertForSequenceClassification

_BATCH_SIZE = 32


class TextReport(NamedTuple):
    """Scores of a classifier (accuracy, macro F1) or of a regression (Pearson correlation, mean squared error)."""

    scores: dict[str, float]
    texts: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**self.scores, "texts": self.texts}

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4f}" for name, value in self.scores.items()) + f" on {self.texts} texts"


def evaluate_texts(
    model: MiniAlbertForSequenceClassification, rows: Sequence[Row], regression: bool, max_length: int | None = None
) -> TextReport:
    """Predicts texts or pairs and compares.

    Args:
        model: A model with its tokenizer.
        rows: Texts with labels.
        regression: Whether the labels are numbers.
        max_length: Where longer texts are cut; None: at the most that the model takes.

    Raises:
        CheckpointError: If the model has no tokenizer.
    """
    if model.tokenizer is None:
        raise CheckpointError("The model must have its tokenizer: vocab.txt or tokenizer.json beside its config.json.")
    max_length = max_length or model.config.max_position_embeddings
    class_ids = None if regression else {label: number for number, label in enumerate(model.config.labels)}
    examples, _ = text_examples(rows, model.tokenizer, class_ids, max_length)
    batches = BatchedExamples(examples, _BATCH_SIZE).dataset(epoch=0)
    gold = np.concatenate([labels for _, labels in batches])
    # Not predict(), which under a distribution strategy would ask all workers to take part.
    run = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)
    logits = np.concatenate([run(inputs) for inputs, _ in batches])
    scores = _regression_scores(gold, logits[:, 0]) if regression else _class_scores(gold, logits.argmax(axis=-1))
    return TextReport(scores, len(rows))


def check_classes(rows: Sequence[Row], labels: Sequence[str], path: Path) -> None:
    """Checks that a table uses only the classes `labels`.

    Raises:
        DataError: If it has others.
    """
    unknown = sorted({str(row.label) for row in rows} - set(labels))
    if unknown:
        raise DataError(f"{path} must use only the classes {', '.join(labels)}. Received also: {', '.join(unknown)}")


def _class_scores(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    f1 = []
    for label in np.unique(np.concatenate([gold, predicted])):
        hits = np.sum((gold == label) & (predicted == label))
        f1.append(2 * hits / (np.sum(gold == label) + np.sum(predicted == label)))
    return {"accuracy": float(np.mean(gold == predicted)), "macro_f1": float(np.mean(f1))}


def _regression_scores(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    # The correlation with a constant is undefined; 0 says that nothing was learned.
    constant = np.std(gold) == 0 or np.std(predicted) == 0
    pearson = 0.0 if constant else float(np.corrcoef(gold, predicted)[0, 1])
    return {"pearson": pearson, "mse": float(np.mean((gold - predicted) ** 2))}
