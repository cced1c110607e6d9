import random

import numpy as np
import pytest
from seqeval.metrics import classification_report
from tiny_runs import sentence

from minialbert_tf.data.conll import Sentence
from minialbert_tf.errors import DataError
from minialbert_tf.evaluation import evaluate_tagger
from minialbert_tf.tagger import Tagger
from minialbert_tf.tokenization import SPECIAL_TOKENS, WordPieceTokenizer

LABELS = ["O", "B-Drug", "I-Drug", "B-Disease", "I-Disease"]
OUTSIDE, B_DRUG, I_DRUG, B_DISEASE, I_DISEASE = range(5)
TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, "o", "d", "##x", "##y", "s", "t", "."], lowercase=True)
OF_PIECE = {"d": B_DRUG, "##x": I_DRUG, "##y": B_DRUG, "s": B_DISEASE, "t": I_DISEASE}


class TableRuntime:
    """Labels each piece by its id alone."""

    def __init__(self, labels_of_ids, max_length=512):
        self.max_length = max_length
        self._labels = labels_of_ids
        self.longest = 0

    def predict(self, sequences):
        self.longest = max(map(len, sequences))
        assert self.longest <= self.max_length
        return [np.eye(len(LABELS), dtype=np.float32)[[self._labels(piece) for piece in each]] for each in sequences]

    def close(self):
        pass


def known(piece):
    return OF_PIECE.get(TOKENIZER.vocabulary[piece], OUTSIDE)


def tagged(text):
    words, tags = zip(*(word.split("/") for word in text.split()), strict=True)
    return Sentence(words, tags)


CORPUS = [
    tagged("d/B-Drug o/O s/B-Disease t/I-Disease"),  # two right
    tagged("dx/B-Drug o/B-Drug"),  # one right, one missed
    tagged("s/O dy/B-Disease o/O"),  # two wrong, one missed
]


def test_known_answers():
    report = evaluate_tagger(Tagger(TOKENIZER, LABELS, TableRuntime(known)), CORPUS)
    drug, disease = report.entities.types["Drug"], report.entities.types["Disease"]
    assert (drug.true_positives, drug.predicted, drug.support) == (2, 3, 3)
    assert (disease.true_positives, disease.predicted, disease.support) == (1, 2, 2)
    assert report.entities.micro.f1 == pytest.approx(2 * 3 / (5 + 5))
    assert report.sentences == 3
    low, high = report.interval
    assert low < report.entities.micro.f1 < high
    assert report.to_json()["entities"]["micro"]["f1"] == report.entities.micro.f1
    assert report.to_json()["piece_f1"] == report.pieces.micro.f1
    assert "entity F1 0.6000" in str(report) and "on 3 sentences" in str(report)


def test_piece_scores_depend_on_how_the_model_was_trained():
    tagger = Tagger(TOKENIZER, LABELS, TableRuntime(known))
    first, every = (evaluate_tagger(tagger, CORPUS, label_pieces) for label_pieces in ("first", "all"))
    assert first.entities == every.entities
    # "dx" gold B-Drug B-Drug: its first piece's label counts for both, or each has its own, B-Drug I-Drug.
    # Gold pieces: d | s t | d x, o | d y: 7 entities. Predicted with "first": d | s t | d x | s, d y: 7.
    assert (first.pieces.micro.true_positives, first.pieces.micro.predicted, first.pieces.micro.support) == (4, 7, 7)
    # With "all": d | s t | d+x as one | s, d, y: 6.
    assert (every.pieces.micro.true_positives, every.pieces.micro.predicted, every.pieces.micro.support) == (2, 6, 7)


@pytest.mark.parametrize("max_length", [6, 512])
def test_scores_are_seqevals(max_length):
    generator = random.Random(0)
    corpus = [Sentence(*zip(*sentence(generator, words=generator.randint(1, 40)), strict=True)) for _ in range(300)]
    tokenizer = WordPieceTokenizer.train((" ".join(each.words) for each in corpus), 300, lowercase=True)
    right_and_wrong = dict(aspirin=B_DRUG, naloxone=I_DRUG, lung=B_DISEASE, pain=I_DISEASE, asthma=B_DRUG, trial=I_DRUG)
    runtime = TableRuntime(lambda piece: right_and_wrong.get(tokenizer.vocabulary[piece], OUTSIDE), max_length)
    tagger = Tagger(tokenizer, LABELS, runtime)
    report = evaluate_tagger(tagger, corpus)
    gold = [list(each.tags) for each in corpus]
    predicted = tagger.tag_words([each.words for each in corpus])
    expected = classification_report(gold, predicted, output_dict=True, zero_division=0)
    assert 0.2 < expected["micro avg"]["f1-score"] < 0.8
    scores = {**report.entities.types, "micro avg": report.entities.micro}
    assert scores.keys() == expected.keys() - {"macro avg", "weighted avg"}
    for name, score in scores.items():
        found = (score.precision, score.recall, score.f1, score.support)
        assert found == pytest.approx([expected[name][key] for key in ("precision", "recall", "f1-score", "support")])
    assert report.entities.macro_f1 == pytest.approx(expected["macro avg"]["f1-score"])
    assert runtime.longest == max_length or max_length == 512


def test_a_long_sentence_is_scored_to_its_end():
    words = ["o"] * 700 + ["d", "o", "s", "t"]
    long = Sentence(tuple(words), ("O",) * 700 + ("B-Drug", "O", "B-Disease", "I-Disease"))
    report = evaluate_tagger(Tagger(TOKENIZER, LABELS, TableRuntime(known, max_length=64)), [long])
    assert report.entities.micro.f1 == 1.0
    assert report.entities.micro.support == 2


def test_words_without_pieces_count_as_outside():
    corpus = [Sentence(("\x00", "d"), ("B-Drug", "I-Drug"))]
    report = evaluate_tagger(Tagger(TOKENIZER, LABELS, TableRuntime(known)), corpus)
    micro = report.entities.micro
    assert (micro.true_positives, micro.predicted, micro.support) == (0, 1, 1)


def test_unknown_types_are_refused():
    corpus = [tagged("d/B-Gene o/O s/B-Place t/I-Place")]
    with pytest.raises(DataError, match=r"model's labels.*Received also: \['B-Gene', 'B-Place', 'I-Place'\]"):
        evaluate_tagger(Tagger(TOKENIZER, LABELS, TableRuntime(known)), corpus)
