import numpy as np
import pytest
import tensorflow as tf

from minialbert_tf.export.serving import steps_graph


def run(lengths):
    """Runs steps that return 10·sequence + column for three columns, and records (rows, length) of each."""
    calls = []

    def step(rows, length):
        calls.append((rows.numpy().tolist(), int(length)))
        values = tf.reshape(10 * rows[:, None] + tf.range(3)[None], [-1])
        return values, tf.cast(values, tf.float32)

    values, offsets = steps_graph.run_in_steps(tf.constant(lengths, tf.int32), step, (tf.int32, tf.float32))
    return calls, [value.numpy() for value in values], offsets.numpy()


@pytest.mark.parametrize("lengths", [[5], [512] * 7, [1] * 600, list(range(1, 200)), [3, 3000, 2]])
def test_every_sequence_runs_once_and_is_found(lengths):
    calls, (integers, floats), offsets = run(lengths)
    assert sorted(row for rows, _ in calls for row in rows) == list(range(len(lengths)))
    found = np.stack([integers[offset : offset + 3] for offset in offsets])
    assert found.tolist() == [[10 * row, 10 * row + 1, 10 * row + 2] for row in range(len(lengths))]
    assert (floats == integers).all()


def test_a_step_holds_similar_lengths_and_bounded_tokens():
    lengths = np.random.default_rng(0).integers(1, 700, 300).tolist()
    calls, _, _ = run(lengths)
    for rows, length in calls:
        assert length == max(lengths[row] for row in rows)
        assert len(rows) == 1 or len(rows) * length <= steps_graph.TOKENS_PER_STEP
    longest = [length for _, length in calls]
    assert longest == sorted(longest, reverse=True)
    assert sum(len(rows) * length for rows, length in calls) < 1.2 * sum(lengths)


def test_nothing_to_run():
    @tf.function
    def nothing():
        return steps_graph.run_in_steps(tf.zeros([0], tf.int32), lambda rows, length: (rows,), (tf.int32,))

    (values,), offsets = nothing()
    assert values.shape == offsets.shape == (0,)
