"""What the export tests share: one small model whose moving statistics mean something, exported once per session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.typing import NDArray

from labous.errors import EngineError
from training.engines import REQUIRE_VARIABLE, Engine
from training.export_tflite import export_float32, export_int8, export_onnx
from training.gate import ExportSettings
from training.models import Block, PlainCnn

if TYPE_CHECKING:
    import keras

CONF = Path(__file__).resolve().parents[2] / "conf"
SHAPE = (32, 64)
N_LABELS = 5


@dataclass(frozen=True)
class Exported:
    """A model, windows that it was not calibrated on, its logits for them, and its files."""

    model: keras.Model
    representative: NDArray[np.float32]
    mels: NDArray[np.float32]
    reference: NDArray[np.float32]
    float32: bytes

    @cached_property
    def int8(self) -> bytes:
        return export_int8(self.model, self.representative)

    @cached_property
    def onnx(self) -> bytes:
        return export_onnx(self.float32)


def group(name: str) -> Any:
    """The value of one conf group, as ``model=small``."""
    key, _, choice = name.partition("=")
    with initialize_config_dir(str(CONF / key), version_base=None):
        return instantiate(compose(choice))


@cache
def settings() -> ExportSettings:
    """conf/export/default.yaml."""
    return group("export=default")


def mel_like(n: int, shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Spectrogram-like windows in [-2, 3], float32 [n, n_mels, n_frames]: noise falling with pitch, and calls."""
    rng = np.random.default_rng(seed)
    n_mels, n_frames = shape
    windows = rng.normal(-0.8, 0.25, (n, *shape)) + np.linspace(0.5, -0.5, n_mels)[:, np.newaxis]
    for window in windows:
        for _ in range(6):
            row, column = rng.integers(0, n_mels - 3), rng.integers(0, n_frames - 8)
            window[row : row + 3, column : column + rng.integers(8, n_frames // 2)] += rng.uniform(0.5, 2.5)
    return np.clip(windows, -2, 3).astype(np.float32)


def warmed(model: keras.Model) -> keras.Model:
    """Let batch normalisation see data: with its initial statistics a random net answers the same to everything."""
    for step in range(12):
        model(mel_like(16, SHAPE, seed=step)[..., np.newaxis], training=True)
    return model


def random_model() -> keras.Model:
    """A network of the kind in conf/model, smaller than any of them, with random weights."""
    import keras

    keras.utils.set_random_seed(2021)
    # statistics that follow within a few batches
    plain = PlainCnn(
        stem=8,
        rows=16,
        blocks=(Block(16, 2), Block(24, 1), Block(32, 2)),
        pool_mel=False,
        head=48,
        dropout=0.2,
        batch_norm_momentum=0.5,
    )
    model = plain.build((*SHAPE, 1), N_LABELS)
    # zero, as it starts, the last bias would be left out of the files
    model.get_layer("logits").bias.assign(np.linspace(-2, -1, N_LABELS))
    return model


def keras_logits(model: keras.Model, mels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits float32 [n, n_labels]."""
    return np.asarray(model(mels[..., np.newaxis], training=False))


@cache
def exported() -> Exported:
    """The shared model."""
    model = warmed(random_model())
    representative, mels = mel_like(16, SHAPE, seed=1000), mel_like(8, SHAPE, seed=2000)
    return Exported(model, representative, mels, keras_logits(model, mels), export_float32(model))


def edited(tflite: bytes, edit: Callable[[Any], None]) -> bytes:
    """A .tflite file after ``edit`` has changed its parsed model in place."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(tflite, 0)
    edit(model)
    builder = flatbuffers.Builder(len(tflite))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def needs(*engines: str) -> None:
    """Skip with the reason where an engine is not installed; fail where LABOUS_REQUIRE_ENGINES=1 asks for it."""
    for name in engines:
        try:
            Engine(name).version()
        except EngineError as error:
            if os.environ.get(REQUIRE_VARIABLE) == "1":
                raise
            pytest.skip(str(error))


def keras_macs(model: keras.Model) -> Iterator[int]:
    """Multiply-adds of each layer, counted from Keras's own shapes."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            yield int(np.prod(layer.output.shape[1:]) * np.prod(layer.kernel_size))
        elif isinstance(layer, keras.layers.Conv2D):
            yield int(np.prod(layer.output.shape[1:]) * np.prod(layer.kernel_size) * layer.input.shape[-1])
        elif isinstance(layer, keras.layers.Dense):
            yield int(np.prod(layer.kernel.shape))
