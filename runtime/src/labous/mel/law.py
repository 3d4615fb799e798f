"""The second front end, of the spectrum's real part, in either engine."""

from __future__ import annotations

import ctypes
import struct
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from labous.errors import EngineError, FrontendError, SamplesError
from labous.mel import abi
from labous.power_law import MOST_CHANNELS, PowerLawFrontend

if TYPE_CHECKING:
    from labous.mel.wasm import WasmEngine

_CONFIG = struct.Struct("<3d4i")
_CHANNEL = struct.Struct("<3d2i")
CONFIG_SIZE = _CONFIG.size + MOST_CHANNELS * _CHANNEL.size


def pack_config(frontend: PowerLawFrontend) -> bytes:
    """The 168 bytes of ``melspec_law_config``, little-endian."""
    packed = _CONFIG.pack(
        frontend.peak_epsilon,
        frontend.peak_offset,
        frontend.peak_scale,
        abi.ABI_VERSION,
        frontend.sample_rate,
        frontend.n_mels,
        len(frontend.channels),
    )
    for channel in frontend.channels:
        packed += _CHANNEL.pack(channel.f_min, channel.f_max, channel.exponent, channel.n_fft, channel.hop_length)
    return packed.ljust(CONFIG_SIZE, b"\0")


def float32_window(samples: Any, frontend: PowerLawFrontend) -> np.ndarray:
    """The samples as a contiguous float32 array [window_samples].

    Raises:
        SamplesError: not one-dimensional, not floating point, or of another number: they are scaled together.
    """
    array = abi.float32_array(samples)
    if array.size != frontend.window_samples:
        raise SamplesError(f"{array.size} samples are not a window; pass {frontend.window_samples} of them.")
    return array


def other_output(what: str) -> FrontendError:
    """The error for a question that only the other front end answers."""
    return FrontendError(f"Front end: a power law has no {what}; call the spectrogram itself for what the model sees.")


def missing(where: str) -> EngineError:
    """The error for a module, or a library, that is older than these functions."""
    return EngineError(
        f"{where} cannot compute power-law front ends, it is too old: use one of this labous, or of the bundle's own."
    )


def _check_size(size: int, where: str) -> None:
    if size != CONFIG_SIZE:
        raise EngineError(
            f"{where} wants {size} bytes of a power-law front end, this labous knows {CONFIG_SIZE}: install a labous "
            "of the same age as the module."
        )


def _inputs(frontend: PowerLawFrontend) -> tuple[int, int, int]:
    """Floats of one input, bytes of all, samples behind the last shift."""
    _, n_mels, n_frames, n_channels = frontend.input_shape
    floats = n_mels * n_frames * n_channels
    return floats, 4 * floats * len(frontend.shifts), frontend.window_samples - frontend.shifts[-1]


_FAULTY_BYTES = "The mel module makes another number of bytes of a window than it must; it is faulty."
_FAULTY_FRAMES = "The mel module gives another number of frames than asked for; it is faulty."


