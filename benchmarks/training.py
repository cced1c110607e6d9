"""Training and distilling in steps and tokens per second, beside the arithmetic limit of the machine.

    python -m benchmarks.training [--teacher MINILM]

The limit is the floating point operations of a step's matrix products (a forward pass once, backward twice), divided by
the rate that TensorFlow reaches on one large float32 product, measured in the same run before and after. The full-size
model is fine-tuned on 16 x 128 tokens; with a teacher, a student of the builtin encoder's sizes is distilled on packed
windows of 32 x 128.
"""

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tensorflow import keras

import minialbert_tf as ma
from minialbert_tf.benchmarking import describe_machine
from minialbert_tf.config import TransformerConfig
from minialbert_tf.distillation import Distiller
from minialbert_tf.distillation.losses import LossWeights
from minialbert_tf.teacher import BertModel, load_teacher
from minialbert_tf.training import computing_in_bfloat16, make_optimizer

LENGTH, STEPS = 128, 8
STUDENT = {"embedding_size": 192, "reduction_factor": 4}  # minialbert_tf/builtin/encoder


def forward_operations(config: TransformerConfig) -> float:
    """Floating point operations of the matrix products of a forward pass, for one token among `LENGTH`."""
    hidden = config.hidden_size
    layer = 4 * hidden**2 + 2 * hidden * config.intermediate_size + 2 * LENGTH * hidden
    if isinstance(config, ma.MiniAlbertConfig):
        layer += 4 * hidden * config.bottleneck_size
        return 2 * (config.num_hidden_layers * layer + config.embedding_size * hidden)
    return 2 * config.num_hidden_layers * layer


def product_rate() -> float:
    """Floating point operations per second of the best of many large products."""
    left, right = tf.random.normal((2048, 768)), tf.random.normal((768, 3072))
    product = tf.function(tf.linalg.matmul)
    product(left, right)
    best = np.inf
    for _ in range(20):
        started = time.perf_counter()
        product(left, right).numpy()
        best = min(best, time.perf_counter() - started)
    return 2 * 2048 * 768 * 3072 / best


class _Clock(keras.callbacks.Callback):
    """Seconds of each step."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self._started)


def seconds_per_step(model: keras.Model, vocab_size: int, batch: int, num_labels: int) -> float:
    """Median over steps of a compiled model on random pieces, without the first two, which compile."""
    random = np.random.default_rng(0)
    inputs = {
        "input_ids": random.integers(0, vocab_size, (batch, LENGTH), np.int32),
        "attention_mask": np.ones((batch, LENGTH), np.int32),
    }
    labels = random.integers(0, num_labels, (batch, LENGTH)) if num_labels else np.full((batch, LENGTH), -100)
    data = tf.data.Dataset.from_tensors((inputs, labels)).repeat(STEPS + 2)
    clock = _Clock()
    model.fit(data, verbose=0, shuffle=False, callbacks=[clock])
    return float(np.median(clock.seconds[2:]))


def finetuning(xla: bool) -> float:
    """Seconds of a step of the full-size model."""
    model = ma.MiniAlbertForTokenClassification(ma.MiniAlbertConfig(num_labels=5))
    model.compile(make_optimizer(5e-5), jit_compile=xla)
    return seconds_per_step(model, model.config.vocab_size, 16, 5)


def distilling(teacher: BertModel, student: ma.MiniAlbertConfig) -> float:
    """Seconds of a step with the losses and settings of training/builtin.sh, but for bfloat16."""
    weights = LossWeights(mlm=0.0, embedding=3.0, output=0.0)
    distiller = Distiller(ma.MiniAlbertModel(student), teacher, weights=weights)
    distiller.compile(make_optimizer(1e-4))
    return seconds_per_step(distiller, student.vocab_size, 32, 0)


def report(name: str, batch: int, per_token: float, steps: dict[str, Callable[[], float]]) -> None:
    """Measures one kind of step in each way and prints it beside the limit."""
    before = product_rate()
    seconds = {way: measure() for way, measure in steps.items()}
    rate = max(before, product_rate())
    operations = per_token * batch * LENGTH
    limit = rate / operations
    print(f"\n{name}, {batch} x {LENGTH} tokens: {operations / 1e9:.0f} GFLOP a step")
    print(f"one product: {rate / 1e9:.0f} GFLOP/s; limit {limit:.3f} steps/s, {limit * batch * LENGTH:,.0f} tokens/s")
    for way, took in seconds.items():
        print(
            f"{way}: {1 / took:.3f} steps/s, {batch * LENGTH / took:,.0f} tokens/s, {1 / took / limit:.0%} of the limit"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", help="a BERT to distil")
    arguments = parser.parse_args()
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's choice")
    print(f"{describe_machine()}; tensorflow {tf.__version__}; oneDNN: {onednn}")
    full = 3 * forward_operations(ma.MiniAlbertConfig())
    report(
        "full-size model, fine-tuned",
        16,
        full,
        {"without XLA": lambda: finetuning(xla=False), "with XLA": lambda: finetuning(xla=True)},
    )
    if arguments.teacher is None:
        return
    teacher = load_teacher(arguments.teacher)
    sizes = {name: getattr(teacher.config, name) for name in ("vocab_size", "hidden_size", "intermediate_size")}
    student = ma.MiniAlbertConfig(**sizes, num_attention_heads=teacher.config.num_attention_heads, **STUDENT)
    report(
        "student, distilled",
        32,
        forward_operations(teacher.config) + 3 * forward_operations(student),
        {"float32": lambda: distilling(teacher, student), "bfloat16": lambda: _in_bfloat16(teacher, student)},
    )


def _in_bfloat16(teacher: BertModel, student: ma.MiniAlbertConfig) -> float:
    with computing_in_bfloat16(True):
        return distilling(teacher, student)


if __name__ == "__main__":
    main()
