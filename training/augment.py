"""Augmentation on mel power, where sounds add: mixup, backgrounds, stationary noise, gain, rolls, shifts, masks.

Sounds are added as their mel powers rather than as waveforms: what is lost is how their phases meet within one frame
and band, which no label depends on; what is gained is that features are computed once.

Source of mixup with union targets and of masking: Zhang et al. 2018 (arXiv:1710.09412), Park et al. 2019
(arXiv:1904.08779).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labous.frontend import Frontend
from training.errors import ConfigError

Array = NDArray[np.float32]

_SMALLEST = np.finfo(np.float32).tiny
# numpy's exp and log of float32 are several times as fast as powers of ten and log10
_NEPERS_PER_DB = math.log(10) / 10
_NOISE_CELLS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Augment:
    """How training windows are disturbed; conf/augment says what each value means. Levels are dB, pairs [low, high]."""

    mixup_probability: float
    mixup_sources: int
    mixup_snr_db: Sequence[float]
    background_probability: float
    background_snr_db: Sequence[float]
    nocall_probability: float
    noise_probability: float
    noise_snr_db: Sequence[float]
    noise_slope_db: Sequence[float]
    gain_probability: float
    gain_db: Sequence[float]
    time_roll_probability: float
    time_mask_probability: float
    time_masks: int
    time_mask_seconds: float
    frequency_mask_probability: float
    frequency_masks: int
    frequency_mask_bands: int
    frequency_shift_probability: float
    frequency_shift_bands: int
    time_stretch_probability: float
    time_stretch: Sequence[float]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_probability") and not 0 <= value <= 1:
                raise ConfigError(f"augment.{field.name} is {value}; a probability lies between 0 and 1.")
            if field.name.endswith("_db") and (len(value) != 2 or value[0] > value[1]):
                raise ConfigError(f"augment.{field.name} is {list(value)}; write [low, high] in decibels.")
        if self.mixup_sources < 2:
            raise ConfigError(f"augment.mixup_sources is {self.mixup_sources}; a mixture has at least 2.")
        for name in ("time_masks", "time_mask_seconds", "frequency_masks", "frequency_mask_bands"):
            if getattr(self, name) < 0:
                raise ConfigError(f"augment.{name} is {getattr(self, name)}; it must be at least 0.")
        if self.frequency_shift_bands < 0:
            raise ConfigError(f"augment.frequency_shift_bands is {self.frequency_shift_bands}; it must be at least 0.")
        if len(self.time_stretch) != 2 or not 0 < self.time_stretch[0] <= self.time_stretch[1]:
            raise ConfigError(
                f"augment.time_stretch is {list(self.time_stretch)}; write [slowest, fastest], 1 as it is."
            )

    def draw_stretch(self, rng: np.random.Generator) -> float:
        """The pace of a window: 1 as it is, more is faster."""
        return between(self.time_stretch, rng) if _happens(self.time_stretch_probability, rng) else 1.0

    def draw_others(self, rng: np.random.Generator) -> int:
        """How many recordings are added to a window."""
        return int(rng.integers(1, self.mixup_sources)) if _happens(self.mixup_probability, rng) else 0


def to_power(mel: Array, frontend: Frontend) -> Array:
    """Mel power [..., n_mels, n_frames] from the model's input, in units of the front end's reference.

    Where ``ref`` is "max", that is the window's own largest power. What ``top_db`` has raised stays raised.
    """
    nepers = mel * np.float32(_NEPERS_PER_DB / frontend.db_scale)
    nepers -= np.float32(_NEPERS_PER_DB * frontend.db_offset)
    return np.exp(nepers, out=nepers)


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
    decibels = np.maximum(power, max(np.float32(floor), _SMALLEST))
    np.log(decibels, out=decibels)
    decibels *= np.float32(1 / _NEPERS_PER_DB)
    if frontend.top_db is not None:
        decibels = np.maximum(decibels, decibels.max(axis=(-2, -1), keepdims=True) - frontend.top_db)
    decibels += np.float32(frontend.db_offset)
    decibels *= np.float32(frontend.db_scale)
    return decibels


def disturb(
    mel: Array,
    others: Sequence[Array],
    background: Array | None,
    augment: Augment,
    frontend: Frontend,
    rng: np.random.Generator,
) -> Array:
    """One training window from a clean one and what is to be heard beside it.

    Args:
        mel: the model's input [n_mels, n_frames].
        others: other recordings' windows, each added at a level drawn from ``mixup_snr_db``.
        background: a window without birds, added at a level drawn from ``background_snr_db``.

    Returns:
        The disturbed model input, a new array.
    """
    power = to_power(_moved(mel, augment, rng), frontend)
    clean = _loudness(power)
    for other in others:
        second = to_power(_moved(other, augment, rng), frontend)
        _add(power, second, clean, between(augment.mixup_snr_db, rng))
    if background is not None:
        _add(power, to_power(background, frontend), clean, between(augment.background_snr_db, rng))
    if _happens(augment.noise_probability, rng):
        noise = _noise(power.shape, between(augment.noise_slope_db, rng), frontend, rng)
        _add(power, noise, _loudness(power), between(augment.noise_snr_db, rng))
    if _happens(augment.gain_probability, rng):
        power *= np.float32(10 ** (between(augment.gain_db, rng) / 10))
    mixed = to_input(power, frontend)
    _mask(mixed, augment, frontend, rng)
    return mixed


def _moved(mel: Array, augment: Augment, rng: np.random.Generator) -> Array:
    """The window some bands higher or lower, and turned round in time."""
    if _happens(augment.frequency_shift_probability, rng):
        # birds of one kind differ in pitch; the edge band fills what is left
        most = augment.frequency_shift_bands
        bands = np.arange(len(mel)) + int(rng.integers(-most, most + 1))
        mel = mel[np.clip(bands, 0, len(mel) - 1)]
    if _happens(augment.time_roll_probability, rng):
        turn = int(rng.integers(mel.shape[1]))
        mel = np.concatenate([mel[:, turn:], mel[:, :turn]], axis=1)
    return mel


def _happens(probability: float, rng: np.random.Generator) -> bool:
    return bool(rng.random() < probability)


def between(pair: Sequence[float], rng: np.random.Generator) -> float:
    """A number of the interval [low, high], each as likely as any other."""
    low, high = pair
    return float(rng.uniform(low, high))


def _loudness(power: Array) -> float:
    """The 99th percentile of a window's power over time: calls are short."""
    frames = power.sum(axis=0)
    at = 0.99 * (len(frames) - 1)
    low, high = math.floor(at), math.ceil(at)
    frames.partition((low, high))
    return float(frames[low] + (at - low) * (frames[high] - frames[low]))


