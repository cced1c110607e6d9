"""Scores of a tagger on a labelled corpus."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from minialbert_tf.data.conll import Sentence
from minialbert_tf.errors import DataError
from minialbert_tf.ner import NerReport, bootstrap_f1, evaluate_tags
from minialbert_tf.tagger import Tagger
from minialbert_tf.tokenization import WordPieces

_SENTENCES_AT_ONCE = 256


class TaggerReport(NamedTuple):
    """Scores of a tagger.

    Attributes:
        entities: Entity-level scores on words, as seqeval computes them: the figure to quote.
        pieces: The same on WordPieces, each with the label of its word, B- included, as the original scripts report.
        interval: 95 % bootstrap interval of the entities' micro F1 over sentences.
        sentences: Number of sentences.
    """

    entities: NerReport
    pieces: NerReport
    interval: tuple[float, float]
    sentences: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "entities": self.entities.to_json(),
            "f1_interval_95": list(self.interval),
            "piece_f1": self.pieces.micro.f1,
            "sentences": self.sentences,
        }

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.entities}\n\n"
            f"entity F1 {self.entities.micro.f1:.4f} (95 % interval {low:.4f} to {high:.4f}) on {self.sentences} "
            f"sentences; piece F1, as the original scripts count, {self.pieces.micro.f1:.4f}"
        )


def label_corpus(tagger: Tagger, sentences: Sequence[Sentence], bar: tqdm) -> Iterator[tuple[WordPieces, np.ndarray]]:
    """Yields the pieces and predicted label ids of each sentence, and moves a progress bar, which it closes."""
    with bar:
        for first in range(0, len(sentences), _SENTENCES_AT_ONCE):
            chunk = sentences[first : first + _SENTENCES_AT_ONCE]
            yield from tagger.label_pieces([sentence.words for sentence in chunk])
            bar.update(len(chunk))


def evaluate_tagger(
    tagger: Tagger, sentences: Sequence[Sentence], label_pieces: str = "first", progress: bool = False
) -> TaggerReport:
    """Tags a corpus and compares.

    Args:
        tagger: The tagger.
        sentences: Words with gold tags.
        label_pieces: How the model was trained. One trained on "all" pieces predicts the label of each; for one
            trained on "first" pieces the label of a word counts for all its pieces.
        progress: Whether to show a progress bar.

    Raises:
        DataError: If the corpus has types that the tagger does not know.
    """
    unknown = {tag for sentence in sentences for tag in sentence.tags} - set(tagger.labels)
    if unknown:
        raise DataError(f"The corpus must use the model's labels {tagger.labels}. Received also: {sorted(unknown)}")
    gold = [list(sentence.tags) for sentence in sentences]
    predicted, gold_pieces, predicted_pieces = [], [], []
    bar = tqdm(total=len(sentences), unit="sentence", disable=None if progress else True)
    for sentence, (pieces, label_ids) in zip(sentences, label_corpus(tagger, sentences, bar), strict=True):
        tags = tagger.word_tags(pieces, label_ids)
        predicted.append(tags)
        gold_pieces.append([sentence.tags[word] for word in pieces.words])
        predicted_pieces.append(
            [tagger.labels[label_id] for label_id in label_ids]
            if label_pieces == "all"
            else [tags[word] for word in pieces.words]
        )
    return TaggerReport(
        evaluate_tags(gold, predicted),
        evaluate_tags(gold_pieces, predicted_pieces),
        bootstrap_f1(gold, predicted),
        len(sentences),
    )
