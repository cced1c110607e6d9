"""Task distillation: a fine-tuned teacher's judgement as part of the loss of fine-tuning."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from minialbert_tf.data.batching import Batch, BatchedExamples, Example
from minialbert_tf.losses import IGNORED_LABEL, mean_of
from minialbert_tf.pretrained import PretrainedModel

# What only the teacher has labelled: it counts, but there is no label to compare with.
TEACHER_LABEL = -101


@keras.utils.register_keras_serializable("minialbert_tf")
class TaskDistillationLoss(keras.losses.Loss):
    """(1 - α) · CE(label, student) + α · T² · KL(teacher ‖ student), or KL alone where there is no label.

    Averaged over the positions or texts that count. α = `teacher_weight`; T = `temperature` softens both
    distributions (Hinton et al., arXiv 1503.02531).

    Targets (..., 1 + C), float32: a label, -100 where the position does not count, `TEACHER_LABEL` where only the
    teacher has labelled it, then the teacher's C logits. Logits (..., C).
    """

    def __init__(
        self,
        teacher_weight: float = 0.5,
        temperature: float = 1.0,
        name: str = "task_distillation_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.teacher_weight = teacher_weight
        self.temperature = temperature

    def call(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each position, scaled so that the mean over all is the mean over those that count."""
        targets, logits = tf.cast(targets, tf.float32), tf.cast(logits, tf.float32)
        labels, taught = tf.cast(targets[..., 0], tf.int32), targets[..., 1:] / self.temperature
        divergence = tf.reduce_sum(
            tf.nn.softmax(taught) * (tf.nn.log_softmax(taught) - tf.nn.log_softmax(logits / self.temperature)), axis=-1
        )
        divergence *= self.temperature**2
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(labels, 0), logits=logits)
        mixed = (1.0 - self.teacher_weight) * entropy + self.teacher_weight * divergence
        losses = tf.where(labels == TEACHER_LABEL, divergence, mixed)
        return mean_of(losses, labels != IGNORED_LABEL)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "teacher_weight": self.teacher_weight, "temperature": self.temperature}


class TaughtExamples(BatchedExamples):
    """Batches whose labels are joined by a teacher's logits, computed on the fly: targets of `TaskDistillationLoss`."""

    def __init__(
        self, examples: Sequence[Example], batch_size: int, seed: int = 0, *, teacher: PretrainedModel
    ) -> None:
        """Takes what `BatchedExamples` takes, with class ids as labels, and a model whose logits go with them."""
        super().__init__(examples, batch_size, seed)
        self._teach = tf.function(lambda inputs: teacher(inputs, training=False), reduce_retracing=True)

    def collate(self, indices: Sequence[int] | np.ndarray, length: int | None = None) -> Batch:
        """Returns inputs of shape (B, L) and targets (B, L, 1 + C) or (B, 1 + C)."""
        inputs, labels = super().collate(indices, length)
        logits = self._teach({name: tf.constant(value) for name, value in inputs.items()})
        return inputs, np.concatenate([labels[..., None], np.asarray(logits)], axis=-1, dtype=np.float32)
