"""Training with model.fit: optimizer, learning rate schedule, and a loop that survives being killed."""

import io
import json
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tqdm import tqdm

from minialbert_tf.data.batching import BatchedExamples
from minialbert_tf.errors import InputError
from minialbert_tf.files import replacing
from minialbert_tf.models import PretrainedModel
from minialbert_tf.workers import ALONE, Workers

SCHEDULES = ("linear", "cosine")
_EPOCH = "epoch-"
_STATE = "state.npz"
_CPU_BFLOAT16 = "auto_mixed_precision_onednn_bfloat16"
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


@contextmanager
def computing_in_bfloat16(wanted: bool) -> Iterator[None]:
    """Computes what is traced inside in bfloat16 where that is safe, with weights in float32; not if not `wanted`.

    On CPUs TensorFlow's graph optimizer chooses the operations, in essence the matrix products: twice as fast as
    Keras's policy, whose element-wise operations in bfloat16 are slow there. With a GPU it is Keras's policy.
    """
    policy, options = keras.mixed_precision.global_policy(), tf.config.optimizer.get_experimental_options()
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if wanted and on_gpu else "float32")
    tf.config.optimizer.set_experimental_options({_CPU_BFLOAT16: wanted and not on_gpu})
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(policy)
        tf.config.optimizer.set_experimental_options({_CPU_BFLOAT16: options.get(_CPU_BFLOAT16, False)})


def say(message: str) -> None:
    """Prints on standard error, above a progress bar if there is one: standard output is for results."""
    tqdm.write(message, file=sys.stderr)


class Epoch(NamedTuple):
    """What an epoch came to.

    Attributes:
        number: From 1.
        loss: Mean training loss over all its sequences, those before an interruption included.
        score: Score on dev, or None.
        seconds: How long it took, since an interruption if there was one.
    """

    number: int
    loss: float
    score: float | None
    seconds: float


class _State(NamedTuple):
    """Where training stands, beside the weights.

    Attributes:
        step: Batches seen in all epochs.
        epochs: The epochs that are done.
        loss: Mean training loss of the next one so far.
    """

    step: int = 0
    epochs: tuple[Epoch, ...] = ()
    loss: float = 0.0


class SavedState:
    """The variables of a model and its optimizer, and where its training stands: one file, replaced in one step.

    Of several workers only the chief has the file; the others go on from what the chief sends them. Other than Keras's
    BackupAndRestore it knows the position to the batch, and asks for no folder that all machines share.
    """

    def __init__(self, model: keras.Model, folder: Path, workers: Workers = ALONE) -> None:
        """Takes a compiled model, the working folder and who trains."""
        self._model = model
        self._path = folder / _STATE
        self._workers = workers

    @property
    def exists(self) -> bool:
        """Whether something is saved."""
        return self._path.is_file()

    def save(self, position: Any) -> None:
        """Writes the variables and `position`, a JSON value."""
        with replacing(self._path, force=True) as path, path.open("wb") as file:
            self._write(file, position)

    def restore(self) -> Any:
        """Sets the variables and returns the position, or None if nothing is saved.

        With several workers all have the chief's variables and position afterwards, in any case.

        Raises:
            InputError: If the file is damaged or of another model.
        """
        self._variables()  # making the optimizer's takes all workers, at the same time
        position = self._read(self._path) if self._workers.is_chief and self.exists else None
        if self._workers.alone:
            return position
        content = io.BytesIO()
        if self._workers.is_chief:
            self._write(content, position)
        shared = self._workers.share_bytes(content.getvalue())
        return position if self._workers.is_chief else self._read(io.BytesIO(shared))

    def _write(self, file: IO[bytes], position: Any) -> None:
        arrays: dict[str, Any] = {f"v{index}": variable.numpy() for index, variable in enumerate(self._variables())}
        np.savez(file, state=np.array(json.dumps(position)), **arrays)

    def _read(self, file: Path | IO[bytes]) -> Any:
        try:
            with np.load(file) as saved:
                for index, variable in enumerate(self._variables()):
                    variable.assign(saved[f"v{index}"])
                return json.loads(str(saved["state"]))
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(
                "The saved state must be whole and of this very model; use --restart to begin anew. "
                f"Received: {self._path} ({error})"
            ) from error

    def _variables(self) -> list[Any]:
        with self._workers.scope():
            self._model.optimizer.build(self._model.trainable_variables)  # does nothing the second time
        return [*self._model.variables, *self._model.optimizer.variables]


