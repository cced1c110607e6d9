"""The losses of the heads, as the original PyTorch implementation defines them."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

IGNORED_LABEL = -100


@keras.utils.register_keras_serializable("minialbert_tf")
class TokenCrossEntropy(keras.losses.Loss):
    """Cross-entropy averaged over the labelled positions of the batch; label -100 marks the others.

    Labels (B, L) or (B,), logits (B, L, C) or (B, C). The loss of a batch without any label is 0.
    """

    def __init__(self, name: str = "token_cross_entropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each position, scaled so that the mean over all is the mean over the labelled ones."""
        labels = tf.cast(labels, tf.int32)
        labelled = tf.not_equal(labels, IGNORED_LABEL)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.where(labelled, labels, 0), logits=tf.cast(logits, tf.float32)
        )
        weights = tf.cast(labelled, tf.float32)
        count = tf.reduce_sum(weights)
        return losses * weights * tf.math.divide_no_nan(tf.cast(tf.size(labels), tf.float32), count)


@keras.utils.register_keras_serializable("minialbert_tf")
class SequenceLoss(keras.losses.Loss):
    """Mean squared error, cross-entropy or binary cross-entropy, by the config's problem_type.

    Without a problem_type it is inferred as the original does: one label means regression, one class id per text
    means single_label_classification, a vector of C targets per text means multi_label_classification.

    Labels (B,) or (B, C), logits (B, C).
    """

    def __init__(self, problem_type: str | None = None, name: str = "sequence_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.problem_type = problem_type

    def call(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each text or, for vectors of targets, of each target."""
        labels, logits = tf.convert_to_tensor(labels), tf.cast(logits, tf.float32)  # tf-keras passes arrays as they are
        problem_type = self.problem_type or self._infer(labels, logits)
        if problem_type == "single_label_classification":
            return tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=tf.reshape(tf.cast(labels, tf.int32), (-1,)), logits=logits
            )
        targets = tf.reshape(tf.cast(labels, tf.float32), tf.shape(logits))
        if problem_type == "regression":
            return tf.math.squared_difference(logits, targets)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)

    @staticmethod
    def _infer(labels: tf.Tensor, logits: tf.Tensor) -> str:
        if logits.shape[-1] == 1:
            return "regression"
        vectors = labels.shape.rank == 2 and labels.shape[-1] != 1
        return "multi_label_classification" if vectors else "single_label_classification"

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "problem_type": self.problem_type}
