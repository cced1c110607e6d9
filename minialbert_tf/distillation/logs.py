"""What a distillation run writes down: every loss of every step, as JSON lines, for TensorBoard and as a picture."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.summary_pb2 import Summary
from tensorflow.core.util.event_pb2 import Event, SessionLog

from minialbert_tf.files import replacing

LOG_FILE = "log.jsonl"
PLOT_FILE = "losses.png"
_EVENTS_FILE = "events.out.tfevents.{step:010d}.minialbert"
_TOTAL = "loss"  # the terms are "mlm_loss" and so on
_COLUMNS = 3
_SMOOTHED_SHARE = 50  # of the steps; the curve is a mean over so many


class LossLog:
    """Writes one line for each training step, at once, and goes on where a killed run was saved.

    The folder holds `LOG_FILE`, which is `{"step": 1, "loss": …, "mlm_loss": …, "seconds": …, …}` line by line,
    TensorBoard's event files, and, where matplotlib is installed, `PLOT_FILE`.

    Attributes:
        seconds: What the steps that are done took.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        """Opens the log of a run of which `step` steps are done; what was written of later ones is dropped."""
        self._folder = folder
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG_FILE
        with replacing(path, force=True) as new, new.open("w", encoding="utf-8") as file:
            for line in read_log(path):
                if line["step"] > step:
                    break
                file.write(json.dumps(line) + "\n")
                self.seconds = float(line["seconds"])
        self._lines = path.open("a", encoding="utf-8", buffering=1)
        self._events = tf.io.TFRecordWriter(str(folder / _EVENTS_FILE.format(step=step)))
        self._write_event(file_version="brain.Event:2")
        # TensorBoard drops what an earlier file says of the steps from here on.
        self._write_event(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Notes the values of a step, at which the run has taken `seconds` in all."""
        numbers = {name: float(value) for name, value in values.items()}
        self._lines.write(json.dumps({"step": step, **numbers, "seconds": round(seconds, 2)}) + "\n")
        self._write_event(
            step=step,
            summary=Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]),
        )

    def plot(self) -> None:
        """Draws the picture anew."""
        plot_losses(self._folder)

    def close(self) -> None:
        """Ends the log."""
        self._lines.close()
        self._events.close()

    def _write_event(self, **fields: Any) -> None:
        self._events.write(Event(wall_time=time.time(), **fields).SerializeToString())
        self._events.flush()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of a log, none if there is no file; a line that a kill has cut off ends it."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return


def plot_losses(folder: Path) -> bool:
    """Draws the losses of a log beside it, one curve for each term.

    Returns:
        Whether there is something to draw and matplotlib to draw it with.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    path = folder / LOG_FILE
    names = [name for name in next(read_log(path), {}) if name.endswith(_TOTAL)]
    if not names:
        return False
    names.sort(key=lambda name: name != _TOTAL)  # it comes first
    # Straight into an array: a long run's lines would take a hundred times the room.
    numbers = (line[name] for line in read_log(path) for name in ("step", *names))
    steps, *losses = np.fromiter(numbers, np.float64).reshape(-1, 1 + len(names)).T
    columns = min(len(names), _COLUMNS)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.5 * columns, 3 * rows), layout="constrained")
    for number, (name, values) in enumerate(zip(names, losses, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, number)
        width = max(1, len(values) // _SMOOTHED_SHARE)
        axes.plot(steps, values, color="0.8", linewidth=0.5)
        axes.plot(steps, _smooth(values, width))
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    with replacing(folder / PLOT_FILE, force=True) as new:
        figure.savefig(new, format="png", dpi=100)
    return True


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Returns the mean over `width` values around each, over fewer at the ends."""
    half = width // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, end = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return (sums[end] - sums[first]) / (end - first)
