"""Running a Keras model behind a Tagger."""

import numpy as np
import tensorflow as tf

from minialbert_tf.batched_runtime import BatchedRuntime
from minialbert_tf.pretrained import PretrainedModel


class KerasRuntime(BatchedRuntime):
    """Logits of token sequences from a Keras model, whose weights may go on changing between calls."""

    def __init__(self, model: PretrainedModel) -> None:
        """Takes a token classifier."""
        self.max_length = model.config.max_position_embeddings

        @tf.function(input_signature=(tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None,), tf.int32)))
        def run(input_ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
            mask = tf.sequence_mask(lengths, tf.shape(input_ids)[1], tf.int32)
            return model({"input_ids": input_ids, "attention_mask": mask}, training=False)

        self._run = run

    def run(self, input_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns the logits of a batch."""
        return self._run(input_ids, lengths).numpy()

    def close(self) -> None:
        """Does nothing: the model belongs to the caller."""
