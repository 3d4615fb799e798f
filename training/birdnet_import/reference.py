"""The front end of :class:`labous.power_law.PowerLawFrontend` in numpy: what a graph is held against.

float32 where the graph's own rounding decides what becomes of silence, float64 for the spectrum and after it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labous.power_law import PowerLawFrontend
from training.birdnet_import.bank import filter_bank, periodic_hann


def scaled(frontend: PowerLawFrontend, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The window scaled by its peak, float32 [window_samples]."""
    one = np.float32
    rest = samples.astype(np.float32)
    rest = rest - rest.min()
    return (rest / (rest.max() + one(frontend.peak_epsilon)) - one(frontend.peak_offset)) * one(frontend.peak_scale)


def mel_values(frontend: PowerLawFrontend, samples: NDArray[np.float32], shift: int = 0) -> NDArray[np.float64]:
    """Mel values before the power law, float64 [n_mels, n_frames, n_channels], the highest band first."""
    sound = scaled(frontend, samples)[shift:]
    maps = []
    for channel in frontend.channels:
        frames = np.lib.stride_tricks.sliding_window_view(sound, channel.n_fft)[:: channel.hop_length]
        frames = frames[: frontend.n_frames] * periodic_hann(channel.n_fft)
        bank = filter_bank(frontend.n_mels, channel.n_fft // 2 + 1, frontend.sample_rate, channel.f_min, channel.f_max)
        spectrum = np.fft.rfft(frames.astype(np.float64)).real.astype(np.float32)
        maps.append(bank[::-1].astype(np.float64) @ spectrum.T.astype(np.float64))
    return np.stack(maps, axis=-1)


def power_law(frontend: PowerLawFrontend, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the model takes, of mel values [..., n_channels]."""
    return (values**2) ** np.array([channel.exponent for channel in frontend.channels])


def spectrogram(frontend: PowerLawFrontend, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [n_mels, n_frames, n_channels] of a window; the shifts first, where there are several."""
    maps = [power_law(frontend, mel_values(frontend, samples, shift)).astype(np.float32) for shift in frontend.shifts]
    return maps[0] if len(maps) == 1 else np.stack(maps)
