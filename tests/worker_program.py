"""One of several workers that train tiny models, as a process: worker_program.py FOLDER RUN,RUN… INDEX PORT…

Without ports it trains alone; with "mirrored" in place of the index, on two devices. Writes FOLDER/RUN.npz for each
run: the weights, and the losses as they were logged.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tiny_runs import bert_config, tiny_config

from minialbert_tf import losses
from minialbert_tf.cluster import Cluster, Members
from minialbert_tf.data.batching import BatchedExamples, Example
from minialbert_tf.data.masking import MaskedBatches
from minialbert_tf.distillation import Distiller
from minialbert_tf.distillation.task import TaskDistillationLoss, TaughtExamples
from minialbert_tf.models import (
    MiniAlbertForMaskedLM,
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
)
from minialbert_tf.teacher import BertForMaskedLM
from minialbert_tf.training import Trainer, make_optimizer
from minialbert_tf.workers import ALONE, Workers

STEPS = 50
LABELS = 3


def sgd() -> keras.optimizers.Optimizer:
    """Plain gradient descent: weights differ as much as gradients do."""
    return keras.optimizers.SGD(0.05, global_clipnorm=1.0)


def adamw() -> keras.optimizers.Optimizer:
    """What commands use."""
    return make_optimizer(3e-3)


class FixedBatches(MaskedBatches):
    """Batches of random pieces, some of them masked; a pair of rows in each is short."""

    def __init__(self, size: int) -> None:
        self._batch_size = size
        self.error = None

    def batches(self, first: int = 0):
        """Yields batches without end."""
        number = first
        while True:
            random = np.random.default_rng(number)
            ids = random.integers(5, 60, (self._batch_size, 16), np.int32)
            mask = (np.arange(16) < random.integers(3, 17, (self._batch_size, 1))).astype(np.int32)
            labels = np.where((random.random(ids.shape) < 0.2) & (mask == 1), ids, -100).astype(np.int32)
            yield {"input_ids": ids * mask, "attention_mask": mask}, labels
            number += 1


class Log(keras.callbacks.Callback):
    """Keeps the losses."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_end(self, batch, logs=None) -> None:
        """Notes one."""
        self.losses.append(float(logs["loss"]))


def token_examples() -> list[Example]:
    """Sentences whose numbers of labels differ much; they do not come out even in batches, nor batches in shares."""
    random = np.random.default_rng(0)
    examples = []
    for number in range(27):
        length = int(random.integers(2, 15))
        labelled = random.random(length) < (0.9 if number % 2 else 0.2)
        labels = [int(random.integers(0, LABELS)) if each else -100 for each in labelled]
        examples.append(Example([2, *random.integers(5, 60, length).tolist(), 3], [-100, *labels, -100]))
    return examples


def text_examples(regression: bool) -> list[Example]:
    """Texts with a class or a number."""
    random = np.random.default_rng(1)
    label = (lambda: float(random.normal())) if regression else (lambda: int(random.integers(0, LABELS)))
    return [Example([2, *random.integers(5, 60, 4 + k % 6).tolist(), 3], label()) for k in range(21)]


def finetune(workers: Workers, kind: str, optimizer: Callable[[], keras.optimizers.Optimizer], folder: Path):
    """Fine-tunes for STEPS steps or a little more; returns the model and the losses of the epochs."""
    sizes = tiny_config(num_hidden_layers=1, num_labels=1 if kind == "regression" else LABELS)
    loss = None
    with workers.scope():
        if kind in ("tokens", "taught"):
            model = MiniAlbertForTokenClassification(sizes)
            batches = BatchedExamples(token_examples(), 4)
        else:
            model = MiniAlbertForSequenceClassification(sizes)
            batches = BatchedExamples(text_examples(kind == "regression"), 4)
        if kind == "taught":
            teacher = MiniAlbertForTokenClassification(sizes.replace(initializer_range=0.5))
            batches, loss = TaughtExamples(token_examples(), 4, teacher=teacher), TaskDistillationLoss()
        model.compile(optimizer(), loss)
        folder.mkdir()
        epochs, _ = Trainer(model, batches, -(-STEPS // batches.steps), None, folder, 1e9, workers).run()
    return model, [epoch.loss for epoch in epochs]


def distil(workers: Workers, kind: str, optimizer: Callable[[], keras.optimizers.Optimizer], folder: Path):
    """Distils for STEPS steps; returns the distiller and the losses of the steps."""
    accumulation = 3 if kind == "parts" else 1
    with workers.scope():
        student = MiniAlbertForMaskedLM(tiny_config(num_hidden_layers=1))
        teacher = BertForMaskedLM(bert_config(hidden_size=24, num_hidden_layers=1))
        distiller = Distiller(student, teacher, accumulation=accumulation)
        distiller.compile(optimizer())
        log = Log()
        data = workers.distribute(FixedBatches(9).dataset(0, workers.shard, accumulation))
        distiller.fit(data, steps_per_epoch=STEPS, shuffle=False, verbose=0, callbacks=[log])
    return distiller, log.losses


def run(workers: Workers, name: str, folder: Path) -> None:
    """Does one run, such as "tokens-sgd" or, with the mistake, "tokens-sgd-local"."""
    kind, optimizer, *local = name.split("-")
    keras.utils.set_random_seed(0)
    work = distil if kind in ("layers", "parts") else finetune
    honest = losses.global_mean
    if local:  # each replica divides by what it counts itself
        losses.global_mean = lambda value: value
    model, curve = work(workers, kind, {"sgd": sgd, "adamw": adamw}[optimizer], folder / name)
    losses.global_mean = honest
    weights = {str(number): variable.numpy() for number, variable in enumerate(model.trainable_variables)}
    np.savez(folder / f"{name}.npz", losses=np.array(curve), **weights)


def main(folder: Path, runs: list[str], place: str, ports: list[str]) -> None:
    """Does all runs."""
    folder.mkdir()
    if place == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        together = nullcontext(Workers(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])))
    else:
        together = joined(int(place), ports) if ports else nullcontext(ALONE)
    with together as workers:
        for name in runs:
            run(workers, name, folder)


@contextmanager
def joined(index: int, ports: list[str]):
    """Meets the others; that one is lost ends the process."""

    def end(reason: str, lost: bool) -> None:
        print(reason, file=sys.stderr, flush=True)
        os._exit(3)

    addresses = [f"localhost:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
    with Cluster(Members(tuple(addresses), index), 60.0, end) as cluster:
        cluster.meet({})
        yield Workers(tf.distribute.MultiWorkerMirroredStrategy(), cluster)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3], sys.argv[4:])
