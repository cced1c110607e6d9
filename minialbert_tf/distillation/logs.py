"""What a distillation run writes down: every loss of every step, as JSON lines, for TensorBoard and as a picture."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.util.event_pb2 import Event, SessionLog

from minialbert_tf.files import replacing

LOG_FILE = "log.jsonl"
PLOT_FILE = "losses.png"
_EVENTS_FILE = "events.out.tfevents.{step:010d}.minialbert"
_LOSS_ENDING = "loss"


class LossLog:
    """Writes one line for each training step, and goes on where a killed run was saved.

    The folder holds `LOG_FILE`, which is `{"step": 1, "loss": …, "mlm_loss": …, "seconds": …, …}` line by line,
    TensorBoard's event files, and, where matplotlib is installed, `PLOT_FILE`.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        """Opens the log of a run of which `step` steps are done; what was written of later ones is dropped."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG_FILE
        kept = [line for line in read_log(path) if line["step"] <= step] if path.is_file() else []
        with replacing(path, force=True) as new:
            new.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self.seconds = float(kept[-1]["seconds"]) if kept else 0.0
        self._lines = path.open("a", encoding="utf-8")
        self._events = tf.io.TFRecordWriter(str(folder / _EVENTS_FILE.format(step=step)))
        self._write_event(file_version="brain.Event:2")
        # TensorBoard drops what an earlier file says of the steps from here on.
        self._write_event(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Notes the values of a step, at which the run has taken `seconds` in all."""
        numbers = {name: float(value) for name, value in values.items()}
        self._lines.write(json.dumps({"step": step, **numbers, "seconds": round(seconds, 2)}) + "\n")
        event = Event(wall_time=0.0, step=step)
        for name, value in numbers.items():
            event.summary.value.add(tag=name, simple_value=value)
        self._events.write(event.SerializeToString())

    def flush(self) -> None:
        """Hands everything to the operating system and draws the picture anew."""
        self._lines.flush()
        self._events.flush()
        plot_losses(self._folder)

    def close(self) -> None:
        """Ends the log."""
        self.flush()
        self._lines.close()
        self._events.close()

    def _write_event(self, **fields: Any) -> None:
        self._events.write(Event(**fields).SerializeToString())


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of a log; one that a kill has cut off ends it."""
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
    lines = list(read_log(folder / LOG_FILE))
    if not lines:
        return False
    steps = np.array([line["step"] for line in lines])
    names = [name for name in lines[-1] if name.endswith(_LOSS_ENDING)]
    figure = Figure(figsize=(4 * len(names), 3.5), layout="constrained")
    for name, axes in zip(names, np.atleast_1d(figure.subplots(1, len(names))), strict=True):
        values = np.array([line[name] for line in lines])
        width = max(1, len(values) // 200)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps, values, color="0.85", linewidth=0.5)
        axes.plot(steps[width - 1 :], smooth)
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("step")
    with replacing(folder / PLOT_FILE, force=True) as new:
        figure.savefig(new, format="png", dpi=100)
    return True
