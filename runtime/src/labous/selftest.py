"""A test of the packaged mel module that needs no bundle.

The signal is made of whole numbers, so that it is the same bits everywhere; the expected values are
librosa 0.11's ``feature.melspectrogram`` of it in float64 (tests/runtime computes them again).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labous.frontend import Frontend
from labous.mel import MelSpectrogram

FRONTEND = Frontend(
    sample_rate=16_000,
    window_seconds=0.064,
    n_fft=512,
    win_length=512,
    hop_length=256,
    window="hann",
    center=False,
    pad_mode="constant",
    power=2.0,
    n_mels=4,
    f_min=200.0,
    f_max=7800.0,
    mel_scale="slaney",
    mel_norm="slaney",
    amin=1e-10,
    ref=1.0,
    top_db=None,
    db_offset=0.0,
    db_scale=1.0,
)

EXPECTED = np.array(
    [
        [0.41415723, 0.42197020, 0.39979876],
        [0.39554788, 0.44469974, 0.53690219],
        [0.50456622, 0.48921341, 0.55457268],
        [0.49158213, 0.54773044, 0.51168469],
    ]
)
"""Mel power, float64 [4, 3], to eight digits."""


def signal() -> NDArray[np.float32]:
    """A pseudo-random signal, float32 [1024], multiples of 2**-16."""
    i = np.arange(FRONTEND.window_samples)
    return ((i * i * 7919 % 65536 - 32768) / 65536).astype(np.float32)


def mel_difference() -> float:
    """Largest relative difference of the packaged module's mel power to what is expected.

    Raises:
        EngineError: the module or Wasmtime is missing.
    """
    power = MelSpectrogram(FRONTEND).power(signal()).astype(np.float64)
    return float(np.abs(power / EXPECTED - 1).max())
