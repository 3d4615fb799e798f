"""Metrics as the field reports them. Truth and scores are arrays [n_rows, n_labels]; rows may have no label at all.

Every metric is computed for many weightings of the rows at once, so that a bootstrap (training/intervals.py) is one
call; plain metrics are the weighting in which each row counts once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Truth = NDArray[np.bool_]
Scores = NDArray[np.float32]
Values = NDArray[np.float64]

ECE_BINS = 15
"""Equal bins of probability, as in Guo et al. 2017, On calibration of modern neural networks."""
PADDING = 5
"""Rows added by BirdCLEF 2023's padded cmAP: each has every label, with score 1."""
ENOUGH_POSITIVES = 5

_AT_ONCE = 2_000_000  # weights in memory at a time, per label and array


@dataclasses.dataclass(frozen=True)
class Metrics:
    """One engine's quality on one set of rows; a metric that no row can give is NaN.

    Attributes:
        macro_roc_auc: area under the ROC curve, mean over labels that have positives and negatives.
        cmap: class-wise mean average precision, mean over labels that have positives.
        cmap5: the same over labels with at least five positives.
        padded_cmap: the same over all labels, after five rows that have every label with score 1 (BirdCLEF 2023).
        top1: share of rows with a label whose highest score is one of their labels.
        row_f1: BirdCLEF 2021's row-wise micro F1, "nocall" being an ordinary label.
        ece: expected calibration error of all probabilities of all labels, in 15 equal bins; NaN where the scores are
            not probabilities.
        rows: rows they were computed from.
    """

    macro_roc_auc: float
    cmap: float
    cmap5: float
    padded_cmap: float
    top1: float
    row_f1: float
    ece: float
    rows: int


NAMES = tuple(field.name for field in dataclasses.fields(Metrics) if field.name != "rows")


@dataclasses.dataclass(frozen=True)
class Estimates:
    """What several weightings of the rows give.

    Attributes:
        macro: by the names of :class:`Metrics`, float64 [n_weightings].
        average_precision: per label, float64 [n_weightings, n_labels]; NaN without positives.
        roc_auc: per label, the same; NaN without positives or without negatives.
    """

    macro: dict[str, Values]
    average_precision: Values
    roc_auc: Values


def measure(truth: Truth, scores: Scores, threshold: float | Values) -> Metrics:
    """All metrics of one set of rows.

    Args:
        truth: bool [n_rows, n_labels].
        scores: float32, the same shape; probabilities, or logits where only the ranking matters.
        threshold: from which score on a label is predicted, for all or [n_labels]; compared in float32, as on a device.
    """
    found = estimate(truth, scores, threshold, np.ones((1, len(truth))))
    return Metrics(**{name: float(values[0]) for name, values in found.macro.items()}, rows=len(truth))


def estimate(truth: Truth, scores: Scores, threshold: float | Values, weights: Values) -> Estimates:
    """All metrics under each weighting of the rows.

    Args:
        truth, scores, threshold: as :func:`measure` takes them.
        weights: how often each row counts, float64 [n_weightings, n_rows].
    """
    curves = [_ranked(t, s, weights) for t, s in zip(truth.T, scores.T, strict=True)]
    precision, padded, roc_auc = (
        np.stack(part, axis=1) if curves else np.empty((len(weights), 0)) for part in _transposed(curves)
    )
    enough = truth.sum(axis=0) >= ENOUGH_POSITIVES
    labelled = truth.any(axis=1)
    total = weights.sum(axis=1)
    macro = {
        "macro_roc_auc": _mean(roc_auc),
        "cmap": _mean(precision),
        "cmap5": _mean(precision[:, enough]),
        "padded_cmap": _mean(padded),
        "top1": _share(weights @ _top1_hits(truth, scores), weights @ labelled),
        "row_f1": _share(weights @ row_f1(truth, scores >= np.asarray(threshold, np.float32)), total),
        "ece": _ece(truth, scores, weights),
    }
    return Estimates(macro, precision, roc_auc)


def per_label(truth: Truth, scores: Scores) -> tuple[Values, Values]:
    """Average precision and ROC AUC of each label, [n_labels] each; NaN where the rows cannot tell."""
    found = estimate(truth, scores, 0.5, np.ones((1, len(truth))))
    return found.average_precision[0], found.roc_auc[0]


def row_f1(truth: Truth, predicted: Truth) -> Values:
    """Row-wise micro F1 of BirdCLEF 2021, [n_rows]: 2 TP / (2 TP + FP + FN) of each row.

    A row without labels has the label "nocall", in the truth and in the prediction alike.
    """
    truth = np.column_stack([truth, ~truth.any(axis=1)])
    predicted = np.column_stack([predicted, ~predicted.any(axis=1)])
    return 2 * (truth & predicted).sum(axis=1) / (truth.sum(axis=1) + predicted.sum(axis=1))


