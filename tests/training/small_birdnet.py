"""A model of BirdNET's kind, small enough for tests: its front end in the graph, a few layers, a few classes.

Each argument of :func:`write_birdnet` beyond the first makes a model that an import must refuse, or take.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from training.tflite_file import packed

MODEL = "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
LABELS = "BirdNET_GLOBAL_6K_V2.4_Labels.txt"
CLASSES = (
    "Cyanistes caeruleus_Eurasian Blue Tit",
    "Dog_Dog",
    "Erithacus rubecula_European Robin",
    "Fringilla coelebs_Common Chaffinch",
    "Human vocal_Human vocal",
    "Parus major_Great Tit",
    "Pica pica_Eurasian Magpie",
    "Pseudacris crucifer_Spring Peeper",
    "Strix aluco_Tawny Owl",
    "Turdus merula_Eurasian Blackbird",
)
NOT_BIRDS = "not_birds=[Dog,Human,Pseudacris]"
"""The setting for these classes: a word of no class is refused."""


@dataclass(frozen=True)
class Channel:
    """One mel map."""

    n_fft: int = 512
    hop: int = 120
    f_min: float = 0.0
    f_max: float = 3000.0
    exponent: float = 0.23


@dataclass(frozen=True)
class Small:
    """What a model is made with."""

    sample_rate: int = 24000
    n_samples: int = 12000
    n_mels: int = 24
    channels: Sequence[Channel] = (Channel(), Channel(256, 123, 500.0, 11000.0, 0.19))
    epsilon: float = 1e-6
    window: str = "hann"
    padded: bool = False
    part: str = "real"
    mel: str = "htk"
    norm: str = "peak"
    order: str = "reverse"
    law: str = "square"
    leak: bool = False
    softmax: bool = False
    half: bool = False
    seed: int = 3
    classes: int = field(default=len(CLASSES))


def write_birdnet(folder: Path, small: Small | None = None, labels: Sequence[str] = CLASSES) -> Path:
    """Write the model and its labels; returns the model's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(small_birdnet(small or Small()))
    (folder / LABELS).write_text("\n".join(labels), encoding="utf-8")
    return folder / MODEL


@functools.cache
def small_birdnet(small: Small) -> bytes:
    """The .tflite file, with a batch that is not fixed, as BirdNET's."""
    import tensorflow as tf

    rng = np.random.default_rng(small.seed)

    def weights(*shape: int, scale: float = 0.5) -> Any:
        return tf.constant(rng.normal(0, scale, shape).astype(np.float32))

    n = len(small.channels)
    kernels = weights(3, 3, n, 8), weights(1, 1, 8, 8), weights(3, 3, 8, 1)
    last = weights(8 + 4 * small.leak, small.classes, scale=3.0), weights(small.classes)
    slope, offset = weights(n), weights(n)

    @tf.function(input_signature=[tf.TensorSpec([None, small.n_samples], tf.float32)], autograph=False)
    def model(samples: Any) -> Any:
        scaled = _scaled(tf, samples, small)
        maps = [_map(tf, scaled, channel, small) for channel in small.channels]
        x = maps[0] if n == 1 else tf.concat(maps, axis=-1)
        x = tf.nn.conv2d(x * slope + offset, kernels[0], 2, "SAME")
        x = x * tf.sigmoid(x)
        # as BirdNET's blocks do, with a shape made of shapes
        pooled = tf.reshape(tf.reduce_mean(x, [1, 2]), [tf.shape(x)[0], 1, 1, 8])
        x = x * tf.sigmoid(tf.nn.conv2d(pooled, kernels[1], 1, "SAME"))
        x = tf.reduce_mean(tf.nn.relu(tf.nn.depthwise_conv2d(x, kernels[2], [1, 1, 1, 1], "SAME")), [1, 2])
        if small.leak:
            x = tf.concat([x, samples[:, :4]], axis=-1)
        logits = tf.matmul(x, last[0]) + last[1]
        return tf.nn.softmax(logits) if small.softmax else logits

    converter = tf.lite.TFLiteConverter.from_concrete_functions([model.get_concrete_function()])
    if small.half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _scaled(tf: Any, x: Any, small: Small) -> Any:
    if small.norm == "rms":
        return x / (tf.sqrt(tf.reduce_mean(x * x, axis=1, keepdims=True)) + small.epsilon)
    x = x - tf.reduce_min(x, axis=1, keepdims=True)
    if small.norm == "mean":
        return x / (tf.reduce_mean(x, axis=1, keepdims=True) + small.epsilon) * 2.0
    x = x / (tf.reduce_max(x, axis=1, keepdims=True) + small.epsilon)
    return (x - 0.5) * 2.0


def _map(tf: Any, scaled: Any, channel: Channel, small: Small) -> Any:
    windows = {"hann": tf.signal.hann_window, "hamming": tf.signal.hamming_window}
    frames = tf.signal.frame(scaled, channel.n_fft, channel.hop, pad_end=small.padded)
    if small.window in windows:
        frames = frames * windows[small.window](channel.n_fft)
    spectrum = tf.signal.rfft(frames, [channel.n_fft])
    part = {"real": lambda: tf.cast(spectrum, tf.float32), "abs": lambda: tf.abs(spectrum)}[small.part]()
    bins = channel.n_fft // 2 + 1
    if small.mel == "linear":
        bank = np.random.default_rng(0).uniform(0, 1, (bins, small.n_mels)).astype(np.float32)
    else:
        with tf.init_scope():
            bank = tf.signal.linear_to_mel_weight_matrix(
                small.n_mels, bins, small.sample_rate, channel.f_min, channel.f_max
            ).numpy()
    if small.mel == "scaled":
        bank = bank * 2
    mel = tf.tensordot(part, tf.constant(bank), 1)
    mel = {"square": lambda: mel * mel, "abs": lambda: tf.abs(mel)}[small.law]() ** channel.exponent
    if small.order == "reverse":
        mel = tf.reverse(mel, axis=[2])
    return tf.expand_dims(tf.transpose(mel, [0, 2, 1]), -1)


def edited(data: bytes, edit: Callable[[Any], None]) -> bytes:
    """A file with something in it changed."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    edit(model)
    return packed(model)
