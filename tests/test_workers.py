"""Workers as processes of their own on this machine, beside one process with the same batches."""

import numpy as np
import pytest
import tensorflow as tf
from worker_processes import TESTS, finish, start

from benchmarks.workers import free_ports
from minialbert_tf.data.batching import Shard
from minialbert_tf.workers import Workers

DEFAULT = ("tokens-sgd", "tokens-sgd-local", "layers-adamw")
# Each kind of loss; "local" divides by each replica's own count.
HONEST = (
    "tokens-sgd",
    "tokens-adamw",
    "classes-sgd",
    "regression-sgd",
    "taught-sgd",
    "layers-sgd",
    "layers-adamw",
    "parts-sgd",
)
ALONE, MIRRORED = "alone", "mirrored"


def train(folder, runs, place):
    """Trains in `place`: alone, on two devices, or in so many processes; returns the results of each process."""
    ports = [] if place in (ALONE, MIRRORED) else free_ports(place)
    indices = [MIRRORED] if place == MIRRORED else range(max(len(ports), 1))
    folder.mkdir(exist_ok=True)
    program = TESTS / "worker_program.py"
    ended = finish([start([program, folder / str(index), ",".join(runs), index, *ports]) for index in indices])
    assert [code for code, *_ in ended] == [0] * len(ended), ended
    return [{run: dict(np.load(folder / str(index) / f"{run}.npz")) for run in runs} for index in indices]


def distance(one, other):
    """The largest difference of a weight."""
    return max(np.abs(one[name] - other[name]).max() for name in one.keys() - {"losses"})


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train(tmp_path_factory.mktemp("alone"), [run for run in DEFAULT if "local" not in run], ALONE)[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return train(tmp_path_factory.mktemp("two"), DEFAULT, 2)


def test_two_workers_have_the_weights_of_one_process(alone, two):
    (chief, other), expected = (each["tokens-sgd"] for each in two), alone["tokens-sgd"]
    assert distance(chief, other) == 0
    assert distance(chief, expected) < 1e-5
    np.testing.assert_allclose(chief["losses"], expected["losses"], rtol=1e-5)


def test_adamw_of_two_workers_follows_the_curve_of_one_process(alone, two):
    expected, found = (results["layers-adamw"]["losses"] for results in (alone, two[0]))
    assert len(found) == 50 and expected[-1] < 0.98 * expected[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_counts_of_each_worker_of_its_own_give_other_weights(alone, two):
    assert distance(two[0]["tokens-sgd-local"], alone["tokens-sgd"]) > 1e-3
    assert np.abs(two[0]["tokens-sgd-local"]["losses"] - alone["tokens-sgd"]["losses"]).max() > 1e-3


def test_each_worker_has_dropout_of_its_own():
    def draws(first):
        tf.keras.utils.set_random_seed(7)
        workers = Workers()
        workers.shard = Shard(3, first)
        workers.seed(7)
        return tuple(tf.random.uniform((4,)).numpy())

    tf.keras.utils.set_random_seed(7)
    of_one_process = tuple(tf.random.uniform((4,)).numpy())
    assert draws(0) == of_one_process
    assert len({draws(first) for first in range(3)}) == 3


@pytest.fixture(scope="module")
def everything_alone(tmp_path_factory):
    return train(tmp_path_factory.mktemp("everything"), HONEST, ALONE)[0]


@pytest.mark.slow
@pytest.mark.parametrize("place", [4, MIRRORED, 2])
def test_every_loss_in_every_place(place, everything_alone, tmp_path):
    expected = everything_alone
    found, *others = train(tmp_path, (*HONEST, "tokens-sgd-local", "regression-sgd-local"), place)
    for run in HONEST:
        assert all(distance(found[run], other[run]) == 0 for other in others), run
        if "sgd" in run:
            assert distance(found[run], expected[run]) < 1e-5, run
        np.testing.assert_allclose(found[run]["losses"], expected[run]["losses"], rtol=1e-3, err_msg=run)
    for run in ("tokens-sgd", "regression-sgd"):  # clipping may hide it in the weights, but not in the losses
        assert np.abs(found[f"{run}-local"]["losses"] / expected[run]["losses"] - 1).max() > 0.01, run
