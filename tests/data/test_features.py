import random

import pytest
from tiny_runs import sentence

from minialbert_tf.data.conll import Sentence
from minialbert_tf.data.features import (
    text_examples,
    token_examples,
    unlabelled_text_examples,
    unlabelled_token_examples,
)
from minialbert_tf.data.tables import Row
from minialbert_tf.losses import IGNORED_LABEL
from minialbert_tf.tokenization import SPECIAL_TOKENS, WordPieceTokenizer

LABELS = ["O", "B-Place", "I-Place", "B-Drug", "I-Drug"]
O, B_PLACE, I_PLACE, B_DRUG, I_DRUG = range(5)  # noqa: E741
NONE = IGNORED_LABEL
PIECES = ["u", "s", ".", "-", "as", "##pi", "##rin", "the", "of", "x"]
TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, *PIECES], lowercase=True)
CLS, SEP = TOKENIZER.cls_id, TOKENIZER.sep_id


def ids_of(*pieces):
    return [CLS, *(TOKENIZER.vocabulary.index(piece) for piece in pieces), SEP]


@pytest.mark.parametrize(
    ("label_pieces", "expected"),
    [
        # "U.S." is four words to the tagger: they continue the entity that the first begins.
        ("first", [NONE, O, B_PLACE, I_PLACE, I_PLACE, I_PLACE, I_PLACE, B_DRUG, NONE, NONE, O, NONE]),
        ("all", [NONE, O, B_PLACE, B_PLACE, B_PLACE, B_PLACE, I_PLACE, B_DRUG, B_DRUG, B_DRUG, O, NONE]),
    ],
)
def test_labels_follow_the_pieces(label_pieces, expected):
    tagged = Sentence(("the", "U.S.", "x", "aspirin", "of"), ("O", "B-Place", "I-Place", "B-Drug", "O"))
    [example] = token_examples([tagged], TOKENIZER, LABELS, 32, label_pieces)
    assert example.ids == ids_of("the", "u", ".", "s", ".", "x", "as", "##pi", "##rin", "of")
    assert example.labels == expected
    assert example.type_ids is None


def test_words_without_pieces_have_no_labels():
    tagged = Sentence(("\x00", "x", "\u200b", "of"), ("B-Drug", "I-Drug", "B-Place", "O"))
    [example] = token_examples([tagged], TOKENIZER, LABELS, 32)
    assert (example.ids, example.labels) == (ids_of("x", "of"), [NONE, I_DRUG, O, NONE])
    assert token_examples([Sentence(("\x00", "\u200b"), ("O", "O"))], TOKENIZER, LABELS, 32) == []


def test_outside_words_stay_outside_in_every_piece():
    [example] = token_examples([Sentence(("U.S.",), ("O",))], TOKENIZER, LABELS, 32)
    assert example.labels == [NONE, O, O, O, O, NONE]


@pytest.mark.parametrize("label_pieces", ["first", "all"])
@pytest.mark.parametrize("max_length", [6, 9, 16, 40, 400])
def test_long_sentences_are_labelled_once_in_every_piece(max_length, label_pieces):
    generator = random.Random(max_length)
    tagged = [sentence(generator, words=generator.randint(1, 120)) for _ in range(12)]
    sentences = [Sentence(*map(tuple, zip(*each, strict=True))) for each in tagged]
    labels = ["O", "B-Drug", "I-Drug", "B-Disease", "I-Disease"]
    tokenizer = WordPieceTokenizer.train((" ".join(each.words) for each in sentences), 60, lowercase=True)
    for each in sentences:
        [whole] = token_examples([each], tokenizer, labels, 100_000, label_pieces)
        examples = token_examples([each], tokenizer, labels, max_length, label_pieces)
        assert all(len(example.ids) == len(example.labels) <= max_length for example in examples)
        assert all(example.ids[0] == CLS and example.ids[-1] == SEP for example in examples)
        assert all(example.labels[0] == example.labels[-1] == NONE for example in examples)
        labelled = [
            (piece, label)
            for example in examples
            for piece, label in zip(example.ids, example.labels, strict=True)
            if label != NONE
        ]
        assert labelled == [pair for pair in zip(whole.ids, whole.labels, strict=True) if pair[1] != NONE]
        assert len(examples) > 1 or len(whole.ids) <= max_length


