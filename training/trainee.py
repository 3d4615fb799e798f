"""The network while it is trained: its weights, optimizer and running average, and the step that changes them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from training.models import of_parts
from training.sampler import Batch
from training.strategies import Team

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
_NEXT_WORKER = 1_000_003  # between the dropout seeds of workers


class Trainee:
    """A network in training, and its float32 twin that is validated and kept.

    The loss of a batch is the sum over its examples of weight times binary cross-entropy on logits (mean over labels),
    divided by the batch's size. Where examples come with a teacher's opinion of parts of the window, the network hears
    those parts as it hears the whole, and the mean is over the whole and the parts; and where with embeddings, a linear
    layer from the parts' features, which is not kept, learns to guess them: the mean of its squared error is added.

    Args:
        build: makes the untrained network, with fused normalisation or without, in the policy of the moment: its output
            is the logits, and with ``parts`` it is a :class:`training.models.PlainCnn`'s.
        optimizer: of the parameters.
        ema: share of the running average of the weights that stays at each step (of all weights, moving statistics
            included; less at first, (1 + n) / (10 + n) after n steps); None: the weights as they are are kept.
        parts: of a window, that examples tell a teacher's opinion of (see :class:`training.sampler.Sampler`).
        embedding_weight: of the embeddings' loss beside the labels'.
    """

    def __init__(
        self,
        build: Callable[[bool], keras.Model],
        optimizer: Callable[[], keras.optimizers.Optimizer],
        team: Team,
        *,
        precision: str,
        ema: float | None,
        batch_size: int,
        parts: Sequence[tuple[float, float]],
        embedding_size: int,
        embedding_weight: float,
    ) -> None:
        import keras
        import tensorflow as tf

        self._team, self._ema, self._batch_size = team, ema, batch_size
        self._embedding_weight = embedding_weight
        with _policy(precision), team.strategy.scope():
            # the fused kernel knows the batch of one replica alone
            self._model = build(precision == "float32" and team.replicas == 1)
            for layer in self._model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = team.replicas > 1  # moments of the whole batch, as one replica has them
            outputs = {"logits": self._model.output}
            if parts:
                outputs["part_logits"], features = of_parts(self._model, parts)
            if parts and embedding_size:
                guess = keras.layers.Dense(embedding_size, dtype="float32", name="embedding")
                outputs["embeddings"] = guess(features)
            self._trained = keras.Model(self._model.input, outputs)
            self._optimizer = optimizer()
            self._scales = precision == "mixed_float16"  # whose small gradients would be 0
            if self._scales:
                self._optimizer = keras.optimizers.LossScaleOptimizer(self._optimizer)
            self._optimizer.build(self._trained.trainable_variables)
            self._average = [
                tf.Variable(
                    weight.numpy(),
                    trainable=False,
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                    name="average",
                )
                for weight in (self._model.weights if ema is not None else ())
            ]
        with _policy("float32"):
            self._kept = build(False)
        # XLA makes depthwise convolutions about nine times slower on a CPU
        self._run = tf.function(self._all_replicas, jit_compile=False, reduce_retracing=True)

    def step(self, batch: Batch) -> float:
        """Train on this process's part of a batch; the loss of the whole of it."""
        return float(self._run(*self._team.dealt(batch)))

    def seed_dropout(self, seed: int, epoch: int) -> None:
        """Make dropout depend on (seed, epoch, worker) alone: its own state is no weight."""
        for layer in self._model.layers:
            if hasattr(layer, "seed_generator"):
                layer.seed_generator.state.assign([seed + _NEXT_WORKER * self._team.worker, epoch])

    def kept(self) -> keras.Model:
        """The network as it would be kept now: float32, the averaged weights where they are averaged."""
        weights = self._average or self._model.weights
        self._kept.set_weights([weight.numpy() for weight in weights])
        return self._kept

    def state(self) -> list[np.ndarray]:
        """Everything that the next step depends on, apart from dropout's seed."""
        return [np.asarray(variable.numpy()) for variable in self._variables()]

    def set_state(self, state: Sequence[np.ndarray]) -> None:
        """Become what :meth:`state` was taken of."""
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)

    def _variables(self) -> list[Any]:
        return [*self._trained.weights, *self._optimizer.variables, *self._average]

    def _all_replicas(self, *batch: Any) -> tf.Tensor:
        import tensorflow as tf

        strategy = self._team.strategy
        loss = strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(self._one_replica, args=batch), axis=None)
        if self._ema is not None:
            steps = tf.cast(self._optimizer.iterations, tf.float32)
            change = 1 - tf.minimum(self._ema, (1 + steps) / (10 + steps))
            for average, weight in zip(self._average, self._model.weights, strict=True):
                strategy.extended.update(average, _approach, args=(weight.value, change))
        return loss

    def _one_replica(
        self,
        inputs: tf.Tensor,
        targets: tf.Tensor,
        weights: tf.Tensor,
        part_targets: tf.Tensor,
        heard: tf.Tensor,
        embeddings: tf.Tensor,
        embedded: tf.Tensor,
    ) -> tf.Tensor:
        import tensorflow as tf

        def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits), axis=-1)

        variables = self._trained.trainable_variables
        with tf.GradientTape() as tape:
            found = self._trained(inputs, training=True)
            each = cross_entropy(targets, found["logits"])
            if "part_logits" in found:
                parts = heard * part_targets.shape[1]
                theirs = tf.reduce_mean(cross_entropy(part_targets, found["part_logits"]), axis=-1)
                each = (each + parts * theirs) / (1 + parts)
            if "embeddings" in found:
                error = tf.reduce_mean(tf.math.squared_difference(embeddings, found["embeddings"]), axis=(1, 2))
                each += self._embedding_weight * embedded * error
            loss = tf.reduce_sum(each * weights) / self._batch_size
            scaled = self._optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, variables)
        if self._scales and self._team.replicas > 1:
            gradients = _all_finite_or_none(gradients)
        self._optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss


def _approach(average: tf.Variable, weight: tf.Tensor, change: tf.Tensor) -> None:
    average.assign_add(change * (weight - average))


def _all_finite_or_none(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """NaN on every replica where one has it: each decides by itself whether to skip the step, and all must alike."""
    import tensorflow as tf

    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
    context = tf.distribute.get_replica_context()
    overflows = context.all_reduce(tf.distribute.ReduceOp.SUM, 1.0 - tf.cast(finite, tf.float32))
    poison = tf.where(overflows > 0, np.nan, 0.0)
    return [gradient + poison for gradient in gradients]


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
