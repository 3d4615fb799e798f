"""Metrics as the field reports them. Truth and scores are arrays [n_rows, n_labels]; rows may have no label at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Truth = NDArray[np.bool_]
Scores = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Metrics:
    """One engine's quality on one set of rows.

    Attributes:
        macro_roc_auc: area under the ROC curve, mean over labels that have positives and negatives.
        cmap: class-wise mean average precision, mean over labels that have positives.
        top1: share of rows with a label whose highest score is one of their labels.
        row_f1: the competition's row-wise micro F1, "nocall" being an ordinary label.
        rows: rows they were computed from.
    """

    macro_roc_auc: float
    cmap: float
    top1: float
    row_f1: float
    rows: int


def measure(truth: Truth, scores: Scores, threshold: float) -> Metrics:
    """All metrics of one set of rows; a metric that no row can give is NaN."""
    return Metrics(
        macro_roc_auc=_mean(per_label_roc_auc(truth, scores)),
        cmap=_mean(per_label_average_precision(truth, scores)),
        top1=top1(truth, scores),
        row_f1=row_f1(truth, scores >= threshold),
        rows=len(truth),
    )


def per_label_roc_auc(truth: Truth, scores: Scores) -> NDArray[np.float64]:
    """ROC AUC per label [n_labels]; NaN for a label without positives or without negatives."""
    from sklearn.metrics import roc_auc_score

    return np.array(
        [roc_auc_score(t, s) if 0 < t.sum() < len(t) else np.nan for t, s in zip(truth.T, scores.T, strict=True)]
    )


def per_label_average_precision(truth: Truth, scores: Scores) -> NDArray[np.float64]:
    """Average precision per label [n_labels]; NaN for a label without positives."""
    from sklearn.metrics import average_precision_score

    return np.array(
        [average_precision_score(t, s) if t.any() else np.nan for t, s in zip(truth.T, scores.T, strict=True)]
    )


def top1(truth: Truth, scores: Scores) -> float:
    """Share of the rows with a label whose arg-max is one of their labels; NaN where no row has a label."""
    with_label = truth.any(axis=1)
    if not with_label.any():
        return float("nan")
    best = scores[with_label].argmax(axis=1)
    return float(truth[with_label, :][np.arange(len(best)), best].mean())


def row_f1(truth: Truth, predicted: Truth) -> float:
    """Row-wise micro F1 of BirdCLEF 2021: 2 TP / (2 TP + FP + FN) per row, mean over rows.

    A row without labels has the label "nocall", in the truth and in the prediction alike.
    """
    truth = np.column_stack([truth, ~truth.any(axis=1)])
    predicted = np.column_stack([predicted, ~predicted.any(axis=1)])
    hits = (truth & predicted).sum(axis=1)
    return float((2 * hits / (truth.sum(axis=1) + predicted.sum(axis=1))).mean()) if len(truth) else float("nan")


def best_threshold(truth: Truth, scores: Scores, grid: Sequence[float]) -> float:
    """The threshold of the grid with the highest row-wise F1; the middle one of equals."""
    f1 = np.array([row_f1(truth, scores >= threshold) for threshold in grid])
    best = np.flatnonzero(f1 == f1.max())
    return float(grid[int(best[len(best) // 2])])


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
