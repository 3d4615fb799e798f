"""Held-out sound as rows to be scored: recordings, labelled stretches of soundscapes, and sound without any bird."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.detect import Confirmation
from training.metrics import Scores, Truth, Values
from training.prepared import recording_truth, truth_of

_SLACK_SECONDS = 1e-3
Times = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Starts and ends of a recording's windows, [n_windows] s."""


@dataclasses.dataclass(frozen=True)
class RowSet:
    """Rows of one kind, and the windows that each is scored by.

    Attributes:
        names: one a row.
        groups: who or what each comes from; rows of a group are drawn together in a bootstrap.
        sources: recording_id of each.
        paths: where that is.
        truth: bool [n_rows, n_labels].
        windows: of each row, the indices of its windows in its recording.
    """

    names: list[str]
    groups: list[str]
    sources: list[str]
    paths: list[str]
    truth: Truth
    windows: list[NDArray[np.intp]]

    def without(self, paths: Container[str]) -> RowSet:
        """The rows of other recordings."""
        kept = [i for i, path in enumerate(self.paths) if path not in paths]
        names, groups, sources, paths = (
            [part[i] for i in kept] for part in (self.names, self.groups, self.sources, self.paths)
        )
        return RowSet(names, groups, sources, paths, self.truth[kept], [self.windows[i] for i in kept])

    def highest(self, values: Mapping[str, Scores]) -> Scores:
        """The highest of each row's windows, float32 [n_rows, n_labels], of values [n_windows, n_labels] by path."""
        found = [values[path][inside].max(axis=0) for path, inside in zip(self.paths, self.windows, strict=True)]
        return np.array(found, np.float32).reshape(self.truth.shape)

    def where(self, values: Mapping[str, Scores], times: Mapping[str, Times]) -> Values:
        """When the window with that highest value starts, float64 [n_rows, n_labels] s."""
        found = [
            times[path][0][inside][values[path][inside].argmax(axis=0)]
            for path, inside in zip(self.paths, self.windows, strict=True)
        ]
        return np.array(found, np.float64).reshape(self.truth.shape)


def recording_rows(recordings: pd.DataFrame, times: Mapping[str, Times], codes: list[str]) -> RowSet:
    """A row a recording: the species that its labels name, and all of its windows."""
    return RowSet(
        list(recordings.recording_id),
        _groups(recordings),
        list(recordings.recording_id),
        list(recordings.path),
        recording_truth(recordings, codes),
        [np.arange(len(times[path][0])) for path in recordings.path],
    )


def soundscape_rows(
    soundscapes: pd.DataFrame, times: Mapping[str, Times], codes: list[str], window_seconds: float
) -> RowSet:
    """A row a labelled stretch, scored by the windows that share at least half of it (or of themselves)."""
    inside = []
    for path, start, end in zip(soundscapes.path, soundscapes.start_seconds, soundscapes.end_seconds, strict=True):
        starts = times[path][0]
        shared = np.minimum(starts + window_seconds, end) - np.maximum(starts, start)
        among = shared >= 0.5 * min(window_seconds, end - start)
        inside.append(np.flatnonzero(among | (shared == shared.max())))
    return RowSet(
        list(soundscapes.row_id),
        list(soundscapes.recording_id),
        list(soundscapes.recording_id),
        list(soundscapes.path),
        truth_of(soundscapes["labels"], codes),
        inside,
    )


def background_rows(backgrounds: pd.DataFrame, times: Mapping[str, Times], n_labels: int) -> RowSet:
    """A row a stretch without any bird, with the windows that lie wholly in it; stretches without one are left out."""
    names, groups, sources, paths, inside = [], [], [], [], []
    for row, group in zip(backgrounds.to_dict("records"), _groups(backgrounds), strict=True):
        starts, ends = times[row["path"]]
        among = (starts >= row["start_seconds"] - _SLACK_SECONDS) & (ends <= row["end_seconds"] + _SLACK_SECONDS)
        if among.any():
            names.append(f"{row['recording_id']} {row['start_seconds']:g}-{min(row['end_seconds'], ends[-1]):g} s")
            groups.append(group)
            sources.append(row["recording_id"])
            paths.append(row["path"])
            inside.append(np.flatnonzero(among))
    return RowSet(names, groups, sources, paths, np.zeros((len(names), n_labels), bool), inside)


@dataclasses.dataclass(frozen=True)
class Alarms:
    """What was detected where no bird is.

    Attributes:
        hours: of each stretch, [n_stretches].
        detected: windows in which each species was at or above its threshold, [n_stretches, n_labels].
        confirmed: windows that the confirmation rule let through, the same shape.
    """

    hours: Values
    detected: Values
    confirmed: Values


def alarms(
    rows: RowSet,
    probabilities: Mapping[str, Scores],
    times: Mapping[str, Times],
    thresholds: Values,
    confirmation: Confirmation,
) -> Alarms:
    """Count false alarms: window by window, so that one which lasts for two windows counts twice."""
    hours, detected, confirmed = [], [], []
    for path, inside in zip(rows.paths, rows.windows, strict=True):
        starts, ends = (part[inside] for part in times[path])
        fresh = np.maximum(starts, np.concatenate([starts[:1], ends[:-1]]))
        hours.append(float(np.maximum(ends - fresh, 0).sum()) / 3600)
        heard = probabilities[path][inside] >= thresholds.astype(np.float32)  # as a device compares them
        detected.append(heard.sum(axis=0))
        confirmed.append(confirmation.holds(heard).sum(axis=0))
    shape = rows.truth.shape
    counts = (np.array(part, np.float64).reshape(shape) for part in (detected, confirmed))
    return Alarms(np.array(hours, np.float64), *counts)


def whole(backgrounds: pd.DataFrame) -> pd.DataFrame:
    """Backgrounds with the ends that are not given: 0, and infinity for the recording's end."""
    ends = {"start_seconds": 0.0, "end_seconds": math.inf}
    return backgrounds.assign(**{name: backgrounds[name].astype(float).fillna(end) for name, end in ends.items()})


def held_out(
    split: str,
    recordings: pd.DataFrame,
    soundscapes: pd.DataFrame,
    backgrounds: pd.DataFrame,
    times: Mapping[str, Times],
    codes: list[str],
    window_seconds: float,
) -> dict[str, RowSet]:
    """The rows of one share by kind: recordings, soundscapes, background; a kind without rows is left out."""
    recordings, soundscapes, backgrounds = (
        table[table.split == split] for table in (recordings, soundscapes, backgrounds)
    )
    kinds = {
        "recordings": recording_rows(recordings, times, codes),
        "soundscapes": soundscape_rows(soundscapes, times, codes, window_seconds),
        "background": background_rows(backgrounds, times, len(codes)),
    }
    return {kind: rows for kind, rows in kinds.items() if rows.names}


def _groups(table: pd.DataFrame) -> list[str]:
    """The recordist of each row; the recording itself where nobody is named."""
    return list(table.author.where(table.author != "", table.recording_id))
