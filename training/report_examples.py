"""What to show of held-out sound: the worst confusions, what was missed, and what was heard and is not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.frontend import Frontend
from labous.mel import MelSpectrogram
from labous.recordings import read_blocks, windows
from training.scores import Arrays, kinds_of

_ENGINE = "int8"
_PAIRS, _EXAMPLES = 4, 6
_SAME_SECONDS = 1e-3


@dataclasses.dataclass(frozen=True)
class Example:
    """One window to show: its model input [n_mels, n_frames], and what to write above it."""

    mel: NDArray[np.float32]
    title: str


@dataclasses.dataclass(frozen=True)
class Examples:
    """Windows to show, and the table of which species was taken for which.

    Attributes:
        confusions: species, heard as, rows: the most frequent first.
        pairs: two windows a pair: the one that was mistaken, and one of the species that it was taken for.
        misses, false_alarms: the clearest ones, a species each.
    """

    confusions: pd.DataFrame
    pairs: list[Example]
    misses: list[Example]
    false_alarms: list[Example]


class _Rows:
    """Every held-out row that has a place in a recording, of all kinds, as the int8 file scored it."""

    def __init__(self, arrays: Arrays) -> None:
        kinds = [kind for kind in kinds_of(arrays) if f"{kind}/starts" in arrays]
        n_labels = len(arrays["labels"])

        def joined(part: str, empty: Any) -> Any:
            return np.concatenate([arrays[f"{kind}/{part}"] for kind in kinds] or [empty])

        self.truth = joined("truth", np.empty((0, n_labels), bool))
        self.scores = joined(f"probabilities/{_ENGINE}", np.empty((0, n_labels), np.float32))
        self.starts = joined("starts", np.empty((0, n_labels)))
        self.sources = joined("sources", np.empty(0, str))
        self.thresholds = arrays["thresholds"].astype(np.float32)


def find_examples(
    arrays: Arrays, paths: Mapping[str, str], names: Sequence[str], frontend: Frontend, overlap_seconds: float
) -> Examples:
    """Look through ``scores.npz`` for what to show, and compute the windows' mels as a device does.

    Args:
        arrays: of the file.
        paths: of recordings, by recording_id.
        names: of the species, in the order of the labels.
        frontend: of the model.
        overlap_seconds: between the windows that were scored.
    """
    rows = _Rows(arrays)
    mel = MelSpectrogram(frontend)

    def example(row: int, label: int, title: str) -> Example:
        path, start = paths[str(rows.sources[row])], float(rows.starts[row, label])
        return Example(mel(_window(path, start, frontend, overlap_seconds)), title)

    confused = _confusions(rows)
    pairs = []
    for (true, heard), members in confused[:_PAIRS]:
        worst = max(members, key=lambda row: float(rows.scores[row, heard]))
        said = f"{names[true]}, heard as {names[heard]} {rows.scores[worst, heard]:.2f}"
        pairs.append(example(worst, heard, f"{said}\n{rows.sources[worst]}"))
        right = np.flatnonzero(rows.truth[:, heard])
        if len(right):
            best = int(right[rows.scores[right, heard].argmax()])
            title = f"{names[heard]} {rows.scores[best, heard]:.2f}\n{rows.sources[best]}"
            pairs.append(example(best, heard, title))
        else:
            pairs.append(
                Example(np.zeros((frontend.n_mels, frontend.n_frames), np.float32), f"no {names[heard]} was held out")
            )
    table = pd.DataFrame(
        [(names[true], names[heard], len(members)) for (true, heard), members in confused[:10]],
        columns=["species", "heard as", "rows"],
    )
    misses = _clearest(rows.truth & (rows.scores < rows.thresholds), rows.scores - rows.thresholds)
    alarms = _clearest(~rows.truth & (rows.scores >= rows.thresholds), rows.thresholds - rows.scores)
    return Examples(
        table,
        pairs,
        [example(r, c, _missed(rows, names, r, c)) for r, c in misses],
        [example(r, c, _not_there(rows, names, r, c)) for r, c in alarms],
    )


def _confusions(rows: _Rows) -> list[tuple[tuple[int, int], list[int]]]:
    """Pairs (species there, species named first), with the rows of each; only rows with one species can tell."""
    found: dict[tuple[int, int], list[int]] = {}
    for row in np.flatnonzero(rows.truth.sum(axis=1) == 1):
        true, heard = int(rows.truth[row].argmax()), int(rows.scores[row].argmax())
        if true != heard:
            found.setdefault((true, heard), []).append(int(row))
    return sorted(found.items(), key=lambda item: (-len(item[1]), -max(rows.scores[r, item[0][1]] for r in item[1])))


def _clearest(among: NDArray[np.bool_], order: NDArray[np.floating]) -> list[tuple[int, int]]:
    """(row, label) pairs of ``among`` with the lowest ``order``, at most one a species and a few in all."""
    found: dict[int, int] = {}
    cells = np.argwhere(among)
    for row, label in cells[np.argsort(order[among], kind="stable")]:
        found.setdefault(int(label), int(row))
        if len(found) == _EXAMPLES:
            break
    return [(row, label) for label, row in found.items()]


def _missed(rows: _Rows, names: Sequence[str], row: int, label: int) -> str:
    best = int(rows.scores[row].argmax())
    instead = "" if best == label else f"; most like {names[best]} {rows.scores[row, best]:.2f}"
    said = f"{names[label]} {rows.scores[row, label]:.2f}, needs {rows.thresholds[label]:.2f}{instead}"
    return f"{said}\n{rows.sources[row]}"


def _not_there(rows: _Rows, names: Sequence[str], row: int, label: int) -> str:
    there = [name for name, present in zip(names, rows.truth[row], strict=True) if present]
    return f"{names[label]} {rows.scores[row, label]:.2f}; there: {', '.join(there) or 'no bird'}\n{rows.sources[row]}"


def _window(path: str, start: float, frontend: Frontend, overlap_seconds: float) -> NDArray[np.float32]:
    """The window of a recording that starts at ``start`` seconds."""
    for window in windows(read_blocks(path, frontend.sample_rate), frontend, overlap_seconds):
        if abs(window.start / frontend.sample_rate - start) < _SAME_SECONDS:
            return window.samples
    raise ValueError(f"{path} has no window at {start} s")
