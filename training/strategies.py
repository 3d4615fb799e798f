"""Where a network is trained: here, on all GPUs of this machine, or on several machines at once (tf.distribute).

Keras 3's ``fit`` does not run under MultiWorkerMirroredStrategy, its layers and optimizers do; so the steps are our
own (:mod:`training.trainee`), and this module gives them what they need.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from training.errors import ConfigError, StageError

if TYPE_CHECKING:
    import tensorflow as tf

STRATEGIES = ("none", "mirrored", "multi_worker")
_VARIABLE = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["host-a:5000", "host-b:5000"]}, "task": {"type": "worker", "index": 0}}'


class Task(NamedTuple):
    """A process's number among the workers; the first is the chief."""

    number: int
    workers: int

    @property
    def is_chief(self) -> bool:
        return self.number == 0


class Team:
    """The replicas that train together; with the strategy ``none`` a single one.

    Make it before TensorFlow computes anything: collectives are set up when the process starts.

    Attributes:
        strategy: of tf.distribute; its default where there is one replica only.
        replicas: that share each batch, on all workers.
        worker: this process's number among the workers.
        is_chief: whether this process writes files and takes decisions.

    Raises:
        ConfigError: ``multi_worker`` without a TF_CONFIG, or with one that cannot be understood.
    """

    def __init__(self, name: str) -> None:
        told = task() if name == "multi_worker" else Task(0, 1)
        self.worker, self.is_chief, self._workers = told.number, told.is_chief, told.workers
        import tensorflow as tf

        self.strategy: tf.distribute.Strategy
        if name == "multi_worker":
            self.strategy = tf.distribute.MultiWorkerMirroredStrategy()
        elif name == "mirrored":
            devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            self.strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        else:
            self.strategy = tf.distribute.get_strategy()
        self.replicas = int(self.strategy.num_replicas_in_sync)

    def rows(self, batch_size: int) -> range:
        """The rows of each batch that this process makes.

        Raises:
            ConfigError: the replicas cannot share a batch evenly.
        """
        if batch_size % self.replicas:
            raise ConfigError(
                f"fit.batch_size is {batch_size}, which {self.replicas} replicas cannot share evenly; take a multiple "
                f"of {self.replicas}."
            )
        share = batch_size // self._workers
        return range(self.worker * share, (self.worker + 1) * share)

    def dealt(self, rows: Sequence[np.ndarray]) -> list[Any]:
        """Arrays [rows of this process, …] as tensors, or dealt out to its replicas."""
        import tensorflow as tf

        if self.replicas == 1:
            return [tf.convert_to_tensor(array) for array in rows]
        local = self.replicas // self._workers
        share = len(rows[0]) // local

        def part(array: np.ndarray) -> Any:
            def of(context: Any) -> tf.Tensor:
                first = (context.replica_id_in_sync_group - self.worker * local) * share
                return tf.convert_to_tensor(array[first : first + share])

            return self.strategy.experimental_distribute_values_from_function(of)

        return [part(array) for array in rows]

    def as_the_chief_says(self, value: Any) -> Any:
        """The chief's value on every worker; anything that JSON can hold. All must call it at the same time."""
        if self._workers == 1:
            return value
        said = np.frombuffer(json.dumps(value).encode(), np.uint8) if self.is_chief else np.zeros(0, np.uint8)
        (length,) = self.arrays_of_the_chief([np.array(len(said))])
        text = np.zeros(int(length), np.uint8)
        text[: len(said)] = said
        return json.loads(self.arrays_of_the_chief([text])[0].tobytes().decode())

    def arrays_of_the_chief(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The chief's arrays on every worker, which must give some of the same shapes and dtypes."""
        if self._workers == 1:
            return list(arrays)
        import tensorflow as tf

        # float64 holds every number of a network's state exactly
        flat = np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])
        speaks = tf.constant(flat if self.is_chief else np.zeros_like(flat))
        silent = tf.zeros_like(speaks)

        @tf.function(jit_compile=False)
        def told() -> Any:
            def replica() -> tf.Tensor:
                context = tf.distribute.get_replica_context()
                first = context.replica_id_in_sync_group == self.worker * (self.replicas // self._workers)
                return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(first, speaks, silent))

            return self.strategy.run(replica)

        everywhere = self.strategy.experimental_local_results(told())[0].numpy()
        parts = np.split(everywhere, np.cumsum([np.size(array) for array in arrays])[:-1])
        return [p.reshape(np.shape(a)).astype(np.asarray(a).dtype) for p, a in zip(parts, arrays, strict=True)]

    @contextlib.contextmanager
    def lost_workers_told(self) -> Iterator[None]:
        """Context in which a worker that is gone is told in a sentence.

        Raises:
            StageError: another worker does not answer.
        """
        import tensorflow as tf

        gone = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)
        try:
            yield
        except (*gone, tf.errors.InternalError) as error:
            if self._workers == 1:
                raise
            raise StageError(
                f"Worker {self.worker} has lost another worker ({type(error).__name__}); start all workers again, and "
                "they continue after the last epoch that the chief has kept."
            ) from error


def task() -> Task:
    """What TF_CONFIG says of this process.

    Raises:
        ConfigError: it is not set, or cannot be understood.
    """
    text = os.environ.get(_VARIABLE)
    if not text:
        raise ConfigError(
            f"fit.strategy is multi_worker, and {_VARIABLE} is not set; set it on each host, such as {_EXAMPLE}."
        )
    try:
        told = json.loads(text)
        cluster, kind, index = told["cluster"], told["task"]["type"], told["task"]["index"]
        chiefs, workers = list(cluster.get("chief", [])), list(cluster.get("worker", []))
        everyone = [("chief", i) for i in range(len(chiefs))] + [("worker", i) for i in range(len(workers))]
        number = everyone.index((kind, index))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{_VARIABLE} cannot be understood ({type(error).__name__}: {error}); write JSON such as {_EXAMPLE}, where "
            "the task is one of the cluster's chief or workers."
        ) from error
    wrong = [address for address in (*chiefs, *workers) if not _is_address(address)]
    if wrong:
        raise ConfigError(f"{_VARIABLE} names {wrong[0]!r}, which is not host:port; write it such as {_EXAMPLE}.")
    return Task(number, len(everyone))


def _is_address(address: Any) -> bool:
    host, _, port = str(address).rpartition(":")
    return bool(host) and port.isdecimal()
