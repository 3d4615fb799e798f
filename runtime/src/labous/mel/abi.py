"""The C ABI of the mel stage as Python sees it: layout of the configuration, codes, and what a refusal means.

``melspec_cpp/include/melspec.h`` is the authority; tests compare the two.
"""

from __future__ import annotations

import enum
import struct
from typing import Any

import numpy as np

from labous.errors import EngineError, FrontendError, SamplesError
from labous.frontend import Frontend

ABI_VERSION = 1

_CONFIG = struct.Struct("<7d14i")
CONFIG_SIZE = _CONFIG.size

JOB = struct.Struct("<IiIiIi")
"""``melspec_job`` in WebAssembly: plan, output, samples, n_samples, out, capacity."""
JOB_OUTPUT = 1  # which of its fields
CHUNK = struct.Struct("<IIi")
"""``melspec_chunk`` in WebAssembly: stream, samples, n_samples."""

_WINDOWS = {"hann": 0}
_PAD_MODES = {"constant": 0, "reflect": 1}
_MEL_SCALES = {"slaney": 0, "htk": 1}
_MEL_NORMS = {None: 0, "slaney": 1}
_REF_FIXED, _REF_MAX = 0, 1

_ERROR_ABI_VERSION = -2
_CONFIG_ERRORS = (*range(-17, -2), *range(-30, -27))  # from the sample rate to the scaling; of a power law
_ERROR_MEMORY = -18
_ERROR_N_SAMPLES = -20
_ERROR_TOO_LONG = -21
_ERROR_STEP = -26
ERROR_NOT_FINITE = -24
_TRAPPED = -100  # less the kind of trap, in a library that wasm2c made

# Every function of ABI version 1 by the kinds of its parameters: i for int32, p for a pointer.
FUNCTIONS = {
    "melspec_abi_version": "",
    "melspec_config_size": "",
    "melspec_message": "i",
    "melspec_alloc": "i",
    "melspec_free": "p",
    "melspec_create": "pp",
    "melspec_destroy": "p",
    "melspec_frames": "pi",
    "melspec_bytes": "pi",
    "melspec_run": "pipipi",
    "melspec_run_job": "p",
    "melspec_bad_sample": "p",
    "melspec_filters": "ppi",
    "melspec_window": "ppi",
    "melspec_stream_create": "piiip",
    "melspec_stream_destroy": "p",
    "melspec_stream_push": "ppi",
    "melspec_stream_pull": "p",
    "melspec_stream_run": "p",
    "melspec_stream_window": "p",
    "melspec_stream_reset": "p",
    "melspec_stream_bad_sample": "p",
}

LAW_FUNCTIONS = {
    "melspec_law_config_size": "",
    "melspec_law_create": "pp",
    "melspec_law_destroy": "p",
    "melspec_law_frames": "pi",
    "melspec_law_bytes": "pi",
    "melspec_law_run": "ppiipi",
    "melspec_law_bad_sample": "p",
    "melspec_law_filters": "pipi",
}
"""Those of power-law front ends, which older modules of version 1 lack."""


class Output(enum.IntEnum):
    """What a run computes."""

    POWER = 0
    DECIBELS = 1
    SCALED = 2


def pack_config(frontend: Frontend) -> bytes:
    """The 112 bytes of ``melspec_config``, little-endian."""
    ref_is_max = frontend.ref == "max"
    return _CONFIG.pack(
        frontend.f_min,
        frontend.f_max,
        frontend.amin,
        0.0 if ref_is_max else float(frontend.ref),
        0.0 if frontend.top_db is None else frontend.top_db,
        frontend.db_offset,
        frontend.db_scale,
        ABI_VERSION,
        frontend.sample_rate,
        frontend.n_fft,
        frontend.win_length,
        frontend.hop_length,
        _WINDOWS[frontend.window],
        int(frontend.center),
        _PAD_MODES[frontend.pad_mode],
        int(frontend.power),
        frontend.n_mels,
        _MEL_SCALES[frontend.mel_scale],
        _MEL_NORMS[frontend.mel_norm],
        _REF_MAX if ref_is_max else _REF_FIXED,
        int(frontend.top_db is not None),
    )


def float32_array(samples: Any) -> np.ndarray:
    """The samples as a contiguous float32 array [n_samples].

    Raises:
        SamplesError: not one-dimensional, or not floating point.
    """
    array = np.asarray(samples)
    if array.ndim != 1:
        raise SamplesError(f"Samples have the shape {list(array.shape)}; pass one channel, [n_samples].")
    if not np.issubdtype(array.dtype, np.floating):
        raise SamplesError(f"Samples are {array.dtype}; pass float32 with full scale ±1 (int16 divided by 32768, say).")
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused by its position
        return np.ascontiguousarray(array, dtype=np.float32)


def float32_samples(samples: Any, frontend: Frontend) -> np.ndarray:
    """The same, if a spectrogram can be computed from them at all.

    Raises:
        SamplesError: as float32_array, or fewer than a frame.
    """
    array = float32_array(samples)
    if array.size == 0 or frontend.frames_of(array.size) < 1:
        raise SamplesError(f"{array.size} samples give not one frame of {frontend.n_fft}; pass at least that many.")
    return array


def not_finite_error(samples: np.ndarray, position: int, sample_rate: int, before: int = 0) -> SamplesError:
    """The error for a NaN or infinite sample at a position in an array that begins after ``before`` others."""
    at = before + position
    return SamplesError(
        f"Sample {at} (at {at / sample_rate:.3f} s) is {samples[position]}; "
        "no spectrogram can be computed from it: repair the recording or leave it out."
    )


def refusal(code: int, message: str) -> EngineError | FrontendError | SamplesError:
    """The error for a negative code, whose sentence is the module's own."""
    if code in _CONFIG_ERRORS:
        return FrontendError(f"Front end: the mel stage refuses it: {message}.")
    if code in (_ERROR_N_SAMPLES, _ERROR_STEP):
        return SamplesError(f"The mel stage refuses the window or the step: {message}.")
    if code == _ERROR_TOO_LONG:
        return SamplesError(f"The samples are too many for one run: {message}.")
    if code == _ERROR_MEMORY:
        return EngineError("The mel stage is out of memory: pass the samples in shorter parts, or a shorter window.")
    if code < _TRAPPED:
        return EngineError(f"The mel module trapped: {message}.")
    return EngineError(f"The mel stage failed with code {code}: {message}.")


def check_module(abi_version: int, config_size: int, where: str) -> None:
    """Refuses a module that speaks another version of the ABI.

    Raises:
        EngineError: it does.
    """
    if abi_version != ABI_VERSION or config_size != CONFIG_SIZE:
        raise EngineError(
            f"{where} has version {abi_version} of the mel stage's ABI (config of {config_size} bytes); this labous "
            f"knows version {ABI_VERSION} ({CONFIG_SIZE} bytes): install a labous of the same age as the module."
        )
