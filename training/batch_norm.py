"""Batch normalisation by TensorFlow's fused kernel while a network is trained: less than half the work of Keras's.

Keras 3 spells the training pass out as a dozen elementwise operations, which take more time on a CPU than the
convolutions between them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@functools.cache
def fused_batch_normalization() -> type[keras.layers.BatchNormalization]:
    """Keras's layer for [batch, rows, columns, channels] with another way to the same training pass.

    The arithmetic is Keras's: moments of the batch, moving averages of its biased moments. A network that is to be kept
    has Keras's own layer.
    """
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

    return FusedBatchNormalization