def test_texts_and_pairs():
    examples, shortened = text_examples([Row("the x", None, "yes")], TOKENIZER, {"no": 0, "yes": 1}, 32)
    assert shortened == 0
    assert (examples[0].ids, examples[0].labels, examples[0].type_ids) == (ids_of("the", "x"), 1, None)

    examples, _ = text_examples([Row("the x", "of", 2.5), Row("", "x", 0.5)], TOKENIZER, None, 32)
    assert examples[0].ids == [*ids_of("the", "x"), TOKENIZER.vocabulary.index("of"), SEP]
    assert examples[0].type_ids == [0, 0, 0, 0, 1, 1]
    assert examples[0].labels == 2.5
    assert examples[1].ids == [CLS, SEP, TOKENIZER.vocabulary.index("x"), SEP]


def test_a_text_that_is_too_long_loses_its_end():
    examples, shortened = text_examples([Row("the of x x x", None, 1.0), Row("the", None, 1.0)], TOKENIZER, None, 5)
    assert examples[0].ids == ids_of("the", "of", "x")
    assert shortened == 1


@pytest.mark.parametrize("seed", range(20))
def test_of_a_pair_the_longer_text_is_shortened_first(seed):
    generator = random.Random(seed)
    max_length = generator.randint(8, 40)
    for _ in range(20):
        lengths = generator.randint(0, 60), generator.randint(0, 60)
        first, second = ("the " * lengths[0]).strip(), ("of " * lengths[1]).strip()
        [example], shortened = text_examples([Row(first, second, 1.0)], TOKENIZER, None, max_length)
        kept = tuple(example.ids.count(TOKENIZER.vocabulary.index(word)) for word in ("the", "of"))
        room = max_length - 3
        assert len(example.ids) == len(example.type_ids) == sum(kept) + 3
        assert sum(kept) == min(sum(lengths), room)  # no more is cut than must be
        assert shortened == (sum(lengths) > room)
        for mine, my_length, other in ((0, lengths[0], kept[1]), (1, lengths[1], kept[0])):
            if kept[mine] < my_length:  # what was cut is no shorter than the other, but for an odd piece
                assert kept[mine] >= other - 1


ASKED = -101


def test_raw_text_asks_for_a_label_where_words_begin():
    texts = ["the U.S. aspirin", "\x00\u200b", "of"]
    first, second = unlabelled_token_examples(texts, TOKENIZER, 32, ASKED)
    assert list(first.ids) == ids_of("the", "u", ".", "s", ".", "as", "##pi", "##rin")
    assert list(first.labels) == [NONE, *[ASKED] * 6, NONE, NONE, NONE]
    assert (list(second.ids), list(second.labels), second.type_ids) == (ids_of("of"), [NONE, ASKED, NONE], None)


@pytest.mark.parametrize("max_length", [6, 9, 16, 40])
def test_raw_text_becomes_the_windows_that_labelled_sentences_become(max_length):
    generator = random.Random(max_length)
    for _ in range(12):
        words = tuple(word for word, _ in sentence(generator, words=generator.randint(1, 60)))
        labelled = token_examples([Sentence(words, ("O",) * len(words))], TOKENIZER, ["O"], max_length)
        raw = list(unlabelled_token_examples([" ".join(words)], TOKENIZER, max_length, ASKED))
        assert [list(example.ids) for example in raw] == [example.ids for example in labelled]
        for mine, theirs in zip(raw, labelled, strict=True):
            assert list(mine.labels) == [ASKED if label == O else label for label in theirs.labels]
        assert len(raw) > 1 or len(labelled[0].ids) <= max_length


def test_a_raw_text_asks_for_one_label():
    short, long = unlabelled_text_examples(["the x", "\u200b", "the of x x x"], TOKENIZER, 5, ASKED)
    assert (list(short.ids), short.labels, short.type_ids) == (ids_of("the", "x"), ASKED, None)
    assert list(long.ids) == ids_of("the", "of", "x")
