"""From strings to entities: an exported SavedModel beside the Keras model padded to 512, on one sentence a line.

python -m benchmarks.serving --texts SENTENCES.txt [--model CHECKPOINT]
"""

import argparse
import os
import platform
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text

import minialbert_tf as ma
from minialbert_tf.batched_runtime import BatchedRuntime
from minialbert_tf.export.serving.tokenizer_graph import GraphTokenizer
from minialbert_tf.tokenization import as_tokenizer

BATCH_SIZES = (1, 8, 32)
LABELS = ["O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease"]


class PaddedRuntime(BatchedRuntime):
    """The Keras model with every batch padded to its full length, in one graph of fixed width."""

    def __init__(self, model: ma.MiniAlbertForTokenClassification) -> None:
        self.max_length = model.config.max_position_embeddings
        batch = tf.TensorSpec((None, self.max_length), tf.int32)
        self._model = tf.function(
            lambda ids, mask: model({"input_ids": ids, "attention_mask": mask}, training=False), [batch, batch]
        )

    def run(self, input_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns the logits of the ids alone."""
        width = input_ids.shape[1]
        ids = np.pad(input_ids, ((0, 0), (0, self.max_length - width)))
        mask = np.arange(self.max_length) < lengths[:, None]
        return self._model(ids, mask.astype(np.int32)).numpy()[:, :width]

    def close(self) -> None:
        """Does nothing."""


def load_model(folder: str | None, sentences: Sequence[str]) -> ma.MiniAlbertForTokenClassification:
    """Returns a checkpoint, or random weights of the published size with a vocabulary learned from the sentences."""
    if folder:
        return ma.MiniAlbertForTokenClassification.from_pretrained(folder)
    model = ma.MiniAlbertForTokenClassification(ma.MiniAlbertConfig(id2label=dict(enumerate(LABELS))))
    model.tokenizer = ma.WordPieceTokenizer.train(sentences[:20_000], vocab_size=28_996, lowercase=True)
    return model


def measure(calls: dict[str, Callable[[list[str]], object]], batches: list[list[str]]) -> dict[str, np.ndarray]:
    """Returns the seconds of each call, which take turns, so that whatever else the machine does slows all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number, batch in enumerate([batches[0], *batches]):
        for name, call in calls.items():
            start = time.perf_counter()
            call(batch)
            if number:  # the first time something is traced or set up
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def report(size: int, seconds: dict[str, np.ndarray]) -> None:
    """Prints a line for each way, and how they compare."""
    for name, values in seconds.items():
        if name != "tokenizer":
            p50, p95 = np.percentile(values, [50, 95]) * 1000
            rate = size * len(values) / values.sum()
            print(f"{size:5}  {name:16}  {rate:8.1f} texts/s  p50 {p50:8.1f} ms  p95 {p95:8.1f} ms")
    served = np.median(seconds["SavedModel"])
    print(f"{size:5}  {np.median(seconds['padded to 512']) / served:.1f} times as fast; ", end="")
    print(f"tokenisation {np.median(seconds['tokenizer']) / served:.2%} of the time")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="one sentence a line")
    parser.add_argument("--model", help="a checkpoint; by default random weights of the published size")
    parser.add_argument("--calls", type=int, default=20, help="calls for each batch size (default %(default)s)")
    arguments = parser.parse_args()

    sentences = arguments.texts.read_text(encoding="utf-8").splitlines()
    random.Random(0).shuffle(sentences)
    model = load_model(arguments.model, sentences)
    tokenizer = as_tokenizer(model.tokenizer)
    pieces = [len(tokenizer.encode(sentence).ids) for sentence in sentences[:1000]]
    print(shlex.join(["python", "-m", "benchmarks.serving", *sys.argv[1:]]))
    print(f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}", end=", ")
    print(f"tensorflow {tf.__version__}, tensorflow-text {tensorflow_text.__version__}")
    print("pieces of a sentence: median {:.0f}, 95 % at most {:.0f}".format(*np.percentile(pieces, [50, 95])))

    tokenize = tf.function(GraphTokenizer(tokenizer).__call__, [tf.TensorSpec([None], tf.string)])
    padded = ma.Tagger(tokenizer, model.config.labels, PaddedRuntime(model))
    with tempfile.TemporaryDirectory() as folder:
        served = tf.saved_model.load(str(ma.export.export_saved_model(model, Path(folder) / "ner")))
        signature = served.signatures["serving_default"]
        calls: dict[str, Callable[[list[str]], object]] = {
            "SavedModel": lambda texts: signature(text=tf.constant(texts)),
            "padded to 512": padded,
            "tokenizer": lambda texts: tokenize(tf.constant(texts)),
        }
        for size in BATCH_SIZES:
            batches = [sentences[first : first + size] for first in range(0, arguments.calls * size, size)]
            report(size, measure(calls, batches))


if __name__ == "__main__":
    main()
