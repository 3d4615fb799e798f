"""Running a .tflite file: one protocol, a module per engine, and the choice between them.

An engine is chosen by name, or is the first one installed of :data:`ENGINES`. Shapes, dtypes and quantisation are
read from the file's own tensors.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labous.errors import EngineError

ENGINES = {"litert": "ai_edge_litert", "tflite_runtime": "tflite_runtime"}
"""Each engine's name here and the package it needs, in order of preference."""

_INSTALL = "run: pip install 'labous[litert]' (or, on Python 3.11 and older, 'labous[tflite]')"


class Model(Protocol):
    """A classifier of one mel spectrogram. Not safe to share between threads."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The input tensor's shape, [1, n_mels, n_frames, 1]."""

    @property
    def input_dtype(self) -> str:
        """The input tensor's dtype, "float32" or "int8"."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The output tensor's shape, [1, n_labels]."""

    @property
    def output_dtype(self) -> str:
        """The output tensor's dtype, "float32" or "int8"."""

    @property
    def n_labels(self) -> int:
        """Number of logits."""

    def predict(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [n_labels], of one scaled log-mel array, float32 [n_mels, n_frames]."""


def installed_engines() -> list[str]:
    """The names of the engines whose package is installed, in order of preference."""
    return [name for name, package in ENGINES.items() if importlib.util.find_spec(package) is not None]


def choose_engine(engine: str | None = None) -> str:
    """The engine to use: the named one, or the first installed.

    Raises:
        EngineError: no such engine, or it is not installed.
    """
    installed = installed_engines()
    if engine is None:
        if not installed:
            raise EngineError(f"No engine for the model is installed; {_INSTALL}")
        return installed[0]
    if engine not in ENGINES:
        raise EngineError(f"There is no engine {engine!r}; choose one of: {', '.join(ENGINES)}.")
    if engine not in installed:
        raise EngineError(f"The engine {engine} is not installed; {_INSTALL}")
    return engine


def open_model(content: bytes, engine: str | None = None, threads: int = 1) -> Model:
    """Prepare a .tflite file for predictions.

    Args:
        content: the file's bytes.
        engine: "litert", "tflite_runtime", or None for the first installed.
        threads: how many threads one prediction may use.

    Raises:
        EngineError: the engine is not installed, or refuses the file.
    """
    module = importlib.import_module(f"labous.models.{choose_engine(engine)}")
    model: Model = module.open_model(content, threads)
    return model
