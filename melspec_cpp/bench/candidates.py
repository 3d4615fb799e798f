"""What takes part beside the peers: librosa and the builds of the mel stage, at settings A, B and C."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from labous.errors import EngineError
from labous.frontend import Frontend
from labous.mel import MelEngine, MelSpectrogram, NativeEngine, WasmEngine
from training.features import EXACT_LIBRARY, FAST_LIBRARY, LibrosaMel, librosa_arguments

SETTINGS = {"A": (2048, 512, 128), "B": (1024, 320, 64), "C": (2048, 320, 128)}  # n_fft, hop_length, n_mels

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGED_MODULE = ROOT / "runtime" / "src" / "labous" / "melspec.wasm"
_BUILD = ROOT / "melspec_cpp" / "build"

_BASE = Frontend(
    sample_rate=32000, window_seconds=5.0, n_fft=2048, win_length=2048, hop_length=512, window="hann", center=True,
    pad_mode="constant", power=2.0, n_mels=128, f_min=0.0, f_max=16000.0, mel_scale="slaney", mel_norm="slaney",
    amin=1e-10, ref=1.0, top_db=None, db_offset=0.0, db_scale=1.0,
)  # fmt: skip


class AbsentError(Exception):
    """A candidate cannot take part; the message says why in a few words."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way from samples to a logarithmic mel spectrogram.

    Attributes:
        log_mel: what is timed: float32 [n_samples] to [n_mels, n_frames] in a logarithmic unit of its own.
        power: the mel power, [n_mels, n_frames], where it can be had apart from the logarithm.
        decibels_per_unit: dB per unit of log_mel.
        mel_scale: of the filter bank, "slaney" or "htk": what it must be compared with.
    """

    log_mel: Callable[[np.ndarray], np.ndarray]
    power: Callable[[np.ndarray], np.ndarray] | None = None
    decibels_per_unit: float = 1.0
    mel_scale: str = "slaney"


def frontend_of(n_fft: int, hop_length: int, n_mels: int) -> Frontend:
    """5 s at 32 kHz, centred, all bands up to the Nyquist frequency, dB against 1."""
    return dataclasses.replace(_BASE, n_fft=n_fft, win_length=n_fft, hop_length=hop_length, n_mels=n_mels)


def librosa_default(frontend: Frontend) -> Candidate:
    """librosa.feature.melspectrogram and power_to_db, which make the filter bank anew at every call."""
    mel = LibrosaMel(frontend)
    return Candidate(mel.decibels, mel.power)


def librosa_cached(frontend: Frontend) -> Candidate:
    """The same steps of librosa with a filter bank made beforehand."""
    import librosa

    arguments = librosa_arguments(frontend)
    bank = librosa.filters.mel(**arguments["filters"])
    stft = {key: arguments["melspectrogram"][key]
            for key in ("n_fft", "hop_length", "win_length", "window", "center", "pad_mode")}  # fmt: skip

    def power(samples: np.ndarray) -> np.ndarray:
        spectrum = np.abs(librosa.stft(samples, **stft)) ** 2
        return np.einsum("ft,mf->mt", spectrum, bank, optimize=True)

    def decibels(samples: np.ndarray) -> np.ndarray:
        return librosa.power_to_db(power(samples), **arguments["decibels"])

    return Candidate(decibels, power)


def _wasm_scalar(path: Path) -> MelEngine:
    # a module other than the packaged one is watched unless told otherwise, which costs time
    return WasmEngine(path.read_bytes(), time_limit=math.inf)


def _ours(path: Path, make_engine: Callable[[Path], MelEngine]) -> Callable[[Frontend], Candidate]:
    def candidate(frontend: Frontend) -> Candidate:
        if not path.exists():
            raise AbsentError(f"not built: there is no {path.relative_to(ROOT)}")
        try:
            mel = MelSpectrogram(frontend, make_engine(path))
        except EngineError as error:
            raise AbsentError(str(error)) from error
        return Candidate(mel.decibels, mel.power)

    return candidate


BUILDS: dict[str, Callable[[Frontend], Candidate]] = {
    "wasm": _ours(PACKAGED_MODULE, lambda _: WasmEngine()),
    "wasm scalar": _ours(_BUILD / "melspec-scalar.wasm", _wasm_scalar),
    "native": _ours(EXACT_LIBRARY, NativeEngine),
    "native fast": _ours(FAST_LIBRARY, NativeEngine),
}
"""Makers of the builds' candidates by name; each raises AbsentError where its build is missing or does not load."""
