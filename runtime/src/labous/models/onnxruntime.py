"""ONNX Runtime, which runs a bundle's float32 twin: for boards whose system has python3-onnxruntime."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous.errors import EngineError
from labous.models.inputs import as_input
from labous.models.interpreter import (
    cannot_be_imported,
    check_tensors,
    finite_logits,
    first_line,
    only_tensors,
)

TITLE = "ONNX Runtime"
READS = "onnx"
REMEDY = "run: apt-get install python3-onnxruntime, or pip install onnxruntime"


def is_installed() -> bool:
    """Whether the package is here."""
    return importlib.util.find_spec("onnxruntime") is not None


def import_engine() -> Any:
    """The package; see :class:`labous.models.Engine`."""
    try:
        import onnxruntime
    except Exception as error:  # a package may raise what it likes where its library does not load
        raise cannot_be_imported(TITLE, error) from error
    return onnxruntime


def open_model(content: bytes, threads: int) -> _Twin:
    """Prepare a .onnx file; see :class:`labous.models.Engine`."""
    onnxruntime = import_engine()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # what it warns of is not for a station's log
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds of exceptions share no base but this
        raise EngineError(f"{TITLE} refuses the model: {first_line(error)}") from error
    return _Twin(session)


class _Twin:
    def __init__(self, session: Any) -> None:
        self._session = session
        given, found = only_tensors(session.get_inputs(), session.get_outputs())
        self._input = given.name
        self.input_shape, self.input_dtype = _shape(given), _dtype(given)
        self.output_shape, self.output_dtype = _shape(found), _dtype(found)
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
            (logits,) = self._session.run(None, {self._input: tensor})
        except Exception as error:  # as above
            raise EngineError(f"The model failed to run: {first_line(error)}") from error
        return finite_logits(logits[0])


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(n if isinstance(n, int) else -1 for n in tensor.shape)  # a name or None: not static


def _dtype(tensor: Any) -> str:
    return "float32" if tensor.type == "tensor(float)" else str(tensor.type)
