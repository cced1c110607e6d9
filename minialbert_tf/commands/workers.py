"""The options of commands that train on several devices or machines, and what stands behind them."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn

from minialbert_tf.cluster import Cluster, Members, read_tf_config
from minialbert_tf.errors import InputError

if TYPE_CHECKING:
    from minialbert_tf.workers import Workers

STRATEGIES = ("none", "mirrored", "multi-worker")
_LEGACY = "TF_USE_LEGACY_KERAS"
# Set in a process that starts over: how often in a row it did so though no worker had died.
_TROUBLES = "MINIALBERT_TROUBLES"
_MOST_TROUBLES = 3
_STEADY_SECONDS = 120.0
_NOTICE_SECONDS = 2.0


def add_strategy(group: argparse._ArgumentGroup) -> None:
    """Adds the options."""
    group.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="none",
        help="mirrored: on all GPUs of this machine; multi-worker: on the machines in TF_CONFIG, with the same command "
        "on each (default: none)",
    )
    group.add_argument(
        "--cluster-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for the other workers, at the start and when one is gone (default: 300)",
    )


@contextmanager
def workers_of(arguments: argparse.Namespace) -> Iterator["Workers"]:
    """Gives those who train together, once all are there.

    Sets `arguments.restart` to false where this process goes on for one that has lost another worker.

    Raises:
        InputError: If the cluster is described wrongly or does not come together, or tf-keras is missing.
    """
    troubles = os.environ.pop(_TROUBLES, None)
    arguments.restart = arguments.restart and troubles is None
    if arguments.strategy == "none":
        from minialbert_tf.workers import ALONE

        yield ALONE
        return
    if arguments.cluster_timeout <= 0:
        raise InputError(f"cluster_timeout must be positive. Received: {arguments.cluster_timeout:g}")
    members = read_tf_config(os.environ.get("TF_CONFIG")) if arguments.strategy == "multi-worker" else None
    _use_tf_keras()
    if members is None:
        import tensorflow as tf

        from minialbert_tf.workers import Workers

        yield Workers(tf.distribute.MirroredStrategy())
        return
    with _joined(members, arguments, int(troubles or 0)) as workers:
        yield workers


def _use_tf_keras() -> None:
    """Makes TensorFlow use tf-keras, and says so.

    Raises:
        InputError: If it is not installed, or TensorFlow has chosen already.
    """
    if find_spec("tf_keras") is None:
        raise InputError(
            "Training on several devices needs tf-keras: pip install 'minialbert-tf[tf-keras]'. Received: Keras 3 alone"
        )
    if os.environ.get(_LEGACY) == "1":
        return
    if "tensorflow" in sys.modules:
        raise InputError(f"Set {_LEGACY}=1 before tensorflow is imported. Received: tensorflow imported already")
    os.environ[_LEGACY] = "1"
    print("Training with tf-keras: Keras 3 does not train on several devices.", file=sys.stderr)


@contextmanager
def _joined(members: Members, arguments: argparse.Namespace, troubles: int) -> Iterator["Workers"]:
    again = 0

    def end(reason: str, lost: bool) -> None:
        _end(arguments, reason, lost, again)

    _say(f"waiting for {len(members.addresses)} workers, of which this is {members.name(members.index)}")
    with Cluster(members, arguments.cluster_timeout, end) as cluster:
        cluster.meet(
            {
                "cluster in TF_CONFIG": list(members.addresses),
                "command": arguments.command,
                **{f"version of {name}": _version(name) for name in ("minialbert-tf", "tensorflow", "tf-keras")},
            }
        )
        met = time.monotonic()
        import tensorflow as tf

        from minialbert_tf.workers import Workers

        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which TensorFlow keeps to itself from here on
        try:
            yield Workers(strategy, cluster)
        except tf.errors.OpError as error:
            time.sleep(_NOTICE_SECONDS)  # if another worker's death is the cause, the cluster starts over meanwhile
            if not isinstance(
                error, (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)
            ):
                raise
            again = 1 if time.monotonic() - met > _STEADY_SECONDS else troubles + 1
            what = str(error).splitlines()[0]
            if again > _MOST_TROUBLES:
                raise InputError(
                    f"The workers must reach each other at all addresses of TF_CONFIG. Received: {what}"
                ) from error
            cluster.lose(f"TensorFlow has lost a worker ({what})")


def _end(arguments: argparse.Namespace, reason: str, lost: bool, troubles: int) -> NoReturn:
    """Ends this process because another worker has failed, or starts it over because another one is gone."""
    if not lost:
        _say(f"minialbert {arguments.command}: {reason}")
        sys.stderr.flush()
        os._exit(2)
    _say(
        f"{reason}; starting over from the last saved state, as soon as it is back "
        f"(within {arguments.cluster_timeout:g} seconds)"
    )
    sys.stderr.flush()
    os.environ[_TROUBLES] = str(troubles)
    os.dup2(sys.stderr.fileno(), 2)  # which the program may have taken from native code
    # TensorFlow cannot leave one cluster and join another, so a new program takes this one's place.
    os.execv(sys.executable, sys.orig_argv)


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
