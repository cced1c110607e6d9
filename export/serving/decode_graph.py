"""From the labels of words to entities in TensorFlow ops: the steps 3 to 5 of `minialbert_tf.tagger.Tagger`."""

from collections.abc import Sequence

import tensorflow as tf

from minialbert_tf.tagger import OUTSIDE

PADDING = -1


class EntityDecoder:
    """Merges words into entities by lenient IOB2 and lays them out as dense tensors.

    Attributes:
        entity_types: Names of the entity types in the order in which the labels first name them.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        """Takes the IOB2 labels by id."""
        self.entity_types = entity_types(labels)
        type_ids = [PADDING if label == OUTSIDE else self.entity_types.index(label[2:]) for label in labels]
        self._types = tf.constant(type_ids)
        self._opening = tf.constant([label.startswith("B-") for label in labels])
        self._names = tf.constant([*self.entity_types, ""])  # PADDING gives the last

    def __call__(
        self,
        label_ids: tf.Tensor,
        scores: tf.Tensor,
        texts: tf.Tensor,
        starts: tf.Tensor,
        ends: tf.Tensor,
        text_count: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Decodes the W words of B texts.

        Args:
            label_ids: Label of each word (W,).
            scores: Its probability (W,).
            texts: Text of each word (W,), never decreasing.
            starts: First code point of each word (W,).
            ends: Code point after the last of each word (W,).
            text_count: B.

        Returns:
            `label_ids` (entity types), `labels` (their names), `scores`, `starts` and `ends`, (B, T) with T the most
            entities of a text but at least 1, filled up with -1 or ""; and `lengths` (B,), the number of entities.
        """
        types = tf.gather(self._types, label_ids)
        inside = types != PADDING
        follows = tf.concat([[False], (types[1:] == types[:-1]) & (texts[1:] == texts[:-1])], 0)[: tf.size(types)]
        opens = inside & ~(follows & ~tf.gather(self._opening, label_ids))

        words = tf.squeeze(tf.where(inside), 1)
        entities = tf.gather(tf.cumsum(tf.cast(opens, tf.int32)) - 1, words)  # of each inside word
        firsts = tf.squeeze(tf.where(opens), 1)
        lasts = tf.math.segment_max(words, entities)
        entity_texts = tf.gather(texts, firsts)
        lengths = tf.math.bincount(entity_texts, minlength=text_count, maxlength=text_count)

        places = tf.range(tf.size(entity_texts)) - tf.gather(tf.cumsum(lengths, exclusive=True), entity_texts)
        places = tf.stack([entity_texts, places], axis=1)
        # No axis may be empty: a server's JSON for a row without elements says nothing about its type or rank.
        shape = tf.stack([text_count, tf.maximum(tf.reduce_max(lengths), 1)])

        def dense(values: tf.Tensor) -> tf.Tensor:
            return tf.tensor_scatter_nd_update(tf.fill(shape, tf.cast(PADDING, values.dtype)), places, values)

        type_ids = dense(tf.gather(types, firsts))
        return {
            "label_ids": type_ids,
            "labels": tf.gather(self._names, tf.where(type_ids == PADDING, len(self.entity_types), type_ids)),
            "scores": dense(tf.math.segment_mean(tf.gather(scores, words), entities)),
            "starts": dense(tf.gather(starts, firsts)),
            "ends": dense(tf.gather(ends, lasts)),
            "lengths": lengths,
        }


def entity_types(labels: Sequence[str]) -> list[str]:
    """Returns the types X of the labels B-X and I-X, in the order in which they first occur."""
    return list(dict.fromkeys(label[2:] for label in labels if label != OUTSIDE))
