from itertools import islice

import numpy as np
import pytest

from minialbert_tf.data.batching import Shard
from minialbert_tf.data.masking import MaskedBatches, Masking
from minialbert_tf.data.text_windows import WindowPlan, Windows
from minialbert_tf.errors import InputError
from minialbert_tf.tokenization import SPECIAL_TOKENS, WordPieceTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENIZER = WordPieceTokenizer.train([" ".join(LETTERS)], 60, lowercase=True)
SPECIAL = [TOKENIZER.vocabulary.index(token) for token in SPECIAL_TOKENS]


def random_ids(rows, length):
    """Rows of random letters and [UNK] between [CLS] and [SEP], padded to different lengths."""
    random = np.random.default_rng(0)
    ids = random.integers(len(SPECIAL), len(TOKENIZER.vocabulary), (rows, length)).astype(np.int32)
    ids[:, 5] = TOKENIZER.unk_id
    ids[:, 0] = TOKENIZER.cls_id
    for row, end in zip(ids, random.integers(length // 2, length, rows), strict=True):
        row[end] = TOKENIZER.sep_id
        row[end + 1 :] = TOKENIZER.pad_id
    return ids


def test_a_share_of_each_row_is_masked_and_never_a_special_token():
    ids = random_ids(200, 128)
    masked, labels = Masking(TOKENIZER).apply(ids, np.random.default_rng(1))
    chosen = labels != -100
    eligible = ~np.isin(ids, SPECIAL)
    assert not (chosen & ~eligible).any()
    np.testing.assert_array_equal(chosen.sum(axis=1), np.rint(0.15 * eligible.sum(axis=1)))
    np.testing.assert_array_equal(labels[chosen], ids[chosen])
    np.testing.assert_array_equal(masked[~chosen], ids[~chosen])


def test_eighty_ten_ten():
    ids = random_ids(2000, 128)
    masked, labels = Masking(TOKENIZER).apply(ids, np.random.default_rng(1))
    chosen = labels != -100
    hidden, kept = masked[chosen] == TOKENIZER.mask_id, masked[chosen] == ids[chosen]
    replaced = masked[chosen][~hidden & ~kept]
    deviation = 4 * np.sqrt(0.1 * 0.9 / chosen.sum())
    share_of_others = 1 - 1 / (len(TOKENIZER.vocabulary) - len(SPECIAL))  # a random piece may be the same again
    assert hidden.mean() == pytest.approx(0.8, abs=2 * deviation)
    assert len(replaced) / chosen.sum() == pytest.approx(0.1 * share_of_others, abs=deviation)
    assert set(replaced) == set(range(len(TOKENIZER.vocabulary))) - set(SPECIAL)


def test_positions_are_drawn_evenly():
    ids = np.full((4000, 22), TOKENIZER.vocabulary.index("a"), np.int32)
    ids[:, 0], ids[:, -1] = TOKENIZER.cls_id, TOKENIZER.sep_id
    _, labels = Masking(TOKENIZER).apply(ids, np.random.default_rng(1))
    share = (labels != -100).mean(axis=0)[1:-1]
    assert np.abs(share - 0.15).max() < 4 * np.sqrt(0.15 * 0.85 / len(ids))


def test_short_rows_have_one_masked_piece_and_empty_ones_none():
    ids = np.array(
        [
            [TOKENIZER.cls_id, TOKENIZER.vocabulary.index("a"), TOKENIZER.sep_id, TOKENIZER.pad_id],
            [TOKENIZER.cls_id, TOKENIZER.unk_id, TOKENIZER.sep_id, TOKENIZER.pad_id],
        ],
        np.int32,
    )
    _, labels = Masking(TOKENIZER).apply(ids, np.random.default_rng(0))
    assert (labels != -100).sum(axis=1).tolist() == [1, 0]


@pytest.mark.parametrize("length", [8, 16, 100, 256])
@pytest.mark.parametrize("rate", [0.05, 0.15, 0.5])
def test_no_row_has_more_masked_positions_than_said(length, rate):
    masking = Masking(TOKENIZER, rate)
    ids = np.full((3, length), TOKENIZER.vocabulary.index("b"), np.int32)
    ids[:, 0], ids[:, -1] = TOKENIZER.cls_id, TOKENIZER.sep_id
    _, labels = masking.apply(ids, np.random.default_rng(0))
    assert (labels != -100).sum(axis=1).tolist() == [masking.most(length)] * 3


@pytest.mark.parametrize("rate", [1, -0.1, float("nan")])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(InputError, match="from 0 to less than 1"):
        Masking(TOKENIZER, rate)


@pytest.fixture
def batches(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(" ".join(LETTERS[start:]) for start in range(26)), encoding="utf-8")

    def make(seed=0, length=20, size=4):
        windows = Windows([path], TOKENIZER, WindowPlan(length, 8), seed=seed)
        return MaskedBatches(windows, Masking(TOKENIZER), size, seed)

    return make


def assert_same(first, second):
    for (inputs, labels), (other_inputs, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(labels, other_labels)
        for name in inputs:
            np.testing.assert_array_equal(inputs[name], other_inputs[name])


def test_batches_go_on_from_any_step(batches):
    everything = list(islice(batches().batches(), 30))
    for first in (0, 1, 11, 29):
        assert_same(islice(batches().batches(first), 30 - first), everything[first:])


def test_another_seed_gives_other_batches(batches):
    with pytest.raises(AssertionError):
        assert_same(islice(batches(seed=1).batches(), 3), islice(batches().batches(), 3))


def test_the_same_text_is_masked_differently_in_every_pass(batches):
    whole_pass = 51  # all windows of the corpus at once
    rows = [
        {tuple(row) for row in np.where(labels == -100, inputs["input_ids"], labels)}
        for inputs, labels in islice(batches(size=whole_pass).batches(), 2)
    ]
    assert rows[0] == rows[1]
    first, second = (
        {tuple(row) for row in inputs["input_ids"]} for inputs, _ in islice(batches(size=whole_pass).batches(), 2)
    )
    assert len(first & second) < 10


def test_batches_are_padded_to_few_lengths_and_never_beyond_the_windows(batches):
    for inputs, labels in islice(batches(length=20, size=1).batches(), 60):
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        assert ids.shape == mask.shape == labels.shape
        assert ids.shape[1] in (16, 20)
        np.testing.assert_array_equal(mask, ids != TOKENIZER.pad_id)
        assert mask.sum() > (16 if ids.shape[1] == 20 else 0)


def test_the_dataset_gives_the_batches(batches):
    dataset = batches().dataset(first=2)
    assert dataset.element_spec[1].shape.as_list() == [4, None]
    found = [({name: value.numpy() for name, value in x.items()}, y.numpy()) for x, y in dataset.take(3)]
    assert_same(found, islice(batches().batches(2), 3))


def test_a_rate_of_0_masks_nothing():
    ids = np.array([[TOKENIZER.cls_id, 7, 8, TOKENIZER.sep_id]], np.int32)
    masked, labels = Masking(TOKENIZER, 0).apply(ids, np.random.default_rng(0))
    assert (masked == ids).all()
    assert (labels == -100).all()


@pytest.mark.parametrize(("replicas", "parts"), [(2, 1), (3, 2), (8, 1)])
def test_the_shards_of_a_batch_are_masked_as_the_batch(replicas, parts, batches):
    whole = list(islice(batches().batches(3), 2))
    shards = [batches().dataset(3, Shard(replicas, first), parts).take(2) for first in range(replicas)]
    for (inputs, labels), *pieces in zip(whole, *shards, strict=True):
        dealt = np.concatenate([Shard(replicas, first).rows(len(labels), parts)[0] for first in range(replicas)])
        order = np.argsort(dealt[dealt >= 0])
        for expected, found in (
            (labels, np.concatenate([piece for _, piece in pieces])),
            *((inputs[name], np.concatenate([piece[name] for piece, _ in pieces])) for name in inputs),
        ):
            np.testing.assert_array_equal(found[dealt >= 0][order], expected)
        assert all((piece[rows < 0] == -100).all() for piece, rows in _with_rows(pieces, len(labels), replicas, parts))


def _with_rows(pieces, size, replicas, parts):
    return [(labels.numpy(), Shard(replicas, first).rows(size, parts)[0]) for first, (_, labels) in enumerate(pieces)]
