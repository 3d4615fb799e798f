"""LiteRT (ai-edge-litert): the engine for 64-bit boards and desktops."""

from __future__ import annotations

import importlib.util
from typing import Any

from labous.errors import EngineError
from labous.models.interpreter import InterpreterModel, cannot_be_imported

TITLE = "LiteRT"
READS = "tflite"
REMEDY = "run: pip install 'labous[litert]' (or, on Python 3.11 and older, 'labous[tflite]')"


def is_installed() -> bool:
    """Whether the package is here."""
    return importlib.util.find_spec("ai_edge_litert") is not None


def import_engine() -> Any:
    """The package's ``Interpreter``; see :class:`labous.models.Engine`."""
    try:
        from ai_edge_litert.interpreter import Interpreter
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
