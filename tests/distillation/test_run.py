"""Whole distillation runs, under whichever Keras TF_USE_LEGACY_KERAS selects."""

import dataclasses
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import save_bert, write_texts

from minialbert_tf.config import MiniAlbertConfig
from minialbert_tf.data.masking import MaskedBatches, Masking
from minialbert_tf.data.text_windows import WindowPlan, Windows
from minialbert_tf.distillation import Distiller, LossWeights
from minialbert_tf.distillation import run as distillation_run
from minialbert_tf.distillation.logs import LossLog, read_log
from minialbert_tf.distillation.run import Settings, distill
from minialbert_tf.errors import DataError, InputError
from minialbert_tf.models import MiniAlbertForMaskedLM, MiniAlbertModel
from minialbert_tf.teacher import BertModel, load_teacher
from minialbert_tf.training import SavedState

ROOT = Path(__file__).parents[2]
STEPS = 6
TERMS = ("mlm", "embedding", "attention", "hidden", "output")
SAME = {"rel": 1e-5}  # of losses, for a run that goes on and one that was never interrupted


@pytest.fixture(scope="module", autouse=True)
def quick():
    """No graphs unless a test asks for them, little text for the first weights, and no pictures, which take longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LossLog, "plot", lambda log: None)
        patch.setattr(distillation_run, "_SAMPLED_TOKENS", 300)
        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)


@pytest.fixture
def graphs():
    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(True)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts") / "texts.txt")


@pytest.fixture(scope="module")
def teacher(texts, tmp_path_factory):
    tf.keras.utils.set_random_seed(0)
    return save_bert(tmp_path_factory.mktemp("teacher") / "bert", texts, initializer_range=0.1)


@pytest.fixture(scope="module")
def headless(texts, tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("teacher") / "bert", texts, BertModel, initializer_range=0.1)


@pytest.fixture(scope="module")
def settings(teacher, texts):
    return Settings(
        teacher=str(teacher),
        texts=(str(texts),),
        steps=STEPS,
        embedding_size=12,
        recursions=2,
        reduction_factor=4,
        dropout=0.0,
        window=16,
        stride=8,
        batch_size=4,
        learning_rate=1e-2,
        warmup_steps=1,
    )


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """A run from beginning to end: its output and its results."""
    output = tmp_path_factory.mktemp("whole") / "student"
    return output, distill(settings, output)


def log_of(folder):
    """The log's lines without what depends on the clock."""
    clock = ("seconds", "tokens_per_second")
    return [{k: v for k, v in line.items() if k not in clock} for line in read_log(folder / "logs" / "log.jsonl")]


def assert_same_log(found, expected):
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for line, other in zip(found, expected, strict=True):
        assert line == pytest.approx(other, **SAME)


def batches_of(settings, count):
    """The first batches that a run with these settings sees."""
    tokenizer = load_teacher(settings.teacher).tokenizer
    windows = Windows(list(map(Path, settings.texts)), tokenizer, WindowPlan(settings.window, settings.stride))
    masking = Masking(tokenizer, settings.mask_rate)
    return list(islice(MaskedBatches(windows, masking, settings.batch_size, settings.seed).batches(), count))


def test_the_output_is_a_student_with_results_and_logs(whole, settings):
    output, results = whole
    assert [path.name for path in output.parent.iterdir()] == ["student"]
    names = {path.name for path in output.iterdir()}
    assert {"config.json", "model.safetensors", "vocab.txt", "results.json", "logs"} <= names
    student = MiniAlbertForMaskedLM.from_pretrained(output)
    assert student.load_report.initialised == student.load_report.ignored == ()
    assert student.tokenizer.same_as(load_teacher(settings.teacher).tokenizer)
    assert json.loads((output / "results.json").read_text()) == results
    assert results["settings"]["weights"] == {
        "mlm": 1.0,
        "embedding": 0.0,
        "attention": 3.0,
        "hidden": 3.0,
        "output": 5.0,
    }
    assert results["steps"] == STEPS
    assert results["tokens"] == sum(int(inputs["attention_mask"].sum()) for inputs, _ in batches_of(settings, STEPS))
    assert results["losses"].keys() == {"loss", *(f"{term}_loss" for term in TERMS)}


def test_every_step_is_logged(whole, settings):
    output, results = whole
    lines = list(read_log(output / "logs" / "log.jsonl"))
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for line in lines:
        terms = {term: line[f"{term}_loss"] for term in TERMS}
        total = terms["mlm"] + 3 * (terms["attention"] + terms["hidden"]) + 5 * terms["output"]
        assert line["loss"] == pytest.approx(total, rel=1e-5)
        assert line["tokens_per_second"] > 0
    assert lines[0]["learning_rate"] == pytest.approx(1e-2)
    assert lines[-1]["learning_rate"] == pytest.approx(1e-2 / (STEPS - 1))
    for name, mean in results["losses"].items():
        assert mean == pytest.approx(np.mean([line[name] for line in lines]))
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds) and results["seconds"] == seconds[-1]


