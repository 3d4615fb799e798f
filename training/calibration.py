"""From a model's logits to decisions, all chosen on the validation share: smoothing, calibration, thresholds and the
confirmation rule. What is chosen ships in the bundle's manifest as ``detection``, and :mod:`labous.detect` applies it.

Each species has few positives, so each is pulled towards what holds for all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous.detect import Confirmation, Scoring
from training.metrics import Scores, Truth, Values

_LEAST_SCALE, _MOST_SCALE = 0.05, 20.0


@dataclasses.dataclass(frozen=True)
class Detection:
    """What was decided: how probabilities are made, where they count, and when they are believed.

    Attributes:
        scoring: smoothing and calibration.
        thresholds: from which probability on a species is detected, float64 [n_labels].
        confirmation: of a station.
    """

    scoring: Scoring
    thresholds: Values
    confirmation: Confirmation

    @classmethod
    def plain(cls, n_labels: int, threshold: float) -> Detection:
        """Where there is nothing to choose on: the model's own probabilities, and one threshold."""
        return cls(Scoring.plain(n_labels), np.full(n_labels, threshold), Confirmation(1, 1))

    def to_manifest(self, codes: Sequence[str]) -> dict[str, Any]:
        """As docs/bundle.md describes ``detection``."""
        pairs = zip(codes, self.scoring.scale, self.scoring.offset, strict=True)
        return {
            "thresholds": dict(zip(codes, self.thresholds.tolist(), strict=True)),
            "calibration": {code: {"scale": round(float(a), 6), "offset": round(float(b), 6)} for code, a, b in pairs},
            "smoothing": {"neighbor_weight": self.scoring.neighbor_weight},
            "confirmation": dataclasses.asdict(self.confirmation),
        }


def fit_calibration(
    truth: Truth, logits: Scores, offset_sd: float, scale_sd: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Platt scaling with one scale for all species and an offset for each, shrunk towards their common offset.

    Minimizes the cross-entropy of sigmoid(scale · logit + common + own) plus (own / offset_sd)² / 2 for each species
    plus ((scale - 1) / scale_sd)² / 2: normal priors around the common offset and around no change of scale. The
    problem is convex. J. Platt 1999, Probabilistic outputs for support vector machines.

    Args:
        truth, logits: of the validation rows, [n_rows, n_labels].
        offset_sd: how far species are expected to lie from their common offset, in logits.
        scale_sd: how far the scale is expected to lie from 1.

    Returns:
        scale and offset, float32 [n_labels] each; 1 and 0 where no row has a label, or every row has all: either way
        no offset would be the best.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    n_labels = logits.shape[1]
    if not truth.any() or truth.all():
        return np.ones(n_labels, np.float32), np.zeros(n_labels, np.float32)
    given = logits.astype(np.float64)

    def loss(parameters: Values) -> tuple[float, Values]:
        scale, common, own = parameters[0], parameters[1], parameters[2:]
        calibrated = scale * given + common + own
        gaps = expit(calibrated) - truth
        value = (np.logaddexp(0, calibrated) - truth * calibrated).sum()
        value += 0.5 * ((own / offset_sd) ** 2).sum() + 0.5 * ((scale - 1) / scale_sd) ** 2
        slope = np.concatenate(
            [
                [(gaps * given).sum() + (scale - 1) / scale_sd**2, gaps.sum()],
                gaps.sum(axis=0) + own / offset_sd**2,
            ]
        )
        return float(value), slope

    start = np.concatenate([[1.0, 0.0], np.zeros(n_labels)])
    bounds = [(_LEAST_SCALE, _MOST_SCALE)] + [(None, None)] * (1 + n_labels)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000})
    scale, common, own = found.x[0], found.x[1], found.x[2:]
    # as many digits as the manifest has, so that what was measured is what is shipped
    return np.full(n_labels, round(scale, 6), np.float32), np.round(common + own, 6).astype(np.float32)


def choose_thresholds(truth: Truth, probabilities: Scores, grid: Sequence[float], shrinkage: float) -> Values:
    """For each species the threshold of the grid with the highest F1, its counts mixed with those of all species.

    F1 = 2 TP / (2 TP + FP + FN), where each count is the species' own plus ``shrinkage`` times the mean species'. So a
    species without positives gets the threshold that is best for all, and one with many its own.

    Args:
        truth, probabilities: of the validation rows, [n_rows, n_labels].
        grid: thresholds to try, rising.
        shrinkage: how many mean species weigh as much as the species itself; 0 is each for itself.

    Returns:
        float64 [n_labels]; of equally good thresholds, the middle one.
    """
    predicted = (probabilities >= np.float32(threshold) for threshold in grid)
    counts = np.array([((p & truth).sum(axis=0), (p ^ truth).sum(axis=0)) for p in predicted], np.float64)
    hits, wrong = counts[:, 0], counts[:, 1]
    hits, wrong = (own + shrinkage * own.mean(axis=1, keepdims=True) for own in (hits, wrong))
    f1 = np.divide(2 * hits, 2 * hits + wrong, out=np.zeros_like(hits), where=hits + wrong > 0)
    found = []
    for column in f1.T:
        best = np.flatnonzero(column >= column.max() - 1e-12)
        found.append(float(grid[int(best[len(best) // 2])]))
    return np.array(found)


def choose_smoothing(candidates: Sequence[float], quality: Callable[[float], float], least_gain: float) -> float:
    """The neighbor weight with the highest quality; 0 unless it gains at least ``least_gain`` over 0.

    Args:
        candidates: weights to try.
        quality: of a weight, on the validation share; NaN where it cannot be told.
        least_gain: what smoothing must be worth.
    """
    scores = {weight: quality(weight) for weight in dict.fromkeys([0.0, *candidates])}
    best = max(scores, key=lambda weight: (-np.inf if np.isnan(scores[weight]) else scores[weight], -weight))
    return best if scores[best] >= scores[0.0] + least_gain else 0.0


def choose_confirmation(
    candidates: Sequence[Sequence[int]], heard: Sequence[tuple[Truth, NDArray[np.bool_]]], least_gain: float
) -> Confirmation:
    """The rule (hits, windows) whose reports are right most often; one of one unless another gains ``least_gain``.

    A report is a species confirmed anywhere in a recording. The measure is F1 over all pairs of recording and species.

    Args:
        candidates: rules to try.
        heard: of each validation recording, what was detected in its windows in their order, bool
            [n_windows, n_labels], and which species are in it, bool [n_labels].
        least_gain: what a rule must be worth.
    """

    def f1(rule: Confirmation) -> float:
        reported = np.array([rule.holds(detected).any(axis=0) for detected, _ in heard])
        there = np.array([present for _, present in heard])
        whole = reported.sum() + there.sum()
        return 2 * float((reported & there).sum()) / float(whole) if whole else 0.0

    at_once = Confirmation(1, 1)
    if not heard:
        return at_once
    rules = [Confirmation(*rule) for rule in candidates]
    best = max(rules, key=lambda rule: (f1(rule), -rule.windows), default=at_once)
    return best if f1(best) >= f1(at_once) + least_gain else at_once
