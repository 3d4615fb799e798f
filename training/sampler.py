"""Batches for training: species balanced, windows cut where something sounds, disturbed, reproducible by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.frontend import Frontend
from training.augment import Augment, disturb

Array = NDArray[np.float32]


class Sampler:
    """Draws training batches from prepared features.

    Batch ``n`` of epoch ``e`` depends on (seed, e, n) alone, so a run that was interrupted continues as if it had
    not been.

    Args:
        recordings: the rows to draw from (as :func:`training.prepared.read_prepared` gives them).
        place: the directory that ``feature`` is relative to.
        codes: labels in the order of the model's outputs.
    """

    def __init__(
        self,
        recordings: pd.DataFrame,
        place: Path,
        codes: list[str],
        frontend: Frontend,
        augment: Augment,
        *,
        seed: int,
        batch_size: int,
        label_smoothing: float,
        secondary_weight: float,
        crop_candidates: int,
    ) -> None:
        self._frontend, self._augment = frontend, augment
        self._seed, self._batch_size, self._smoothing = seed, batch_size, label_smoothing
        self._candidates = crop_candidates
        self._features = [np.load(place / name, mmap_mode="r") for name in recordings.feature]
        index = {code: i for i, code in enumerate(codes)}
        self._targets = np.zeros((len(recordings), len(codes)), np.float32)
        for row, (primary, secondary) in enumerate(
            zip(recordings.primary_label, recordings.secondary_labels, strict=True)
        ):
            self._targets[row, [index[code] for code in secondary if code in index]] = secondary_weight
            self._targets[row, index[primary]] = 1.0
        primary_rows = recordings.primary_label.to_numpy()
        self._rows_of = [np.flatnonzero(primary_rows == code) for code in codes if (primary_rows == code).any()]

    def batch(self, epoch: int, number: int) -> tuple[Array, Array]:
        """Model inputs [batch, n_mels, n_frames, 1] and targets [batch, n_labels]."""
        rng = np.random.default_rng([self._seed, epoch, number])
        pairs = [self._example(rng) for _ in range(self._batch_size)]
        inputs = np.stack([mel for mel, _ in pairs])[..., None]
        targets = np.stack([target for _, target in pairs])
        return inputs, targets * (1 - self._smoothing) + self._smoothing / 2

    def _example(self, rng: np.random.Generator) -> tuple[Array, Array]:
        first, second = self._row(rng), self._row(rng)
        return disturb(
            self._window(first, rng),
            self._targets[first],
            self._window(second, rng),
            self._targets[second],
            self._augment,
            self._frontend,
            rng,
        )

    def _row(self, rng: np.random.Generator) -> int:
        return int(rng.choice(self._rows_of[rng.integers(len(self._rows_of))]))

    def _window(self, row: int, rng: np.random.Generator) -> Array:
        """The liveliest of a few random windows: labels of whole recordings say little about their silences."""
        low, high = self._augment.time_stretch
        stretch = float(rng.uniform(low, high))
        crops = [
            random_window(self._features[row], self._frontend.n_frames, rng, stretch) for _ in range(self._candidates)
        ]
        return max(crops, key=lambda crop: float(crop.std(axis=1).mean()))


def random_window(segments: np.ndarray, n_frames: int, rng: np.random.Generator, stretch: float = 1.0) -> Array:
    """A window [n_mels, n_frames] from features [segments, n_mels, at least n_frames].

    ``stretch`` is the pace at which the frames are gone through: above 1 the window sounds faster, at its pitch. A
    segment that is too short for it is gone through as fast as it allows.
    """
    segment = segments[rng.integers(len(segments))]
    reach = stretch * (n_frames - 1)
    reach = min(reach, segment.shape[1] - 1)
    start = (
        rng.uniform(0, segment.shape[1] - 1 - reach)
        if stretch != 1.0
        else rng.integers(segment.shape[1] - n_frames + 1)
    )
    at = start + np.linspace(0, reach, n_frames)
    before = np.minimum(at.astype(int), segment.shape[1] - 2)
    share = (at - before).astype(np.float32)
    cut = np.asarray(segment[:, before[0] : before[-1] + 2], np.float32)
    before = before - before[0]
    return cut[:, before] * (1 - share) + cut[:, before + 1] * share


def steady_windows(segments: np.ndarray, n_frames: int, at_most: int) -> Array:
    """Evenly spread windows [n, n_mels, n_frames] of a recording, the same at every call: for validation."""
    if segments.shape[2] == n_frames:
        chosen = np.linspace(0, len(segments) - 1, min(at_most, len(segments))).round().astype(int)
        return np.asarray(segments[chosen], np.float32)
    last = segments.shape[2] - n_frames
    starts = np.unique(np.linspace(0, last, min(at_most, 1 + -(-last // n_frames))).round().astype(int))
    return np.stack([np.asarray(segments[0, :, s : s + n_frames], np.float32) for s in starts])
