"""From logits to detections: smoothing, calibrated probabilities, thresholds, the best few of each window."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


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
        logits: float32 [n_windows, n_labels], as the model gave them.
        probabilities: float32 [n_windows, n_labels], 0 … 1, smoothed and calibrated as the bundle says; independent of
            each other, so that they need not add up to 1.
        labels: one per column of ``logits``.
    """

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    labels: tuple[Label, ...]


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How a bundle makes probabilities of logits: 1 / (1 + exp(-(scale · smoothed logit + offset))).

    The smoothed logit of a window is (1 - 2w) of its own and w of each neighbor's, the windows just before and after
    it; at the ends of a recording, where one or both are missing, the weights are divided by their sum.

    Attributes:
        scale, offset: float32 [n_labels].
        neighbor_weight: w, 0 (no smoothing) … 1/3.
    """

    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    neighbor_weight: float

    @classmethod
    def plain(cls, n_labels: int) -> Scoring:
        """Neither smoothing nor calibration: the sigmoid of the logits."""
        return cls(np.ones(n_labels, np.float32), np.zeros(n_labels, np.float32), 0.0)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of all windows of one recording in their order, float32 [n_windows, n_labels] to the same."""
        found = [scores for _, scores in self.follow((None, row) for row in logits)]
        return np.array(found, np.float32).reshape(logits.shape)

    def follow(self, windows: Iterable[tuple[T, NDArray[np.float32]]]) -> Iterator[tuple[T, NDArray[np.float32]]]:
        """The same as they come: pairs of anything and logits [n_labels] to pairs of that and probabilities.

        With smoothing, each pair comes when the next window's logits are there, so one window late.
        """
        return ((key, self.calibrated(logits)) for key, logits in smoothed(windows, self.neighbor_weight))

    def calibrated(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of smoothed logits, float32 [..., n_labels] to the same."""
        return sigmoid(self.scale * logits + self.offset)


@dataclasses.dataclass(frozen=True)
class Confirmation:
    """A species is confirmed by a window in which, with the windows before it, it was detected often enough.

    Attributes:
        hits: how many of the last ``windows`` windows must detect it.
        windows: how many are looked at, the newest included.
    """

    hits: int
    windows: int

    def holds(self, detected: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which windows confirm which species.

        Args:
            detected: bool [n_windows, n_labels], the windows of one recording in their order.

        Returns:
            bool, the same shape.
        """
        so_far = np.cumsum(detected, axis=0, dtype=np.int64)
        before = np.zeros_like(so_far)
        before[self.windows :] = so_far[: -self.windows]
        return so_far - before >= self.hits


class Smoothing(Generic[T]):
    """Smooths the logits of windows that come one by one, as :class:`Scoring` says.

    Args:
        neighbor_weight: of Scoring.
    """

    def __init__(self, neighbor_weight: float) -> None:
        self._weight = neighbor_weight
        self._before: NDArray[np.float32] | None = None
        self._current: tuple[T, NDArray[np.float32]] | None = None

    def push(self, key: T, logits: NDArray[np.float32]) -> tuple[T, NDArray[np.float32]] | None:
        """Takes a window's logits [n_labels]; gives those of the window before it, or its own without smoothing."""
        if self._weight == 0:
            return key, logits
        given = self._mixed(logits)
        self._before, self._current = None if self._current is None else self._current[1], (key, logits)
        return given

    def end(self) -> tuple[T, NDArray[np.float32]] | None:
        """The last window, if it has not been given; the next one begins anew."""
        given = self._mixed(None)
        self._before = self._current = None
        return given

    def _mixed(self, after: NDArray[np.float32] | None) -> tuple[T, NDArray[np.float32]] | None:
        if self._current is None:
            return None
        return self._current[0], _weighted(self._before, self._current[1], after, self._weight)


def smoothed(
    windows: Iterable[tuple[T, NDArray[np.float32]]], neighbor_weight: float
) -> Iterator[tuple[T, NDArray[np.float32]]]:
    """Pairs of anything and a window's logits [n_labels], those smoothed as :class:`Scoring` says."""
    smoothing = Smoothing[T](neighbor_weight)
    for key, logits in windows:
        given = smoothing.push(key, logits)
        if given is not None:
            yield given
    last = smoothing.end()
    if last is not None:
        yield last


class Hits:
    """Counts, as windows come one by one, in how many of the last ones each label was detected.

    Args:
        windows: how many are looked at, the newest included.
        n_labels: how many labels there are.
    """

    def __init__(self, windows: int, n_labels: int) -> None:
        self._detected = np.zeros((windows, n_labels), np.bool_)
        self._counts = np.zeros(n_labels, np.int64)
        self._next = 0

    def push(self, detected: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Takes what the next window detects, bool [n_labels]; gives the counts with it, int64 [n_labels]."""
        oldest = self._detected[self._next]
        self._counts += detected
        self._counts -= oldest
        oldest[:] = detected
        self._next = (self._next + 1) % len(self._detected)
        return self._counts.copy()


def _weighted(
    before: NDArray[np.float32] | None, logits: NDArray[np.float32], after: NDArray[np.float32] | None, weight: float
) -> NDArray[np.float32]:
    side, own = np.float32(weight), np.float32(1 - 2 * weight)
    mixed, total = own * logits, own
    for row in (before, after):
        if row is not None:
            mixed, total = mixed + side * row, total + side
    return np.asarray(mixed / total, np.float32)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), without overflow and without losing small probabilities; float32, the shape of logits."""
    return np.exp(-np.logaddexp(np.float32(0), -logits)).astype(np.float32, copy=False)


def birds_only(thresholds: NDArray[np.float32], not_birds: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Thresholds that no probability of a label that is no bird can reach, float32 [n_labels]; the last word on them.

    Args:
        thresholds: float32 [n_labels], whoever has chosen them.
        not_birds: bool [n_labels].
    """
    return np.where(not_birds, np.float32(np.inf), thresholds)


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
