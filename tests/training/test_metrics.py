"""Metrics against scikit-learn, against numbers worked out by hand, and as properties."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from training.metrics import ECE_BINS, estimate, measure, per_label, precision_recall, reliability, row_f1

SHAPE = st.tuples(st.integers(1, 25), st.integers(1, 4))


@st.composite
def rows(draw):
    shape = draw(SHAPE)
    truth = draw(arrays.arrays(bool, shape))
    # few different values, so that many are tied
    steps = draw(arrays.arrays(np.int8, shape, elements=st.integers(0, 8)))
    return truth, (steps / 8).astype(np.float32)


@given(rows())
def test_average_precision_and_roc_auc_are_scikit_learns(drawn):
    truth, scores = drawn
    precision, auc = per_label(truth, scores)
    for t, s, ap, area in zip(truth.T, scores.T, precision, auc, strict=True):
        assert np.isnan(ap) if not t.any() else ap == pytest.approx(average_precision_score(t, s))
        assert np.isnan(area) if t.all() or not t.any() else area == pytest.approx(roc_auc_score(t, s))


@given(rows())
def test_padded_cmap_is_what_padding_by_hand_gives(drawn):
    truth, scores = drawn
    ones = np.ones((5, truth.shape[1]))
    by_hand = average_precision_score(np.vstack([truth, ones]), np.vstack([scores, ones]), average="macro")
    assert measure(truth, scores, 0.5).padded_cmap == pytest.approx(by_hand)


@given(rows(), st.integers(0, 1000))
@settings(deadline=None)
def test_weights_are_repetitions(drawn, seed):
    truth, scores = drawn
    weights = np.random.default_rng(seed).integers(0, 4, len(truth))
    found = estimate(truth, scores, 0.5, weights[np.newaxis].astype(float))
    repeated = measure(truth.repeat(weights, axis=0), scores.repeat(weights, axis=0), 0.5)
    for name, value in dataclasses.asdict(repeated).items():
        # which labels have five positives is asked of the rows as they are
        if name not in ("rows", "cmap5"):
            np.testing.assert_allclose(found.macro[name][0], value, err_msg=name)


@given(rows())
def test_a_rising_map_changes_no_ranking(drawn):
    truth, scores = drawn
    ours, theirs = measure(truth, scores, 0.5), measure(truth, scores**3, 0.5**3)
    for name in ("macro_roc_auc", "cmap", "cmap5", "padded_cmap", "top1", "row_f1"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name))


def test_row_f1_counts_nocall_as_a_label():
    # by hand: {a} vs {a} = 1; {a} vs {a, b} = 2/3; nocall vs nocall = 1; {b} vs nocall = 0
    truth = np.array([[1, 0], [1, 0], [0, 0], [0, 1]], bool)
    predicted = np.array([[1, 0], [1, 1], [0, 0], [0, 0]], bool)
    assert row_f1(truth, predicted).tolist() == pytest.approx([1, 2 / 3, 1, 0])
    assert measure(truth, predicted.astype(np.float32), 0.5).row_f1 == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)


def test_each_label_has_its_threshold():
    truth = np.array([[1, 1]], bool)
    scores = np.array([[0.3, 0.6]], np.float32)
    assert measure(truth, scores, np.array([0.2, 0.5])).row_f1 == 1.0
    assert measure(truth, scores, np.array([0.4, 0.5])).row_f1 == pytest.approx(2 / 3)


def test_thresholds_are_compared_as_a_device_does():
    score = np.float32(0.35)  # below 0.35 itself
    assert measure(np.array([[True]]), np.array([[score]]), 0.35).row_f1 == 1.0


def test_labels_without_positives_are_left_out_of_the_means():
    truth = np.array([[1, 0], [0, 0], [1, 0]], bool)
    scores = np.array([[0.9, 0.1], [0.2, 0.9], [0.8, 0.3]], np.float32)
    found = measure(truth, scores, 0.5)
    assert found.macro_roc_auc == 1.0
    assert found.cmap == 1.0
    assert np.isnan(found.cmap5)
    assert found.rows == 3


def test_cmap5_is_of_labels_with_five_positives():
    truth = np.array([[1, 1]] * 4 + [[1, 0]] + [[0, 0]] * 5, bool)
    scores = np.column_stack([np.linspace(1, 0, 10), np.linspace(0, 1, 10)]).astype(np.float32)
    assert measure(truth, scores, 0.5).cmap5 == 1.0
    assert measure(truth, scores, 0.5).cmap < 1.0


def test_a_perfectly_wrong_order_scores_zero():
    truth = np.array([[1], [0]], bool)
    assert measure(truth, np.array([[0.1], [0.9]], np.float32), 0.5).macro_roc_auc == 0.0


def test_top1_looks_at_rows_with_a_label_only():
    truth = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], bool)
    scores = np.array([[0.1, 0.9, 0.3], [1, 0, 0], [0.9, 0.1, 0.3]], np.float32)
    assert measure(truth, scores, 0.5).top1 == 0.5


def test_calibration_error_by_hand():
    # two bins: 0.1 said twice and never true, 0.9 said twice and true once: (2 · 0.1 + 2 · 0.4) / 4
    truth = np.array([[0, 0], [1, 0]], bool)
    scores = np.array([[0.1, 0.1], [0.9, 0.9]], np.float32)
    assert measure(truth, scores, 0.5).ece == pytest.approx(0.25)
    assert np.isnan(measure(truth, scores * 20 - 10, 0.5).ece)  # logits are no probabilities


@given(rows())
def test_calibration_error_is_what_the_reliability_table_says(drawn):
    truth, scores = drawn
    mean, share, count = reliability(truth, scores)
    assert len(count) == ECE_BINS
    assert count.sum() == truth.size
    by_table = np.nansum(np.abs(mean - share) * count) / truth.size
    assert measure(truth, scores, 0.5).ece == pytest.approx(by_table, abs=1e-6)


def test_what_no_row_can_give_is_nan():
    found = measure(np.zeros((2, 2), bool), np.zeros((2, 2), np.float32), 0.5)
    assert np.isnan([found.macro_roc_auc, found.cmap, found.cmap5, found.top1]).all()
    none = measure(np.zeros((0, 2), bool), np.zeros((0, 2), np.float32), 0.5)
    assert np.isnan([none.macro_roc_auc, none.cmap, none.top1, none.row_f1, none.ece]).all()


@given(rows())
def test_the_curve_is_scikit_learns(drawn):
    truth, scores = drawn
    if not truth.any():
        return
    precision, recall, threshold = precision_recall(truth, scores)
    theirs = precision_recall_curve(truth.ravel(), scores.ravel())
    np.testing.assert_allclose(precision, theirs[0][:-1][::-1])
    np.testing.assert_allclose(recall, theirs[1][:-1][::-1])
    np.testing.assert_allclose(threshold, theirs[2][::-1])


def test_many_weightings_at_once_are_each_by_itself(monkeypatch):
    rng = np.random.default_rng(3)
    truth, scores = rng.random((40, 5)) < 0.2, rng.random((40, 5)).astype(np.float32)
    weights = rng.integers(0, 3, (30, 40)).astype(float)
    whole = estimate(truth, scores, 0.5, weights)
    monkeypatch.setattr("training.metrics._AT_ONCE", 100)  # in chunks of two
    chunked = estimate(truth, scores, 0.5, weights)
    np.testing.assert_array_equal(whole.average_precision, chunked.average_precision)
    for name in whole.macro:
        np.testing.assert_array_equal(whole.macro[name], chunked.macro[name])
