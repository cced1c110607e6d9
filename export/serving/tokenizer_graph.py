"""BERT's tokenizer in TensorFlow ops, equal to `WordPieceTokenizer` piece for piece."""

from typing import NamedTuple

import tensorflow as tf

from minialbert_tf.errors import InputError
from minialbert_tf.export.serving.characters import (
    CODE_BITS,
    ITSELF,
    NOTHING,
    PAGE_BITS,
    PUNCTUATION,
    SPACE,
    character_table,
)
from minialbert_tf.tokenization import CONTINUATION, MAX_WORD_LENGTH, UNK, WordPieceTokenizer

_UTF8_BYTES = 4  # most bytes of a code point


class Words(NamedTuple):
    """The words of B texts and their pieces, all texts after another: W words, P pieces, int32.

    Attributes:
        texts: The text of each word (W,).
        starts: The first code point of each word in its text as given (W,).
        ends: The code point after its last (W,).
        first_pieces: The first piece of each word, an index into `piece_ids` (W,).
        piece_ids: Piece ids (P,), without [CLS] and [SEP].
        piece_counts: Number of pieces of each text (B,).
    """

    texts: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor
    first_pieces: tf.Tensor
    piece_ids: tf.Tensor
    piece_counts: tf.Tensor


class GraphTokenizer:
    """Cleans, normalises and splits texts by a `CharacterTable`, then runs tensorflow-text's WordPiece on the words.

    tensorflow-text's whole FastBertTokenizer would keep control characters, U+200B and U+FFFD, take "[UNK]" in a text
    for the special token, count a word's length in bytes, and always lower-case and strip accents together. Invalid
    UTF-8 counts as U+FFFD, as in Python's `errors="replace"`.

    Characters are looked up one by one, which stripping accents is not quite: it also puts combining marks into
    canonical order. This shows only for marks that are not stripped themselves and stand in another order.
    """

    def __init__(self, tokenizer: WordPieceTokenizer) -> None:
        """Takes the tokenizer to equal.

        Raises:
            InputError: If tensorflow-text is missing or cannot take the vocabulary.
        """
        self._word_piece = _word_piece(tokenizer)
        table = character_table(tokenizer)
        self._pages = tf.constant(table.pages << PAGE_BITS)
        self._entries = tf.constant(table.entries.reshape(-1))
        self._rules = tf.constant(table.rules)

    def __call__(self, texts: tf.Tensor) -> Words:
        """Splits texts, string (B,)."""
        decoded = tf.strings.unicode_decode(texts, "UTF-8")
        codes, positions = decoded.flat_values, _positions(decoded.row_splits, decoded.value_rowids())
        characters, classes, origins = self._normalize(codes)
        text_ids = tf.gather(tf.cast(decoded.value_rowids(), tf.int32), origins)
        is_first, is_space = _word_boundaries(classes, text_ids)

        kept = tf.squeeze(tf.where(~is_space), 1)
        characters, origins = tf.gather(characters, kept), tf.gather(origins, kept)
        firsts = tf.squeeze(tf.where(tf.gather(is_first, kept)), 1)
        lengths = tf.concat([firsts[1:], tf.size(kept, tf.int64)[None]], 0)[: tf.size(firsts)] - firsts
        pieces = self._pieces(tf.RaggedTensor.from_row_lengths(characters, lengths, validate=False))

        word_texts = tf.gather(text_ids, tf.gather(kept, firsts))
        piece_counts = tf.math.unsorted_segment_sum(tf.cast(pieces.row_lengths(), tf.int32), word_texts, tf.size(texts))
        return Words(
            texts=word_texts,
            starts=tf.gather(positions, tf.gather(origins, firsts)),
            ends=tf.gather(positions, tf.gather(origins, firsts + lengths - 1)) + 1,
            first_pieces=tf.cast(pieces.row_starts(), tf.int32),
            piece_ids=pieces.flat_values,
            piece_counts=piece_counts,
        )

    def _normalize(self, codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the characters that code points become, their classes, and the index each comes from."""
        page = tf.gather(self._pages, tf.bitwise.right_shift(codes, PAGE_BITS))
        rows = tf.gather(self._entries, page + tf.bitwise.bitwise_and(codes, (1 << PAGE_BITS) - 1))
        outcomes = tf.gather(self._rules, rows)  # (code points, most characters that one becomes)
        places = tf.where(outcomes != NOTHING)
        outcomes, origins = tf.gather_nd(outcomes, places), places[:, 0]
        characters = tf.bitwise.bitwise_and(outcomes, (1 << CODE_BITS) - 1)
        characters = tf.where(characters == ITSELF, tf.gather(codes, origins), characters)
        return characters, tf.bitwise.right_shift(outcomes, CODE_BITS), origins

    def _pieces(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        encoded = tf.strings.unicode_encode(words, "UTF-8")
        encoded = tf.where(words.row_lengths() > MAX_WORD_LENGTH, UNK, encoded)
        return self._word_piece.tokenize(encoded)


def _word_boundaries(classes: tf.Tensor, text_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns, for each normalised character, whether a word begins there, and whether it is a space."""
    is_space, is_mark = classes == SPACE, classes == PUNCTUATION
    after_other_text = tf.concat([[True], text_ids[1:] != text_ids[:-1]], 0)[: tf.size(text_ids)]
    after_end = tf.concat([[True], (is_space | is_mark)[:-1]], 0)[: tf.size(text_ids)]
    return ~is_space & (is_mark | after_end | after_other_text), is_space


def _positions(row_splits: tf.Tensor, row_ids: tf.Tensor) -> tf.Tensor:
    """Returns the index within its row of each value, int32."""
    return tf.range(tf.size(row_ids)) - tf.cast(tf.gather(row_splits, row_ids), tf.int32)


def _word_piece(tokenizer: WordPieceTokenizer):  # type: ignore[no-untyped-def]  # an optional dependency's class
    try:
        from tensorflow_text import FastWordpieceTokenizer
    except ImportError as error:
        raise InputError(
            f"Serving texts needs tensorflow-text: pip install 'minialbert-tf[serving]'. Received: {error}"
        ) from error
    try:
        return FastWordpieceTokenizer(
            tokenizer.vocabulary,
            suffix_indicator=CONTINUATION,
            max_bytes_per_word=MAX_WORD_LENGTH * _UTF8_BYTES,
            token_out_type=tf.int32,
            unknown_token=UNK,
            no_pretokenization=True,
        )
    except RuntimeError as error:
        raise InputError(f"tensorflow-text must be able to take the vocabulary. Received: {error}") from error
