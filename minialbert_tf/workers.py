"""Training on several devices or machines, as far as a training run has to know of it."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf

from minialbert_tf.cluster import Cluster
from minialbert_tf.data.batching import WHOLE, Shard
from minialbert_tf.errors import InputError


class Workers:
    """Who trains: by default this process alone, on one device.

    With a distribution strategy each replica (a device of this or another worker) computes its rows of every batch,
    and the gradients of all are added up, so that all replicas keep the same weights. Workers start from the chief's
    weights, and only the chief writes.

    Attributes:
        alone: Whether there is no other process.
        shard: What is computed here of each batch.
        is_chief: Whether this process writes for all.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None, cluster: Cluster | None = None) -> None:
        """Takes TensorFlow's strategy and, if there is more than one process, the cluster that they have formed."""
        self._strategy = strategy
        self._cluster = cluster
        self.alone = cluster is None
        self.is_chief = cluster is None or cluster.is_chief
        self.shard = WHOLE
        if strategy is not None:
            here = strategy.extended.worker_devices
            first = 0 if cluster is None else cluster.members.index * len(here)
            self.shard = Shard(strategy.num_replicas_in_sync, first, len(here))

    def check(self, xla: bool) -> None:
        """Checks what can be chosen only by one who trains alone on one device.

        Raises:
            InputError: If it is.
        """
        if xla and self._strategy is not None:
            raise InputError("XLA must be left out of training on several devices. Received: xla=True")

    def scope(self) -> AbstractContextManager[Any]:
        """Returns the context in which models and optimizers are to be made."""
        return nullcontext() if self._strategy is None else self._strategy.scope()

    def distribute(self, dataset: tf.data.Dataset) -> Any:
        """Returns what `fit` takes, with `steps_per_epoch`: each replica's next batch is the dataset's next element."""
        if self._strategy is None:
            return dataset
        # Nothing is to be sharded any more, and a dataset of known end would be asked for it by all, in every step.
        endless = dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        return self._strategy.distribute_datasets_from_function(lambda context: endless)

    def seed(self, seed: int) -> None:
        """Gives each worker dropout of its own, once models are made; the chief's stays that of one process."""
        if self.shard.first:
            tf.keras.utils.set_random_seed((seed + self.shard.first) % 2**32)

    def share(self, value: Any = None) -> Any:
        """Returns the chief's value, a JSON value, on all workers, once the chief has come to it."""
        return value if self._cluster is None else json.loads(self.share_bytes(json.dumps(value).encode()))

    def share_bytes(self, content: bytes) -> bytes:
        """Returns the chief's content on all workers."""
        return content if self._cluster is None else self._cluster.share(content)

    def agree(self, values: Mapping[str, Any]) -> None:
        """Checks that JSON values are the same on all workers.

        Raises:
            InputError: If they are not.
        """
        if self._cluster is not None:
            self._cluster.agree(values)

    def agree_on_weights(self, name: str, model: tf.keras.Model) -> None:
        """Checks that a model that each worker has loaded by itself is the same everywhere.

        Raises:
            InputError: If it is not.
        """
        if self._cluster is not None:
            digest = hashlib.sha256()
            for variable in model.variables:
                digest.update(variable.numpy().tobytes())
            self.agree({f"weights of the {name} (digest)": digest.hexdigest()[:16]})


ALONE = Workers()
