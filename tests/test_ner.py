"""Spans and scores, against seqeval."""

import random
import warnings

import numpy as np
import pytest
from seqeval.metrics import f1_score
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

from minialbert_tf.data.conll import read_conll
from minialbert_tf.data.sample import sample_folder
from minialbert_tf.errors import InputError
from minialbert_tf.ner import NerReport, Score, Span, bootstrap_f1, decode_spans, evaluate_tags

TAGS = ["O", "O", "B-A", "I-A", "B-B", "I-B", "B-A-B", "I-A-B"]


def _random_tags(rng: random.Random, sentences: int) -> list[list[str]]:
    return [rng.choices(TAGS, k=rng.randrange(12)) for _ in range(sentences)]


def _perturbed(rng: random.Random, tags: list[list[str]], rate: float) -> list[list[str]]:
    names = sorted({tag for sentence in tags for tag in sentence})
    return [[rng.choice(names) if rng.random() < rate else tag for tag in sentence] for sentence in tags]


def _assert_equals_seqeval(
    gold: list[list[str]], predicted: list[list[str]], against: tuple[list[list[str]], list[list[str]]] | None = None
) -> None:
    """Compares our scores with seqeval's for the same tags, or for those in `against`."""
    report = evaluate_tags(gold, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gold, predicted = against or (gold, predicted)
        per_type = precision_recall_fscore_support(gold, predicted, average=None)
        micro = precision_recall_fscore_support(gold, predicted, average="micro")
        macro = f1_score(gold, predicted, average="macro") if report.types else 0.0
    for score, expected in zip(
        [*report.types.values(), report.micro], [*zip(*per_type, strict=True), micro], strict=True
    ):
        assert (score.precision, score.recall, score.f1) == pytest.approx(expected[:3], abs=1e-12)
        assert score.support == expected[3]
    assert report.macro_f1 == pytest.approx(macro, abs=1e-12)


def test_spans_equal_seqeval_on_random_tags():
    rng = random.Random(0)
    for tags in _random_tags(rng, 5000):
        assert [(span.label, span.start, span.end - 1) for span in decode_spans(tags)] == get_entities(tags)


@pytest.mark.parametrize(
    "tags, spans",
    [
        ("", []),
        ("O I-A I-A O", [Span("A", 1, 3)]),
        ("B-A I-B I-B", [Span("A", 0, 1), Span("B", 1, 3)]),
        ("B-A B-A I-A", [Span("A", 0, 1), Span("A", 1, 3)]),
        ("I-A O I-A", [Span("A", 0, 1), Span("A", 2, 3)]),
    ],
)
def test_an_inner_tag_that_continues_nothing_opens_a_span(tags, spans):
    assert decode_spans(tags.split()) == spans


@pytest.mark.parametrize("tag", ["", "B", "B-", "I-", "E-A", "S-A", "A", "o", "LABEL_0"])
def test_tags_outside_iob_are_refused(tag):
    with pytest.raises(InputError, match=f"Received: '{tag}'$"):
        decode_spans(["O", tag])


def test_scores_equal_seqeval_on_random_tags():
    rng = random.Random(1)
    for _ in range(200):
        gold = _random_tags(rng, rng.randrange(1, 8))
        _assert_equals_seqeval(gold, _perturbed(rng, gold, rng.random()) if any(gold) else gold)


def test_scores_equal_seqeval_on_perturbed_corpus_tags():
    gold = [list(sentence.tags) for sentence in read_conll(sample_folder() / "train.tsv")]
    rng = random.Random(2)
    for rate in (0.0, 0.03, 0.3, 1.0):
        predicted = _perturbed(rng, gold, rate)
        _assert_equals_seqeval(gold, predicted)
        with pytest.raises(AssertionError):  # the control: one entity more is noticed
            _assert_equals_seqeval([*gold, ["B-Disease"]], [*predicted, ["B-Disease"]], against=(gold, predicted))


def test_boundaries_and_types_both_count():
    gold = [["B-A", "I-A", "O", "B-B"]]
    assert evaluate_tags(gold, [["B-A", "O", "O", "B-A"]]).micro == Score(0, 2, 2)
    assert evaluate_tags(gold, [["B-A", "I-A", "O", "B-A"]]).types == {"A": Score(1, 2, 1), "B": Score(0, 0, 1)}


def test_division_by_zero_gives_zero():
    for gold, predicted in (([], []), ([["O"]], [["O"]]), ([["B-A"]], [["O"]]), ([["O"]], [["B-A"]])):
        report = evaluate_tags(gold, predicted)
        assert (report.micro.precision, report.micro.recall, report.micro.f1, report.macro_f1) == (0, 0, 0, 0)


def test_sequences_that_do_not_match_are_refused():
    with pytest.raises(InputError, match=r"number of sentences\. Received: 2, 1"):
        evaluate_tags([["O"], ["O"]], [["O"]])
    with pytest.raises(InputError, match=r"same length\. Received: 1, 2 in sentence 2"):
        evaluate_tags([["O"], ["O"]], [["O"], ["O", "O"]])
    with pytest.raises(InputError, match="at least one sentence"):
        bootstrap_f1([], [])


def test_report_as_json_and_as_table():
    report = evaluate_tags([["B-Disease", "O", "B-Chemical"]], [["B-Disease", "B-Disease", "O"]])
    plain = report.to_json()
    assert plain["micro"] == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "support": 2,
        "predicted": 2,
        "true_positives": 1,
    }
    assert list(plain["types"]) == ["Chemical", "Disease"]
    assert plain["macro_f1"] == pytest.approx(1 / 3)
    assert str(report).splitlines() == [
        "               precision  recall      f1  support",
        "Chemical          0.0000  0.0000  0.0000        1",
        "Disease           0.5000  1.0000  0.6667        1",
        "micro average     0.5000  0.5000  0.5000        2",
    ]
    assert "micro average" in str(NerReport({}, Score(0, 0, 0)))


def test_bootstrap_equals_resampling_of_sentences():
    """Against the definition: draw sentences one by one and score them anew."""
    rng = random.Random(3)
    gold = [list(sentence.tags) for sentence in read_conll(sample_folder() / "test.tsv")]
    predicted = _perturbed(rng, gold, 0.05)
    low, high = bootstrap_f1(gold, predicted, samples=20_000)
    scores = []
    for _ in range(1500):
        drawn = rng.choices(range(len(gold)), k=len(gold))
        scores.append(evaluate_tags([gold[i] for i in drawn], [predicted[i] for i in drawn]).micro.f1)
    assert (low, high) == pytest.approx(tuple(np.percentile(scores, (2.5, 97.5))), abs=0.012)
    # The control: half the sentences give a wider interval, by about the square root of two.
    narrow_low, narrow_high = bootstrap_f1(gold * 2, predicted * 2, samples=20_000)
    assert 1.3 < (high - low) / (narrow_high - narrow_low) < 1.55


def test_bootstrap_is_repeatable_and_bounded():
    gold = [["B-A", "O"], ["B-A", "O"], ["O", "O"]]
    assert bootstrap_f1(gold, gold)[1] == 1.0
    assert bootstrap_f1([["O"]], [["O"]]) == (0.0, 0.0)
    other = [["B-A", "O"], ["O", "B-A"], ["O", "O"]]
    assert bootstrap_f1(gold, other, seed=5) == bootstrap_f1(gold, other, seed=5)
