"""Sounds that songs and calls are put together from: gliding tones, noise, formants, and their order in time.

All sounds are float64 [n_samples] at RATE, frequencies in Hz, times in seconds, levels linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

RATE = 32_000
Signal = npt.NDArray[np.float64]
Generator = np.random.Generator
NYQUIST_GUARD = 15_000.0  # a harmonic above it is left out rather than folded back


@dataclass(frozen=True)
class Bird:
    """One individual: what differs between two birds of a species and stays the same from song to song."""

    seed: int

    def dialect(self) -> Generator:
        """The same random numbers every time: a bird's repertoire."""
        return np.random.default_rng(self.seed)

    @property
    def pitch(self) -> float:
        """Factor on every frequency, within about ±6 %."""
        return float(np.exp(np.clip(np.random.default_rng([self.seed, 1]).normal(0.0, 0.03), -0.06, 0.06)))

    @property
    def tempo(self) -> float:
        """Factor on the speed, within about ±15 %."""
        return float(np.exp(np.clip(np.random.default_rng([self.seed, 2]).normal(0.0, 0.07), -0.15, 0.15)))


Song = Callable[[Bird, Generator], Signal]


def samples(seconds: float) -> int:
    return max(1, round(seconds * RATE))


def silence(seconds: float) -> Signal:
    return np.zeros(samples(seconds))


def envelope(n: int, attack: float, release: float) -> Signal:
    """Rise and fall of raised cosines, `attack` and `release` being shares of the n samples."""
    shape = np.ones(n)
    rise, fall = max(1, round(attack * n)), max(1, round(release * n))
    shape[:rise] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(rise) / rise)
    shape[n - fall :] *= 0.5 + 0.5 * np.cos(np.pi * (np.arange(fall) + 1) / fall)
    return shape


def curve(values: Sequence[float], n: int, times: Sequence[float] | None = None) -> Signal:
    """Smooth line through `values` at `times` (0 … 1, evenly spread when None), n samples."""
    at = np.linspace(0.0, 1.0, len(values)) if times is None else np.asarray(times)
    line = np.interp(np.linspace(0.0, 1.0, n), at, values)
    width = max(1, n // 12)
    if width < 3 or len(values) < 3:
        return line
    padded = np.pad(line, width, mode="edge")
    total = np.cumsum(padded)
    smooth = (total[2 * width :] - total[: -2 * width]) / (2 * width)
    return smooth[:n]


def tone(
    frequencies: Sequence[float] | Signal,
    seconds: float,
    harmonics: Sequence[float] = (1.0,),
    attack: float = 0.15,
    release: float = 0.3,
    vibrato: tuple[float, float] = (0.0, 0.0),
    tremolo: tuple[float, float] = (0.0, 0.0),
) -> Signal:
    """A gliding tone with harmonics (level of each, the fundamental first).

    `vibrato` is (rate in Hz, depth as a share of the frequency), `tremolo` (rate in Hz, depth 0 … 1 of the level).
    """
    n = samples(seconds)
    line = curve(list(frequencies), n)
    time = np.arange(n) / RATE
    if vibrato[1]:
        line = line * (1.0 + vibrato[1] * np.sin(2 * np.pi * vibrato[0] * time))
    phase = 2 * np.pi * np.cumsum(line) / RATE
    top = float(line.max())
    sound = np.zeros(n)
    for order, level in enumerate(harmonics, start=1):
        if level and order * top < NYQUIST_GUARD:
            sound += level * np.sin(order * phase)
    if tremolo[1]:
        sound *= 1.0 - tremolo[1] * (0.5 + 0.5 * np.cos(2 * np.pi * tremolo[0] * time))
    return sound * envelope(n, attack, release)


def band(sound: Signal, gain: Callable[[Signal], Signal]) -> Signal:
    """`sound` through a zero-phase filter: `gain` of the frequencies in Hz."""
    size = scipy.fft.next_fast_len(len(sound), real=True)
    spectrum = scipy.fft.rfft(sound, size)
    return scipy.fft.irfft(spectrum * gain(scipy.fft.rfftfreq(size, 1 / RATE)), size)[: len(sound)]


def peaks(*formants: tuple[float, float, float]) -> Callable[[Signal], Signal]:
    """Gain made of bumps: (center in Hz, width in Hz, level) each, over a floor of 2 %."""

    def gain(frequency: Signal) -> Signal:
        total = np.full_like(frequency, 0.02)
        for center, width, level in formants:
            total += level / (1.0 + ((frequency - center) / width) ** 2)
        return total

    return gain


def between(low: float, high: float) -> Callable[[Signal], Signal]:
    """Gain of a band with soft edges (fourth order)."""

    def gain(frequency: Signal) -> Signal:
        ratio = np.maximum(frequency, 1.0)
        return 1.0 / np.sqrt((1.0 + (low / ratio) ** 8) * (1.0 + (ratio / high) ** 8))

    return gain


def noise(rng: Generator, seconds: float, low: float, high: float) -> Signal:
    """White noise between two frequencies, root mean square 1."""
    sound = band(rng.standard_normal(samples(seconds)), between(low, high))
    return sound / (np.sqrt(np.mean(sound**2)) + 1e-12)


def join(*parts: Signal) -> Signal:
    return np.concatenate(parts)


def mix(*parts: Signal) -> Signal:
    """Sum of sounds that start together."""
    total = np.zeros(max(map(len, parts)))
    for part in parts:
        total[: len(part)] += part
    return total


def jitter(rng: Generator, value: float, share: float) -> float:
    """`value`, off by a normal error of `share` of it."""
    return float(value * (1.0 + share * np.clip(rng.standard_normal(), -2.0, 2.0)))


def normalize(sound: Signal) -> Signal:
    """`sound` with a peak of 1."""
    return sound / (np.abs(sound).max() + 1e-12)
