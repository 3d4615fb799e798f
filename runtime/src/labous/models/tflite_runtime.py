"""tflite-runtime: the engine for older boards (Python 3.11 at most, numpy below 2)."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from labous.errors import EngineError
from labous.models.interpreter import InterpreterModel, cannot_be_imported

TITLE = "tflite-runtime"
READS = "tflite"
REMEDY = "run: pip install 'labous[tflite]' (on Python 3.11 and older)"


def is_installed() -> bool:
    """Whether the package is here."""
    return importlib.util.find_spec("tflite_runtime") is not None


def import_engine() -> Any:
    """The package's ``Interpreter``; see :class:`labous.models.Engine`."""
    if int(np.__version__.split(".")[0]) >= 2:
        # tflite-runtime 2.14 imports under numpy 2 and fails only when a model is opened
        raise EngineError(f"{TITLE} needs numpy below 2 and this is {np.__version__}; run: pip install 'numpy<2'")
    try:
        from tflite_runtime.interpreter import Interpreter
    except Exception as error:  # a package may raise what it likes where its library does not load
        raise cannot_be_imported(TITLE, error) from error
    return Interpreter


def open_model(content: bytes, threads: int) -> InterpreterModel:
    """Prepare a .tflite file; see :class:`labous.models.Engine`."""
    interpreter = import_engine()
    try:
        opened = interpreter(model_content=content, num_threads=threads)
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"{TITLE} refuses the model: {error}") from error
    return InterpreterModel(opened, TITLE)
