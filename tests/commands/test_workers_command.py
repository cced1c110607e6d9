"""`--strategy` of commands that train: real processes, real kills, and clusters that are none."""

import argparse
import json
import signal
import time

import numpy as np
import pytest
from command_checks import assert_refused
from safetensors.numpy import load_file
from worker_processes import SECONDS, finish, start

from benchmarks.workers import free_ports, tf_config
from minialbert_tf.commands import workers

TRAINING = (
    "--batch-size",
    "4",
    "--max-length",
    "32",
    "--learning-rate",
    "1e-2",
    "--epochs",
    "8",
    "--save-seconds",
    "0",
)


def command(checkpoint, corpus, output, *more):
    paths = ("--data", corpus, "--model", checkpoint, "--output", output)
    return ["-m", "minialbert_tf.cli", "finetune", *paths, *TRAINING, "--strategy", "multi-worker", *more]


class Job:
    """Two workers that fine-tune; each has an output folder of its own, in which only the chief may write."""

    def __init__(self, folder, checkpoint, corpus):
        folder.mkdir()
        self.folder, self.ports = folder, free_ports(2)
        self.output = folder / "model-0"
        self.commands = [command(checkpoint, corpus, folder / f"model-{index}") for index in range(2)]
        self.processes = [self.start(index) for index in range(2)]

    def start(self, index):
        return start(self.commands[index], self.folder / f"errors-{index}", TF_CONFIG=tf_config(self.ports, index))

    def errors(self, index):
        return (self.folder / f"errors-{index}").read_text()

    def step(self):
        """The last step that is saved."""
        try:
            with np.load(self.folder / "model-0.training" / "state.npz") as state:
                return json.loads(str(state["state"]))[0]
        except FileNotFoundError:
            return 0

    def wait_for(self, condition, *workers):
        deadline = time.monotonic() + SECONDS
        while not condition():
            alive = [self.processes[index].poll() is None for index in workers]
            assert all(alive) and time.monotonic() < deadline, [self.errors(index) for index in range(2)]
            time.sleep(0.02)

    def kill(self, index):
        self.processes[index].send_signal(signal.SIGKILL)
        assert self.processes[index].wait(10) == -signal.SIGKILL

    def restart(self, index):
        self.processes[index] = self.start(index)

    def results(self):
        ended = finish(self.processes)
        assert [code for code, *_ in ended] == [0, 0], [self.errors(index) for index in range(2)]
        assert not [path for path in self.folder.iterdir() if path.name.startswith("model-1")]
        losses = [epoch["loss"] for epoch in json.loads((self.output / "results.json").read_text())["epochs"]]
        return load_file(self.output / "model.safetensors"), losses


@pytest.fixture(scope="module")
def untroubled(checkpoint, corpus, tmp_path_factory):
    return Job(tmp_path_factory.mktemp("job") / "untroubled", checkpoint, corpus).results()


def assert_survives(job, victim, untroubled):
    """Kills a worker between the first saved step and the end, starts it again, and expects the usual end."""
    survivor = 1 - victim
    job.wait_for(lambda: job.step() >= 8, 0, 1)
    job.kill(victim)
    assert job.step() < 40
    job.wait_for(lambda: "starting over" in job.errors(survivor), survivor)
    assert f"worker {victim} (localhost:{job.ports[victim]}) is gone; starting over" in job.errors(survivor)
    job.restart(victim)
    weights, losses = job.results()
    assert "resuming after step" in job.errors(0)
    expected, expected_losses = untroubled
    assert losses == pytest.approx(expected_losses, rel=1e-6)
    for name, value in expected.items():
        np.testing.assert_array_equal(weights[name], value, err_msg=name)


def test_kill_9_of_a_worker_costs_nothing(checkpoint, corpus, untroubled, tmp_path):
    assert_survives(Job(tmp_path / "job", checkpoint, corpus), 1, untroubled)


@pytest.mark.slow
def test_kill_9_of_the_chief_costs_nothing(checkpoint, corpus, untroubled, tmp_path):
    assert_survives(Job(tmp_path / "job", checkpoint, corpus), 0, untroubled)