class Trainer:
    """Runs `model.fit` epoch by epoch, keeps the best epoch, and can be killed and started again at any time.

    The working folder holds the settings, the latest state (weights, optimizer, position in the data; replaced in
    one step) and the best epoch as a checkpoint. The same call on the same folder continues after the last batch
    that was saved: no batch is left out, and none counts twice. The end is that of a run without interruption, exactly
    under Keras 3, whose dropout goes on as well; under tf-keras dropout begins its sequence again.
    """

    def __init__(
        self,
        model: PretrainedModel,
        batches: BatchedExamples,
        epochs: int,
        evaluate: Callable[[], float] | None,
        folder: Path,
        save_seconds: float = 60.0,
        workers: Workers = ALONE,
    ) -> None:
        """Takes a compiled model, its data, and the score to maximise after each epoch (None: the last is best).

        Of several workers only the chief uses the score and the folder.
        """
        self._model = model
        self._batches = batches
        self._epochs = epochs
        self._evaluate = evaluate
        self._folder = folder
        self._workers = workers
        self._saved = SavedState(model, folder, workers)
        self.save_seconds = save_seconds

    def run(self) -> tuple[tuple[Epoch, ...], Path]:
        """Trains to the end and returns the epochs, and the folder with the checkpoint of the best one.

        Raises:
            InputError: If the saved state is damaged or of another model, or the loss is no longer finite.
        """
        state = self._restore()
        total = self._epochs * self._batches.steps
        hidden = None if self._workers.is_chief else True
        with tqdm(total=total, initial=state.step, unit="step", disable=hidden) as bar:
            for number in range(len(state.epochs), self._epochs):
                bar.set_description(f"epoch {number + 1}/{self._epochs}")
                state = self._epoch(state, bar)
                epoch = state.epochs[-1]
                score = "" if epoch.score is None else f", dev score {epoch.score:.4f}"
                say(f"epoch {epoch.number}/{self._epochs}: loss {epoch.loss:.4f}{score}, {epoch.seconds:.0f} s")
        return state.epochs, self._checkpoint(_best(state.epochs))

    def _epoch(self, state: _State, bar: tqdm) -> _State:
        started = time.monotonic()
        number = len(state.epochs)
        progress = _Progress(self, state, bar, [len(batch) for batch in self._batches.order(number)])
        dataset = self._batches.dataset(number, progress.batch, self._workers.shard)
        self._model.fit(
            self._workers.distribute(dataset),
            initial_epoch=number,
            epochs=number + 1,
            steps_per_epoch=self._batches.steps - progress.batch,
            shuffle=False,
            verbose=0,
            callbacks=[progress],
        )
        score = self._evaluate() if self._evaluate and self._workers.is_chief else None
        own = Epoch(number + 1, progress.state.loss, score, time.monotonic() - started)
        epoch = Epoch(*self._workers.share(own))  # the chief's decides for all
        if not np.isfinite([epoch.loss, epoch.score or 0.0]).all():
            raise InputError(f"Loss and score must stay finite: use a lower --learning-rate. Received: {epoch}")
        state = _State((number + 1) * self._batches.steps, (*state.epochs, epoch))
        if self._workers.is_chief:
            self._keep_best(state)
        return state

    def _keep_best(self, state: _State) -> None:
        """Saves the state after an epoch, and the epoch's checkpoint if it is the best so far."""
        best = self._checkpoint(_best(state.epochs))
        if _best(state.epochs) is state.epochs[-1]:
            self._model.save_pretrained(best, force=True)
        # Only now is the former best superseded: whenever the process dies, the state's best epoch is there.
        self.save(state)
        for folder in self._folder.glob(f"{_EPOCH}*"):
            if folder != best:
                shutil.rmtree(folder)

    def _checkpoint(self, epoch: Epoch) -> Path:
        return self._folder / f"{_EPOCH}{epoch.number}"

    def save(self, state: _State) -> None:
        """Replaces the saved state in one step; workers other than the chief save nothing."""
        if self._workers.is_chief:
            self._saved.save(state)

    def _restore(self) -> _State:
        saved = self._saved.restore()
        if saved is None:
            return _State()
        step, epochs, loss = saved
        say(f"resuming after step {step} of {self._epochs * self._batches.steps}")
        return _State(step, tuple(Epoch(*epoch) for epoch in epochs), loss)


def _best(epochs: Sequence[Epoch]) -> Epoch:
    """Returns the first of the epochs with the highest score, or without scores the last."""
    return max(epochs, key=lambda epoch: epoch.number if epoch.score is None else epoch.score)


class _Progress(keras.callbacks.Callback):
    """Keeps the state of an epoch, saves it every now and then, and moves the progress bar.

    Attributes:
        state: Where training stands.
        batch: Batches seen in this epoch.
    """

    def __init__(self, trainer: Trainer, state: _State, bar: tqdm, sizes: Sequence[int]) -> None:
        """Takes the state to go on from and the sizes of all batches of its epoch."""
        super().__init__()
        self.state = state
        self.batch = state.step - len(state.epochs) * len(sizes)
        self._trainer = trainer
        self._bar = bar
        self._seen = np.cumsum([0, *sizes])  # sequences before each batch
        self._saved = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Counts the batch."""
        self.batch += 1
        # The batch's own loss: Keras's mean would begin anew with fit, which may be in the middle of the epoch.
        loss = float((logs or {})["loss"])
        before, seen = self._seen[self.batch - 1], self._seen[self.batch]
        loss = (self.state.loss * before + loss * (seen - before)) / seen
        self.model.reset_metrics()
        self.state = self.state._replace(step=self.state.step + 1, loss=float(loss))
        self._bar.update()
        self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        # After the last batch the end of the epoch saves, with its score.
        due = time.monotonic() - self._saved >= self._trainer.save_seconds
        if due and self.batch < len(self._seen) - 1:
            self._trainer.save(self.state)
            self._saved = time.monotonic()
