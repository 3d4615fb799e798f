"""Power-law front ends for hypothesis, samples for them, and what numpy makes of both.

TensorFlow's constants and the scaling have the bits of float32; the spectrum and what follows are float64.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import strategies as st

from labous.power_law import PowerLawChannel, PowerLawFrontend
from melspec_cpp.bench.law import BIRDNET

SHORT = dataclasses.replace(
    BIRDNET,
    window_seconds=0.1,
    channels=(BIRDNET.channels[0], dataclasses.replace(BIRDNET.channels[1], hop_length=400)),
)
"""Of BirdNET's kind, and quick."""

BIRDNET_BANKS = (
    "f9ed152d0484df13c15a28715c6b6a960df97fa48ba0f68eb0f536160bad9e55",
    "927b924d2d8f4d0d42c461813b8b63b752ec04776b10506a593e0754db279a51",
)
BIRDNET_WINDOWS = (
    "e689f7ccf093a825f8c6252e583e432911bd546aa2ae18c9381b891addb455ec",
    "4a80fad778afac0a915dbe252979e9bc65fc8b89925e6b77cded5be3df173903",
)
"""SHA-256 of the bytes of the filter banks and the windows in its graph: float32, the lowest band first."""


@st.composite
def laws(draw: st.DrawFn) -> PowerLawFrontend:
    """Any power-law front end of some frames: every rate, size, number of channels and of shifts."""
    rate = draw(st.sampled_from([8000, 22050, 48000, 96000]))
    n_channels, n_frames = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    channels: list[tuple[int, int]] = []
    sizes = draw(st.lists(st.sampled_from([256, 512, 1024, 2048, 4096]), min_size=n_channels, max_size=n_channels))
    samples = max(sizes) + draw(st.integers(100, 3000))
    for n_fft in sizes:  # a hop that gives every channel as many frames
        channels.append((n_fft, (samples - n_fft) // (n_frames - 1) if n_frames > 1 else samples))
    slack = min(samples - n_fft - hop * (n_frames - 1) for n_fft, hop in channels)
    shifts = draw(st.sets(st.integers(0, max(slack, 0)), min_size=1, max_size=3))
    made = []
    for n_fft, hop in channels:
        f_min = draw(st.one_of(st.just(0.0), st.floats(0.0, 0.4 * rate)))
        f_max = draw(st.one_of(st.just(rate / 2), st.floats(f_min + 0.05 * rate, rate / 2)))
        exponent = draw(st.one_of(st.just(1.0), st.floats(1e-3, 1.0)))
        made.append(PowerLawChannel(n_fft=n_fft, hop_length=hop, f_min=f_min, f_max=f_max, exponent=exponent))
    return PowerLawFrontend(
        sample_rate=rate,
        window_seconds=samples / rate,
        n_mels=draw(st.integers(1, 256)),
        peak_epsilon=draw(st.sampled_from([1e-6, 1e-15, 1.0])),
        peak_offset=draw(st.sampled_from([0.5, 0.0, -3.0])),
        peak_scale=draw(st.sampled_from([2.0, -1.0, 1e-6, 1e6])),
        channels=tuple(made),
        shifts=tuple(sorted(shifts)),
    )


def window(frontend: PowerLawFrontend, seed: int, level: float = 1.0) -> np.ndarray:
    """A tone and noise: float32 [window_samples]."""
    t = np.arange(frontend.window_samples)
    noise = np.random.default_rng(seed).standard_normal(t.size)
    return (level * (0.5 * np.sin(0.3 * t) + 0.1 * noise)).astype(np.float32)


def hann(length: int) -> np.ndarray:
    """tf.signal.hann_window: float32 [length], with the bits of TensorFlow's cosine."""
    angle = np.float32(2 * np.pi) * np.arange(length, dtype=np.float32) / np.float32(length)
    return np.float32(0.5) - np.float32(0.5) * _cos(angle)


def filters(frontend: PowerLawFrontend, channel: PowerLawChannel) -> np.ndarray:
    """tf.signal.linear_to_mel_weight_matrix, transposed: float32 [n_mels, 1 + n_fft // 2], with its bits."""
    bins = _mel(_line(0.0, frontend.sample_rate / 2, channel.n_fft // 2 + 1))
    edges = _line(*_mel(np.array([channel.f_min, channel.f_max], np.float32)), frontend.n_mels + 2)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    weights[:, 0] = 0
    return weights


def _mel(hertz: np.ndarray) -> np.ndarray:
    return np.float32(1127) * _log(np.float32(1) + hertz / np.float32(700))


def _line(first: float, last: float, count: int) -> np.ndarray:
    low, high = np.float32(first), np.float32(last)
    return np.append(low + np.arange(count - 1, dtype=np.float32) * ((high - low) / np.float32(count - 1)), high)


def _horner(x: np.ndarray, *coefficients: float | np.ndarray) -> np.ndarray:
    total = np.zeros_like(x)
    for coefficient in coefficients:
        total = total * x + np.asarray(coefficient, np.float32)
    return total


def _log(values: np.ndarray) -> np.ndarray:
    mantissa, exponent = np.frexp(values)
    small = mantissa < np.float32(0.5**0.5)
    x = np.where(small, (mantissa - np.float32(1)) + mantissa, mantissa - np.float32(1))
    parts = (
        _horner(x, 7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1),
        _horner(x, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1),
        _horner(x, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
    )
    rest = np.float32(-0.5) * (x * x) + _horner(x * x * x, *parts, 0.0)
    return (exponent - small).astype(np.float32) * np.float32(np.log(2)) + (x + rest)


def _cos(angle: np.ndarray) -> np.ndarray:
    quarter = np.rint(angle * np.float32(2 / np.pi))
    x = angle
    for part in (-1.5703125, -0.000483989715576171875, 1.62865035235881805e-7, 5.56443155441677106e-11):
        x = quarter * np.float32(part) + x
    square = x * x
    cosine = _horner(square, 2.4372266125283204e-5, -0.00138865201734006405, 0.041666619479656219, -0.5, 1.0)
    sine = _horner(square, -0.00019592341140837039, 0.0083326873655616852, -0.16666662039822983, 0.0) * x + x
    return np.choose(quarter.astype(int) % 4, [cosine, -sine, -cosine, sine])


def scaled(frontend: PowerLawFrontend, samples: np.ndarray) -> np.ndarray:
    """The window scaled to its peak, float32 operation by operation."""
    one = np.float32
    shrink = one(0.25 if np.ptp(samples.astype(np.float64)) > 2.0**127 else 1.0)
    rest = samples * shrink - samples.min() * shrink
    share = rest / (rest.max() + one(frontend.peak_epsilon) * shrink)
    share[share <= 2.0**-48] = 0
    return (share - one(frontend.peak_offset)) * one(frontend.peak_scale)


def mels(frontend: PowerLawFrontend, samples: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Mel values before the power, float64 [n_shifts, n_mels, n_frames, n_channels]."""
    y = scaled(frontend, samples)
    found = np.empty((len(frontend.shifts), *frontend.input_shape[1:]))
    for i, shift in enumerate(frontend.shifts):
        for j, (channel, bank) in enumerate(zip(frontend.channels, weights, strict=True)):
            frames = np.lib.stride_tricks.sliding_window_view(y[shift:], channel.n_fft)[:: channel.hop_length]
            windowed = frames[: frontend.n_frames] * hann(channel.n_fft)
            assert windowed.dtype == np.float32
            spectrum = np.fft.rfft(windowed.astype(np.float64)).real
            found[i, ..., j] = (bank.astype(np.float64) @ spectrum.T)[::-1]
    return found
