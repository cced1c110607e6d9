"""Running a network over sequences of very different lengths, a few similar ones at a time."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

# Bounds the memory of a step, whatever a request holds. On processors larger steps only pad more: 32 sentences take
# 1.6 times as long when they run at once (benchmarks/serving.py on two cores).
TOKENS_PER_STEP = 512


class Outputs(NamedTuple):
    """What the steps returned, flat, and where to find it.

    Attributes:
        values: One tensor (M,) for each output of a step.
        offsets: Where the values of each sequence begin, int32 (N,).
    """

    values: tuple[tf.Tensor, ...]
    offsets: tf.Tensor


def run_in_steps(
    lengths: tf.Tensor,
    step: Callable[[tf.Tensor, tf.Tensor], Sequence[tf.Tensor]],
    dtypes: Sequence[tf.DType],
) -> Outputs:
    """Calls `step` on the sequences, longest first, with about `TOKENS_PER_STEP` tokens at a time.

    Args:
        lengths: Tokens of each sequence, int32 (N,).
        step: Called with sequence numbers (R,) and the length of the longest of them; returns tensors (R·S,) that
            hold S values for each sequence, S being the same for all its tensors.
        dtypes: Types of the tensors that `step` returns.
    """
    order = tf.argsort(lengths, direction="DESCENDING", stable=True)
    lengths = tf.gather(lengths, order)
    count = tf.size(order)

    def array(dtype: tf.DType) -> tf.TensorArray:
        return tf.TensorArray(dtype, size=0, dynamic_size=True, infer_shape=False, element_shape=[None])

    def body(turn, first, used, offsets, arrays):  # type: ignore[no-untyped-def]
        longest = lengths[first]
        after = tf.minimum(first + tf.maximum(TOKENS_PER_STEP // tf.maximum(longest, 1), 1), count)
        values = step(order[first:after], longest)
        size = tf.size(values[0])
        rows = after - first
        offsets = offsets.write(turn, used + tf.range(rows) * (size // rows))
        arrays = tuple(array.write(turn, value) for array, value in zip(arrays, values, strict=True))
        return turn + 1, after, used + size, offsets, arrays

    _, _, _, offsets, arrays = tf.while_loop(
        lambda turn, first, *_: first < count,
        body,
        (0, 0, 0, array(tf.int32), tuple(map(array, dtypes))),
        parallel_iterations=1,
    )
    offsets = tf.tensor_scatter_nd_update(tf.zeros_like(order), order[:, None], offsets.concat())
    return Outputs(tuple(array.concat() for array in arrays), offsets)
