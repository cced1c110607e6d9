"""Between word tags and entities: decoding spans, and entity-level scores as seqeval and conlleval define them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minialbert_tf.errors import InputError


class Span(NamedTuple):
    """An entity in a sequence of words: its type, its first word, and the word after its last."""

    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Score:
    """Precision, recall and F1 from counts of entities; each is 0 where it would divide by zero.

    Attributes:
        true_positives: Predicted entities that are gold entities: same type, same first and last word.
        predicted: Predicted entities.
        support: Gold entities.
    """

    true_positives: int
    predicted: int
    support: int

    @property
    def precision(self) -> float:
        """Share of the predicted entities that are right."""
        return self.true_positives / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the gold entities that were found."""
        return self.true_positives / self.support if self.support else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.predicted + self.support
        return 2 * self.true_positives / total if total else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "support": self.support,
            "predicted": self.predicted,
            "true_positives": self.true_positives,
        }


@dataclass(frozen=True, slots=True)
class NerReport:
    """Entity-level scores.

    Attributes:
        types: Score of each entity type that occurs in gold or prediction, in alphabetical order.
        micro: Score of all entities together, the usual figure to quote.
    """

    types: Mapping[str, Score]
    micro: Score

    @property
    def macro_f1(self) -> float:
        """Unweighted mean of the types' F1."""
        return sum(score.f1 for score in self.types.values()) / len(self.types) if self.types else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "micro": self.micro.to_json(),
            "macro_f1": self.macro_f1,
            "types": {name: score.to_json() for name, score in self.types.items()},
        }

    def __str__(self) -> str:
        rows = {**self.types, "micro average": self.micro}
        width = max(map(len, rows))
        lines = [f"{'':{width}}  precision  recall      f1  support"]
        for name, score in rows.items():
            numbers = f"{score.precision:9.4f}  {score.recall:6.4f}  {score.f1:6.4f}  {score.support:7d}"
            lines.append(f"{name:{width}}  {numbers}")
        return "\n".join(lines)


def decode_spans(tags: Sequence[str]) -> list[Span]:
    """Finds the entities in a sequence of IOB tags, as conlleval and seqeval's default mode do.

    It is lenient: an I- tag that continues nothing, after O or after another type, opens an entity.

    Raises:
        InputError: If a tag is not O, B-TYPE or I-TYPE.
    """
    spans: list[Span] = []
    label, start = "", 0
    for position, tag in enumerate(tags):
        if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) == 2):
            raise InputError(f"A tag must be O, B-TYPE or I-TYPE. Received: {tag!r}")
        if tag[0] == "I" and tag[2:] == label:
            continue
        if label:
            spans.append(Span(label, start, position))
        label, start = tag[2:], position
    if label:
        spans.append(Span(label, start, len(tags)))
    return spans


def evaluate_tags(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> NerReport:
    """Scores predicted entities: one counts as right if a gold entity has the same type, first and last word.

    Args:
        gold: IOB tags of each sentence.
        predicted: IOB tags of the same words.

    Raises:
        InputError: If the two differ in the number of sentences or in the length of one, or a tag is not IOB.
    """
    hits: Counter[str] = Counter()
    found: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for gold_spans, predicted_spans in _decode_pairs(gold, predicted):
        hits.update(span.label for span in gold_spans & predicted_spans)
        found.update(span.label for span in predicted_spans)
        there.update(span.label for span in gold_spans)
    types = {name: Score(hits[name], found[name], there[name]) for name in sorted(found.keys() | there.keys())}
    return NerReport(types, Score(hits.total(), found.total(), there.total()))


def bootstrap_f1(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Returns a 95 % confidence interval of the micro F1: percentiles over resampled sentences.

    Args:
        gold: IOB tags of each sentence, at least one.
        predicted: IOB tags of the same words.
        samples: How many times the sentences are drawn anew, with replacement.
        seed: Makes the interval repeatable.

    Raises:
        InputError: If there is no sentence, or as `evaluate_tags`.
    """
    counts = [(len(g & p), len(g) + len(p)) for g, p in _decode_pairs(gold, predicted)]
    if not counts:
        raise InputError("A confidence interval needs at least one sentence. Received: none")
    # Sentences with equal counts are interchangeable, so drawing how many of each kind is the same and much less work.
    kinds, sizes = np.unique(np.array(counts), axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(counts), sizes / len(counts), size=samples)
    hits, total = (draws @ kinds).T  # (samples,) each
    low, high = np.percentile(2 * hits / np.maximum(total, 1), (2.5, 97.5))
    return float(low), float(high)


def _decode_pairs(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> list[tuple[set[Span], set[Span]]]:
    if len(gold) != len(predicted):
        raise InputError(
            f"Gold and predicted tags must have the same number of sentences. Received: {len(gold)}, {len(predicted)}"
        )
    pairs = []
    for number, (gold_tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True), start=1):
        if len(gold_tags) != len(predicted_tags):
            raise InputError(
                "Gold and predicted tags of a sentence must have the same length. "
                f"Received: {len(gold_tags)}, {len(predicted_tags)} in sentence {number}"
            )
        pairs.append((set(decode_spans(gold_tags)), set(decode_spans(predicted_tags))))
    return pairs