def precision_recall(truth: Truth, scores: Scores) -> tuple[Values, Values, Values]:
    """Precision, recall and threshold at each different score, all labels' decisions as one list (micro average)."""
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked, hits = scores.ravel()[order], truth.ravel()[order]
    last = _last_of_equals(ranked)
    found = np.cumsum(hits)[last]
    return found / (last + 1), found / max(1, hits.sum()), ranked[last].astype(np.float64)


def reliability(truth: Truth, probabilities: Scores) -> tuple[Values, Values, NDArray[np.intp]]:
    """Mean probability, share that is true, and count, of each bin of the calibration error; NaN in empty bins."""
    bins = _bins(probabilities)
    counts = np.bincount(bins.ravel(), minlength=ECE_BINS)
    means = [np.bincount(bins.ravel(), values.ravel(), ECE_BINS) for values in (probabilities, truth)]
    return _share(means[0], counts), _share(means[1], counts), counts


def _ranked(truth: NDArray[np.bool_], scores: NDArray[np.float32], weights: Values) -> tuple[Values, Values, Values]:
    """Of one label: average precision, the same padded, and ROC AUC, under each weighting.

    Average precision is the sum over different scores of (recall gained) · (precision there), as scikit-learn has it;
    rows with the same score come in together. ROC AUC is the share of pairs in the right order, ties counting half.
    """
    found = [np.empty((3, 0))]
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], truth[order]
    last = _last_of_equals(ranked)
    chunk = max(1, _AT_ONCE // max(1, len(truth)))
    for start in range(0, len(weights), chunk):
        weighted = weights[start : start + chunk][:, order]
        seen = np.cumsum(weighted, axis=1)[:, last]
        positives = np.cumsum(weighted * hits, axis=1)[:, last]
        found.append(_areas(positives, seen, tied=len(ranked) > 0 and ranked[0] >= 1))
    ap, padded, auc = np.concatenate(found, axis=1)
    return ap, padded, auc


def _areas(positives: Values, seen: Values, tied: bool) -> Values:
    """The three figures of :func:`_ranked`, [3, n_weightings], from counts at or above each different score.

    ``tied``: whether the highest score is that of the padding.
    """
    n = len(seen)
    if not seen.shape[1]:
        return np.stack([np.full(n, np.nan), np.ones(n), np.full(n, np.nan)])
    gained = np.diff(positives, axis=1, prepend=0)
    total = positives[:, -1]
    negatives = seen - positives
    ap = _share((gained * _share(positives, seen, nothing=0.0)).sum(axis=1), total)
    padded = (gained * (positives + PADDING) / (seen + PADDING)).sum(axis=1)
    padded += PADDING * ((positives[:, 0] + PADDING) / (seen[:, 0] + PADDING) if tied else 1.0)
    pairs = (np.diff(negatives, axis=1, prepend=0) * (positives - gained / 2)).sum(axis=1)
    return np.stack([ap, padded / (total + PADDING), _share(pairs, total * negatives[:, -1])])


def _last_of_equals(ranked: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, np.intp)


def _top1_hits(truth: Truth, scores: Scores) -> Truth:
    best = scores.argmax(axis=1) if scores.size else np.empty(0, np.intp)
    return truth[np.arange(len(best)), best]


def _ece(truth: Truth, scores: Scores, weights: Values) -> Values:
    if scores.size == 0 or scores.min() < 0 or scores.max() > 1:
        return np.full(len(weights), np.nan)
    bins = _bins(scores)
    gaps: Values = truth - scores.astype(np.float64)
    per_row = np.stack([np.where(bins == b, gaps, 0.0).sum(axis=1) for b in range(ECE_BINS)], axis=1)
    return _share(np.abs(weights @ per_row).sum(axis=1), weights.sum(axis=1) * truth.shape[1])


def _bins(probabilities: Scores) -> NDArray[np.intp]:
    return np.minimum((probabilities * ECE_BINS).astype(np.intp), ECE_BINS - 1)


def _transposed(curves: Sequence[tuple[Values, Values, Values]]) -> list[list[Values]]:
    return [[curve[i] for curve in curves] for i in range(3)]


def _share(part: NDArray[Any], whole: NDArray[Any], nothing: float = np.nan) -> Values:
    """part / whole, and ``nothing`` where the whole is zero."""
    return np.divide(part, whole, out=np.full(np.shape(part), nothing), where=np.asarray(whole) != 0)


def _mean(values: Values) -> Values:
    """Mean over labels [n_weightings, n_labels] that have a value."""
    known = ~np.isnan(values)
    return _share(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1))
