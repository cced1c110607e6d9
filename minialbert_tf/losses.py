"""The losses of the heads, as the original PyTorch implementation defines them."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

IGNORED_LABEL = -100
NO_NUMBER = float("nan")  # where labels are numbers of any size


def global_mean(value: tf.Tensor) -> tf.Tensor:
    """Returns the mean of a tensor over all replicas of a distribution strategy; without one, the tensor.

    Strategies average the replicas' losses. So a replica's sum divided by the mean of all replicas' counts, in place
    of its own count, makes that average the mean over everything that counts in the batch, however it is dealt.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)


def mean_of(losses: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Scales losses (...) so that their mean over all is the mean over those that count, in the batch of all replicas.

    Args:
        losses: Of each position.
        counts: Whether it counts, boolean, of the same shape. Where none does, all losses become 0.
    """
    weights = tf.cast(counts, tf.float32)
    count = global_mean(tf.reduce_sum(weights))
    return losses * weights * tf.math.divide_no_nan(tf.cast(tf.size(losses), tf.float32), count)


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the losses (...) of logits (..., C), and whether a label (...) is there: -100 marks that it is not."""
    labels = tf.cast(labels, tf.int32)
    labelled = tf.not_equal(labels, IGNORED_LABEL)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.where(labelled, labels, 0), logits=tf.cast(logits, tf.float32)
    )
    return losses, labelled


@keras.utils.register_keras_serializable("minialbert_tf")
class TokenCrossEntropy(keras.losses.Loss):
    """Cross-entropy averaged over the labelled positions of the batch; label -100 marks the others.

    Labels (B, L) or (B,), logits (B, L, C) or (B, C). The loss of a batch without any label is 0.
    """

    def __init__(self, name: str = "token_cross_entropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each position, scaled so that the mean over all is the mean over the labelled ones."""
        return mean_of(*cross_entropy(labels, logits))


@keras.utils.register_keras_serializable("minialbert_tf")
class SequenceLoss(keras.losses.Loss):
    """Mean squared error, cross-entropy or binary cross-entropy, by the config's problem_type.

    Without a problem_type it is inferred as the original does: one label means regression, one class id per text
    means single_label_classification, a vector of C targets per text means multi_label_classification.

    Labels (B,) or (B, C), logits (B, C). A text with the label -100 (of a class) or NaN (a number) does not count.
    """

    def __init__(self, problem_type: str | None = None, name: str = "sequence_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.problem_type = problem_type

    def call(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each text or, for vectors of targets, of each target."""
        labels, logits = tf.convert_to_tensor(labels), tf.cast(logits, tf.float32)  # tf-keras passes arrays as they are
        problem_type = self.problem_type or self._infer(labels, logits)
        if problem_type == "single_label_classification":
            return mean_of(*cross_entropy(tf.reshape(labels, (-1,)), logits))
        targets = tf.reshape(tf.cast(labels, tf.float32), tf.shape(logits))
        counts = tf.logical_not(tf.math.is_nan(targets))
        targets = tf.where(counts, targets, 0.0)
        if problem_type == "regression":
            return mean_of(tf.math.squared_difference(logits, targets), counts)
        return mean_of(tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits), counts)

    @staticmethod
    def _infer(labels: tf.Tensor, logits: tf.Tensor) -> str:
        if logits.shape[-1] == 1:
            return "regression"
        vectors = labels.shape.rank == 2 and labels.shape[-1] != 1
        return "multi_label_classification" if vectors else "single_label_classification"

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "problem_type": self.problem_type}
