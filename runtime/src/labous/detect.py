"""From logits to detections: probabilities, thresholds, the best few of each window."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Label:
    """One class of the model: a row of the bundle's ``labels.csv``."""

    ebird_code: str
    scientific_name: str
    common_name: str
    french_name: str


@dataclasses.dataclass(frozen=True)
class Detection:
    """One species heard in one window of one recording.

    Attributes:
        recording: the path as it was given.
        start, end: s from the recording's beginning.
        score: the model's probability, 0 … 1.
    """

    recording: str
    start: float
    end: float
    ebird_code: str
    scientific_name: str
    common_name: str
    french_name: str
    score: float


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What the model says about every window of one recording.

    Attributes:
        starts, ends: float64 [n_windows], s from the recording's beginning.
        logits: float32 [n_windows, n_labels].
        labels: one per column of ``logits``.
    """

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    logits: NDArray[np.float32]
    labels: tuple[Label, ...]

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """float32 [n_windows, n_labels], 0 … 1; independent of each other, so that they need not add up to 1."""
        return sigmoid(self.logits)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), without overflow and without losing small probabilities; float32, the shape of logits."""
    return np.exp(-np.logaddexp(np.float32(0), -logits)).astype(np.float32, copy=False)


def best(probabilities: NDArray[np.float32], thresholds: NDArray[np.float32], top_n: int) -> list[int]:
    """The labels that one window shows: those at or above their threshold, at most top_n, the likeliest first.

    Args:
        probabilities: float32 [n_labels].
        thresholds: float32 [n_labels].
        top_n: the most labels to give.
    """
    order = np.argsort(-probabilities, kind="stable")
    return [int(i) for i in order if probabilities[i] >= thresholds[i]][:top_n]


def detections(
    recording: str,
    start: float,
    end: float,
    probabilities: NDArray[np.float32],
    labels: Sequence[Label],
    thresholds: NDArray[np.float32],
    top_n: int,
) -> list[Detection]:
    """One window's detections; see :func:`best` for which."""
    return [
        Detection(recording, start, end, **dataclasses.asdict(labels[i]), score=float(probabilities[i]))
        for i in best(probabilities, thresholds, top_n)
    ]
