"""Augmentation on mel power, where sounds add: mixup, stationary noise, gain, masks.

Source of mixup with union targets and of masking: Zhang et al. 2018 (arXiv:1710.09412), Park et al. 2019
(arXiv:1904.08779).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labous.frontend import Frontend
from training.errors import ConfigError

Array = NDArray[np.float32]

_SMALLEST = np.finfo(np.float32).tiny


@dataclasses.dataclass(frozen=True)
class Augment:
    """How training windows are disturbed; conf/augment says what each value means. Levels are dB, pairs [low, high]."""

    mixup_probability: float
    mixup_snr_db: Sequence[float]
    noise_probability: float
    noise_snr_db: Sequence[float]
    noise_slope_db: Sequence[float]
    gain_db: Sequence[float]
    time_masks: int
    time_mask_seconds: float
    frequency_masks: int
    frequency_mask_bands: int
    frequency_shift_bands: int
    time_stretch: Sequence[float]

    def __post_init__(self) -> None:
        for name in ("mixup_probability", "noise_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} is {getattr(self, name)}; a probability lies between 0 and 1.")
        for name in ("mixup_snr_db", "noise_snr_db", "noise_slope_db", "gain_db"):
            pair = getattr(self, name)
            if len(pair) != 2 or pair[0] > pair[1]:
                raise ConfigError(f"augment.{name} is {list(pair)}; write [low, high] in decibels.")
        if len(self.time_stretch) != 2 or not 0 < self.time_stretch[0] <= self.time_stretch[1]:
            raise ConfigError(
                f"augment.time_stretch is {list(self.time_stretch)}; write [slowest, fastest], 1 as it is."
            )


def to_power(mel: Array, frontend: Frontend) -> Array:
    """Mel power [..., n_mels, n_frames] from the model's input, in units of the front end's reference.

    Where ``ref`` is "max", that is the window's own largest power. What ``top_db`` has raised stays raised.
    """
    return np.power(np.float32(10), (mel / frontend.db_scale - frontend.db_offset) / 10, dtype=np.float32)


def to_input(power: Array, frontend: Frontend) -> Array:
    """The model's input from mel power: the inverse of :func:`to_power`, with the front end's floor.

    docs/frontend-spec.md, section 6. A number as ``ref`` and ``top_db`` are exact. Where ``ref`` is "max" the array
    [n_mels, n_frames] is referred to its own maximum anew; what that was in units of ``amin`` is no longer known, so
    it is taken for 1.
    """
    exponent = 2 / frontend.power  # amin and ref are magnitudes where the front end's power is 1
    floor = frontend.amin**exponent
    if isinstance(frontend.ref, str):
        power = power / np.maximum(power.max(axis=(-2, -1), keepdims=True), _SMALLEST)
    else:
        floor /= max(frontend.amin, frontend.ref) ** exponent
    decibels = 10 * np.log10(np.maximum(power, np.maximum(np.float32(floor), _SMALLEST)))
    if frontend.top_db is not None:
        decibels = np.maximum(decibels, decibels.max(axis=(-2, -1), keepdims=True) - frontend.top_db)
    return ((decibels + frontend.db_offset) * frontend.db_scale).astype(np.float32)


def disturb(
    mel: Array,
    targets: Array,
    other: Array,
    other_targets: Array,
    augment: Augment,
    frontend: Frontend,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """One training window from two.

    Args:
        mel, other: model inputs [n_mels, n_frames] of two recordings.
        targets, other_targets: their targets [n_labels], in [0, 1].

    Returns:
        The disturbed model input and its targets (the union where the two were mixed).
    """
    power = to_power(_shifted(mel, augment, rng), frontend)
    if rng.random() < augment.mixup_probability:
        second = to_power(_shifted(other, augment, rng), frontend)
        power = power + second * _level(power, second, _between(augment.mixup_snr_db, rng))
        targets = np.maximum(targets, other_targets)
    if rng.random() < augment.noise_probability:
        noise = _noise(power.shape, _between(augment.noise_slope_db, rng), frontend, rng)
        power = power + noise * _level(power, noise, _between(augment.noise_snr_db, rng))
    power = power * 10 ** (_between(augment.gain_db, rng) / 10)
    mixed = to_input(power, frontend)
    _mask(mixed, augment, frontend, rng)
    return mixed, targets


def _shifted(mel: Array, augment: Augment, rng: np.random.Generator) -> Array:
    """The window some bands higher or lower: birds of one kind differ in pitch. The edge band fills what is left."""
    most = augment.frequency_shift_bands
    bands = np.arange(len(mel)) + int(rng.integers(-most, most + 1))
    return mel[np.clip(bands, 0, len(mel) - 1)]


def _between(pair: Sequence[float], rng: np.random.Generator) -> float:
    low, high = pair
    return float(rng.uniform(low, high))


def _level(power: Array, other: Array, snr_db: float) -> float:
    """The factor that puts ``other`` snr_db below ``power``, by their 99th percentiles over time: calls are short."""
    loud = float(np.percentile(power.sum(axis=0), 99))
    quiet = float(np.percentile(other.sum(axis=0), 99))
    return loud / max(quiet, 1e-20) * 10 ** (-snr_db / 10)


def _noise(shape: tuple[int, ...], slope_db: float, frontend: Frontend, rng: np.random.Generator) -> Array:
    """Power of stationary noise with a spectral slope in dB per octave: exponential in each cell, as noise power is."""
    octaves, gain = _bands(frontend)
    # bands wider than the analysis window average several bins: four degrees of freedom lie in between
    cells = rng.standard_gamma(4.0, size=shape).astype(np.float32)
    return cells * (gain * np.power(np.float32(10), octaves * np.float32(slope_db / 10)))[:, None]


@functools.lru_cache(maxsize=8)
def _bands(frontend: Frontend) -> tuple[Array, Array]:
    """Octaves of each band's centre over the first, and the power that white noise has in each; both [n_mels].

    Bands of unit area give all the same; others the more, the wider they are.
    """
    import librosa

    edges = librosa.mel_frequencies(
        frontend.n_mels + 2, fmin=frontend.f_min, fmax=frontend.f_max, htk=frontend.mel_scale == "htk"
    )
    octaves = np.log2(edges[1:-1] / edges[1]).astype(np.float32)
    widths = (edges[2:] - edges[:-2]) / (edges[2] - edges[0])
    gain = np.ones_like(widths) if frontend.mel_norm == "slaney" else widths ** (2 / frontend.power)
    return octaves, gain.astype(np.float32)


def _mask(mel: Array, augment: Augment, frontend: Frontend, rng: np.random.Generator) -> None:
    bands, frames = mel.shape
    fill = mel.min()
    longest = max(1, min(frames, round(augment.time_mask_seconds * frontend.sample_rate / frontend.hop_length)))
    for _ in range(augment.time_masks):
        width = int(rng.integers(0, longest + 1))
        start = int(rng.integers(0, frames - width + 1))
        mel[:, start : start + width] = fill
    for _ in range(augment.frequency_masks):
        width = int(rng.integers(0, min(bands, augment.frequency_mask_bands) + 1))
        start = int(rng.integers(0, bands - width + 1))
        mel[start : start + width] = fill