def _add(power: Array, other: Array, loudness: float, snr_db: float) -> None:
    """Add ``other``, at a level of snr_db below ``loudness``; both arrays are overwritten."""
    other *= np.float32(loudness / max(_loudness(other), 1e-20) * 10 ** (-snr_db / 10))
    power += other


def _noise(shape: tuple[int, ...], slope_db: float, frontend: Frontend, rng: np.random.Generator) -> Array:
    """Power of stationary noise with a spectral slope in dB per octave: random in each cell, as noise power is."""
    octaves, gain = _bands(frontend)
    size = math.prod(shape)
    table = _noise_cells(max(_NOISE_CELLS, 1 << (size - 1).bit_length() + 1))
    start = int(rng.integers(len(table) - size + 1))
    return (
        table[start : start + size].reshape(shape)
        * (gain * np.exp(octaves * np.float32(slope_db * _NEPERS_PER_DB)))[:, None]
    )


@functools.lru_cache(maxsize=2)
def _noise_cells(size: int) -> Array:
    """Random numbers to cut noise from: drawing them anew takes longer than all the rest of an example."""
    # bands wider than the analysis window average several bins: four degrees of freedom lie in between
    return np.random.default_rng(0).standard_gamma(4.0, size=size, dtype=np.float32)


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
    masks = augment.time_masks if _happens(augment.time_mask_probability, rng) else 0
    longest = min(frames, round(augment.time_mask_seconds * frontend.sample_rate / frontend.hop_length))
    for _ in range(masks):
        width = int(rng.integers(0, longest + 1))
        start = int(rng.integers(0, frames - width + 1))
        mel[:, start : start + width] = fill
    masks = augment.frequency_masks if _happens(augment.frequency_mask_probability, rng) else 0
    for _ in range(masks):
        width = int(rng.integers(0, min(bands, augment.frequency_mask_bands) + 1))
        start = int(rng.integers(0, bands - width + 1))
        mel[start : start + width] = fill
