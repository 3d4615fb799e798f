"""The mel stage as a shared library, with the same bits: for boards without Wasmtime, where it is what wasm2c made of
a bundle's melspec.wasm, and for preparing data and benchmarks, where it comes from the same source.
"""

from __future__ import annotations

import ctypes
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from labous import libraries
from labous.errors import EngineError
from labous.frontend import Frontend
from labous.mel import abi
from labous.mel.law import NativeLaw
from labous.power_law import PowerLawFrontend

_RESULTS = {
    "melspec_alloc": ctypes.c_void_p,
    "melspec_message": ctypes.c_char_p,
    "melspec_free": None,
    "melspec_stream_window": ctypes.c_void_p,
}
_CHECKED = ("melspec_create", "melspec_bytes", "melspec_filters", "melspec_window", "melspec_stream_create")


class NativeEngine:
    """A libmelspec loaded with ctypes. Plans are independent; one plan is used by one thread at a time.

    What comes of a module by way of wasm2c keeps to the module's own memory, which may grow as far as the module says;
    a trap is an EngineError. Its time is not bounded.

    Args:
        path: the library that ``python melspec_cpp/build.py native`` built, or the name of ``content``.
        content: its bytes, where they are at hand: then no file is opened.

    Raises:
        EngineError: there is no such library, or it is not one of this ABI version.
    """

    def __init__(self, path: str | Path, content: bytes | None = None) -> None:
        try:
            self._library: Any = (
                ctypes.CDLL(str(Path(path).resolve())) if content is None else libraries.load(content, str(path))
            )
        except OSError as error:
            raise EngineError(
                f"The native mel library cannot be loaded ({error}): build it with `python melspec_cpp/build.py`."
            ) from error
        for name, parameters in abi.FUNCTIONS.items():
            try:
                function = getattr(self._library, name)
            except AttributeError as error:
                raise EngineError(f"{path} lacks {name}; it is not a libmelspec: use another file.") from error
            function.argtypes = [ctypes.c_int32 if kind == "i" else ctypes.c_void_p for kind in parameters]
            function.restype = _RESULTS.get(name, ctypes.c_int32)
            if name in _CHECKED:
                function.errcheck = self._errcheck
        self._where = str(path)
        abi.check_module(self._library.melspec_abi_version(), self._library.melspec_config_size(), str(path))

    def plan(self, frontend: Frontend) -> NativePlan:
        """The library, set up for one front end.

        Raises:
            FrontendError: it cannot compute it.
        """
        return NativePlan(self._library, self._errcheck, frontend)

    def law(self, frontend: PowerLawFrontend) -> NativeLaw:
        """The library, set up for one power-law front end.

        Raises:
            EngineError: the library is older than these.
            FrontendError: it cannot compute it.
        """
        return NativeLaw(self._library, self._errcheck, frontend, self._where)

    def stream(self, frontend: Frontend, output: abi.Output, step_samples: int) -> NativeStream:
        """The library, set up for overlapping windows of an endless signal.

        Raises:
            FrontendError: it cannot compute the front end.
            SamplesError: the window or the step is impossible.
        """
        return NativeStream(self._library, self._errcheck, frontend, output, step_samples)

    def _errcheck(self, code: int, *_: Any) -> int:
        if code < 0:
            raise abi.refusal(code, self._library.melspec_message(code).decode("ascii"))
        return code


