"""Batches of sequences of similar length, in an order that only the seed and the epoch decide."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minialbert_tf.errors import DataError
from minialbert_tf.losses import IGNORED_LABEL, NO_NUMBER

# Lengths that batches are padded to: few, because XLA compiles for each, and close enough to waste little.
BUCKET_LENGTHS = (16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512)
# Batches are made of similar lengths within a pool of this many batches, and so still of random texts.
_POOL_BATCHES = 50

Batch = tuple[dict[str, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence.

    Attributes:
        ids: Piece ids, [CLS] and [SEP] included.
        labels: Label ids of the pieces (-100: none), or the label of the whole sequence.
        type_ids: Token type ids of the pieces, or None for all 0.
    """

    ids: Sequence[int]
    labels: Sequence[int] | int | float
    type_ids: Sequence[int] | None = None


class Shard(NamedTuple):
    """The share of each batch that is computed here; by default all of it.

    A batch is dealt to all replicas (devices, of one worker or of many) in equal numbers of rows, in order; where it
    does not come out even, the last ones get blank rows, numbered -1, which count nowhere.

    Attributes:
        replicas: Among how many replicas batches are dealt.
        first: Number of the first replica here.
        here: Replicas here.
    """

    replicas: int = 1
    first: int = 0
    here: int = 1

    def rows(self, size: int, parts: int = 1) -> np.ndarray:
        """Returns the numbers of the rows of each replica here, (here, R), of a batch of `size` rows.

        With `parts` a batch is computed in so many parts, one after the other: each part is dealt.
        """
        batch = np.arange(size).reshape(parts, -1)
        each = -(-batch.shape[1] // self.replicas)
        batch = np.pad(batch, ((0, 0), (0, each * self.replicas - batch.shape[1])), constant_values=-1)
        dealt = batch.reshape(parts, self.replicas, each).transpose(1, 0, 2).reshape(self.replicas, -1)
        return dealt[self.first : self.first + self.here]


WHOLE = Shard()


def pad(rows: Sequence[Sequence[int]], length: int, value: int = 0) -> np.ndarray:
    """Returns an int32 array (rows, length), each row filled up with `value`."""
    padded = np.full((len(rows), length), value, np.int32)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded


class BatchedExamples:
    """Examples in batches, shuffled by (seed, epoch) alone, so that training can resume at any batch.

    Attributes:
        steps: Batches in an epoch.
    """

    def __init__(self, examples: Sequence[Example], batch_size: int, seed: int = 0) -> None:
        """Takes the examples, the size of a batch, and the seed of the order.

        Raises:
            DataError: If there is no example.
        """
        if not examples:
            raise DataError("The data must have at least one text with a character that the tokenizer keeps.")
        self._examples = examples
        self._batch_size = batch_size
        self._seed = seed
        self._blank = _blank(examples[0])
        self.steps = -(-len(examples) // batch_size)

    def dataset(self, epoch: int, first_step: int = 0, shard: Shard = WHOLE) -> tf.data.Dataset:
        """Returns the batches of an epoch from `first_step` on: inputs of shape (B, L) and labels (B, L) or (B,).

        With a shard these are only its rows, a batch for each replica of the shard.
        """
        features, labels = self.collate([0])
        signature = tf.nest.map_structure(
            lambda array: tf.TensorSpec([None] * array.ndim, array.dtype), (features, labels)
        )
        dataset = tf.data.Dataset.from_generator(
            lambda: self._batches(epoch, first_step, shard), output_signature=signature
        )
        dataset = dataset.apply(tf.data.experimental.assert_cardinality((self.steps - first_step) * shard.here))
        return dataset.prefetch(4)

    def order(self, epoch: int) -> list[np.ndarray]:
        """Returns the indices of the examples of each batch of an epoch."""
        random = np.random.default_rng((self._seed, epoch))
        lengths = np.array([len(example.ids) for example in self._examples])
        shuffled = random.permutation(len(self._examples))
        batches = []
        for first in range(0, len(shuffled), _POOL_BATCHES * self._batch_size):
            pool = shuffled[first : first + _POOL_BATCHES * self._batch_size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            batches += [pool[i : i + self._batch_size] for i in range(0, len(pool), self._batch_size)]
        return [batches[index] for index in random.permutation(len(batches))]

    def _batches(self, epoch: int, first_step: int, shard: Shard) -> Iterator[Batch]:
        for indices in self.order(epoch)[first_step:]:
            # All replicas pad to the length of the whole batch, by which some losses divide.
            length = self._padded_length(indices)
            for rows in shard.rows(len(indices)):
                yield self.collate(np.append(indices, -1)[rows], length)

    def _padded_length(self, indices: Sequence[int] | np.ndarray) -> int:
        longest = max(len(self._examples[index].ids) for index in indices)
        return next((bucket for bucket in BUCKET_LENGTHS if bucket >= longest), longest)

    def collate(self, indices: Sequence[int] | np.ndarray, length: int | None = None) -> Batch:
        """Returns the examples of these indices, padded: inputs of shape (B, L) and labels (B, L) or (B,).

        Args:
            indices: Of the examples; -1 makes a row of padding alone, which does not count.
            length: What to pad to; None takes what the longest example needs.
        """
        length = self._padded_length(indices) if length is None else length
        examples = [self._blank if index < 0 else self._examples[index] for index in indices]
        features = {
            "input_ids": pad([example.ids for example in examples], length),
            "attention_mask": pad([[1] * len(example.ids) for example in examples], length),
        }
        if self._blank.type_ids is not None:
            features["token_type_ids"] = pad([example.type_ids or [] for example in examples], length)
        labels = [example.labels for example in examples]
        if isinstance(labels[0], Sequence):
            return features, pad(labels, length, value=IGNORED_LABEL)  # type: ignore[arg-type]
        return features, np.array(labels, np.float32 if isinstance(labels[0], float) else np.int32)


def _blank(example: Example) -> Example:
    """Returns an example of the same kind without a piece, whose label does not count."""
    label = example.labels
    if isinstance(label, Sequence):
        return Example((), (), None if example.type_ids is None else ())
    number = NO_NUMBER if isinstance(label, float) else IGNORED_LABEL
    return Example((), number, None if example.type_ids is None else ())
