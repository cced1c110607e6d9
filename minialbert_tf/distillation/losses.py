"""The terms of the distillation loss; each compares what a teacher and a student give for the same batch."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow import keras

from minialbert_tf.errors import InputError
from minialbert_tf.losses import cross_entropy


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms in the total (MiniALBERT, arXiv 2210.06425, section 3.3); 0 leaves a term out.

    Attributes:
        mlm: Of the cross-entropy of the masked tokens.
        embedding: Of the cosine distance of the embeddings, an ablation of the paper; reported even where it is 0.
        attention: Of the divergence of the attention maps.
        hidden: Of the cosine distance of the hidden states.
        output: Of the divergence of the distributions over the vocabulary.

    Raises:
        InputError: If one is negative.
    """

    mlm: float = 1.0
    embedding: float = 0.0
    attention: float = 3.0
    hidden: float = 3.0
    output: float = 5.0

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            if not weight >= 0:
                raise InputError(f"The weight of a loss must be 0 or more. Received: {name}={weight}")


class _Term:
    """A loss that Keras can serialise."""

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Rebuilds the loss from `get_config`."""
        return cls(**config)


@keras.utils.register_keras_serializable("minialbert_tf")
class AttentionDivergence(_Term):
    """KL(teacher ‖ student) of attention maps, averaged over the rows of unmasked queries and all L columns.

    Averaging over columns, too, is the original's; it makes the term smaller by a factor L than a divergence per row.
    The small epsilon inside both logarithms is the original's as well.
    """

    def __init__(self, epsilon: float = 1e-12) -> None:
        self.epsilon = epsilon

    def __call__(self, teacher: tf.Tensor, student: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Returns the loss, a scalar, of softmax maps (B, A, L, L) and a mask (B, L) of tokens."""
        teacher = tf.cast(teacher, tf.float32) + self.epsilon
        student = tf.cast(student, tf.float32) + self.epsilon
        divergence = tf.reduce_mean(teacher * (tf.math.log(teacher) - tf.math.log(student)), axis=(1, 3))  # (B, L)
        return masked_mean(divergence, mask)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"epsilon": self.epsilon}


@keras.utils.register_keras_serializable("minialbert_tf")
class CosineDistance(_Term):
    """1 - cos(teacher, student) of hidden states, averaged over tokens."""

    def __call__(self, teacher: tf.Tensor, student: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Returns the loss, a scalar, of hidden states (B, L, H) and a mask (B, L) of tokens."""
        teacher = tf.math.l2_normalize(tf.cast(teacher, tf.float32), axis=-1)
        student = tf.math.l2_normalize(tf.cast(student, tf.float32), axis=-1)
        return masked_mean(1.0 - tf.reduce_sum(teacher * student, axis=-1), mask)


@keras.utils.register_keras_serializable("minialbert_tf")
class MaskedCrossEntropy(_Term):
    """Cross-entropy of the masked tokens, averaged over them."""

    def __call__(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss, a scalar, of labels (...), -100 where nothing is masked, and logits (..., V)."""
        return masked_mean(*cross_entropy(labels, logits))


@keras.utils.register_keras_serializable("minialbert_tf")
class OutputDivergence(_Term):
    """T² · KL(teacher ‖ student) of softmax(logits / T), averaged over rows (arXiv 1503.02531).

    The factor T² keeps the gradient's size as the temperature changes.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise InputError(f"temperature must be positive. Received: {temperature}")
        self.temperature = temperature

    def __call__(self, teacher: tf.Tensor, student: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the loss, a scalar, of logits (..., C) and a mask (...) of the rows that count (default: all)."""
        teacher = tf.nn.log_softmax(tf.cast(teacher, tf.float32) / self.temperature)
        student = tf.nn.log_softmax(tf.cast(student, tf.float32) / self.temperature)
        divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
        mask = tf.ones_like(divergence) if mask is None else mask
        return self.temperature**2 * masked_mean(divergence, mask)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"temperature": self.temperature}


def masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean of values (...) where the mask (...) is true or 1, and 0 where it never is."""
    mask = tf.cast(mask, values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values * mask), tf.reduce_sum(mask))
