"""Running a classifier: one protocol, a module per engine, and the choice between them.

An engine is chosen by name, or is the first of :data:`ENGINES` that is installed and can read one of the model's files.
Shapes, dtypes and quantisation are read from the file's own tensors.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from labous.errors import EngineError

ENGINES = ("litert", "tflite_c", "tflite_runtime", "onnxruntime")
"""Each engine's name, which is its module's here, in order of preference."""


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


class Engine(Protocol):
    """What an engine's module offers."""

    TITLE: str
    """What people call it."""
    READS: str
    """The kind of file that it runs: "tflite" or "onnx"."""
    REMEDY: str
    """How it is installed."""

    def is_installed(self) -> bool:
        """Whether this system has it; nothing is loaded for the answer."""

    def open_model(self, content: bytes, threads: int) -> Model:
        """Prepare a file of its kind for predictions.

        Raises:
            EngineError: the engine cannot be loaded, or refuses the file.
        """


def engine_named(name: str) -> Engine:
    """An engine's module.

    Raises:
        EngineError: there is no such engine.
    """
    if name not in ENGINES:
        raise EngineError(f"There is no engine {name!r}; choose one of: {', '.join(ENGINES)}.")
    return cast(Engine, importlib.import_module(f"labous.models.{name}"))


def hindrance(name: str, kinds: Mapping[str, bytes]) -> str | None:
    """Why an engine cannot run a model, in a clause; None if it can.

    Args:
        name: of the engine.
        kinds: the model's files by their kind.
    """
    engine = engine_named(name)
    if engine.READS not in kinds:
        return f"reads {engine.READS} files, and the model has none"
    if not engine.is_installed():
        return f"is not installed; {engine.REMEDY}"
    return None


def choose_engine(kinds: Mapping[str, bytes], name: str | None = None) -> str:
    """The engine to use: the named one, or the first that can.

    Args:
        kinds: the model's files by their kind.
        name: of the engine that is asked for.

    Raises:
        EngineError: there is no such engine, or it cannot.
    """
    if name is not None:
        if why := hindrance(name, kinds):
            raise EngineError(f"The engine {name} {why}")
        return name
    for candidate in ENGINES:
        if hindrance(candidate, kinds) is None:
            return candidate
    usable = [engine_named(candidate) for candidate in ENGINES if engine_named(candidate).READS in kinds]
    raise EngineError(f"No engine for the model is installed; {usable[0].REMEDY}")


def open_model(files: bytes | Mapping[str, bytes], engine: str | None = None, threads: int = 1) -> Model:
    """Prepare a model for predictions.

    Args:
        files: the bytes of a .tflite file, or of several files of the same model by their kind.
        engine: one of :data:`ENGINES`, or None for the first that can.
        threads: how many threads one prediction may use.

    Raises:
        EngineError: the engine is not installed, or refuses the file.
    """
    kinds = {"tflite": files} if isinstance(files, bytes) else files
    chosen = engine_named(choose_engine(kinds, engine))
    return chosen.open_model(kinds[chosen.READS], threads)
