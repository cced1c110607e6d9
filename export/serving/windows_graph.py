"""Overlapping windows over long texts in TensorFlow ops: the arithmetic of `minialbert_tf.windows`."""

from typing import NamedTuple

import tensorflow as tf


class Windows(NamedTuple):
    """The windows of B texts, all texts after another, int32.

    Attributes:
        starts: First piece of each window, an index into the pieces of all texts (N,).
        lengths: Number of pieces of each window (N,).
        firsts: First window of each text (B,).
        counts: Number of windows of each text (B,).
    """

    starts: tf.Tensor
    lengths: tf.Tensor
    firsts: tf.Tensor
    counts: tf.Tensor


def plan(piece_counts: tf.Tensor, capacity: int) -> Windows:
    """Cuts texts of `piece_counts` (B,) pieces into windows of at most `capacity`."""
    overlap, step = _overlap_and_step(capacity)
    counts = tf.where(
        piece_counts <= capacity, tf.sign(piece_counts), tf.cast(-(-(piece_counts - overlap) // step), tf.int32)
    )
    firsts = tf.cumsum(counts, exclusive=True)
    texts = tf.repeat(tf.range(tf.size(counts)), counts)
    in_text = (tf.range(tf.size(texts)) - tf.gather(firsts, texts)) * step
    return Windows(
        starts=tf.gather(tf.cumsum(piece_counts, exclusive=True), texts) + in_text,
        lengths=tf.minimum(tf.gather(piece_counts, texts) - in_text, capacity),
        firsts=firsts,
        counts=counts,
    )


def owners(
    windows: Windows, pieces: tf.Tensor, texts: tf.Tensor, piece_counts: tf.Tensor, capacity: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the window that answers for each of some pieces, and the piece's place in it.

    Args:
        windows: What `plan` returned.
        pieces: Indices into the pieces of all texts (K,).
        texts: The text that each piece is of (K,).
        piece_counts: Number of pieces of each text (B,).
        capacity: As given to `plan`.

    Returns:
        Window numbers (K,), and places (K,) counted from the window's first piece.
    """
    overlap, step = _overlap_and_step(capacity)
    in_text = pieces - tf.gather(tf.cumsum(piece_counts, exclusive=True), texts)
    last = tf.gather(windows.counts, texts) - 1
    in_text_window = tf.clip_by_value((in_text - overlap // 2) // step, 0, last)
    return tf.gather(windows.firsts, texts) + in_text_window, in_text - in_text_window * step


def _overlap_and_step(capacity: int) -> tuple[int, int]:
    overlap = capacity // 4
    return overlap, capacity - overlap