def first_losses(student, settings):
    """What a student that is at hand loses on the first batch of a run."""
    inputs, labels = batches_of(settings, 1)[0]
    distiller = Distiller(student, load_teacher(settings.teacher), settings.layer_map, settings.weights)
    return {name: float(loss) for name, loss in distiller.compute_losses(inputs, labels).items()}


def test_a_student_goes_on_where_it_stands(whole, settings, tmp_path):
    more = dataclasses.replace(settings, student=str(whole[0]), steps=1, warmup_steps=0, dropout=0.0)
    distill(more, tmp_path / "student")
    [line] = log_of(tmp_path / "student")
    expected = first_losses(MiniAlbertForMaskedLM.from_pretrained(whole[0]), more)
    for term in TERMS:
        assert line[f"{term}_loss"] == pytest.approx(expected[f"{term}_loss"], rel=1e-4)
    assert line["loss"] != pytest.approx(log_of(whole[0])[0]["loss"], rel=1e-2)


def test_a_random_start_is_further_away(whole, settings, tmp_path):
    distill(dataclasses.replace(settings, start="random", steps=2), tmp_path / "student")
    random_start, start = log_of(tmp_path / "student")[0], log_of(whole[0])[0]
    assert random_start["embedding_loss"] > 4 * start["embedding_loss"]
    assert random_start["hidden_loss"] > 2 * start["hidden_loss"]


