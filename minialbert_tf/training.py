"""Training with model.fit: optimizer, learning rate schedule, and a loop that survives being killed."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tqdm import tqdm

from minialbert_tf.data.batching import BatchedExamples
from minialbert_tf.errors import InputError
from minialbert_tf.files import replacing, write_json
from minialbert_tf.models import PretrainedModel

SCHEDULES = ("linear", "cosine")
BEST = "best"
_STATE = "state.npz"
_SETTINGS = "settings.json"
_NOT_DECAYED = ["bias", "beta", "gamma"]


@keras.utils.register_keras_serializable("minialbert_tf")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly for some steps, then falls to 0, linearly or along a half cosine."""

    def __init__(self, peak: float, total_steps: int, warmup_steps: int, decay: str = "linear") -> None:
        super().__init__()
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.decay = decay

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate, a scalar, at a step."""
        step = tf.cast(step, tf.float32)
        rising = (step + 1.0) / float(max(self.warmup_steps, 1))
        left = float(max(self.total_steps - self.warmup_steps, 1))
        progress = tf.clip_by_value((step - self.warmup_steps) / left, 0.0, 1.0)
        falling = 1.0 - progress if self.decay == "linear" else 0.5 * (1.0 + tf.cos(np.pi * progress))
        return self.peak * tf.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
        }


def make_optimizer(
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    weight_decay: float = 0.01,
    clip_norm: float | None = 1.0,
) -> keras.optimizers.Optimizer:
    """Returns AdamW with the gradient clipped by its global norm and no decay on biases and LayerNorm weights."""
    optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, global_clipnorm=clip_norm)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


def say(message: str) -> None:
    """Prints on standard error, above a progress bar if there is one: standard output is for results."""
    tqdm.write(message, file=sys.stderr)


class Epoch(NamedTuple):
    """What an epoch came to: its number from 1, mean training loss, score on dev (or None), and seconds."""

    number: int
    loss: float
    score: float | None
    seconds: float


class _State(NamedTuple):
    """Where training stands, beside the weights: batches seen, and the epochs that are done."""

    step: int
    epochs: tuple[Epoch, ...]


class Trainer:
    """Runs `model.fit` epoch by epoch, keeps the best epoch, and can be killed and started again at any time.

    The working folder holds the settings, the latest state (weights, optimizer, position in the data; replaced in
    one step) and the best epoch as a checkpoint. The same call on the same folder continues after the last batch
    that was saved; no batch is seen twice or left out.
    """

    def __init__(
        self,
        model: PretrainedModel,
        batches: BatchedExamples,
        epochs: int,
        evaluate: Callable[[], float] | None,
        folder: Path,
        save_seconds: float = 60.0,
    ) -> None:
        """Takes a compiled model, its data, and the score to maximise after each epoch (None: the last is best)."""
        self._model = model
        self._batches = batches
        self._epochs = epochs
        self._evaluate = evaluate
        self._folder = folder
        self._save_seconds = save_seconds

    def run(self) -> tuple[Epoch, ...]:
        """Trains to the end and returns the epochs; the best one is in the folder under `BEST`."""
        state = self._restore()
        total = self._epochs * self._batches.steps
        with tqdm(total=total, initial=state.step, unit="step", disable=None) as bar:
            for number in range(state.step // self._batches.steps, self._epochs):
                bar.set_description(f"epoch {number + 1}/{self._epochs}")
                state = self._epoch(state, number, bar)
                epoch = state.epochs[-1]
                score = "" if epoch.score is None else f", dev score {epoch.score:.4f}"
                say(f"epoch {epoch.number}/{self._epochs}: loss {epoch.loss:.4f}{score}, {epoch.seconds:.0f} s")
        return state.epochs

    def _epoch(self, state: _State, number: int, bar: tqdm) -> _State:
        started = time.monotonic()
        progress = _Progress(self, state, bar)
        history = self._model.fit(
            self._batches.dataset(number, state.step % self._batches.steps),
            initial_epoch=number,
            epochs=number + 1,
            shuffle=False,
            verbose=0,
            callbacks=[progress],
        )
        score = None if self._evaluate is None else self._evaluate()
        epoch = Epoch(number + 1, float(history.history["loss"][-1]), score, time.monotonic() - started)
        if score is None or score > max((e.score for e in state.epochs if e.score is not None), default=-np.inf):
            self._model.save_pretrained(self._folder / BEST, force=True)
        state = _State((number + 1) * self._batches.steps, (*state.epochs, epoch))
        self.save(state)
        return state

    def save(self, state: _State) -> None:
        """Replaces the saved state in one step."""
        arrays = {f"v{index}": np.asarray(variable) for index, variable in enumerate(self._variables())}
        with replacing(self._folder / _STATE, force=True) as path, path.open("wb") as file:
            np.savez(file, state=np.array(json.dumps(state)), **arrays)

    def _restore(self) -> _State:
        path = self._folder / _STATE
        if not path.is_file():
            return _State(0, ())
        with np.load(path) as saved:
            for index, variable in enumerate(self._variables()):
                variable.assign(saved[f"v{index}"])
            step, epochs = json.loads(str(saved["state"]))
        say(f"resuming after step {step} of {self._epochs * self._batches.steps}")
        return _State(step, tuple(Epoch(*epoch) for epoch in epochs))

    def _variables(self) -> list[Any]:
        if not self._model.optimizer.built:
            self._model.optimizer.build(self._model.trainable_variables)
        return [*self._model.variables, *self._model.optimizer.variables]


class _Progress(keras.callbacks.Callback):
    """Moves the progress bar and saves the state every now and then."""

    def __init__(self, trainer: Trainer, state: _State, bar: tqdm) -> None:
        super().__init__()
        self._trainer = trainer
        self._state = state
        self._bar = bar
        self._saved = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Counts the batch."""
        self._state = self._state._replace(step=self._state.step + 1)
        self._bar.update()
        self._bar.set_postfix(loss=f"{(logs or {}).get('loss', 0.0):.4f}", refresh=False)
        if time.monotonic() - self._saved > self._trainer._save_seconds:
            self._trainer.save(self._state)
            self._saved = time.monotonic()


def open_folder(folder: Path, settings: Mapping[str, Any], restart: bool = False) -> None:
    """Makes the working folder of a training run, or checks that it belongs to the same run.

    Args:
        folder: The folder.
        settings: All that decides the result, as JSON values.
        restart: Whether to drop what another run has left there.

    Raises:
        InputError: If the folder was made with other settings; the message names them.
    """
    path = folder / _SETTINGS
    if restart or not path.is_file():
        with replacing(folder, force=True) as new:
            new.mkdir()
            write_json(new / _SETTINGS, settings)
        return
    saved = json.loads(path.read_text(encoding="utf-8"))
    differing = [
        f"{key}: {saved.get(key)!r} then, {settings.get(key)!r} now"
        for key in sorted(saved.keys() | settings.keys())
        if saved.get(key) != settings.get(key)
    ]
    if differing:
        raise InputError(
            f"Only a run with the same settings can be resumed in {folder}; use --restart to begin anew. "
            f"Received: {'; '.join(differing)}"
        )