class NativePlan:
    """A front end set up in the native library."""

    def __init__(self, library: Any, errcheck: Any, frontend: Frontend) -> None:
        self.frontend = frontend
        self._library, self._errcheck = library, errcheck
        config = np.frombuffer(abi.pack_config(frontend), np.float64).copy()  # 8-byte aligned
        handle = ctypes.c_void_p()
        library.melspec_create(config.ctypes.data, ctypes.addressof(handle))
        self.handle = handle.value
        self._finalizer = weakref.finalize(self, library.melspec_destroy, self.handle)
        self._finalizer.atexit = False

    def close(self) -> None:
        """Frees the plan; it cannot be used again."""
        self._finalizer()
        self.handle = None

    def run(self, output: abi.Output, samples: np.ndarray) -> np.ndarray:
        """float32 [n_mels, n_frames] from float32 [n_samples]; errors as in :class:`labous.mel.MelSpectrogram`."""
        samples = abi.float32_samples(samples, self.frontend)
        out = np.empty((self.frontend.n_mels, self.frontend.frames_of(samples.size)), np.float32)
        if self._library.melspec_bytes(self.handle, samples.size) != out.nbytes:
            raise EngineError("The mel module makes another number of bytes of the samples than it must; it is faulty.")
        code = self._library.melspec_run(
            self.handle, output, samples.ctypes.data, samples.size, out.ctypes.data, out.size
        )
        if code == abi.ERROR_NOT_FINITE:
            position = self._errcheck(self._library.melspec_bad_sample(self.handle))
            if position < samples.size:
                raise abi.not_finite_error(samples, position, self.frontend.sample_rate)
        if self._errcheck(code) != out.shape[1]:
            raise EngineError("The mel module gives another number of frames than asked for; it is faulty.")
        return out

    def filters(self) -> np.ndarray:
        """The filter bank, float32 [n_mels, 1 + n_fft // 2]."""
        out = np.empty((self.frontend.n_mels, self.frontend.n_fft // 2 + 1), np.float32)
        self._library.melspec_filters(self.handle, out.ctypes.data, out.size)
        return out

    def window(self) -> np.ndarray:
        """The analysis window, float64 [n_fft]."""
        out = np.empty(self.frontend.n_fft, np.float64)
        self._library.melspec_window(self.handle, out.ctypes.data, out.size)
        return out


class _Chunk(ctypes.Structure):
    """``melspec_chunk``."""

    _fields_ = (("stream", ctypes.c_void_p), ("samples", ctypes.c_void_p), ("n_samples", ctypes.c_int32))


class NativeStream:
    """A stream in the native library, with a plan of its own."""

    def __init__(self, library: Any, errcheck: Any, frontend: Frontend, output: abi.Output, step_samples: int) -> None:
        self.frontend = frontend
        self._library, self._errcheck = library, errcheck
        self._plan = NativePlan(library, errcheck, frontend)
        handle = ctypes.c_void_p()
        library.melspec_stream_create(
            self._plan.handle, output, frontend.window_samples, step_samples, ctypes.addressof(handle)
        )
        self._handle = handle.value
        self._finalizer = weakref.finalize(self, library.melspec_stream_destroy, self._handle)
        self._finalizer.atexit = False
        shape = (frontend.n_mels, frontend.n_frames)
        values = ctypes.c_float * (shape[0] * shape[1])
        if library.melspec_bytes(self._plan.handle, frontend.window_samples) != ctypes.sizeof(values):
            raise EngineError("The mel module makes another number of bytes of a window than it must; it is faulty.")
        self._window = np.ctypeslib.as_array(values.from_address(library.melspec_stream_window(self._handle)))
        self._window.shape = shape

    def run(self, samples: np.ndarray, before: int) -> tuple[int, np.ndarray | None]:
        """Takes what completes a window; as :meth:`labous.mel.engine.MelStreamPlan.run`."""
        chunk = _Chunk(self._handle, samples.ctypes.data, samples.size)
        frames = self._library.melspec_stream_run(ctypes.addressof(chunk))
        if frames == abi.ERROR_NOT_FINITE:
            position = self._errcheck(self._library.melspec_stream_bad_sample(self._handle))
            if position < samples.size:
                raise abi.not_finite_error(samples, position, self.frontend.sample_rate, before)
        taken = samples.size - chunk.n_samples
        # none taken, and the caller would ask for ever: every window ends with a sample of its own
        if self._errcheck(frames) not in (0, self.frontend.n_frames) or not 0 < taken <= samples.size:
            raise EngineError("The mel module takes other samples or gives other frames than asked for; it is faulty.")
        return taken, self._window.copy() if frames else None

    def reset(self) -> None:
        """Forgets all samples."""
        self._errcheck(self._library.melspec_stream_reset(self._handle))

    def close(self) -> None:
        """Frees the stream; it cannot be used again."""
        self._finalizer()
        self._handle = None
        self._plan.close()
