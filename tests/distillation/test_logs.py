"""What a run writes down, as its readers find it."""

import json
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util.event_pb2 import SessionLog

from minialbert_tf.distillation.logs import LOG_FILE, PLOT_FILE, LossLog, plot_losses, read_log


def values_of(step):
    return {"hidden_loss": 1 / step, "loss": 2 / step, "learning_rate": 1e-3, "tokens_per_second": 100.0}


def write(folder, first, last, step=0):
    log = LossLog(folder, step)
    for number in range(first, last + 1):
        log.write(number, values_of(number), log.seconds + number / 4)
    return log


def events_of(folder):
    """The events of TensorBoard's files, as TensorFlow's own reader finds them; one list for each file."""
    return [list(tf.compat.v1.train.summary_iterator(str(path))) for path in sorted(folder.glob("events*"))]


def scalars_of(events):
    return {(event.step, value.tag): value.simple_value for event in events for value in event.summary.value}


def test_each_step_is_a_line_as_soon_as_it_is_written(tmp_path):
    log = write(tmp_path, 1, 3)
    lines = list(read_log(tmp_path / LOG_FILE))  # while the log is still open
    assert lines == [{"step": step, **values_of(step), "seconds": step / 4} for step in (1, 2, 3)]
    assert len(scalars_of(events_of(tmp_path)[0])) == 12
    log.close()


def test_tensorboard_reads_every_value_with_its_time(tmp_path):
    started = time.time()
    write(tmp_path, 1, 3).close()
    [events] = events_of(tmp_path)
    assert events[0].file_version == "brain.Event:2"
    assert all(started <= event.wall_time <= time.time() for event in events)
    scalars = scalars_of(events)
    assert len(scalars) == 12
    for (step, tag), value in scalars.items():
        assert value == pytest.approx(values_of(step)[tag])


def test_a_log_goes_on_after_the_step_that_was_saved(tmp_path):
    write(tmp_path, 1, 5)  # as a kill leaves it
    with (tmp_path / LOG_FILE).open("a") as file:
        file.write('{"step": 6, "hidd')
    log = LossLog(tmp_path, 3)
    assert log.seconds == 3 / 4
    log.write(4, {"loss": 7.0}, 9.0)
    log.close()
    lines = list(read_log(tmp_path / LOG_FILE))
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[3] == {"step": 4, "loss": 7.0, "seconds": 9.0}
    first, second = events_of(tmp_path)
    assert max(event.step for event in first) == 5
    assert (second[1].session_log.status, second[1].step) == (
        SessionLog.START,
        4,
    )  # steps 4 and 5 of the first: dropped
    assert scalars_of(second) == {(4, "loss"): 7.0}


@pytest.mark.parametrize("content", [None, "", "{", '{"step": 1, "loss": 1.0, "sec'])
def test_a_log_without_a_whole_line_is_empty(content, tmp_path):
    if content is not None:
        (tmp_path / LOG_FILE).write_text(content)
    assert list(read_log(tmp_path / LOG_FILE)) == []
    assert not plot_losses(tmp_path)
    assert LossLog(tmp_path, 5).seconds == 0.0
    assert (tmp_path / LOG_FILE).read_text() == ""


def pixels(path):
    from matplotlib.image import imread

    return imread(path)


def test_the_picture_has_a_curve_for_each_loss(tmp_path):
    pytest.importorskip("matplotlib")
    log = write(tmp_path, 1, 2)
    log.plot()
    first = pixels(tmp_path / PLOT_FILE)
    assert first.shape[0] > 200 and first.shape[1] > 600  # two curves side by side
    for step in range(3, 300):
        log.write(step, values_of(step), step)
    log.plot()
    second = pixels(tmp_path / PLOT_FILE)
    log.close()
    assert second.shape == first.shape
    blue = [np.mean((image[..., 2] > 0.5) & (image[..., 0] < 0.3)) for image in (first, second)]
    assert blue[1] > blue[0] > 0
    assert np.mean((second[..., :3] < 0.99).any(axis=-1)) < 0.5


def test_without_matplotlib_there_is_no_picture(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    log = write(tmp_path, 1, 2)
    log.plot()
    log.close()
    assert not (tmp_path / PLOT_FILE).exists()
    assert len((tmp_path / LOG_FILE).read_text().splitlines()) == 2
    assert json.loads((tmp_path / LOG_FILE).read_text().splitlines()[1])["step"] == 2
