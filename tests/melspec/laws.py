"""Power-law front ends for hypothesis, samples for them, and what numpy makes of both in float64."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from labous.power_law import PowerLawChannel, PowerLawFrontend

BIRDNET = PowerLawFrontend(
    sample_rate=48000,
    window_seconds=3.0,
    n_mels=96,
    peak_epsilon=9.999999974752427e-07,
    peak_offset=0.5,
    peak_scale=2.0,
    channels=(
        PowerLawChannel(n_fft=2048, hop_length=278, f_min=0.0, f_max=3000.0, exponent=0.22952409088611603),
        PowerLawChannel(n_fft=1024, hop_length=280, f_min=500.0, f_max=15000.0, exponent=0.1905273050069809),
    ),
    shifts=(0,),
)
"""BirdNET v2.4's."""


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
        peak_epsilon=draw(st.sampled_from([1e-6, 1e-300, 1.0])),
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


def filters(frontend: PowerLawFrontend, channel: PowerLawChannel) -> np.ndarray:
    """tf.signal.linear_to_mel_weight_matrix in float64, transposed: float32 [n_mels, 1 + n_fft // 2]."""

    def mel(hz: np.ndarray) -> np.ndarray:
        return 1127.0 * np.log(1.0 + hz / 700.0)

    bins = mel(np.arange(channel.n_fft // 2 + 1) * (frontend.sample_rate / channel.n_fft))
    edges = np.linspace(mel(np.array(channel.f_min)), mel(np.array(channel.f_max)), frontend.n_mels + 2)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    weights[:, 0] = 0
    return weights


def mels(frontend: PowerLawFrontend, samples: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Mel values before the power, float64 [n_shifts, n_mels, n_frames, n_channels], and how far they may be off."""
    x = samples.astype(np.float64)
    v = x - x.min()
    y = (v / (v.max() + frontend.peak_epsilon) - frontend.peak_offset) * frontend.peak_scale
    found = np.empty((len(frontend.shifts), *frontend.input_shape[1:]))
    for i, shift in enumerate(frontend.shifts):
        for j, (channel, bank) in enumerate(zip(frontend.channels, weights, strict=True)):
            frames = np.lib.stride_tricks.sliding_window_view(y[shift:], channel.n_fft)[:: channel.hop_length]
            hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(channel.n_fft) / channel.n_fft)
            spectrum = np.fft.rfft(frames[: frontend.n_frames] * hann).real
            found[i, ..., j] = (bank.astype(np.float64) @ spectrum.T)[::-1]
    return found
