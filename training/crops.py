"""Windows cut from prepared features: random ones to train on, steady ones to validate with, and how much sounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def random_start(
    segments: np.ndarray, n_frames: int, rng: np.random.Generator, stretch: float = 1.0
) -> tuple[int, float]:
    """A segment of features [segments, n_mels, at least n_frames], and a frame of it that a window can start at."""
    reach = _reach(segments, n_frames, stretch)
    segment = int(rng.integers(len(segments)))
    last = segments.shape[2] - 1 - reach
    return segment, float(rng.uniform(0, last)) if stretch != 1.0 else float(rng.integers(int(last) + 1))


def window_at(segments: np.ndarray, n_frames: int, segment: int, start: float, stretch: float = 1.0) -> Array:
    """The window [n_mels, n_frames] that starts there.

    ``stretch`` is the pace at which the frames are gone through: above 1 the window sounds faster, at its pitch. A
    segment that is too short for it is gone through as fast as it allows.
    """
    if stretch == 1.0:
        return np.asarray(segments[segment, :, int(start) : int(start) + n_frames], np.float32)
    at = start + np.linspace(0, _reach(segments, n_frames, stretch), n_frames)
    before = np.minimum(at.astype(int), segments.shape[2] - 2)
    share = (at - before).astype(np.float32)
    cut = np.asarray(segments[segment, :, before[0] : before[-1] + 2], np.float32)
    before = before - before[0]
    return cut[:, before] * (1 - share) + cut[:, before + 1] * share


def random_window(segments: np.ndarray, n_frames: int, rng: np.random.Generator, stretch: float = 1.0) -> Array:
    """A window [n_mels, n_frames] from anywhere in features [segments, n_mels, at least n_frames]."""
    return window_at(segments, n_frames, *random_start(segments, n_frames, rng, stretch), stretch)


def steady_windows(segments: np.ndarray, n_frames: int, at_most: int) -> Array:
    """Evenly spread windows [n, n_mels, n_frames] of a recording, the same at every call: for validation."""
    if segments.shape[2] == n_frames:
        chosen = np.linspace(0, len(segments) - 1, min(at_most, len(segments))).round().astype(int)
        return np.asarray(segments[chosen], np.float32)
    last = segments.shape[2] - n_frames
    starts = np.unique(np.linspace(0, last, min(at_most, 1 + -(-last // n_frames))).round().astype(int))
    return np.stack([np.asarray(segments[0, :, s : s + n_frames], np.float32) for s in starts])


def liveliness(segments: np.ndarray, n_frames: int, segment: int, start: float, stretch: float = 1.0) -> float:
    """How much goes on in the window that starts there: what its bands vary by over time, on average over bands.

    Hum, wind and silence are steady; calls are not.
    """
    stop = int(start + _reach(segments, n_frames, stretch)) + 1
    # every second frame tells as much
    seen = np.array(segments[segment, :, int(start) : stop : 2], np.float32)
    seen -= seen.mean(axis=1, keepdims=True)
    return float(np.sqrt(np.einsum("bf,bf->b", seen, seen) / seen.shape[1]).mean())


def _reach(segments: np.ndarray, n_frames: int, stretch: float) -> float:
    """Frames between a window's first and last, where the segment is long enough."""
    return min(stretch * (n_frames - 1), segments.shape[2] - 1)
