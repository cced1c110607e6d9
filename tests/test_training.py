import itertools
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras
from tiny_runs import has_bfloat16_on_cpu, tiny_config

from minialbert_tf.data.batching import BatchedExamples, Example
from minialbert_tf.errors import InputError
from minialbert_tf.files import replacing
from minialbert_tf.losses import TokenCrossEntropy
from minialbert_tf.models import MiniAlbertForTokenClassification
from minialbert_tf.training import Trainer, WarmupSchedule, computing_in_bfloat16, make_optimizer
from minialbert_tf.working_folder import open_folder

NUM_LABELS = 3
EPOCHS, STEPS = 3, 3


class Interrupted(Exception):
    pass


class Recording:
    """Notes the second id of each sequence that a model is trained on, and stops before a step if asked."""

    stop_before: int | None = None

    def train_step(self, data):
        if self.stop_before == len(self.seen):
            raise Interrupted
        self.seen.append(data[0]["input_ids"][:, 1].numpy().tolist())
        return super().train_step(data)


class TableModel(Recording, keras.Model):
    """Logits of a token from a table: the least that can be trained, and quick without a graph."""

    def __init__(self):
        super().__init__()
        self.table = self.add_weight(shape=(20, NUM_LABELS), initializer="glorot_uniform", name="table")
        self.built = True

    def call(self, inputs, training=False):
        return tf.gather(tf.convert_to_tensor(self.table), inputs["input_ids"])

    def save_pretrained(self, folder, force):
        with replacing(folder, force) as new:
            new.mkdir()
            np.save(new / "table.npy", np.asarray(self.table))


class RecordingHead(Recording, MiniAlbertForTokenClassification):
    pass


def make_model(real=False):
    keras.utils.set_random_seed(0)
    config = tiny_config(num_hidden_layers=1, num_labels=NUM_LABELS, hidden_dropout_prob=0.3, use_adapter=False)
    model = RecordingHead(config) if real else TableModel()
    model.seen = []
    schedule = WarmupSchedule(0.1, EPOCHS * STEPS, 2, "cosine")
    model.compile(make_optimizer(schedule), TokenCrossEntropy(), run_eagerly=True)
    return model


def make_batches():
    examples = [
        Example([2, number, *range(5, 5 + number % 4), 3], [-100, number % 3, *[1] * (number % 4), -100])
        for number in range(10, 18)
    ]
    batches = BatchedExamples(examples, 3, seed=1)
    assert batches.steps == STEPS
    return batches


def train(folder, stop_before=None, evaluate=None, save_seconds=0.0, real=False):
    model = make_model(real)
    model.stop_before = stop_before
    folder.mkdir(exist_ok=True)
    trainer = Trainer(model, make_batches(), EPOCHS, evaluate, folder, save_seconds)
    try:
        epochs, best = trainer.run()
    except Interrupted:
        return model, None, None
    return model, epochs, best


def values(model):
    return [np.asarray(weight) for weight in model.weights]


def saved_values(folder):
    return [np.load(folder / "table.npy")]


