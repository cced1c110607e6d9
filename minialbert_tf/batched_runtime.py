"""Running what takes padded batches behind a Tagger, which has single sequences."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from minialbert_tf.data.batching import pad

_BATCH_SIZE = 32


class BatchedRuntime(ABC):
    """Logits of token sequences, in batches of similar length.

    Attributes:
        max_length: Longest sequence, [CLS] and [SEP] included.
    """

    max_length: int

    @abstractmethod
    def run(self, input_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns the logits, float32 (B, L, labels), of ids, int32 (B, L), that are padded behind `lengths` (B,)."""

    def predict(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Returns the logits, float32 (length, labels), of each sequence of piece ids."""
        by_length = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        logits: list[np.ndarray] = [np.empty(0)] * len(sequences)
        for first in range(0, len(sequences), _BATCH_SIZE):
            batch = by_length[first : first + _BATCH_SIZE]
            lengths = np.array([len(sequences[index]) for index in batch], np.int32)
            outputs = self.run(pad([sequences[index] for index in batch], int(lengths.max())), lengths)
            for index, output, length in zip(batch, outputs, lengths, strict=True):
                logits[index] = output[:length]
        return logits
