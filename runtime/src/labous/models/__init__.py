"""Running a classifier: one protocol, a module per engine, and the choice between them.

An engine is chosen by name, or is the first of :data:`ENGINES` that is installed and can read one of the model's files.
Shapes, dtypes and quantisation are read from the file's own tensors.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from labous import libraries
from labous.errors import EngineError

ENGINES = ("litert", "tflite_c", "tflite_runtime", "aot", "onnxruntime")
"""Each engine's name, which is its module's here, in order of preference."""

LITERT_MACHINES = ("x86_64", "aarch64")
"""Machines that LiteRT has wheels for."""

_BROKEN = "cannot be used"


class Library(NamedTuple):
    """A model as machine code of this machine.

    Attributes:
        name: of its file, for errors.
        content: the bytes of the shared library.
        source: hexadecimal sha256 of the .tflite file that it must have been made from.
        input_shape, output_shape: of that file's tensors, which are float32; the library knows only their sizes.
    """

    name: str
    content: bytes
    source: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


class ModelFiles(TypedDict, total=False):
    """A model's files by their kind: the same model, each for engines of its own."""

    tflite: bytes
    onnx: bytes
    library: Library


class Model(Protocol):
    """A classifier of what the front end gives of a window. Not safe to share between threads."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The input tensor's shape, [1, n_mels, n_frames, n_channels]; of several shifts, their number comes first."""

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
        """Logits, float32 [n_labels], of one mel array, float32 [n_mels, n_frames] or [n_mels, n_frames, n_channels].

        Raises:
            EngineError: the array has another shape, a logit is NaN or infinite, or the engine failed.
        """


class Engine(Protocol):
    """What an engine's module offers."""

    TITLE: str
    """What people call it."""
    READS: str
    """The kind of file that it runs: "tflite", "onnx" or "library"."""
    REMEDY: str
    """How it is installed; ``{machine}`` stands for this one."""

    def is_installed(self) -> bool:
        """Whether this system has it; nothing is loaded for the answer."""

    def import_engine(self) -> Any:
        """Load it, as opening a model does first.

        Raises:
            EngineError: it is installed, and does not work here.
        """

    def open_model(self, content: Any, threads: int) -> Model:
        """Prepare a file of its kind for predictions: its bytes, or a :class:`Library`.

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


def remedy(name: str) -> str:
    """How an engine is had."""
    return engine_named(name).REMEDY.format(machine=libraries.machine())


def hindrance(name: str, kinds: Mapping[str, object]) -> str | None:
    """Why an engine cannot run a model here, in a clause; None if it can.

    An engine that is installed is loaded for the answer: some packages install where they do not work.

    Args:
        name: of the engine.
        kinds: the model's files by their kind.
    """
    engine = engine_named(name)
    if engine.READS not in kinds:
        reads = "machine code" if engine.READS == "library" else f"{engine.READS} files"
        return f"reads {reads}, and the model has none"
    if not engine.is_installed():
        return f"is not installed; {remedy(name)}"
    try:
        engine.import_engine()
    except EngineError as error:
        return f"{_BROKEN}: {error}"
    return None


def choose_engine(kinds: Mapping[str, object], name: str | None = None) -> str:
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
    reasons = {}
    for candidate in ENGINES:
        why = hindrance(candidate, kinds)
        if why is None:
            return candidate
        reasons[candidate] = why
    broken = [f"{candidate} {why}" for candidate, why in reasons.items() if why.startswith(_BROKEN)]
    if broken:
        raise EngineError(f"No engine for the model works here: {broken[0].rstrip('.')}. See {libraries.row()}.")
    if libraries.machine() in LITERT_MACHINES:
        ways = ["litert"]
    elif libraries.machine() == "armv7l" and sys.version_info < (3, 12):  # the last that it is published for
        ways = ["tflite_runtime"]
    else:
        ways = ["tflite_c"]
    if ways != ["litert"] and "onnx" in kinds:  # a bundle's float32 model, which can be compiled
        ways.insert(0, "aot")
    raise EngineError(
        f"No engine for the model is installed; {', or '.join(map(remedy, ways))}. See {libraries.row()}."
    )


def alternative(kinds: Mapping[str, object], name: str) -> str | None:
    """The engine that comes next where one refuses the model; None if there is none."""
    after = ENGINES[ENGINES.index(name) + 1 :]
    return next((candidate for candidate in after if hindrance(candidate, kinds) is None), None)


def open_model(files: bytes | Mapping[str, object], engine: str | None = None, threads: int = 1) -> Model:
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
