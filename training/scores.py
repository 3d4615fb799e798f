"""Every held-out row with its truth and every engine's scores, in one compact file, so that runs can be pooled.

``scores.npz`` holds, for each kind of rows (``recordings``, ``soundscapes``, ``recordings_10db``, …):

=================================  =====================================================================
labels                             ebird codes in the order of the columns, [n_labels]; thresholds with them
KIND/names, groups, sources        row, recordist or file it is drawn with, recording; text [n_rows]
KIND/truth                         bool [n_rows, n_labels]
KIND/probabilities/ENGINE          float32 [n_rows, n_labels], smoothed and calibrated, as a device gives them
KIND/logits/ENGINE                 float32, the same before calibration
KIND/starts                        float64 [n_rows, n_labels] s, the window that the int8 probability comes from
background/names, groups, sources  of each stretch without birds
background/hours                   float64 [n_stretches]
background/detected/ENGINE         windows at or above the threshold, float64 [n_stretches, n_labels]; confirmed alike
=================================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import StageError
from training.files import written_beside
from training.intervals import Bootstrap
from training.metrics import NAMES, Truth, estimate

Arrays = dict[str, Any]


def write_scores(path: Path, arrays: Arrays) -> None:
    """Write arrays by name, whole or not at all; the same arrays give the same bytes."""
    with written_beside(path) as beside:
        np.savez_compressed(beside, **arrays)


def read_scores(path: Path) -> Arrays:
    """All arrays by name.

    Raises:
        StageError: it is not there.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise StageError(f"{path} is not there; run python -m training.validate, which makes it.") from None


def kinds_of(arrays: Arrays) -> list[str]:
    """The kinds of rows in a file, in its order."""
    return [name.removesuffix("/truth") for name in arrays if name.endswith("/truth")]


def engines_of(arrays: Arrays, kind: str) -> list[str]:
    """The engines that scored a kind."""
    start = f"{kind}/probabilities/"
    return [name.removeprefix(start) for name in arrays if name.startswith(start)]


def pooled(files: Sequence[Path], bootstrap: Bootstrap) -> dict[str, dict[str, dict[str, Any]]]:
    """Metrics of several runs' held-out rows as one set, each row with the thresholds of its own run.

    For cross-validation: every recording is held out once, and the rankings are of calibrated probabilities.

    Args:
        files: ``scores.npz`` of runs with the same labels.
        bootstrap: for the intervals.

    Returns:
        By engine and kind, the metrics by name, with ``rows`` and ``intervals``.

    Raises:
        StageError: a file is missing, or the runs have other labels.
    """
    runs = [read_scores(path) for path in files]
    if any(run["labels"].tolist() != runs[0]["labels"].tolist() for run in runs):
        raise StageError(f"{', '.join(map(str, files))} do not have the same labels; pool runs of one species table.")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind in dict.fromkeys(kind for run in runs for kind in kinds_of(run)):
        having = [run for run in runs if f"{kind}/truth" in run]
        truth: Truth = np.concatenate([run[f"{kind}/truth"] for run in having])
        groups = np.concatenate([run[f"{kind}/groups"] for run in having])
        thresholds = np.concatenate([np.broadcast_to(run["thresholds"], run[f"{kind}/truth"].shape) for run in having])
        weights = np.concatenate([np.ones((1, len(truth))), bootstrap.weights(list(groups))])
        for engine in engines_of(having[0], kind):
            scores = np.concatenate([run[f"{kind}/probabilities/{engine}"] for run in having])
            macro = estimate(truth, scores, thresholds, weights).macro
            found.setdefault(engine, {})[kind] = {
                **{name: float(macro[name][0]) for name in NAMES},
                "rows": len(truth),
                "intervals": {name: bootstrap.interval(float(macro[name][0]), macro[name][1:]) for name in NAMES},
            }
    return found
