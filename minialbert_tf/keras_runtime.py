"""Running a Keras model behind a Tagger."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from minialbert_tf.data.batching import pad
from minialbert_tf.models import MiniAlbertForTokenClassification

_BATCH_SIZE = 32


class KerasRuntime:
    """Logits of token sequences, in batches of similar length.

    Attributes:
        max_length: Longest sequence, [CLS] and [SEP] included.
    """

    def __init__(self, model: MiniAlbertForTokenClassification) -> None:
        """Takes a model, whose weights may go on changing between calls."""
        self.max_length = model.config.max_position_embeddings
        batch = tf.TensorSpec((None, None), tf.int32)

        @tf.function(input_signature=(batch, batch))
        def run(input_ids: tf.Tensor, attention_mask: tf.Tensor) -> tf.Tensor:
            return model({"input_ids": input_ids, "attention_mask": attention_mask}, training=False)

        self._run = run

    def predict(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Returns the logits, float32 (length, labels), of each sequence of piece ids."""
        by_length = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        logits: list[np.ndarray] = [np.empty(0)] * len(sequences)
        for first in range(0, len(sequences), _BATCH_SIZE):
            batch = by_length[first : first + _BATCH_SIZE]
            longest = max(len(sequences[index]) for index in batch)
            ids = pad([sequences[index] for index in batch], longest)
            mask = pad([[1] * len(sequences[index]) for index in batch], longest)
            outputs = self._run(ids, mask).numpy()
            for index, output in zip(batch, outputs, strict=True):
                logits[index] = output[: len(sequences[index])]
        return logits

    def close(self) -> None:
        """Does nothing: the model belongs to the caller."""
