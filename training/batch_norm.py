"""Batch normalisation by TensorFlow's fused kernel while a network is trained: less than half the work of Keras's.

Keras 3 spells the training pass out as a dozen elementwise operations, which take more time on a CPU than the
convolutions between them. The network that is kept has Keras's own layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


def with_fused_norms(model: keras.Model) -> keras.Model:
    """The same network, with the same weights, whose batch normalisations over [batch, rows, columns, channels] are
    fused in training; the arithmetic is Keras's: moments of the batch, moving averages of its (biased) moments."""
    import keras
    import tensorflow as tf

    class FusedBatchNormalization(keras.layers.BatchNormalization):
        def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            if not training:
                return super().call(inputs, training=training, mask=mask)
            normalised, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
            )
            n = tf.cast(tf.size(inputs) / inputs.shape[-1], variance.dtype)
            for moving, now in (
                (self.moving_mean, mean),
                (self.moving_variance, variance * (n - 1) / n),  # the kernel's is the unbiased estimate
            ):
                moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
            return normalised

    def fused(layer: keras.Layer) -> keras.Layer:
        kind = type(layer)
        if kind is keras.layers.BatchNormalization and len(layer.input.shape) == 4:
            kind = FusedBatchNormalization
        return kind.from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=fused)
    clone.set_weights([np.asarray(weight) for weight in model.get_weights()])
    return clone
