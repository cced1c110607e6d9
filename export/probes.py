"""Sequences of piece ids from texts, on which networks are compared and ranges of activations measured."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice

from minialbert_tf.data.conll import read_conll
from minialbert_tf.data.sample import sample_folder
from minialbert_tf.errors import InputError
from minialbert_tf.tokenization import Pieces, WordPieceTokenizer
from minialbert_tf.windows import plan_windows

_BUILT_IN_TEXTS = 48


@dataclass(frozen=True, slots=True)
class Probe:
    """A sequence for a network.

    Attributes:
        ids: Piece ids, [CLS] and [SEP] included.
        decided: The positions at which the network decides something: first pieces of words, or [CLS] for a label of
            the whole text.
    """

    ids: tuple[int, ...]
    decided: tuple[int, ...]


def built_in_texts(part: str) -> list[str]:
    """Returns sentences of a part of the package's sample corpus: "train", "dev" or "test"."""
    sentences = read_conll(sample_folder() / f"{part}.tsv")
    return [" ".join(sentence.words) for sentence in sentences[:_BUILT_IN_TEXTS]]


def pieces_in_a_row(texts: Iterable[str], tokenizer: WordPieceTokenizer) -> list[int]:
    """Returns the piece ids of all texts.

    Raises:
        InputError: If there are none.
    """
    return [piece for pieces in _encode(texts, tokenizer) for piece in pieces.ids]


def probes_of(
    texts: Iterable[str], tokenizer: WordPieceTokenizer, lengths: Sequence[int], per_word: bool
) -> tuple[Probe, ...]:
    """Returns each text by itself, and for each length a sequence of texts in a row that fills it.

    Args:
        texts: Texts of any length; those beyond the longest of `lengths` go into windows.
        tokenizer: The network's.
        lengths: Lengths of sequences, [CLS] and [SEP] included, ascending.
        per_word: Whether the network labels words, not whole texts.

    Raises:
        InputError: If there are no words in the texts.
    """

    def probe(pieces: Iterable[tuple[int, bool]]) -> Probe:
        ids, firsts = zip(*pieces, strict=True)
        words = tuple(position for position, first in enumerate(firsts, start=1) if first)
        return Probe((tokenizer.cls_id, *ids, tokenizer.sep_id), words if per_word else (0,))

    encoded = [list(_with_firsts(pieces)) for pieces in _encode(texts, tokenizer)]
    alone = [
        probe(pieces[window.start : window.end])
        for pieces in encoded
        for window in plan_windows(len(pieces), lengths[-1] - 2)
    ]
    in_a_row = cycle(chain.from_iterable(encoded))
    return (*alone, *(probe(islice(in_a_row, length - 2)) for length in lengths))


def _encode(texts: Iterable[str], tokenizer: WordPieceTokenizer) -> list[Pieces]:
    encoded = [tokenizer.encode(text) for text in texts]
    if not any(pieces.ids for pieces in encoded):
        raise InputError("The texts must have words. Received: none")
    return encoded


def _with_firsts(pieces: Pieces) -> Iterator[tuple[int, bool]]:
    """Yields each piece id, and whether it is the first of its word."""
    before = None
    for piece, word in zip(pieces.ids, pieces.word_ids, strict=True):
        yield piece, word != before
        before = word
