"""Part law: BirdNET's front end, of 3 s at 48 kHz, by the builds of the mel stage and by numpy in float32."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from labous.mel import MelSpectrogram, NativeEngine, WasmEngine
from labous.power_law import PowerLawChannel, PowerLawFrontend
from training.features import EXACT_LIBRARY, native_library

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


def measure(rounds: int) -> dict[str, Any]:
    """Times per window, the candidates taking turns.

    Returns:
        by candidate: ``min`` and ``median``, ms, and ``error``, the largest difference from the first of them.
    """
    samples = np.random.default_rng(0).standard_normal(BIRDNET.window_samples).astype(np.float32) * np.float32(0.1)
    wasm = MelSpectrogram(BIRDNET, WasmEngine())
    candidates: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "wasm": wasm,
        "native": MelSpectrogram(BIRDNET, NativeEngine(EXACT_LIBRARY)),
        "fast": MelSpectrogram(BIRDNET, NativeEngine(native_library())),
        "numpy": _numpy([wasm.filters(channel).T.copy() for channel in range(len(BIRDNET.channels))]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, compute in candidates.items():
            begin = time.perf_counter()
            compute(samples)
            seconds[name].append(time.perf_counter() - begin)
    expected = wasm(samples)
    return {
        name: {
            "min": 1e3 * min(seconds[name]),
            "median": 1e3 * statistics.median(seconds[name]),
            "error": float(np.abs(compute(samples) - expected).max()),
        }
        for name, compute in candidates.items()
    }


def _numpy(filters: list[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """What anybody would write; filters [1 + n_fft / 2, n_mels]."""
    windows = [
        (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(c.n_fft) / c.n_fft)).astype(np.float32) for c in BIRDNET.channels
    ]

    def compute(samples: np.ndarray) -> np.ndarray:
        v = samples - samples.min()
        y = (v / (v.max() + np.float32(BIRDNET.peak_epsilon)) - np.float32(0.5)) * np.float32(2)
        maps = []
        for channel, window, weights in zip(BIRDNET.channels, windows, filters, strict=True):
            frames = np.lib.stride_tricks.sliding_window_view(y, channel.n_fft)[:: channel.hop_length]
            mel = np.fft.rfft(frames * window).real.astype(np.float32) @ weights
            maps.append((mel**2).T[::-1] ** np.float32(channel.exponent))
        return np.stack(maps, -1)

    return compute


def table(found: dict[str, Any]) -> str:
    """Least and median milliseconds by candidate."""
    lines = ["BirdNET's front end, 3 s at 48 kHz: ms a window, least and median; difference from the wasm"]
    lines += [f"  {name:<8} {of['min']:7.2f} {of['median']:7.2f}  {of['error']:.1e}" for name, of in found.items()]
    return "\n".join(lines)
