"""Training steps per second of the full-size model beside the arithmetic limit of the machine.

    python benchmarks/training.py

The limit is the floating point operations of a step's matrix products (forward once, backward twice), divided by the
rate that TensorFlow reaches on one large float32 product, measured in the same run before and after.
"""

import os
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tensorflow import keras

import minialbert_tf as ma

BATCH, LENGTH, STEPS = 16, 128, 8


def step_operations(config: ma.MiniAlbertConfig) -> float:
    """Floating point operations of the matrix products of one training step."""
    hidden, tokens = config.hidden_size, BATCH * LENGTH
    block = 4 * hidden**2 + 2 * hidden * config.intermediate_size + 2 * LENGTH * hidden
    adapters = 4 * hidden * config.bottleneck_size
    per_token = config.num_hidden_layers * (block + adapters) + config.embedding_size * hidden
    return 3 * 2 * tokens * per_token


def product_rate() -> float:
    """Floating point operations per second of the best of many products of the block's largest shape."""
    left, right = tf.random.normal((BATCH * LENGTH, 768)), tf.random.normal((768, 3072))
    product = tf.function(tf.linalg.matmul)
    product(left, right)
    best = np.inf
    for _ in range(20):
        started = time.perf_counter()
        product(left, right).numpy()
        best = min(best, time.perf_counter() - started)
    return 2 * BATCH * LENGTH * 768 * 3072 / best


class _Clock(keras.callbacks.Callback):
    """Seconds of each step."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self._started)


def seconds_per_step(xla: bool) -> float:
    """Median over steps, without the first two, which compile."""
    model = ma.MiniAlbertForTokenClassification(ma.MiniAlbertConfig(num_labels=5))
    model.compile(keras.optimizers.AdamW(5e-5), jit_compile=xla)
    random = np.random.default_rng(0)
    inputs = {
        "input_ids": random.integers(0, model.config.vocab_size, (BATCH, LENGTH), np.int32),
        "attention_mask": np.ones((BATCH, LENGTH), np.int32),
    }
    data = tf.data.Dataset.from_tensors((inputs, random.integers(0, 5, (BATCH, LENGTH)))).repeat(STEPS + 2)
    clock = _Clock()
    model.fit(data, verbose=0, shuffle=False, callbacks=[clock])
    return float(np.median(clock.seconds[2:]))


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"tensorflow {tf.__version__}, keras {keras.__version__ if hasattr(keras, '__version__') else 'tf-keras'}")
    operations = step_operations(ma.MiniAlbertConfig())
    rates = [product_rate()]
    plain, compiled = seconds_per_step(xla=False), seconds_per_step(xla=True)
    rates.append(product_rate())
    limit = max(rates) / operations
    print(f"a step of {BATCH} x {LENGTH} tokens: {operations / 1e9:.0f} GFLOP")
    print(f"one product: {rates[0] / 1e9:.0f} and {rates[1] / 1e9:.0f} GFLOP/s; limit {limit:.3f} steps/s")
    for name, seconds in (("without XLA", plain), ("with XLA", compiled)):
        print(f"{name}: {1 / seconds:.3f} steps/s, {1 / seconds / limit:.0%} of the limit")


if __name__ == "__main__":
    main()
