"""Bootstrap intervals: of recordists, reproducible, as wide as theory says, and fast."""

import time

import numpy as np
import pytest

from training.intervals import Bootstrap
from training.metrics import measure

BOOTSTRAP = Bootstrap(resamples=1000, seed=3, level=0.95)


def test_rows_of_one_recordist_are_drawn_together():
    weights = BOOTSTRAP.weights(["a", "b", "a", "c"])
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert len(np.unique(weights, axis=0)) > 5


def test_the_same_seed_draws_the_same():
    groups = [str(i) for i in range(20)]
    np.testing.assert_array_equal(BOOTSTRAP.weights(groups), BOOTSTRAP.weights(groups))
    other = Bootstrap(1000, 4, 0.95).weights(groups)
    assert not np.array_equal(BOOTSTRAP.weights(groups), other)


def test_the_interval_of_a_share_is_the_binomials():
    hits = np.arange(200) < 60
    draws = BOOTSTRAP.weights([str(i) for i in range(200)]) @ hits / 200
    low, high = BOOTSTRAP.interval(0.3, draws)
    spread = 1.96 * np.sqrt(0.3 * 0.7 / 200)
    assert low == pytest.approx(0.3 - spread, abs=0.012)
    assert high == pytest.approx(0.3 + spread, abs=0.012)


def test_bias_of_the_draws_is_taken_out():
    draws = np.random.default_rng(1).normal(0.1, 1, 100_000)  # of a figure that is 0
    low, high = BOOTSTRAP.interval(0.0, draws)
    assert low == pytest.approx(-1.96 - 0.1, abs=0.05)
    assert high == pytest.approx(1.96 - 0.1, abs=0.05)


def test_what_has_no_value_has_no_interval():
    draws = np.full((1000, 2), np.nan)
    draws[:10, 1] = 0.5
    low, high = BOOTSTRAP.intervals(np.array([np.nan, 0.5]), draws)
    assert np.isnan([low[0], high[0]]).all()
    assert (low[1], high[1]) == (0.5, 0.5)


def test_one_recordist_gives_no_interval():
    rng = np.random.default_rng(2)
    truth, scores = rng.random((30, 2)) < 0.4, rng.random((30, 2)).astype(np.float32)
    draws = BOOTSTRAP.draws(truth, scores, 0.5, ["a"] * 30)
    low, high = BOOTSTRAP.intervals(np.array([0.5, 0.5]), draws.average_precision)
    assert np.isnan([low, high]).all()
    for values in draws.macro.values():
        assert np.isnan(BOOTSTRAP.interval(0.5, values)).all()
    assert BOOTSTRAP.weights([]).shape == (1000, 0)


def test_a_species_with_few_rows_has_a_wide_interval():
    rng = np.random.default_rng(2)
    truth = np.zeros((300, 2), bool)
    truth[:100, 0], truth[:4, 1] = True, True
    scores = (0.6 * rng.random(truth.shape) + 0.4 * truth).astype(np.float32)
    groups = [str(i) for i in range(300)]
    found = measure(truth, scores, 0.5)
    draws = BOOTSTRAP.draws(truth, scores, 0.5, groups)
    low, high = BOOTSTRAP.intervals(np.array([found.cmap] * 2), draws.average_precision)
    assert high[1] - low[1] > 2 * (high[0] - low[0])


def test_a_thousand_draws_of_a_few_hundred_rows_take_seconds():
    rng = np.random.default_rng(0)
    truth, scores = rng.random((400, 30)) < 0.05, rng.random((400, 30)).astype(np.float32)
    began = time.process_time()
    BOOTSTRAP.draws(truth, scores, 0.5, [str(i) for i in range(400)])
    assert time.process_time() - began < 5
