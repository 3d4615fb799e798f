"""TensorFlow Lite's C library, as Debian's libtensorflow-lite has it: the engine for boards without a wheel."""

from __future__ import annotations

import ctypes
import os
import sysconfig
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous.errors import EngineError
from labous.models.interpreter import InterpreterModel

TITLE = "TensorFlow Lite's C library"
READS = "tflite"
REMEDY = "run: apt-get install libtensorflow-lite2.14.1 (Debian forky and later)"

VARIABLE = "LABOUS_TFLITE_LIBRARY"
"""Environment variable with the path of the library, where it stands elsewhere than the system's libraries."""

_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    9: np.dtype(np.int8),
}  # TfLiteType, of those that a model may have
_OK = 0

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int32


class _Quantization(ctypes.Structure):
    """``TfLiteQuantizationParams``."""

    _fields_ = (("scale", ctypes.c_float), ("zero_point", ctypes.c_int32))


# of tensorflow/lite/c/c_api.h: what each gives and takes
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "TfLiteVersion": (ctypes.c_char_p, ()),
    "TfLiteModelCreate": (_POINTER, (ctypes.c_char_p, ctypes.c_size_t)),
    "TfLiteModelDelete": (None, (_POINTER,)),
    "TfLiteInterpreterOptionsCreate": (_POINTER, ()),
    "TfLiteInterpreterOptionsSetNumThreads": (None, (_POINTER, _INT)),
    "TfLiteInterpreterOptionsDelete": (None, (_POINTER,)),
    "TfLiteInterpreterCreate": (_POINTER, (_POINTER, _POINTER)),
    "TfLiteInterpreterDelete": (None, (_POINTER,)),
    "TfLiteInterpreterAllocateTensors": (ctypes.c_int, (_POINTER,)),
    "TfLiteInterpreterInvoke": (ctypes.c_int, (_POINTER,)),
    "TfLiteInterpreterGetInputTensorCount": (_INT, (_POINTER,)),
    "TfLiteInterpreterGetOutputTensorCount": (_INT, (_POINTER,)),
    "TfLiteInterpreterGetInputTensor": (_POINTER, (_POINTER, _INT)),
    "TfLiteInterpreterGetOutputTensor": (_POINTER, (_POINTER, _INT)),
    "TfLiteTensorType": (ctypes.c_int, (_POINTER,)),
    "TfLiteTensorNumDims": (_INT, (_POINTER,)),
    "TfLiteTensorDim": (_INT, (_POINTER, _INT)),
    "TfLiteTensorQuantizationParams": (_Quantization, (_POINTER,)),
    "TfLiteTensorCopyFromBuffer": (ctypes.c_int, (_POINTER, _POINTER, ctypes.c_size_t)),
    "TfLiteTensorCopyToBuffer": (ctypes.c_int, (_POINTER, _POINTER, ctypes.c_size_t)),
}


_FOLDERS = tuple(
    folder
    for folder in (
        f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}",
        sysconfig.get_config_var("LIBDIR"),
        "/usr/local/lib",
        "/usr/lib64",
        "/usr/lib",
    )
    if folder
)


