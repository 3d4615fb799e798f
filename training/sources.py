"""Where training examples come from: one protocol, recordings balanced by species and recordist, and backgrounds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.frontend import Frontend
from training.crops import liveliness, random_start, window_at

Array = NDArray[np.float32]

# what is said of a stretch of a recording: (recording_id, start, end, both in seconds) -> the higher, the better
Opinion = Callable[[str, float, float], float]

# a file is opened again after so many others: a data set may have more recordings than a process may map
_OPEN_FILES = 2048


class Parts(NamedTuple):
    """What a teacher makes of parts of a window; which parts, is the same for every window of a source.

    Attributes:
        targets: float32 [n_parts, n_labels], in [0, 1].
        embeddings: float32 [n_parts, d]; None where they are not known.
    """

    targets: Array
    embeddings: Array | None


class Example(NamedTuple):
    """One clean window and what is to be learnt from it.

    Attributes:
        mel: the model's input, float32 [n_mels, n_frames].
        targets: float32 [n_labels], in [0, 1], label smoothing included.
        weight: of its loss, 1 for an ordinary example.
        parts: None where no teacher has heard it.
        mixes: whether other recordings or backgrounds may be added to it; not where it is a mixture already.
    """

    mel: Array
    targets: Array
    weight: float = 1.0
    parts: Parts | None = None
    mixes: bool = True


class Source(Protocol):
    """Anything that gives training examples."""

    def draw(self, rng: np.random.Generator) -> Example:
        """One example; the same for a generator in the same state, whatever was drawn before, in any thread."""
        ...


class Recordings:
    """Labelled recordings: a species is drawn, then one of its recordists, then one of their recordings, each evenly.

    Within a recording the window that says most is chosen from a few random ones, since labels of whole recordings say
    little about their silences: by ``opinion`` where there is one, else by how lively it is.

    Args:
        recordings: the rows to draw from (as :func:`training.prepared.read_prepared` gives them): recording_id,
            primary_label, secondary_labels, author, rating, feature. A recording without an author is somebody's
            only one.
        place: the directory that ``feature`` is relative to.
        codes: labels in the order of the model's outputs.
        stretch: gives a window's pace (see :func:`training.crops.window_at`).
        rating_weight: points (rating, weight) of a broken line, by rising rating; a recording without a rating has
            weight 1.
        opinion: of a teacher, say, about stretches of recordings.
    """

    def __init__(
        self,
        recordings: pd.DataFrame,
        place: Path,
        codes: list[str],
        frontend: Frontend,
        *,
        label_smoothing: float,
        secondary_weight: float,
        crop_candidates: int,
        rating_weight: Sequence[Sequence[float]] = (),
        stretch: Callable[[np.random.Generator], float] = lambda rng: 1.0,
        opinion: Opinion | None = None,
    ) -> None:
        self._frontend, self._place = frontend, place
        self._candidates, self._stretch, self._opinion = crop_candidates, stretch, opinion
        self._names, self._ids = list(recordings.feature), list(recordings.recording_id)
        targets = _targets(recordings, codes, secondary_weight)
        self._targets = targets * np.float32(1 - label_smoothing) + np.float32(label_smoothing / 2)
        self._weights = _rating_weights(recordings, rating_weight)
        self._tree = _by_species_and_recordist(recordings, codes)
        self._open = functools.lru_cache(maxsize=_OPEN_FILES)(self._load)

    def draw(self, rng: np.random.Generator) -> Example:
        recordists = self._tree[rng.integers(len(self._tree))]
        rows = recordists[rng.integers(len(recordists))]
        row = int(rows[rng.integers(len(rows))])
        return Example(self._window(row, rng), self._targets[row], float(self._weights[row]))

    def _load(self, row: int) -> np.ndarray:
        return np.load(self._place / self._names[row], mmap_mode="r")

    def _window(self, row: int, rng: np.random.Generator) -> Array:
        segments, n_frames, stretch = self._open(row), self._frontend.n_frames, self._stretch(rng)
        starts = [random_start(segments, n_frames, rng, stretch) for _ in range(self._candidates)]
        starts = list(dict.fromkeys(starts))
        if len(starts) > 1:
            starts.sort(key=lambda at: self._promise(row, at[0], at[1], stretch))
        return window_at(segments, n_frames, *starts[-1], stretch)

    def _promise(self, row: int, segment: int, start: float, stretch: float) -> float:
        frontend = self._frontend
        if self._opinion is None:
            return liveliness(self._open(row), frontend.n_frames, segment, start, stretch)
        # segments follow each other window by window; one alone is as long as the recording
        begins = segment * frontend.window_samples / frontend.sample_rate
        begins += start * frontend.hop_length / frontend.sample_rate
        return self._opinion(self._ids[row], begins, begins + stretch * frontend.window_samples / frontend.sample_rate)


class Backgrounds:
    """Sound without any bird of the table; drawn evenly over those who recorded it.

    Args:
        backgrounds: columns author, feature, at least one row.
    """

    def __init__(self, backgrounds: pd.DataFrame, place: Path, n_frames: int) -> None:
        self._place, self._n_frames, self._names = place, n_frames, list(backgrounds.feature)
        self._tree = _by_recordist(backgrounds.author)
        self._open = functools.lru_cache(maxsize=_OPEN_FILES)(self._load)

    def window(self, rng: np.random.Generator) -> Array:
        """The model's input for a stretch of background, [n_mels, n_frames]."""
        rows = self._tree[rng.integers(len(self._tree))]
        segments = self._open(int(rows[rng.integers(len(rows))]))
        return window_at(segments, self._n_frames, *random_start(segments, self._n_frames, rng))

    def _load(self, row: int) -> np.ndarray:
        return np.load(self._place / self._names[row], mmap_mode="r")


def _targets(recordings: pd.DataFrame, codes: list[str], secondary_weight: float) -> Array:
    index = {code: i for i, code in enumerate(codes)}
    targets = np.zeros((len(recordings), len(codes)), np.float32)
    for row, (primary, secondary) in enumerate(zip(recordings.primary_label, recordings.secondary_labels, strict=True)):
        targets[row, [index[code] for code in secondary if code in index]] = secondary_weight
        targets[row, index[primary]] = 1.0
    return targets


def _rating_weights(recordings: pd.DataFrame, points: Sequence[Sequence[float]]) -> Array:
    if not len(points):
        return np.ones(len(recordings), np.float32)
    ratings = recordings.rating.to_numpy(float)
    weights = np.interp(ratings, [rating for rating, _ in points], [weight for _, weight in points])
    # BirdCLEF writes 0 for no rating
    return np.where(np.isfinite(ratings) & (ratings > 0), weights, 1.0).astype(np.float32)


def _by_species_and_recordist(recordings: pd.DataFrame, codes: list[str]) -> list[list[NDArray[np.intp]]]:
    """Rows of the table, by species and recordist."""
    primary = recordings.primary_label.to_numpy()
    rows_of = [np.flatnonzero(primary == code) for code in codes if (primary == code).any()]
    return [[rows[group] for group in _by_recordist(recordings.author.iloc[rows])] for rows in rows_of]


def _by_recordist(authors: pd.Series) -> list[NDArray[np.intp]]:
    """Positions in the column, by who it names; nobody's are each by themselves."""
    people: dict[object, list[int]] = {}
    for position, author in enumerate(authors):
        people.setdefault(author if isinstance(author, str) and author else position, []).append(position)
    return [np.array(positions) for positions in people.values()]
