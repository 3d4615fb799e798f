"""Optimizers: what conf/fit may name, with the course of the learning rate."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

OPTIMIZERS = ("adamw", "muon")


def make_optimizer(
    name: str, *, learning_rate: float, weight_decay: float, steps: int, warmup: int
) -> keras.optimizers.Optimizer:
    """AdamW, or Muon for convolutions, at a rate that rises in a line, then falls as a cosine to a hundredth.

    Args:
        name: one of :data:`OPTIMIZERS`.
        learning_rate: the highest.
        weight_decay: decoupled from the gradient, as a share of the rate.
        steps: of the whole training, ``warmup`` of them while the rate rises.
    """
    import keras

    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else learning_rate,
        decay_steps=steps - warmup,
        warmup_target=learning_rate if warmup else None,
        warmup_steps=warmup,
        alpha=0.01,
    )
    if name == "muon":
        return _muon_for_convolutions()(rate, weight_decay=weight_decay, adam_weight_decay=weight_decay)
    return keras.optimizers.AdamW(rate, weight_decay=weight_decay)


@functools.cache
def _muon_for_convolutions() -> Any:
    """Muon (Jordan et al. 2024) with the scale of Liu et al. 2025 (arXiv:2502.16982), for kernels of convolutions.

    Keras's Muon orthogonalizes the updates of matrices alone; a kernel [height, width, channels in, channels out] is a
    matrix too, one column an output channel. Depthwise kernels, normalisation and dense layers stay with AdamW.
    """
    import keras

    class Muon(keras.optimizers.Muon):
        def _should_use_adamw(self, variable: Any) -> bool:
            return len(variable.shape) != 4 or variable.shape[-1] == 1  # Keras's depthwise kernels end in 1

        def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
            self.assign_add(m, gradient + m * (self.momentum - 1))
            ahead = gradient + self.momentum * m if self.nesterov else m
            matrix = keras.ops.reshape(ahead, (-1, variable.shape[-1]))
            update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
            self.assign_sub(variable, keras.ops.reshape(update, variable.shape))

    return Muon
