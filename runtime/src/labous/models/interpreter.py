"""The TFLite interpreter's Python interface, which LiteRT and tflite-runtime share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labous.errors import EngineError
from labous.models.inputs import as_input

if TYPE_CHECKING:
    from labous.models import Model


class InterpreterModel:
    """A model behind an ``Interpreter`` whose tensors are not allocated yet.

    int8 inputs and outputs are quantised and dequantised with the tensor's own scale and zero point:
    ``real = (stored - zero_point) * scale``.

    Raises:
        EngineError: the interpreter refuses the file, or it has not one static input [1, n_mels, n_frames, n_channels]
            and one output [1, n_labels], float32 or int8 each.
    """

    def __init__(self, interpreter: Any, engine: str) -> None:
        self._interpreter = interpreter
        try:
            interpreter.allocate_tensors()
            inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"{engine} refuses the model: {first_line(error)}") from error
        self._input, self._output = only_tensors(inputs, outputs)
        self.input_shape, self.input_dtype = _shape(self._input), np.dtype(self._input["dtype"]).name
        self.output_shape, self.output_dtype = _shape(self._output), np.dtype(self._output["dtype"]).name
        check_tensors(self)

    @property
    def n_labels(self) -> int:
        """Number of logits."""
        return self.output_shape[1]

    def predict(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [n_labels], of one mel array, float32 [n_mels, n_frames] or [n_mels, n_frames, n_channels].

        Raises:
            EngineError: the array has another shape, a logit is NaN or infinite, or the engine failed.
        """
        tensor = as_input(mel, self.input_shape)
        try:
            self._interpreter.set_tensor(self._input["index"], _stored(tensor, self._input))
            self._interpreter.invoke()
            logits = _real(self._interpreter.get_tensor(self._output["index"])[0], self._output)
        except RuntimeError as error:
            raise EngineError(f"The model failed to run: {first_line(error)}") from error
        return finite_logits(logits)


def only_tensors(inputs: Sequence[Any], outputs: Sequence[Any]) -> tuple[Any, Any]:
    """A model's input and its output, as its engine describes them.

    Raises:
        EngineError: it has not one of each.
    """
    if len(inputs) != 1 or len(outputs) != 1:
        raise EngineError(f"The model has {len(inputs)} inputs and {len(outputs)} outputs; it must have one of each.")
    return inputs[0], outputs[0]


def check_tensors(model: Model) -> None:
    """Refuse a model whose tensors are not those of a classifier of mel spectrograms.

    Raises:
        EngineError: it has not one static input [1, n_mels, n_frames, n_channels] and one output [1, n_labels], float32
            or int8.
    """
    for name, dtype in (("input", model.input_dtype), ("output", model.output_dtype)):
        if dtype not in ("float32", "int8"):
            raise EngineError(f"The model's {name} is {dtype}; it must be float32 or int8.")
    shape = model.input_shape
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1:
        raise EngineError(f"The model's input is {list(shape)}; it must be [1, n_mels, n_frames, n_channels].")
    if len(model.output_shape) != 2 or model.output_shape[0] != 1 or min(model.output_shape) < 1:
        raise EngineError(f"The model's output is {list(model.output_shape)}; it must be [1, n_labels].")


def finite_logits(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same logits.

    Raises:
        EngineError: one is NaN or infinite.
    """
    if not np.isfinite(logits).all():
        raise EngineError("The model gives logits that are not finite; the file is not fit for use.")
    return logits


def _shape(tensor: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in tensor["shape"])


def _stored(values: NDArray[np.float32], tensor: dict[str, Any]) -> NDArray[Any]:
    if tensor["dtype"] != np.int8:
        return values.astype(np.float32, copy=False)
    scale, zero_point = tensor["quantization"]
    return np.clip(np.rint(values / scale) + zero_point, -128, 127).astype(np.int8)


def _real(values: NDArray[Any], tensor: dict[str, Any]) -> NDArray[np.float32]:
    if tensor["dtype"] != np.int8:
        return values.astype(np.float32, copy=False)
    scale, zero_point = tensor["quantization"]
    return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def cannot_be_imported(engine: str, error: Exception) -> EngineError:
    """The error for a package that is there and does not work."""
    return EngineError(f"{engine} is installed but cannot be imported ({first_line(error) or type(error).__name__}).")


def first_line(error: Exception) -> str:
    """What an engine says of what went wrong."""
    return str(error).strip().split("\n")[0]
