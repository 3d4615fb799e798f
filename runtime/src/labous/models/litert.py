"""LiteRT (ai-edge-litert): the engine for 64-bit boards and desktops."""

from __future__ import annotations

import importlib.util

from labous.errors import EngineError
from labous.models.interpreter import InterpreterModel

TITLE = "LiteRT"
READS = "tflite"
REMEDY = "run: pip install 'labous[litert]' (or, on Python 3.11 and older, 'labous[tflite]')"


def is_installed() -> bool:
    """Whether the package is here."""
    return importlib.util.find_spec("ai_edge_litert") is not None


def open_model(content: bytes, threads: int) -> InterpreterModel:
    """Prepare a .tflite file; see :class:`labous.models.Engine`."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise EngineError(f"{TITLE} is installed but cannot be imported ({error}).") from error
    try:
        interpreter = Interpreter(model_content=content, num_threads=threads)
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"{TITLE} refuses the model: {error}") from error
    return InterpreterModel(interpreter, TITLE)