def library() -> Path | None:
    """The library's file: what the environment names, or the newest where the system keeps its libraries; else None."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    for folder in _FOLDERS:
        if found := list(Path(folder).glob("libtensorflow-lite.so*")):
            return max(found, key=_version)
    return None


def _version(path: Path) -> list[int]:
    return [int(part) for part in path.name.partition(".so")[2].split(".") if part.isdigit()]


def is_installed() -> bool:
    """Whether there is such a library."""
    return library() is not None


def import_engine() -> Any:
    """The library, its functions described; see :class:`labous.models.Engine`."""
    path = library()
    if path is None:
        raise EngineError(f"There is no libtensorflow-lite on this system; {REMEDY}")
    try:
        loaded = ctypes.CDLL(str(path))
        for name, (result, parameters) in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, parameters
    except (OSError, AttributeError) as error:
        raise EngineError(
            f"{path} cannot be used ({error}); install Debian's libtensorflow-lite, or name another file in {VARIABLE}."
        ) from error
    return loaded


def open_model(content: bytes, threads: int) -> InterpreterModel:
    """Prepare a .tflite file; see :class:`labous.models.Engine`."""
    return InterpreterModel(_Interpreter(import_engine(), content, threads), TITLE)


class _Interpreter:
    """The C library's interpreter, by the methods of the Python one that :class:`InterpreterModel` calls."""

    def __init__(self, loaded: Any, content: bytes, threads: int) -> None:
        self._library = loaded
        self._content = content  # the library reads it as long as the model lives
        model = loaded.TfLiteModelCreate(content, len(content))
        if not model:
            raise EngineError(f"{TITLE} refuses the model: it is no .tflite file.")
        weakref.finalize(self, loaded.TfLiteModelDelete, model).atexit = False
        options = loaded.TfLiteInterpreterOptionsCreate()
        loaded.TfLiteInterpreterOptionsSetNumThreads(options, threads)
        self._handle = loaded.TfLiteInterpreterCreate(model, options)
        loaded.TfLiteInterpreterOptionsDelete(options)
        if not self._handle:
            raise EngineError(f"{TITLE} refuses the model; it may have an operator that is too new.")
        # finalizers run last first: the interpreter goes before the model that it reads
        weakref.finalize(self, loaded.TfLiteInterpreterDelete, self._handle).atexit = False
        self._tensors: list[int] = []

    def allocate_tensors(self) -> None:
        self._check(self._library.TfLiteInterpreterAllocateTensors(self._handle), "allocate its tensors")

    def get_input_details(self) -> list[dict[str, Any]]:
        return self._details("Input")

    def get_output_details(self) -> list[dict[str, Any]]:
        return self._details("Output")

    def set_tensor(self, index: int, values: NDArray[Any]) -> None:
        values = np.ascontiguousarray(values)
        done = self._library.TfLiteTensorCopyFromBuffer(self._tensors[index], values.ctypes.data, values.nbytes)
        self._check(done, f"take an input of {values.nbytes} bytes")

    def invoke(self) -> None:
        self._check(self._library.TfLiteInterpreterInvoke(self._handle), "run the model")

    def get_tensor(self, index: int) -> NDArray[Any]:
        shape, dtype, _ = self._described(self._tensors[index])
        values = np.empty(shape, dtype)
        done = self._library.TfLiteTensorCopyToBuffer(self._tensors[index], values.ctypes.data, values.nbytes)
        self._check(done, f"give an output of {values.nbytes} bytes")
        return values

    def _details(self, side: str) -> list[dict[str, Any]]:
        count = getattr(self._library, f"TfLiteInterpreterGet{side}TensorCount")(self._handle)
        details = []
        for n in range(count):
            tensor = getattr(self._library, f"TfLiteInterpreterGet{side}Tensor")(self._handle, n)
            shape, dtype, quantization = self._described(tensor)
            details.append(
                {"index": len(self._tensors), "shape": shape, "dtype": dtype.type, "quantization": quantization}
            )
            self._tensors.append(tensor)
        return details

    def _described(self, tensor: int) -> tuple[tuple[int, ...], np.dtype[Any], tuple[float, int]]:
        c = self._library
        kind = c.TfLiteTensorType(tensor)
        if kind not in _DTYPES:
            raise EngineError(f"The model has a tensor of TfLiteType {kind}; it must be float32 or int8.")
        shape = tuple(c.TfLiteTensorDim(tensor, n) for n in range(c.TfLiteTensorNumDims(tensor)))
        quantization = c.TfLiteTensorQuantizationParams(tensor)
        return shape, _DTYPES[kind], (quantization.scale, quantization.zero_point)

    def _check(self, status: int, what: str) -> None:
        if status != _OK:
            raise RuntimeError(f"{TITLE} could not {what} (status {status})")