@pytest.mark.slow
def test_mirrored_trains_with_tf_keras(checkpoint, corpus, tmp_path):
    words = command(checkpoint, corpus, tmp_path / "model", "--json", "--strategy", "mirrored")
    [(code, out, err)] = finish([start(words)])
    assert code == 0, err
    assert len(json.loads(out)["epochs"]) == 8 and "Training with tf-keras: " in err
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_a_worker_that_never_comes(checkpoint, corpus, tmp_path):
    ports = free_ports(2)
    words = command(checkpoint, corpus, tmp_path / "model", "--cluster-timeout", "1")
    both = [start(words, TF_CONFIG=tf_config(ports, index)) for index in range(1)]
    [(code, out, err)] = finish(both)
    assert (code, out) == (2, "")
    assert f"must join within 1 seconds. Received nothing of worker 1 (localhost:{ports[1]})" in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_workers_with_other_settings(checkpoint, corpus, tmp_path):
    ports = free_ports(2)
    words = [command(checkpoint, corpus, tmp_path / "model", "--seed", seed) for seed in (0, 1)]
    ended = finish([start(words[index], TF_CONFIG=tf_config(ports, index)) for index in range(2)])
    for code, out, err in ended:
        assert (code, out) == (2, "")
        assert "must have the same seed. Received: 0 at worker 0, 1 at worker 1" in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "Several workers need TF_CONFIG, such as {"),
        ("{", "TF_CONFIG must be JSON"),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:2"]}, "task": {"type": "worker", "index": 0}}',
            "Received: worker, ps",
        ),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "must be from 0 to 0"),
    ],
)
def test_a_wrong_cluster_is_refused(config, message, checkpoint, corpus, run, folder, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    words = ("finetune", "--data", corpus, "--model", checkpoint, "--strategy", "multi-worker")
    assert_refused(run(*words), "finetune", message)
    assert list(folder.iterdir()) == []


def test_tf_keras_must_be_there_and_be_chosen_in_time(checkpoint, corpus, run, folder, monkeypatch):
    words = ("finetune", "--data", corpus, "--model", checkpoint, "--strategy", "mirrored")
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    assert_refused(run(*words), "finetune", "Set TF_USE_LEGACY_KERAS=1 before tensorflow is imported")
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    assert_refused(run(*words), "finetune", "pip install 'minialbert-tf[tf-keras]'. Received: Keras 3 alone")
    assert list(folder.iterdir()) == []


def test_the_timeout_is_positive(checkpoint, corpus, run):
    words = (
        "finetune",
        "--data",
        corpus,
        "--model",
        checkpoint,
        "--strategy",
        "multi-worker",
        "--cluster-timeout",
        "0",
    )
    assert_refused(run(*words), "finetune", "cluster_timeout must be positive. Received: 0")


def test_without_a_strategy_nothing_is_waited_for(checkpoint, corpus, folder, run, eager, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    code, _, err = run("finetune", "--data", corpus, "--model", checkpoint, *TRAINING[:-4], "--epochs", "1")
    assert code == 0 and "waiting" not in err


class Left(Exception):
    pass


@pytest.fixture
def leaving(monkeypatch):
    """What would end or replace this process raises Left instead, with what it would do."""

    def leave(*what):
        raise Left(*what)

    monkeypatch.setattr(workers.os, "_exit", leave)
    monkeypatch.setattr(workers.os, "execv", lambda *words: leave(workers.os.environ[workers._TROUBLES]))
    monkeypatch.setattr(workers.os, "dup2", lambda *descriptors: None)
    monkeypatch.setenv(workers._TROUBLES, "")


def test_starting_over_goes_on_where_a_restart_would_drop_everything(leaving, monkeypatch, capfd):
    arguments = argparse.Namespace(command="distill", cluster_timeout=5.0, strategy="none", restart=True)
    with pytest.raises(Left) as left:
        workers._end(arguments, "worker 1 is gone", True, 2)
    assert left.value.args == ("2",)
    assert "worker 1 is gone; starting over" in capfd.readouterr().err
    with workers.workers_of(arguments):
        assert not arguments.restart
    assert workers._TROUBLES not in workers.os.environ
    arguments.restart = True
    with workers.workers_of(arguments):
        assert arguments.restart


def test_the_error_of_another_worker_is_an_end(leaving, capfd):
    arguments = argparse.Namespace(command="distill", cluster_timeout=5.0)
    with pytest.raises(Left) as left:
        workers._end(arguments, "worker 1 has ended: full disk", False, 0)
    assert left.value.args == (2,)
    assert capfd.readouterr().err == "minialbert distill: worker 1 has ended: full disk\n"