class NativeLaw:
    """A power-law front end set up in the native library."""

    def __init__(self, library: Any, errcheck: Any, frontend: PowerLawFrontend, where: str) -> None:
        self.frontend = frontend
        self._library, self._errcheck = library, errcheck
        for name, parameters in abi.LAW_FUNCTIONS.items():
            if not hasattr(library, name):
                raise missing(where)
            function = getattr(library, name)
            function.argtypes = [ctypes.c_int32 if kind == "i" else ctypes.c_void_p for kind in parameters]
            function.restype = ctypes.c_int32
        _check_size(library.melspec_law_config_size(), where)
        config = np.frombuffer(pack_config(frontend), np.float64).copy()  # 8-byte aligned
        handle = ctypes.c_void_p()
        errcheck(library.melspec_law_create(config.ctypes.data, ctypes.addressof(handle)))
        self._handle = handle.value
        self._finalizer = weakref.finalize(self, library.melspec_law_destroy, self._handle)
        self._finalizer.atexit = False
        floats, _, behind = _inputs(frontend)
        if errcheck(library.melspec_law_bytes(self._handle, behind)) != 4 * floats:
            raise EngineError(_FAULTY_BYTES)

    def run(self, samples: np.ndarray) -> np.ndarray:
        """float32 ``mel_shape`` from float32 [window_samples]; errors as of :class:`~labous.mel.MelSpectrogram`."""
        samples = float32_window(samples, self.frontend)
        floats = _inputs(self.frontend)[0]
        out = np.empty((len(self.frontend.shifts), floats), np.float32)
        for shift, row in zip(self.frontend.shifts, out, strict=True):
            code = self._library.melspec_law_run(
                self._handle, samples.ctypes.data, samples.size, shift, row.ctypes.data, floats
            )
            if code == abi.ERROR_NOT_FINITE:
                position = self._errcheck(self._library.melspec_law_bad_sample(self._handle))
                if position < samples.size:
                    raise abi.not_finite_error(samples, position, self.frontend.sample_rate)
            if self._errcheck(code) != self.frontend.n_frames:
                raise EngineError(_FAULTY_FRAMES)
        return out.reshape(self.frontend.mel_shape)

    def filters(self, channel: int) -> np.ndarray:
        """A channel's filter bank, float32 [n_mels, 1 + n_fft // 2], the lowest band first."""
        out = np.empty((self.frontend.n_mels, self.frontend.channels[channel].n_fft // 2 + 1), np.float32)
        self._errcheck(self._library.melspec_law_filters(self._handle, channel, out.ctypes.data, out.size))
        return out

    def close(self) -> None:
        """Frees it; it cannot be used again."""
        self._finalizer()
        self._handle = None


class WasmLaw:
    """A power-law front end inside a module's memory, with the buffers of a window."""

    def __init__(self, engine: WasmEngine, frontend: PowerLawFrontend) -> None:
        self.frontend = frontend
        self._engine = engine
        if not engine.has(abi.LAW_FUNCTIONS):
            raise missing("The mel module")
        _check_size(engine.call("melspec_law_config_size"), "The mel module")
        packed = pack_config(frontend)
        config = engine.allocate(CONFIG_SIZE + 8)
        try:
            engine.view(config, (CONFIG_SIZE,), np.uint8)[:] = np.frombuffer(packed, np.uint8)
            engine.check(engine.call("melspec_law_create", config, config + CONFIG_SIZE))
            self._handle = int(engine.view(config + CONFIG_SIZE, (1,), np.uint32)[0])
        finally:
            engine.call("melspec_free", config)
        self._addresses: list[int] = []
        self._closed = False
        self._finalizer = weakref.finalize(self, _abandon, engine, self._handle, self._addresses)
        self._finalizer.atexit = False
        floats, size, behind = _inputs(frontend)
        if engine.check(engine.call("melspec_law_bytes", self._handle, behind)) != 4 * floats:
            raise EngineError(_FAULTY_BYTES)
        for room in (4 * frontend.window_samples, size):
            self._addresses.append(engine.allocate(room))

    def run(self, samples: np.ndarray) -> np.ndarray:
        """float32 ``mel_shape`` from float32 [window_samples]; errors as of :class:`~labous.mel.MelSpectrogram`."""
        samples = float32_window(samples, self.frontend)
        self._check_open()
        into, out = self._addresses
        self._engine.view(into, (samples.size,), np.float32)[:] = samples
        floats = _inputs(self.frontend)[0]
        for i, shift in enumerate(self.frontend.shifts):
            at = out + 4 * floats * i
            code = self._engine.call("melspec_law_run", self._handle, into, samples.size, shift, at, floats)
            if code == abi.ERROR_NOT_FINITE:
                position = self._engine.call("melspec_law_bad_sample", self._handle)
                if 0 <= position < samples.size:
                    raise abi.not_finite_error(samples, position, self.frontend.sample_rate)
            if self._engine.check(code) != self.frontend.n_frames:
                raise EngineError(_FAULTY_FRAMES)
        return self._engine.view(out, self.frontend.mel_shape, np.float32).copy()

    def filters(self, channel: int) -> np.ndarray:
        """A channel's filter bank, float32 [n_mels, 1 + n_fft // 2], the lowest band first."""
        self._check_open()
        shape = (self.frontend.n_mels, self.frontend.channels[channel].n_fft // 2 + 1)
        out = self._engine.allocate(4 * shape[0] * shape[1])
        try:
            self._engine.check(
                self._engine.call("melspec_law_filters", self._handle, channel, out, shape[0] * shape[1])
            )
            return self._engine.view(out, shape, np.float32).copy()
        finally:
            self._engine.call("melspec_free", out)

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("The mel plan is closed: make a new one.")

    def close(self) -> None:
        """Gives its memory back to the module; it cannot be used again."""
        self._finalizer()
        self._engine.free_abandoned()
        self._closed = True


def _abandon(engine: WasmEngine, handle: int, addresses: list[int]) -> None:
    engine.abandoned.extend(("melspec_free", address) for address in addresses)
    engine.abandoned.append(("melspec_law_destroy", handle))
