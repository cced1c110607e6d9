"""What the graphs of all tasks do with texts and sequences of pieces."""

from collections.abc import Sequence

import tensorflow as tf

from minialbert_tf.tokenization import WordPieceTokenizer

# Far beyond any article. One text of a gigabyte must not take down a server, and cutting it would be silent.
MAX_TEXT_BYTES = 1_000_000


def checked_texts(texts: tf.Tensor) -> tf.Tensor:
    """Returns the texts (B,), which fail at run time if one has more than `MAX_TEXT_BYTES`."""
    fits = tf.reduce_all(tf.strings.length(texts) <= MAX_TEXT_BYTES)
    with tf.control_dependencies(
        [tf.debugging.Assert(fits, [f"A text must have at most {MAX_TEXT_BYTES} bytes of UTF-8."])]
    ):
        return tf.identity(texts)


def sequences(
    piece_ids: tf.Tensor,
    segments: Sequence[tuple[tf.Tensor, tf.Tensor]],
    length: tf.Tensor,
    tokenizer: WordPieceTokenizer,
) -> dict[str, tf.Tensor]:
    """Builds the model's inputs: [CLS] segment [SEP], or [CLS] segment [SEP] segment [SEP] with types 0 and 1.

    Args:
        piece_ids: Where the segments are cut from (P,).
        segments: For each segment its first pieces and its numbers of pieces, (R,) each.
        length: Length to pad to, at least that of the longest sequence.
        tokenizer: Gives the ids of special tokens.
    """
    piece_ids = tf.concat([piece_ids, [tokenizer.pad_id]], 0)  # so that there is something to gather from
    places = tf.range(length)[None]  # (1, L)
    ids = tf.where(places == 0, tokenizer.cls_id, tokenizer.pad_id)
    type_ids = tf.zeros_like(places)
    begin = tf.constant([[1]])
    for starts, counts in segments:
        end = begin + counts[:, None]
        type_ids = tf.where(begin > 1, tf.cast(places >= begin, tf.int32), type_ids)
        pieces = tf.gather(piece_ids, tf.clip_by_value(starts[:, None] + places - begin, 0, tf.size(piece_ids) - 1))
        ids = tf.where((places >= begin) & (places < end), pieces, ids)
        ids = tf.where(places == end, tokenizer.sep_id, ids)
        begin = end + 1
    inputs = {"input_ids": ids, "attention_mask": tf.cast(places < begin, tf.int32)}
    return {**inputs, "token_type_ids": type_ids} if len(segments) > 1 else inputs


def masked_inputs(input_ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
    """Builds the model's inputs from ids (B, T) and lengths (B,), [CLS] and [SEP] included."""
    mask = tf.sequence_mask(lengths, tf.shape(input_ids)[1], tf.int32)
    # Reshaping refuses lengths of another number than sequences, which the model would broadcast.
    return {"input_ids": input_ids, "attention_mask": tf.reshape(mask, tf.shape(input_ids))}