def test_a_student_of_another_width(settings, tmp_path):
    wider = dataclasses.replace(settings, hidden_size=24, start="random", steps=2)
    results = distill(wider, tmp_path / "student")
    assert "embedding_loss" not in results["losses"] and "attention_loss" in results["losses"]
    config = MiniAlbertConfig.from_pretrained(tmp_path / "student")
    assert (config.hidden_size, config.intermediate_size, config.num_attention_heads) == (24, 96, 2)
    assert MiniAlbertForMaskedLM.from_pretrained(tmp_path / "student").load_report.ignored == ()
    with pytest.raises(InputError, match="must have the teacher's hidden_size"):
        distill(dataclasses.replace(wider, start="teacher"), tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_teacher_without_a_head(headless, settings, tmp_path):
    taught = dataclasses.replace(settings, teacher=str(headless), steps=2)
    results = distill(taught, tmp_path / "guessing")
    assert results["losses"].keys() == {"loss", "mlm_loss", "embedding_loss", "attention_loss", "hidden_loss"}
    MiniAlbertForMaskedLM.from_pretrained(tmp_path / "guessing")
    layers = dataclasses.replace(taught, weights=LossWeights(mlm=0.0, output=0.0), mask_rate=0.0)
    results = distill(layers, tmp_path / "layers")
    assert results["losses"].keys() == {"loss", "embedding_loss", "attention_loss", "hidden_loss"}
    assert MiniAlbertModel.from_pretrained(tmp_path / "layers").load_report.ignored == ()


def test_packed_windows_without_adapters_and_a_map_of_layers(settings, tmp_path):
    other = dataclasses.replace(
        settings, packed=True, reduction_factor=None, layer_map=(1, 3), start_layer=2, steps=2, accumulation=2
    )
    results = distill(other, tmp_path / "student")
    assert 2 * 4 * 16 - 15 < results["tokens"] <= 2 * 4 * 16  # one window, the last of a pass, may not be full
    assert not MiniAlbertConfig.from_pretrained(tmp_path / "student").use_adapter


def test_short_documents_have_less_room_than_the_masks_of_a_window(teacher, tmp_path):
    texts = tmp_path / "short.txt"
    texts.write_text("aspirin\nasthma pain\n")
    sizes = {"embedding_size": 8, "recursions": 2, "window": 32, "stride": 16, "batch_size": 2}
    short = Settings(str(teacher), (str(texts),), steps=1, warmup_steps=0, mask_rate=0.9, **sizes)
    distill(short, tmp_path / "student")  # 27 of 32 may be masked, and the rows are of 16


class Interrupted(Exception):
    pass


class Interruption:
    """Ends a run at one of its saves, before or after the state is written."""

    def __init__(self, monkeypatch):
        self.before = self.after = None
        self.saved = []
        save = SavedState.save

        def interrupted(state, position):
            if position[0] == self.before:
                raise Interrupted
            save(state, position)
            self.saved.append(position[0])
            if position[0] == self.after:
                raise Interrupted

        monkeypatch.setattr(SavedState, "save", interrupted)


def test_an_interrupted_run_ends_like_one_that_was_not(settings, tmp_path, monkeypatch):
    legacy = os.environ.get("TF_USE_LEGACY_KERAS") == "1"  # tf-keras does not save dropout's seeds
    run = dataclasses.replace(settings, dropout=0.0 if legacy else 0.2)
    expected = tmp_path / "whole"
    distill(run, expected)
    output, interruption = tmp_path / "student", Interruption(monkeypatch)
    for moment in ({"after": 2}, {"before": 4}, {"after": STEPS}):
        interruption.before, interruption.after = moment.get("before"), moment.get("after")
        with pytest.raises(Interrupted):
            distill(run, output, save_seconds=0.0)
    interruption.before = interruption.after = None
    results = distill(run, output, save_seconds=0.0)
    assert interruption.saved == [1, 2, 3, 4, 5, 6]
    assert_same_log(log_of(output), log_of(expected))
    assert results["tokens"] == json.loads((expected / "results.json").read_text())["tokens"]
    weights = [MiniAlbertForMaskedLM.from_pretrained(folder).get_weights() for folder in (output, expected)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_run_saves_every_now_and_then(settings, tmp_path, monkeypatch):
    interruption = Interruption(monkeypatch)
    distill(dataclasses.replace(settings, steps=3), tmp_path / "student", save_seconds=1e9)
    assert interruption.saved == [3]


def test_other_texts_are_another_run(settings, tmp_path, monkeypatch):
    texts, output = write_texts(tmp_path / "texts.txt", 20), tmp_path / "student"
    run = dataclasses.replace(settings, texts=(str(texts),), steps=2)
    interruption = Interruption(monkeypatch)
    interruption.after = 1
    with pytest.raises(Interrupted):
        distill(run, output, save_seconds=0.0)
    interruption.after = None
    before = texts.stat().st_size
    texts.write_text(texts.read_text() + "more\n")
    with pytest.raises(
        InputError, match=rf"--restart .* Received: files\..*texts\.txt: {before} then, {before + 5} now$"
    ):
        distill(run, output)
    distill(run, output, restart=True)
    assert [line["step"] for line in log_of(output)] == [1, 2]


def test_text_that_turns_bad_on_the_way_ends_the_run_with_its_place(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(distillation_run, "Windows", functools.partial(Windows, buffer=2))
    monkeypatch.setattr("minialbert_tf.data.text_windows._CHUNK_DOCUMENTS", 1)
    monkeypatch.setattr(distillation_run, "_SAMPLED_TOKENS", 1)
    good = write_texts(tmp_path / "good.txt", 20)
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"aspirin\n\xff\n")
    run = dataclasses.replace(settings, texts=(str(good), str(bad)), steps=100)
    with pytest.raises(DataError, match=r"bad\.txt:2: The text must be UTF-8. Received: byte 0xff"):
        distill(run, tmp_path / "student")
    assert log_of(tmp_path / "student.training")[-1]["step"] > 2


def test_a_loss_that_is_not_finite_ends_the_run(settings, tmp_path):
    with pytest.raises(InputError, match=r"must stay finite: use a lower --learning-rate. Received: .*nan"):
        distill(dataclasses.replace(settings, learning_rate=1e30, steps=4), tmp_path / "student")


def test_without_a_terminal_a_line_now_and_then_says_how_long_it_will_take(whole, settings, tmp_path, capsys):
    distill(dataclasses.replace(settings, steps=2), tmp_path / "student", save_seconds=0.0)
    err = capsys.readouterr().err
    assert "teach" in err and "recursions 1 to 2 by layers 2, 4" in err
    assert "step 1 of 2: loss " in err and " tokens/s, 00:" in err
    assert "step 2 of 2: " in err and "00:00 left" in err


def command_of(settings, output):
    """The command line of a run, as a process of its own."""
    options = {
        "--teacher": settings.teacher,
        "--text": settings.texts[0],
        "--output": output,
        "--steps": settings.steps,
        "--embedding-size": settings.embedding_size,
        "--recursions": settings.recursions,
        "--reduction-factor": settings.reduction_factor,
        "--dropout": settings.dropout,
        "--start": settings.start,
        "--window": settings.window,
        "--stride": settings.stride,
        "--batch-size": settings.batch_size,
        "--learning-rate": settings.learning_rate,
        "--warmup-steps": settings.warmup_steps,
        "--save-seconds": 0.2,
    }
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", "minialbert_tf.cli", "distill", *words]


def test_kill_9_costs_nothing_that_was_saved(settings, graphs, tmp_path):
    run = dataclasses.replace(settings, steps=60, start="random")
    distill(run, tmp_path / "whole")
    output = tmp_path / "student"
    log, state = (tmp_path / "student.training" / name for name in ("logs/log.jsonl", "state.npz"))
    moment = random.randint(2, 20)
    process = subprocess.Popen(command_of(run, output), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not (state.exists() and sum(1 for _ in read_log(log)) >= moment):
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.05))  # anywhere in a step or a save
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    reached = sum(1 for _ in read_log(log))
    assert moment <= reached <= run.steps - 20, reached
    distill(run, output)
    assert_same_log(log_of(output), log_of(tmp_path / "whole"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student", "whole"]


def resident():
    """Resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_a_long_run_learns_and_its_memory_stays_flat(settings, graphs, tmp_path, monkeypatch):
    used = {}
    write = LossLog.write

    def watched(log, step, *values):
        if step in (100, 400):
            used[step] = resident()
        write(log, step, *values)

    monkeypatch.setattr(LossLog, "write", watched)
    distill(dataclasses.replace(settings, steps=400), tmp_path / "student")
    assert used[400] - used[100] < 15
    lines = log_of(tmp_path / "student")
    for name in ("loss", "hidden_loss", "mlm_loss"):
        first, last = (np.mean([line[name] for line in part]) for part in (lines[:10], lines[-10:]))
        assert last < 0.9 * first, name
