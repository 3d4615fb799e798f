"""Sound for the runtime's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_24"),
}


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """float32 [n_samples, channels] of noise that swells, so that no two windows are alike."""
    n = round(seconds * rate)
    envelope = 0.02 + 0.2 * np.sin(np.linspace(0, 7, n))[:, np.newaxis] ** 2
    return (np.random.default_rng(seed).normal(0, 1, (n, channels)) * envelope).clip(-1, 1).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, subtype: str | None = None) -> Path:
    """Write a recording in the format of its suffix; in small blocks, since long Ogg writes crash libsndfile."""
    kind, default = FORMATS[path.suffix[1:]]
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(path, "w", rate, channels, format=kind, subtype=subtype or default) as file:
        for start in range(0, len(samples), 4000):
            file.write(samples[start : start + 4000])
    return path
