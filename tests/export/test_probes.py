import pytest

from minialbert_tf.errors import InputError
from minialbert_tf.export.probes import built_in_texts, pieces_in_a_row, probes_of
from minialbert_tf.tokenization import WordPieceTokenizer

TEXTS = ["Naloxone reverses clonidine.", "", "Asthma."]


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer.train([*TEXTS, "nalo none reverse clo dine as the ma"], 50, lowercase=True)


def test_each_text_and_a_full_sequence_for_each_length(tokenizer):
    probes = probes_of(TEXTS, tokenizer, (8, 40), per_word=True)
    *alone, short, long = probes
    assert (len(short.ids), len(long.ids)) == (8, 40)
    assert all(probe.ids[0] == tokenizer.cls_id and probe.ids[-1] == tokenizer.sep_id for probe in probes)
    pieces = pieces_in_a_row(TEXTS, tokenizer)
    assert [piece for probe in alone for piece in probe.ids[1:-1]] == pieces
    row = (short.ids[1:-1] + long.ids[1:-1])[: 2 * len(pieces)]
    assert list(row) == (pieces * 9)[: len(row)]  # one goes on where the other ends


def test_what_is_decided_are_words_or_whole_texts(tokenizer):
    sentence = probes_of(TEXTS, tokenizer, (40,), per_word=True)[0]
    words = [tokenizer.vocabulary[sentence.ids[position]] for position in sentence.decided]
    assert len(words) == 4 and words[-1] == "." and not any(word.startswith("##") for word in words)
    assert len(sentence.ids) - 2 > 4  # some words have several pieces
    assert {probe.decided for probe in probes_of(TEXTS, tokenizer, (40,), per_word=False)} == {(0,)}


def test_long_texts_go_into_windows(tokenizer):
    probes = probes_of([" ".join(TEXTS * 9)], tokenizer, (8, 16), per_word=True)
    assert len(probes) > 9 and max(len(probe.ids) for probe in probes) == 16


@pytest.mark.parametrize("texts", [[], ["", " \x00"]])
def test_texts_without_words_are_refused(tokenizer, texts):
    for use in (pieces_in_a_row, lambda texts, tokenizer: probes_of(texts, tokenizer, (8,), True)):
        with pytest.raises(InputError, match="must have words"):
            use(texts, tokenizer)


def test_calibration_and_verification_have_texts_of_their_own():
    parts = [set(built_in_texts(part)) for part in ("train", "test")]
    assert min(map(len, parts)) > 40 and not parts[0] & parts[1]
