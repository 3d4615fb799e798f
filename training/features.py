"""The mel spectrogram in training: librosa, the reference, or the mel stage, by one interface.

:func:`librosa_arguments` is the one place where a :class:`labous.frontend.Frontend` becomes librosa's arguments.
"""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from labous.errors import EngineError, SamplesError
from labous.frontend import Frontend
from labous.mel import MelSpectrogram, NativeEngine, WasmEngine

BACKENDS = ("librosa", "native", "wasm")

_ROOT = Path(__file__).resolve().parent.parent
EXACT_LIBRARY = _ROOT / "melspec_cpp" / "build" / "libmelspec.so"
"""The mel stage for this machine, with the bits of melspec.wasm."""
FAST_LIBRARY = _ROOT / "melspec_cpp" / "build" / "libmelspec-fast.so"
"""The same with fused multiply-adds: within the same bounds, with other last bits."""


class Mel(Protocol):
    """What :class:`labous.mel.MelSpectrogram` and :class:`LibrosaMel` have in common."""

    def power(self, samples: np.ndarray) -> np.ndarray:
        """Mel power, float32 [n_mels, n_frames]."""

    def decibels(self, samples: np.ndarray) -> np.ndarray:
        """The same in dB."""

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """What the model sees."""


def conf_frontends() -> dict[str, Frontend]:
    """Every front end of conf/frontend, by name."""
    from omegaconf import OmegaConf

    frontends = {}
    for path in sorted((_ROOT / "conf" / "frontend").glob("*.yaml")):
        constants = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(constants, dict)
        constants.pop("_target_")
        frontends[path.stem] = Frontend.from_dict({str(key): value for key, value in constants.items()})
    return frontends


def librosa_arguments(frontend: Frontend) -> dict[str, dict[str, Any]]:
    """Every argument of librosa for a front end, none left to a default.

    Returns:
        ``melspectrogram``: of librosa.feature.melspectrogram, but for y;
        ``filters``: of librosa.filters.mel, the part of them that makes the filter bank;
        ``decibels``: of librosa.power_to_db (power 2) or librosa.amplitude_to_db (power 1), but for S.
    """
    # from 1.0 on, librosa is told over which axes a maximum is taken; before, it was always the whole array
    whole_array = {"axes": None} if int(importlib.metadata.version("librosa").split(".")[0]) >= 1 else {}
    bands = {
        "n_mels": frontend.n_mels,
        "fmin": frontend.f_min,
        "fmax": frontend.f_max,
        "htk": frontend.mel_scale == "htk",
        "norm": frontend.mel_norm,
    }
    return {
        "melspectrogram": {
            "sr": frontend.sample_rate,
            "S": None,
            "n_fft": frontend.n_fft,
            "hop_length": frontend.hop_length,
            "win_length": frontend.win_length,
            "window": frontend.window,
            "center": frontend.center,
            "pad_mode": frontend.pad_mode,
            "power": frontend.power,
            "dtype": np.float32,
            **bands,
        },
        "filters": {"sr": frontend.sample_rate, "n_fft": frontend.n_fft, "dtype": np.float32, **bands},
        "decibels": {
            "ref": np.max if frontend.ref == "max" else frontend.ref,
            "amin": frontend.amin,
            "top_db": frontend.top_db,
            **whole_array,
        },
    }


class LibrosaMel:
    """The reference: librosa with the methods of :class:`labous.mel.MelSpectrogram`.

    Args:
        frontend: the constants.
        dtype: in what precision librosa is asked to work, and the results' dtype. float32 is how librosa is usually
            called; float64 is as near to the exact answer as it gets.
    """

    def __init__(self, frontend: Frontend, dtype: type = np.float32) -> None:
        self.frontend = frontend
        self._dtype = dtype
        self._arguments = librosa_arguments(frontend)

    def power(self, samples: np.ndarray) -> np.ndarray:
        """Mel power (mel magnitude where the front end's power is 1), [n_mels, n_frames].

        Raises:
            SamplesError: librosa refuses the samples (NaN, infinite, or fewer than a frame).
        """
        import librosa

        try:
            spectrogram = librosa.feature.melspectrogram(
                y=np.asarray(samples, self._dtype), **self._arguments["melspectrogram"]
            )
        except librosa.util.exceptions.ParameterError as error:
            raise SamplesError(f"librosa refuses the samples: {error}.") from error
        return spectrogram.astype(self._dtype, copy=False)

    def decibels(self, samples: np.ndarray) -> np.ndarray:
        """The same in dB, [n_mels, n_frames]."""
        import librosa

        to_decibels = librosa.power_to_db if self.frontend.power == 2 else librosa.amplitude_to_db
        return to_decibels(self.power(samples), **self._arguments["decibels"]).astype(self._dtype, copy=False)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """What the model sees: ``(decibels + db_offset) * db_scale``, [n_mels, n_frames]."""
        scaled = (self.decibels(samples) + self.frontend.db_offset) * self.frontend.db_scale
        return scaled.astype(self._dtype, copy=False)


def native_library() -> Path:
    """The fast build where this machine is known to run it, else the exact one."""
    return FAST_LIBRARY if _fuses(platform.machine().lower(), Path("/proc/cpuinfo")) else EXACT_LIBRARY


def _fuses(machine: str, cpuinfo: Path) -> bool:
    """Whether the fast build's instructions are there: on x86-64 what Linux says of AVX2 and FMA."""
    if machine in ("aarch64", "arm64"):
        return True
    try:
        flags = next((line.split() for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), [])
    except OSError:
        return False
    return machine == "x86_64" and {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"} <= set(flags)


def mel_spectrogram(frontend: Frontend, backend: str) -> Mel:
    """The mel spectrogram of a front end.

    Args:
        frontend: the constants.
        backend: "librosa" (float32, the reference), "native" (native_library) or "wasm" (as a device).

    Raises:
        EngineError: the backend's name is unknown, or it is not built.
    """
    if backend == "librosa":
        return LibrosaMel(frontend)
    if backend == "native":
        return MelSpectrogram(frontend, NativeEngine(native_library()))
    if backend == "wasm":
        return MelSpectrogram(frontend, WasmEngine())
    raise EngineError(f"There is no mel backend {backend!r}; choose one of: {', '.join(BACKENDS)}.")
