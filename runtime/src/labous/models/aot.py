"""The model as machine code, which the bundle's export compiled: for boards that no TFLite has a build for."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous import libraries
from labous.errors import EngineError
from labous.models import Library
from labous.models.inputs import as_input
from labous.models.interpreter import check_tensors, finite_logits

TITLE = "the bundle's own library"
READS = "library"
REMEDY = "export the bundle with bundle.targets=[{machine}] (an imported one cannot have it)"

ABI_VERSION = 1
"""``LABOUS_MODEL_ABI_VERSION`` of training/aot/include/labous_model.h."""

_ALIGNMENT = 64
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int32
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "labous_model_abi_version": (_INT, ()),
    "labous_model_source": (ctypes.c_char_p, ()),
    "labous_model_inputs": (_INT, ()),
    "labous_model_outputs": (_INT, ()),
    "labous_model_arena_bytes": (_INT, ()),
    "labous_model_run": (_INT, (_POINTER, _POINTER, _POINTER)),
}


def is_installed() -> bool:
    """True: it is in the bundle, or it is not."""
    return True


def import_engine() -> None:
    """There is nothing to import."""


def open_model(content: Library, threads: int) -> _Model:
    """Prepare a library; see :class:`labous.models.Engine`. It uses one thread, whatever ``threads`` says."""
    return _Model(content)


class _Model:
    input_dtype = output_dtype = "float32"

    def __init__(self, library: Library) -> None:
        loaded = libraries.load(library.content, library.name)
        for name, (result, parameters) in _FUNCTIONS.items():
            try:
                function = getattr(loaded, name)
            except AttributeError as error:
                raise EngineError(f"{library.name} lacks {name}; it is no model: export the bundle again.") from error
            function.restype, function.argtypes = result, parameters
        version = loaded.labous_model_abi_version()
        if version != ABI_VERSION:
            raise EngineError(
                f"{library.name} has version {version} of the model's ABI and this labous knows {ABI_VERSION}: install "
                "a labous of the same age as the bundle."
            )
        if loaded.labous_model_source().decode("ascii", "replace") != library.source:
            raise EngineError(f"{library.name} was made from another .tflite file; export the bundle again.")
        self.input_shape, self.output_shape = library.input_shape, library.output_shape
        check_tensors(self)
        told = loaded.labous_model_inputs(), loaded.labous_model_outputs()
        if told != (math.prod(self.input_shape), math.prod(self.output_shape)):
            raise EngineError(
                f"{library.name} takes {told[0]} floats and gives {told[1]}, and the manifest says "
                f"{list(self.input_shape)} and {list(self.output_shape)}; export the bundle again."
            )
        self._library = loaded
        # what the library works in; views of arrays do not keep their addresses, so the whole is kept
        self._room = np.empty(loaded.labous_model_arena_bytes() + _ALIGNMENT, np.uint8)
        self._arena = self._room.ctypes.data + -self._room.ctypes.data % _ALIGNMENT

    @property
    def n_labels(self) -> int:
        """Number of logits."""
        return self.output_shape[1]

    def predict(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [n_labels], of one mel array, float32 [n_mels, n_frames] or [n_mels, n_frames, n_channels].

        Raises:
            EngineError: the array has another shape, or a logit is NaN or infinite.
        """
        values = np.ascontiguousarray(as_input(mel, self.input_shape))
        logits = np.empty(self.n_labels, np.float32)
        code = self._library.labous_model_run(values.ctypes.data, logits.ctypes.data, self._arena)
        if code != 0:
            raise EngineError(f"The model failed to run: its library gave the code {code}.")
        return finite_logits(logits)
