"""Bootstrap intervals: how far a figure would move with other recordings of the same kind.

Whole recordists (or files, where nobody is named) are drawn with replacement, since the rows of one are alike: the
cluster bootstrap, and bias-corrected percentiles of what the draws give.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from training.metrics import Estimates, Scores, Truth, Values, estimate


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn: how often, the seed, and the share of the draws inside."""

    resamples: int
    seed: int
    level: float

    def weights(self, groups: Sequence[str]) -> Values:
        """How often each row counts in each draw, float64 [resamples, n_rows].

        NaN where all rows are of one group, so that nothing has an interval: how far groups differ cannot be told from
        one, and its draws, all alike, would look like certainty.

        Args:
            groups: who or what each row comes from; rows of one group are drawn together.
        """
        names, member = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)
        if len(names) < 2:
            return np.full((self.resamples, len(member)), np.nan)
        drawn = np.random.default_rng(self.seed).multinomial(
            len(names), np.full(len(names), 1 / len(names)), self.resamples
        )
        return drawn[:, member].astype(np.float64)

    def interval(self, value: float, draws: Values) -> list[float]:
        """Lower and upper end for a figure, from its draws [resamples]; NaN where no draw has a value."""
        low, high = self.intervals(np.array([value]), draws[:, np.newaxis])
        return [float(low[0]), float(high[0])]

    def intervals(self, values: Values, draws: Values) -> tuple[Values, Values]:
        """The same for each of several figures [n], from draws [resamples, n].

        The percentiles are bias-corrected (Efron and Tibshirani 1993, An introduction to the bootstrap, 14.3): average
        precision is on average higher in the draws, where positives are repeated, than in the rows they come from.
        """
        ends = np.full((2, len(values)), np.nan)
        for i, (value, column) in enumerate(zip(values, draws.T, strict=True)):
            known = column[~np.isnan(column)]
            if len(known) and not np.isnan(value):
                below = np.mean(known < value) + np.mean(known == value) / 2
                shift = 2 * ndtri(np.clip(below, 0.5 / len(known), 1 - 0.5 / len(known)))
                edge = ndtri(0.5 + self.level / 2)
                ends[:, i] = np.quantile(known, ndtr(shift + np.array([-edge, edge])))
        return ends[0], ends[1]

    def draws(self, truth: Truth, scores: Scores, threshold: float | Values, groups: Sequence[str]) -> Estimates:
        """All metrics of every draw."""
        return estimate(truth, scores, threshold, self.weights(groups))
