"""From labelled sentences and texts to training examples."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from minialbert_tf.data.batching import Example
from minialbert_tf.data.conll import Sentence
from minialbert_tf.data.tables import Row
from minialbert_tf.losses import IGNORED_LABEL
from minialbert_tf.tokenization import WordPieces, WordPieceTokenizer
from minialbert_tf.windows import Window, plan_windows

LABEL_PIECES = ("first", "all")


def token_examples(
    sentences: Sequence[Sentence],
    tokenizer: WordPieceTokenizer,
    labels: Sequence[str],
    max_length: int,
    label_pieces: str = "first",
) -> list[Example]:
    """Tokenises sentences and aligns their tags with the pieces.

    A sentence longer than `max_length` becomes several examples, the very windows that tagging cuts, each labelled
    where it answers for a piece.

    Args:
        sentences: Words with IOB2 tags.
        tokenizer: The model's tokenizer.
        labels: Label names by id.
        max_length: Longest example, [CLS] and [SEP] included.
        label_pieces: "first" labels the first piece of each word and leaves the others out of the loss; "all" copies
            a word's label, B- included, to each of its pieces, as the original scripts do.
    """
    ids = {label: number for number, label in enumerate(labels)}
    examples = []
    for sentence in sentences:
        pieces = tokenizer.encode_words(sentence.words)
        tags = _piece_tags(pieces, sentence, label_pieces)
        piece_labels = [IGNORED_LABEL if tag is None else ids[tag] for tag in tags]
        for window in plan_windows(len(pieces.ids), max_length - 2):
            examples.append(_window_example(pieces.ids, piece_labels, window, tokenizer))
    return examples


def unlabelled_token_examples(
    texts: Iterable[str], tokenizer: WordPieceTokenizer, max_length: int, label: int
) -> Iterator[Example]:
    """Tokenises raw texts as `token_examples` does sentences, into examples that take little memory.

    Args:
        texts: The texts.
        tokenizer: The model's tokenizer.
        max_length: Longest example, [CLS] and [SEP] included.
        label: Stands at the first piece of each word, in the window that answers for it.

    Yields:
        One example for each window, none for texts of which the tokenizer keeps nothing.
    """
    for text in texts:
        pieces = tokenizer.encode(text)
        first = np.diff(pieces.word_ids, prepend=-1) != 0
        labels = np.where(first, label, IGNORED_LABEL).tolist()
        for window in plan_windows(len(pieces.ids), max_length - 2):
            example = _window_example(pieces.ids, labels, window, tokenizer)
            yield Example(array("i", example.ids), array("i", cast(list[int], example.labels)))


def unlabelled_text_examples(
    texts: Iterable[str], tokenizer: WordPieceTokenizer, max_length: int, label: int
) -> Iterator[Example]:
    """Tokenises raw texts as `text_examples` does single texts, into examples that take little memory.

    Args:
        texts: The texts.
        tokenizer: The model's tokenizer.
        max_length: Longest example, [CLS] and [SEP] included.
        label: Of every text.

    Yields:
        One example for each text of which the tokenizer keeps something.
    """
    for text in texts:
        ids = tokenizer.encode(text).ids
        if ids:
            yield Example(array("i", [tokenizer.cls_id, *ids[: max_length - 2], tokenizer.sep_id]), label)


def _window_example(
    ids: Sequence[int], labels: Sequence[int], window: Window, tokenizer: WordPieceTokenizer
) -> Example:
    """Returns the pieces of a window, labelled where it answers for them."""
    owned = [
        label if window.own_start <= index < window.own_end else IGNORED_LABEL
        for index, label in enumerate(labels[window.start : window.end], start=window.start)
    ]
    return Example(
        [tokenizer.cls_id, *ids[window.start : window.end], tokenizer.sep_id], [IGNORED_LABEL, *owned, IGNORED_LABEL]
    )


def _piece_tags(pieces: WordPieces, sentence: Sentence, label_pieces: str) -> list[str | None]:
    if label_pieces == "all":
        return [sentence.tags[word] for word in pieces.words]
    # Tagging splits "U.S." into words of its own, so training does as well: the first carries the tag on, the others
    # continue the entity.
    return [
        None if not new_token else tag if new_word or tag == "O" else f"I-{tag[2:]}"
        for tag, new_word, new_token in zip(
            (sentence.tags[word] for word in pieces.words), pieces.first_of_word, pieces.first_of_token, strict=True
        )
    ]


def text_examples(
    rows: Sequence[Row], tokenizer: WordPieceTokenizer, class_ids: Mapping[str, int] | None, max_length: int
) -> tuple[list[Example], int]:
    """Tokenises texts or pairs: [CLS] text [SEP], or [CLS] text [SEP] pair [SEP] with token types 0 and 1.

    Args:
        rows: Texts with labels; all have a pair or none has.
        tokenizer: The model's tokenizer.
        class_ids: Class ids by label, or None for regression.
        max_length: Longest example; of a pair the text that is longer loses pieces, until both are equally long.

    Returns:
        The examples, and how many of them had to be shortened.
    """
    examples, shortened = [], 0
    for row in rows:
        texts = [tokenizer.encode(text).ids for text in (row.text, row.pair) if text is not None]
        room = max_length - 1 - len(texts)
        shortened += sum(map(len, texts)) > room
        while sum(map(len, texts)) > room:
            max(texts, key=len).pop()
        ids, types = [tokenizer.cls_id], [0]
        for number, text in enumerate(texts):
            ids += [*text, tokenizer.sep_id]
            types += [number] * (len(text) + 1)
        label = cast(float, row.label) if class_ids is None else class_ids[str(row.label)]
        examples.append(Example(ids, label, types if row.pair is not None else None))
    return examples, shortened
