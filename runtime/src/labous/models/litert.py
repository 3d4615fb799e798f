"""LiteRT (ai-edge-litert): the engine for 64-bit boards and desktops."""

from __future__ import annotations

from labous.errors import EngineError
from labous.models.interpreter import InterpreterModel


def open_model(content: bytes, threads: int) -> InterpreterModel:
    """Prepare a .tflite file; see :func:`labous.models.open_model`."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise EngineError(f"LiteRT is installed but cannot be imported ({error}).") from error
    try:
        interpreter = Interpreter(model_content=content, num_threads=threads)
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"LiteRT refuses the model: {error}") from error
    return InterpreterModel(interpreter, "LiteRT")
