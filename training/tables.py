"""The tables that validate leaves beside its figures, for a reader, a plot or a notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from labous.detect import sigmoid
from training.metrics import precision_recall, reliability
from training.quality import Kind

_CURVE_POINTS = 400


def predictions(kinds: Mapping[str, Mapping[str, Kind]], codes: list[str]) -> pd.DataFrame:
    """Every held-out row with its truth, and each engine's best label and its probability."""
    names, tables = np.array(codes), [pd.DataFrame(columns=["kind", "row", "truth"])]
    for kind, engines in kinds.items():
        rows = engines["int8"].rows
        table = pd.DataFrame(
            {"kind": kind, "row": rows.names, "truth": [" ".join(names[t]) or "nocall" for t in rows.truth]}
        )
        for engine, found in engines.items():
            table[f"best_{engine}"] = names[found.probabilities.argmax(axis=1)]
            table[f"score_{engine}"] = found.probabilities.max(axis=1)
        tables.append(table)
    return pd.concat(tables[1:] or tables)


def curves(kinds: Mapping[str, Kind]) -> pd.DataFrame:
    """Precision and recall over all labels' decisions, by engine, at up to some hundred thresholds each."""
    columns = ["engine", "threshold", "recall", "precision"]
    tables = [pd.DataFrame(columns=columns)]
    for engine, kind in kinds.items():
        precision, recall, threshold = precision_recall(kind.rows.truth, kind.probabilities)
        kept = np.unique(np.linspace(0, len(recall) - 1, min(_CURVE_POINTS, len(recall))).round().astype(int))
        values = (np.full(len(kept), engine), threshold[kept], recall[kept], precision[kept])
        tables.append(pd.DataFrame(dict(zip(columns, values, strict=True))))
    return pd.concat(tables[1:] or tables)


def calibration_table(kind: Kind | None) -> pd.DataFrame:
    """Probabilities in bins, calibrated and as the model gives them, against how often they are true."""
    columns = ["probabilities", "bin", "mean_probability", "share_true", "count"]
    tables = [pd.DataFrame(columns=columns)]
    given = {} if kind is None else {"calibrated": kind.probabilities, "the model's own": sigmoid(kind.logits)}
    for name, probabilities in given.items():
        assert kind is not None
        mean, share, count = reliability(kind.rows.truth, probabilities)
        values = (np.full(len(count), name), np.arange(len(count)), mean, share, count)
        tables.append(pd.DataFrame(dict(zip(columns, values, strict=True)))[count > 0])
    return pd.concat(tables[1:] or tables)


def without_nan(value: Any) -> Any:
    """NaN is not JSON: what could not be measured is null."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
