"""Masked-LM batches made on the fly: 15 % of the pieces are to be guessed."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from minialbert_tf.data.batching import BUCKET_LENGTHS, WHOLE, Batch, Shard, pad
from minialbert_tf.data.text_windows import Windows
from minialbert_tf.errors import DataError, InputError
from minialbert_tf.losses import IGNORED_LABEL
from minialbert_tf.tokenization import SPECIAL_TOKENS, WordPieceTokenizer

# Of the chosen pieces 80 % become [MASK] and 10 % a random piece; the rest stay (BERT, arXiv 1810.04805, 3.1).
_MASK_SHARE = 0.8
_RANDOM_SHARE = 0.1


class Masking:
    """Chooses a share of the pieces of each row and hides them; never a special token.

    Attributes:
        rate: The share; in each row the number of pieces is rounded, but at least 1. With 0 nothing is masked.
        pad_id: The id of [PAD].
    """

    def __init__(self, tokenizer: WordPieceTokenizer, rate: float = 0.15) -> None:
        """Takes the tokenizer whose [MASK] and other pieces stand in.

        Raises:
            InputError: If the rate is not in [0, 1).
        """
        if not 0 <= rate < 1:
            raise InputError(f"The share of masked pieces must be from 0 to less than 1. Received: {rate}")
        self.rate = rate
        self.pad_id = tokenizer.pad_id
        self._mask_id = tokenizer.mask_id
        self._special = np.isin(tokenizer.vocabulary, SPECIAL_TOKENS)  # by id
        self._ordinary = np.flatnonzero(~self._special).astype(np.int32)

    def most(self, length: int) -> int:
        """Returns how many positions of a row of `length`, [CLS] and [SEP] included, are masked at most."""
        return max(1, round(self.rate * (length - 2)))

    def apply(self, ids: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Masks a batch.

        Args:
            ids: Piece ids (B, L), padded with [PAD].
            random: Decides everything.

        Returns:
            The ids with the chosen ones hidden, and labels (B, L): what stood there, -100 at the other positions.
        """
        if self.rate == 0:
            return ids, np.full_like(ids, IGNORED_LABEL)
        eligible = ~self._special[ids]
        counts = eligible.sum(axis=1)
        wanted = np.minimum(np.maximum(np.rint(self.rate * counts), 1), counts)
        ranks = np.where(eligible, random.random(ids.shape), 2.0).argsort(axis=1).argsort(axis=1)
        chosen = ranks < wanted[:, None]
        fate = random.random(ids.shape)
        masked = np.where(chosen & (fate < _MASK_SHARE), self._mask_id, ids)
        replaced = chosen & (fate >= _MASK_SHARE) & (fate < _MASK_SHARE + _RANDOM_SHARE)
        masked[replaced] = random.choice(self._ordinary, replaced.sum())
        return masked.astype(np.int32), np.where(chosen, ids, IGNORED_LABEL).astype(np.int32)


class MaskedBatches:
    """An endless sequence of masked batches, of which number s depends on the seed and s alone.

    Attributes:
        masking: What is masked.
        error: Why a dataset has ended too soon, or None; TensorFlow's own error says it among much else.
    """

    def __init__(self, windows: Windows, masking: Masking, batch_size: int, seed: int = 0) -> None:
        """Takes the windows, what is masked in them, and how many make a batch."""
        self._windows = windows
        self.masking = masking
        self.error: DataError | None = None
        self._batch_size = batch_size
        self._seed = seed

    def dataset(self, first: int = 0, shard: Shard = WHOLE, parts: int = 1) -> tf.data.Dataset:
        """Returns the batches from number `first` on: inputs and labels of shape (B, L).

        With a shard these are only its rows, a batch for each replica of the shard, dealt part by part if a batch is
        computed in parts.
        """
        dealt = shard.rows(self._batch_size, parts)
        grid = tf.TensorSpec((dealt.shape[1], None), tf.int32)
        signature = ({"input_ids": grid, "attention_mask": grid}, grid)
        return tf.data.Dataset.from_generator(lambda: self._watched(first, dealt), output_signature=signature).prefetch(
            4
        )

    def _watched(self, first: int, dealt: np.ndarray) -> Iterator[Batch]:
        # Every replica masks the whole batch and takes its rows: what is masked must not depend on their number.
        try:
            for inputs, labels in self.batches(first):
                for rows in dealt:
                    yield (
                        {name: _take(values, rows, 0) for name, values in inputs.items()},
                        _take(labels, rows, IGNORED_LABEL),
                    )
        except DataError as error:
            self.error = error
            raise

    def batches(self, first: int = 0) -> Iterator[Batch]:
        """Yields the batches from number `first` on."""
        stream = self._windows.stream(first * self._batch_size)
        for number, window in enumerate(stream, start=first):
            rows = [window, *(next(stream) for _ in range(self._batch_size - 1))]
            length = self._padded_length(max(map(len, rows)))
            ids = pad([row.tolist() for row in rows], length, self.masking.pad_id)
            mask = pad([[1] * len(row) for row in rows], length)
            ids, labels = self.masking.apply(ids, np.random.default_rng((self._seed, number)))
            yield {"input_ids": ids, "attention_mask": mask}, labels

    def _padded_length(self, longest: int) -> int:
        most = self._windows.plan.length
        return next((bucket for bucket in BUCKET_LENGTHS if longest <= bucket < most), most)


def _take(values: np.ndarray, rows: np.ndarray, blank: int) -> np.ndarray:
    """Returns rows by number; -1 is one of `blank`."""
    return np.concatenate([values, np.full_like(values[:1], blank)])[rows]
