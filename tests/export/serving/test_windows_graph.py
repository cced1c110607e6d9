import random

import numpy as np
import pytest
import tensorflow as tf

from minialbert_tf.export.serving import windows_graph
from minialbert_tf.windows import plan_windows


def in_graph(counts, capacity):
    """Returns the windows of each text as (start, end), and the owner of each piece as (window, place)."""
    counts = tf.constant(counts, tf.int32)
    windows = windows_graph.plan(counts, capacity)
    texts = tf.repeat(tf.range(tf.size(counts)), counts)
    owners = windows_graph.owners(windows, tf.range(tf.size(texts)), texts, counts, capacity)
    spans = tf.stack([windows.starts, windows.starts + windows.lengths], 1).numpy().tolist()
    return spans, tf.stack(owners, 1).numpy().tolist()


def expected(counts, capacity):
    spans, owners, offset = [], [], 0
    for count in counts:
        for window in plan_windows(count, capacity):
            number = len(spans)
            spans.append([offset + window.start, offset + window.end])
            owners += [[number, piece - window.start] for piece in range(window.own_start, window.own_end)]
        offset += count
    return spans, owners


@pytest.mark.parametrize("capacity", [4, 5, 6, 7, 8, 11, 30, 126, 510])
def test_equals_the_plan_of_the_tagger(capacity):
    generator = random.Random(capacity)
    near = [capacity + extra for extra in range(-2, 3)]
    for counts in ([], [0], [0, 0, 1], near, list(range(40)), [generator.randrange(5000) for _ in range(20)]):
        assert in_graph(counts, capacity) == expected(counts, capacity)


def test_the_comparison_sees_another_capacity():
    assert in_graph([100], 30) != expected([100], 31)


def test_all_is_int32():
    windows = windows_graph.plan(tf.constant([700, 0, 3]), 126)
    assert {np.asarray(value).dtype for value in windows} == {np.dtype(np.int32)}
