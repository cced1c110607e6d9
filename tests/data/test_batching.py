import itertools

import numpy as np
import pytest

from minialbert_tf.data.batching import BUCKET_LENGTHS, WHOLE, BatchedExamples, Example, Shard, pad
from minialbert_tf.errors import DataError
from minialbert_tf.losses import IGNORED_LABEL


def examples_of(lengths):
    """Examples whose first id is their number, so that a batch tells which they are."""
    return [
        Example([number, *range(1, length)], [number % 5] * length) for number, length in enumerate(lengths, start=1000)
    ]


def numbers(dataset):
    return [features["input_ids"][:, 0].numpy().tolist() for features, _ in dataset]


def realistic_lengths(count=3000):
    """Pieces of sentences of biomedical abstracts: about 35, some far longer."""
    lengths = np.random.default_rng(0).lognormal(3.4, 0.5, count)
    return np.clip(lengths, 4, 256).astype(int)


@pytest.mark.parametrize("count", [1, 4, 5, 237])
def test_every_example_is_seen_once_in_an_epoch(count):
    lengths = np.random.default_rng(1).integers(1, 40, count)
    batches = BatchedExamples(examples_of(lengths), 4, seed=2)
    for epoch in (0, 1):
        seen = numbers(batches.dataset(epoch))
        assert len(seen) == batches.steps == -(-count // 4)
        assert sorted(itertools.chain(*seen)) == list(range(1000, 1000 + count))


def test_the_order_is_a_function_of_seed_and_epoch():
    examples = examples_of(realistic_lengths(300))
    order = numbers(BatchedExamples(examples, 8, seed=1).dataset(3))
    np.random.default_rng(9).random()
    assert numbers(BatchedExamples(examples, 8, seed=1).dataset(3)) == order
    assert numbers(BatchedExamples(examples, 8, seed=1).dataset(4)) != order
    assert numbers(BatchedExamples(examples, 8, seed=2).dataset(3)) != order


@pytest.mark.parametrize("step", [0, 1, 17, 36, 37])
def test_resuming_at_a_step_gives_exactly_the_rest(step):
    batches = BatchedExamples(examples_of(realistic_lengths(300)), 8)
    assert batches.steps == 38
    rest = batches.dataset(2, first_step=step)
    assert numbers(rest) == numbers(batches.dataset(2))[step:]
    assert int(rest.cardinality()) == 38 - step


def test_few_lengths_and_little_padding():
    lengths = realistic_lengths()
    shapes, tokens, slots, unsorted = set(), 0, 0, 0
    for features, _ in BatchedExamples(examples_of(lengths), 16).dataset(0):
        mask = features["attention_mask"].numpy()
        shapes.add(mask.shape[1])
        tokens += mask.sum()
        slots += mask.size
    for first in range(0, len(lengths), 16):
        unsorted += 16 * lengths[first : first + 16].max()
    assert tokens == lengths.sum()
    assert shapes <= set(BUCKET_LENGTHS)
    assert 1 - tokens / slots < 0.17
    assert 1 - tokens / unsorted > 0.4  # what batches of any lengths would waste


def test_batches_of_one_length_come_in_random_order():
    lengths = realistic_lengths()
    longest = [features["input_ids"].shape[1] for features, _ in BatchedExamples(examples_of(lengths), 16).dataset(0)]
    rising = sum(a <= b for a, b in itertools.pairwise(longest))
    assert rising < 0.75 * len(longest)


def test_ids_mask_and_labels_are_padded():
    examples = [Example([7, 8, 9], [1, -100, 2]), Example([5], [3])]
    features, labels = next(iter(BatchedExamples(examples, 2).dataset(0)))
    rows = np.argsort(features["input_ids"][:, 0].numpy())
    filled = BUCKET_LENGTHS[0]
    ids, mask, labels = (array.numpy()[rows] for array in (features["input_ids"], features["attention_mask"], labels))
    assert ids.tolist() == [[5] + [0] * (filled - 1), [7, 8, 9] + [0] * (filled - 3)]
    assert mask.tolist() == [[1] + [0] * (filled - 1), [1, 1, 1] + [0] * (filled - 3)]
    assert labels.tolist() == [[3] + [IGNORED_LABEL] * (filled - 1), [1, -100, 2] + [IGNORED_LABEL] * (filled - 3)]
    assert "token_type_ids" not in features
    assert {array.dtype.name for array in (ids, mask, labels)} == {"int32"}


def test_token_types_and_labels_of_texts():
    examples = [Example([7, 8, 9], 4, [0, 1, 1]), Example([5, 6], 2, [0, 1])]
    features, labels = next(iter(BatchedExamples(examples, 2).dataset(0)))
    by_label = dict(zip(labels.numpy().tolist(), features["token_type_ids"].numpy()[:, :4].tolist(), strict=True))
    assert by_label == {4: [0, 1, 1, 0], 2: [0, 1, 0, 0]}
    _, scores = next(iter(BatchedExamples([Example([5], 0.5)], 2).dataset(0)))
    assert scores.dtype.name == "float32" and scores.numpy().tolist() == [0.5]


def test_a_text_beyond_the_longest_bucket_keeps_its_length():
    features, _ = next(iter(BatchedExamples([Example([1] * 700, 0)], 1).dataset(0)))
    assert features["input_ids"].shape == (1, 700)


def test_no_example_is_refused():
    with pytest.raises(DataError, match="at least one text"):
        BatchedExamples([], 4)


def test_pad():
    assert pad([[1, 2], [], [3]], 3, value=9).tolist() == [[1, 2, 9], [9, 9, 9], [3, 9, 9]]
    assert pad([], 3).shape == (0, 3)


@pytest.mark.parametrize(("size", "parts"), [(8, 1), (9, 1), (1, 1), (9, 3), (12, 2)])
@pytest.mark.parametrize("here", [1, 2])
def test_a_batch_is_dealt_without_overlap_or_loss(size, parts, here):
    dealt = [Shard(4, first, here).rows(size, parts) for first in range(0, 4, here)]
    assert {rows.shape for rows in dealt} == {(here, parts * -(-size // parts // 4))}
    rows = np.concatenate(dealt)
    assert sorted(rows[rows >= 0]) == list(range(size))
    for part in np.split(rows, parts, axis=1):  # the replicas' rows of a part are the part's
        assert {number * parts // size for number in part[part >= 0]} in [{number} for number in range(parts)]


def test_whole_batches_stay_as_they_are():
    assert WHOLE.rows(5).tolist() == [[0, 1, 2, 3, 4]]
    assert WHOLE.rows(6, parts=3).tolist() == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("replicas", [2, 3, 8])
def test_the_shards_of_an_epoch_are_its_batches(replicas):
    batches = BatchedExamples(examples_of(realistic_lengths(43)), 8)
    shards = [batches.dataset(1, 2, Shard(replicas, first)) for first in range(replicas)]
    whole = list(batches.dataset(1, 2))
    assert {int(shard.cardinality()) for shard in shards} == {len(whole)}
    for (inputs, labels), *parts in zip(whole, *shards, strict=True):
        for name in inputs:
            rows = np.concatenate([part[name] for part, _ in parts])
            np.testing.assert_array_equal(rows[: len(labels)], inputs[name])
            assert not rows[len(labels) :].any()
        rows = np.concatenate([part for _, part in parts])
        np.testing.assert_array_equal(rows[: len(labels)], labels)
        assert (rows[len(labels) :] == IGNORED_LABEL).all()


def test_replicas_of_one_worker_take_turns():
    batches = BatchedExamples(examples_of(realistic_lengths(20)), 4)
    both = numbers(batches.dataset(0, shard=Shard(4, 2, 2)))
    alone = [numbers(batches.dataset(0, shard=Shard(4, first))) for first in (2, 3)]
    assert both == [rows for pair in zip(*alone, strict=True) for rows in pair]


@pytest.mark.parametrize(("label", "blank"), [(1, IGNORED_LABEL), (0.5, np.nan)])
def test_blank_rows_of_texts_do_not_count(label, blank):
    inputs, labels = BatchedExamples([Example([5, 6], label, [0, 1])], 4).collate([0, -1])
    assert inputs["attention_mask"].sum(axis=1).tolist() == [2, 0]
    np.testing.assert_array_equal(labels, np.array([label, blank], labels.dtype))
    assert inputs["token_type_ids"][1].tolist() == [0] * BUCKET_LENGTHS[0]
