"""Figures of what was heard, with intervals: per kind of held-out sound, per species, in noise, and under shifts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from training.intervals import Bootstrap
from training.metrics import NAMES, Scores, Values, measure, per_label
from training.rows import Alarms, RowSet

BACKGROUND = "background"
_ALARMS = ("false_alarms_per_hour", "confirmed_false_alarms_per_hour")


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of held-out sound as one engine heard it.

    Attributes:
        rows: what is scored.
        logits: the highest smoothed ones of each row's windows, float32 [n_rows, n_labels].
        probabilities: the same calibrated.
    """

    rows: RowSet
    logits: Scores
    probabilities: Scores


def of_rows(rows: RowSet, probabilities: Scores, thresholds: Values, bootstrap: Bootstrap) -> dict[str, Any]:
    """Every metric of one kind of rows, with ``rows`` and, under ``intervals``, the ends of each."""
    found = dataclasses.asdict(measure(rows.truth, probabilities, thresholds))
    draws = bootstrap.draws(rows.truth, probabilities, thresholds, rows.groups).macro
    return found | {"intervals": {name: bootstrap.interval(found[name], draws[name]) for name in NAMES}}


def of_background(counted: Alarms, groups: Sequence[str], bootstrap: Bootstrap) -> dict[str, Any]:
    """False alarms per hour, before and after the confirmation rule, all species together."""
    weights = np.concatenate([np.ones((1, len(groups))), bootstrap.weights(groups)])
    hours = weights @ counted.hours
    found: dict[str, Any] = {"rows": len(groups), "hours": float(hours[0]), "intervals": {}}
    for name, counts in zip(_ALARMS, (counted.detected, counted.confirmed), strict=True):
        rates = weights @ counts.sum(axis=1) / hours
        found[name] = float(rates[0])
        found["intervals"][name] = bootstrap.interval(float(rates[0]), rates[1:])
    return found


def nothing_measured() -> dict[str, Any]:
    """The metrics of an engine where nothing was held out."""
    return dict.fromkeys(NAMES) | {"rows": 0}


def species_table(
    labels: pd.DataFrame,
    trained: pd.Series,
    kinds: Mapping[str, Kind],
    detection: Mapping[str, Any],
    counted: Alarms | None,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """A row a species: what it was trained and tested on, ranking figures by engine, and what was decided.

    Args:
        labels: ebird_code and names.
        trained: recordings trained on, by ebird_code.
        kinds: by engine, the same rows.
        detection: as the manifest has it.
        counted: false alarms of the int8 file; None where there is no background.
        bootstrap: for the intervals of the average precision.
    """
    table = labels.copy()
    table["train_recordings"] = table.ebird_code.map(trained).fillna(0).astype(int)
    table["test_rows"] = next((kind.rows.truth.sum(axis=0) for kind in kinds.values()), 0)
    for engine in ("float32", "int8"):
        figures: list[Any] = [np.nan] * 4
        if engine in kinds:
            rows, scores = kinds[engine].rows, kinds[engine].probabilities
            draws = bootstrap.draws(rows.truth, scores, 0.5, rows.groups).average_precision
            precision, roc_auc = per_label(rows.truth, scores)
            figures = [precision, roc_auc, *bootstrap.intervals(precision, draws)]
        for name, values in zip(("average_precision", "roc_auc", "ap_low", "ap_high"), figures, strict=True):
            table[f"{name}_{engine}"] = values
    table["threshold"] = table.ebird_code.map(detection["thresholds"])
    table["calibration_offset"] = [detection["calibration"][code]["offset"] for code in table.ebird_code]
    table["false_alarms_per_hour"] = np.nan if counted is None else counted.detected.sum(axis=0) / counted.hours.sum()
    return table


def shifts(before: Mapping[str, Scores], after: Mapping[str, Sequence[Scores]]) -> dict[str, Any]:
    """How far a small shift of the window moves the top logit, and how often another label comes first.

    Args:
        before: by engine, logits [n_windows, n_labels].
        after: by engine, the same for each shift.
    """
    found: dict[str, Any] = {}
    for engine, logits in before.items():
        top = logits.argmax(axis=1)
        rows = np.arange(len(logits))
        moved = np.abs(np.array([shifted[rows, top] for shifted in after[engine]]) - logits[rows, top])
        flips = np.array([shifted.argmax(axis=1) != top for shifted in after[engine]])
        found[engine] = {
            "median": float(np.median(moved)),
            "percentile_95": float(np.percentile(moved, 95)),
            "flips": float(flips.mean()),
        }
    return found


def parity(logits: Mapping[str, Sequence[Scores]], mel_decibels: float) -> dict[str, float]:
    """Largest differences over every held-out window: of the front ends, and of each file from Keras."""
    found = {"mel_decibels": mel_decibels}
    keras = np.concatenate(logits["keras"])
    for name in ("float32", "int8"):
        theirs = np.concatenate(logits[name])
        differences = np.abs(theirs - keras).max(axis=1)
        found[f"{name}_logit"] = float(differences.max())
        found[f"{name}_logit_median"] = float(np.median(differences))
        found[f"{name}_top1_equal"] = float((theirs.argmax(axis=1) == keras.argmax(axis=1)).mean())
    return found