def state_of(folder):
    """Number of epochs that the saved state has done."""
    if not (folder / "state.npz").is_file():
        return 0
    with np.load(folder / "state.npz") as state:
        return len(json.loads(str(state["state"]))[1])


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from beginning to end: the model, its epochs and the best checkpoint."""
    return train(tmp_path_factory.mktemp("whole") / "run", evaluate=lambda: 1.0)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_schedule(decay):
    schedule = WarmupSchedule(peak=0.5, total_steps=110, warmup_steps=10, decay=decay)
    rates = [float(schedule(step)) for step in range(111)]
    rising = [0.5 * (step + 1) / 10 for step in range(10)]
    shares = [(step - 10) / 100 for step in range(10, 111)]
    falling = [1 - share if decay == "linear" else (1 + math.cos(math.pi * share)) / 2 for share in shares]
    np.testing.assert_allclose(rates, [*rising, *(0.5 * share for share in falling)], atol=1e-7)
    assert float(schedule(1000)) == pytest.approx(0.0, abs=1e-7)
    again = WarmupSchedule.from_config(schedule.get_config())
    assert [float(again(step)) for step in (3, 10, 60)] == [rates[3], rates[10], rates[60]]


def test_schedule_without_warmup_starts_at_the_peak():
    assert float(WarmupSchedule(0.5, 10, 0)(0)) == 0.5
    assert float(WarmupSchedule(0.5, 1, 0)(0)) == 0.5


def test_only_kernels_and_tables_decay():
    model = MiniAlbertForTokenClassification(tiny_config(num_labels=NUM_LABELS))
    for variable in model.weights:
        variable.assign(np.ones(variable.shape))
    optimizer = make_optimizer(0.1, weight_decay=1.0)
    optimizer.apply_gradients([(tf.zeros(variable.shape), variable) for variable in model.trainable_variables])
    for variable in model.weights:
        matrix = len(variable.shape) > 1
        np.testing.assert_allclose(np.asarray(variable), 0.9 if matrix else 1.0, atol=1e-6, err_msg=variable.name)
    assert any(len(variable.shape) > 1 for variable in model.weights)


@pytest.mark.parametrize(("clip_norm", "same"), [(1.0, True), (None, False)])
def test_gradients_are_clipped_by_their_global_norm(clip_norm, same):
    def moments(scale):
        variables = [tf.Variable([0.0, 0.0]), tf.Variable([0.0])]
        optimizer = make_optimizer(0.1, clip_norm=clip_norm)
        gradients = [scale * tf.constant([3.0, 0.0]), scale * tf.constant([4.0])]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return np.concatenate([np.ravel(variable) for variable in optimizer.variables])

    assert np.allclose(moments(1.0), moments(100.0), rtol=1e-5) == same


@pytest.mark.parametrize("save_seconds", [0.0, 1e9])
@pytest.mark.parametrize("stop_before", [1, 3, 5, 8])
def test_an_interrupted_run_ends_like_one_that_was_not(whole, stop_before, save_seconds, tmp_path):
    folder = tmp_path / "run"
    interrupted, epochs, _ = train(folder, stop_before, lambda: 1.0, save_seconds)
    assert epochs is None and len(interrupted.seen) == stop_before
    resumed, epochs, best = train(folder, evaluate=lambda: 1.0, save_seconds=save_seconds)

    model, expected_epochs, expected_best = whole
    kept = stop_before if save_seconds == 0.0 else STEPS * (stop_before // STEPS)
    assert interrupted.seen[:kept] + resumed.seen == model.seen
    assert_equal(values(resumed), values(model))
    assert_equal(*(list(map(np.asarray, each.optimizer.variables)) for each in (resumed, model)))
    assert best.name == expected_best.name
    for epoch, expected in zip(epochs, expected_epochs, strict=True):
        assert epoch[:1] + epoch[2:3] == expected[:1] + expected[2:3]
        assert epoch.loss == pytest.approx(expected.loss, rel=1e-6)


@pytest.mark.skipif(os.environ.get("TF_USE_LEGACY_KERAS") == "1", reason="tf-keras does not save dropout's seeds")
def test_resuming_repeats_dropout_as_well(tmp_path):
    expected, *_ = train(tmp_path / "whole", real=True)
    train(tmp_path / "run", 4, real=True)
    resumed, *_ = train(tmp_path / "run", real=True)
    assert_equal(values(resumed), values(expected))
    assert any("seed" in variable.name for variable in resumed.variables)


def test_each_example_is_seen_once_in_each_epoch(whole):
    seen = whole[0].seen
    for epoch in range(EPOCHS):
        assert sorted(itertools.chain(*seen[epoch * STEPS : (epoch + 1) * STEPS])) == list(range(10, 18))
    assert seen[:STEPS] != seen[STEPS : 2 * STEPS]


def test_the_loss_of_an_epoch_is_the_mean_over_its_sequences(tmp_path):
    model = make_model()
    model.compile(make_optimizer(0.0), TokenCrossEntropy(), run_eagerly=True)  # the weights stay
    batches = make_batches()
    epochs, _ = Trainer(model, batches, 1, None, tmp_path).run()
    losses, sizes = [], []
    for inputs, labels in batches.dataset(0):
        losses.append(float(TokenCrossEntropy()(labels, model(inputs))))
        sizes.append(len(labels))
    assert sorted(sizes) == [2, 3, 3]
    assert epochs[0].loss == pytest.approx(np.average(losses, weights=sizes), rel=1e-5)


@pytest.mark.parametrize(("scores", "best"), [([0.3, 0.8, 0.5], 2), ([0.3, 0.8, 0.8], 2), ([-3.0, -2.0, -1.0], 3)])
def test_the_best_epoch_is_kept(scores, best, tmp_path):
    seen = []

    def evaluate():
        seen.append(values(trainer._model))
        return scores[len(seen) - 1]

    model = make_model()
    trainer = Trainer(model, make_batches(), EPOCHS, evaluate, tmp_path)
    epochs, folder = trainer.run()
    assert [epoch.score for epoch in epochs] == scores
    assert_equal(saved_values(folder), seen[best - 1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, "state.npz"]
    with pytest.raises(AssertionError):
        assert_equal(seen[0], seen[1])


def test_without_scores_the_last_epoch_is_kept(whole, tmp_path):
    model, epochs, folder = train(tmp_path / "run")
    assert [epoch.score for epoch in epochs] == [None] * EPOCHS
    assert_equal(saved_values(folder), values(model))
    assert_equal(values(model), values(whole[0]))


def test_an_interruption_between_training_and_score_repeats_only_what_was_not_saved(whole, tmp_path):
    calls = []

    def evaluate():
        calls.append(None)
        if len(calls) == 2:
            raise Interrupted
        return 1.0

    first, *_ = train(tmp_path / "run", evaluate=evaluate)
    resumed, epochs, _ = train(tmp_path / "run", evaluate=evaluate)
    assert first.seen[: 2 * STEPS - 1] + resumed.seen == whole[0].seen
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert_equal(values(resumed), values(whole[0]))


def test_the_best_epoch_of_a_lost_moment_does_not_count(whole, tmp_path, monkeypatch):
    """The process dies when the new best epoch is written, but not yet the state that names it."""
    scores = iter([0.5, 0.9])
    saved = []

    def save(trainer, state):
        if len(state.epochs) == 2:
            raise Interrupted
        saved.append(state)
        original(trainer, state)

    original = Trainer.save
    monkeypatch.setattr(Trainer, "save", save)
    train(tmp_path / "run", evaluate=lambda: next(scores))
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "run").glob("epoch-*")) == ["epoch-1", "epoch-2"]
    _, epochs, best = train(tmp_path / "run", evaluate=lambda: 0.1)
    assert [epoch.score for epoch in epochs] == [0.5, 0.1, 0.1]
    assert best.name == "epoch-1"
    with pytest.raises(AssertionError):
        assert_equal(saved_values(best), values(whole[0]))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["epoch-1", "state.npz"]


class Dead(BaseException):
    pass


class Mortal:
    """Lets a process die at one of its changes to a folder: from then on it changes nothing, not even to clean up."""

    def __init__(self, folder, monkeypatch):
        self.folder = str(folder)
        self.count = 0
        self.last = None
        self.real = {name: getattr(os, name) for name in ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir")}
        for name in self.real:
            monkeypatch.setattr(os, name, self.mortal(name))

    def mortal(self, name):
        def change(*arguments, **keywords):
            if name == "fsync" or "dir_fd" in keywords or str(arguments[0]).startswith(self.folder):
                self.count += 1
                if self.last is not None and self.count >= self.last:
                    raise Dead
            return self.real[name](*arguments, **keywords)

        return change

    def run(self, last=None):
        self.count, self.last = 0, last
        scores = iter([0.3, 0.8, 0.5])
        return train(Path(self.folder), evaluate=lambda: next(scores), save_seconds=1e9)


def test_a_process_may_die_at_any_change_to_its_folder(tmp_path, monkeypatch):
    scores = {1: 0.3, 2: 0.8, 3: 0.5}
    mortal = Mortal(tmp_path / "run", monkeypatch)
    expected, epochs, _ = mortal.run()
    changes = mortal.count
    assert changes > 20
    for last in range(2, changes + 1, 3):
        mortal.last = None
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(Dead):
            mortal.run(last)
        mortal.last = None
        done = state_of(tmp_path / "run")
        remaining = iter([scores[number] for number in range(done + 1, EPOCHS + 1)])
        model, found, best = train(tmp_path / "run", evaluate=lambda scores=remaining: next(scores))
        assert [epoch[:3] for epoch in found] == [epoch[:3] for epoch in epochs], last
        assert_equal(values(model), values(expected))
        assert best.name == "epoch-2" and (best / "table.npy").is_file()


def test_a_run_that_is_over_has_nothing_to_do(whole, tmp_path):
    _, expected, _ = train(tmp_path / "run", evaluate=lambda: 1.0)
    model, epochs, best = train(tmp_path / "run", evaluate=pytest.fail)
    assert model.seen == []
    assert (epochs, best.name) == (expected, "epoch-1")


def test_failing_to_save_leaves_the_old_state(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    train(folder, 4, lambda: 1.0)
    before = (folder / "state.npz").read_bytes()

    def full_disk(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space"):
        train(folder, evaluate=lambda: 1.0)
    monkeypatch.undo()
    assert (folder / "state.npz").read_bytes() == before
    model, *_ = train(folder, evaluate=lambda: 1.0)
    assert_equal(values(model), values(whole[0]))


def test_a_damaged_or_foreign_state_is_refused(tmp_path):
    folder = tmp_path / "run"
    train(folder, 2)
    state = folder / "state.npz"
    content = state.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"no zip"):
        state.write_bytes(damaged)
        with pytest.raises(InputError, match=r"must be whole .* use --restart .*state\.npz"):
            train(folder)
    np.savez(state, state=np.array(json.dumps([2, [], 0.0])), v0=np.zeros((1, 1)))
    with pytest.raises(InputError, match="of this very model"):
        train(folder)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    model = make_model()
    model.weights[0].assign(np.full(model.weights[0].shape, np.nan))
    with pytest.raises(InputError, match=r"must stay finite: use a lower --learning-rate.*loss=nan"):
        Trainer(model, make_batches(), 1, None, tmp_path).run()


def test_open_folder(tmp_path):
    folder = tmp_path / "run"
    open_folder(folder, {"seed": 1, "columns": ["a", None]})
    (folder / "state.npz").write_text("kept")
    open_folder(folder, {"seed": 1, "columns": ["a", None]})
    with pytest.raises(InputError, match=r"use --restart to begin anew. Received: epochs: None then, 3 now; seed: 1"):
        open_folder(folder, {"seed": 2, "columns": ["a", None], "epochs": 3})
    assert (folder / "state.npz").read_text() == "kept"
    open_folder(folder, {"seed": 2}, restart=True)
    assert [path.name for path in folder.iterdir()] == ["settings.json"]
    open_folder(folder, {"seed": 2})
    (folder / "settings.json").write_text("{")
    with pytest.raises(InputError, match="must be JSON"):
        open_folder(folder, {"seed": 2})


def test_a_setting_inside_another_is_named_alone(tmp_path):
    folder = tmp_path / "run"
    open_folder(folder, {"weights": {"mlm": 1.0, "hidden": 3.0}, "files": {"a.txt": 10}})
    open_folder(folder, {"weights": {"mlm": 1.0, "hidden": 3.0}, "files": {"a.txt": 10}})
    with pytest.raises(
        InputError, match=r"Received: files\.a\.txt: 10 then, None now; weights\.mlm: 1\.0 then, 0\.0 now$"
    ):
        open_folder(folder, {"weights": {"mlm": 0.0, "hidden": 3.0}, "files": {}})


@pytest.mark.parametrize("restart", [True, False])
def test_a_folder_of_something_else_is_left_alone(restart, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="move what is there"):
        open_folder(tmp_path, {}, restart)
    with pytest.raises(InputError, match="move what is there"):
        open_folder(tmp_path / "notes.txt", {}, restart)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def rounding(matrix):
    """The largest relative error of a product in a graph; its exact value is known."""
    product = np.asarray(tf.function(tf.linalg.matmul)(tf.constant(matrix), tf.eye(len(matrix))))
    return np.abs(product / matrix - 1).max()


@pytest.mark.skipif(not has_bfloat16_on_cpu(), reason="needs a CPU with AVX-512 and no GPU")
def test_graphs_compute_in_bfloat16_inside_and_in_float32_outside():
    matrix = np.random.default_rng(0).uniform(1, 2, (64, 64)).astype(np.float32)
    assert rounding(matrix) == 0
    with computing_in_bfloat16(True):
        assert 2**-10 < rounding(matrix) <= 2**-8
        with computing_in_bfloat16(False):
            assert rounding(matrix) == 0
        assert rounding(matrix) > 2**-10
        assert keras.layers.Dense(1).compute_dtype == "float32"
    assert rounding(matrix) == 0


def test_on_a_gpu_bfloat16_is_the_policy_of_keras(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind}:0"])
    with computing_in_bfloat16(True):
        layer = keras.layers.Dense(1)
        assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
        assert not tf.config.optimizer.get_experimental_options().get("auto_mixed_precision_onednn_bfloat16")
    assert keras.layers.Dense(1).compute_dtype == "float32"


def test_the_users_own_policy_comes_back_after_an_error():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        with pytest.raises(Interrupted), computing_in_bfloat16(False):
            assert keras.layers.Dense(1).compute_dtype == "float32"
            raise Interrupted
        assert keras.mixed_precision.global_policy().name == "mixed_float16"
    finally:
        keras.mixed_precision.set_global_policy("float32")
