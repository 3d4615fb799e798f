"""Nine signals that are hard for a spectrogram in different ways; seeded, so that they are the same everywhere."""

from __future__ import annotations

import numpy as np


def hard_signals(sample_rate: int, n_samples: int) -> dict[str, np.ndarray]:
    """Signals by name, each float32 [n_samples] with full scale ±1.

    Args:
        sample_rate: Hz.
        n_samples: their length.
    """
    t = np.arange(n_samples) / sample_rate
    duration = n_samples / sample_rate
    nyquist = sample_rate / 2
    noise = np.random.default_rng(20210601).standard_normal(n_samples)
    tone = np.sin(2 * np.pi * 0.13 * nyquist * t)
    chirp = np.sin(2 * np.pi * (0.01 * nyquist * t + (0.94 * nyquist) * t**2 / (2 * duration)))
    impulse = np.zeros(n_samples)
    impulse[n_samples // 3] = 1.0
    notes = np.sin(2 * np.pi * 0.25 * nyquist * t + 3 * np.sin(2 * np.pi * 12 * t)) * (np.sin(2 * np.pi * 3 * t) > 0)
    signals = {
        "noise": 0.1 * noise,
        "tone": 0.9 * tone,
        "chirp": 0.5 * chirp,
        "silence": np.zeros(n_samples),
        "impulse": impulse,
        "square": 0.5 * np.sign(np.sin(2 * np.pi * 440 * t + 0.1)),
        "very quiet": 1e-6 * noise,
        "mixture": 0.3 * tone + 0.2 * chirp + 0.05 * noise,
        "offset and weak bird": 0.5 + 1e-3 * notes + 1e-5 * noise,
    }
    return {name: signal.astype(np.float32) for name, signal in signals.items()}
