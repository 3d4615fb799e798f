"""Models of conf/model with random weights, to build ahead of time, and LiteRT's answers."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tests.training.export_fixtures import group, mel_like
from tests.training.tflite_graphs import litert
from training.export_tflite import export_float32

SIZES = ("tiny", "small", "medium", "large")
TOLERANCE = 1e-5


def reference(tflite: bytes, mels: NDArray[np.float32]) -> NDArray[np.float32]:
    """LiteRT's logits, [n, n_labels]."""
    return np.stack([litert(tflite, mel) for mel in mels])


@cache
def sized(size: str, frontend: str, n_labels: int) -> tuple[bytes, NDArray[np.float32]]:
    """A network of conf/model with random weights, and windows for it."""
    import keras

    keras.utils.set_random_seed(7)
    told = group(f"frontend={frontend}")
    shape = (told.n_mels, told.n_frames)
    # statistics that follow within a few batches
    model = dataclasses.replace(group(f"model={size}"), batch_norm_momentum=0.3).build((*shape, 1), n_labels)
    for step in range(5):
        model(mel_like(4, shape, seed=step)[..., np.newaxis], training=True)
    model.get_layer("logits").bias.assign(np.linspace(-2, -1, n_labels))
    rng = np.random.default_rng(3)
    noise = rng.uniform(-2, 3, (2, *shape)).astype(np.float32)
    return export_float32(model), np.concatenate([mel_like(3, shape, seed=9), noise])
