"""Golden windows: test signals with the mel and logits they must give, so that a device can prove itself right.

They are made here, not taken from recordings: those belong to their recordists.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from labous.frontend import Frontend
from labous.mel import MelSpectrogram
from labous.models import open_model

_LOUDEST = 6.0  # decades that noise is above full scale at most: louder, it is clipped to the same


def golden_samples(frontend: Frontend, count: int, seed: int) -> NDArray[np.int16]:
    """Bird-like signals [count, window_samples], see :func:`whistles`."""
    pitches = max(500.0, frontend.f_min), 0.6 * frontend.f_max
    return whistles(frontend.sample_rate, frontend.window_samples, pitches, count, seed)


def whistles(
    sample_rate: int, n_samples: int, pitches: tuple[float, float], count: int, seed: int
) -> NDArray[np.int16]:
    """Signals [count, n_samples]: whistles that glide and repeat between pitches (Hz), over noise of rising level."""
    rng = np.random.default_rng(seed)
    time = np.arange(n_samples) / sample_rate
    windows = []
    for n in range(count):
        low, high = np.sort(rng.uniform(*pitches, 2))
        pace = rng.uniform(1.0, 6.0)
        pitch = low + (high - low) * 0.5 * (1 + np.sin(2 * np.pi * pace * time))
        whistle = np.sin(2 * np.pi * np.cumsum(pitch) / sample_rate)
        beat = np.sin(np.pi * (time * pace / 2 % 1)) ** 2
        noise = rng.standard_normal(len(time)) * 10 ** min(-2.5 + 0.5 * n, _LOUDEST)
        windows.append(0.4 * whistle * beat + 0.2 * np.clip(noise, -1, 1))
    return np.round(np.array(windows) * 32767).astype(np.int16)


def as_floats(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Samples of 16 bits as a device takes them, full scale ±1."""
    return samples.astype(np.float32) / np.float32(32768)


def golden_file(frontend: Frontend, float32: bytes, int8: bytes, count: int, seed: int) -> bytes:
    """The .npz that a bundle carries; docs/bundle.md names its arrays."""
    samples = golden_samples(frontend, count, seed)
    spectrogram = MelSpectrogram(frontend)
    mel = np.stack([spectrogram(window) for window in as_floats(samples)])
    logits = {
        name: np.stack([model.predict(window) for window in mel])
        for name, model in (("float32", open_model(float32)), ("int8", open_model(int8)))
    }
    file = io.BytesIO()
    np.savez_compressed(file, samples=samples, mel=mel, logits_float32=logits["float32"], logits_int8=logits["int8"])
    return file.getvalue()
