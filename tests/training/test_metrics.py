import numpy as np
import pytest

from training.metrics import best_threshold, measure, row_f1, top1


def test_row_f1_counts_nocall_as_a_label():
    # by hand: {a} vs {a} = 1; {a} vs {a, b} = 2/3; nocall vs nocall = 1; {b} vs nocall = 0
    truth = np.array([[1, 0], [1, 0], [0, 0], [0, 1]], bool)
    predicted = np.array([[1, 0], [1, 1], [0, 0], [0, 0]], bool)
    assert row_f1(truth, predicted) == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)


def test_labels_without_positives_are_left_out_of_the_means():
    truth = np.array([[1, 0], [0, 0], [1, 0]], bool)
    scores = np.array([[0.9, 0.1], [0.2, 0.9], [0.8, 0.3]], np.float32)
    found = measure(truth, scores, 0.5)
    assert found.macro_roc_auc == 1.0
    assert found.cmap == 1.0
    assert found.rows == 3


def test_a_perfectly_wrong_order_scores_zero():
    truth = np.array([[1], [0]], bool)
    assert measure(truth, np.array([[0.1], [0.9]], np.float32), 0.5).macro_roc_auc == 0.0


def test_top1_looks_at_rows_with_a_label_only():
    truth = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], bool)
    scores = np.array([[0.1, 0.9, 0.3], [1, 0, 0], [0.9, 0.1, 0.3]], np.float32)
    assert top1(truth, scores) == 0.5


def test_what_no_row_can_give_is_nan():
    found = measure(np.zeros((2, 2), bool), np.zeros((2, 2), np.float32), 0.5)
    assert np.isnan([found.macro_roc_auc, found.cmap, found.top1]).all()


def test_best_threshold_takes_the_middle_of_equals():
    truth = np.array([[1, 0], [0, 0]], bool)
    scores = np.array([[0.8, 0.1], [0.2, 0.3]], np.float32)
    assert best_threshold(truth, scores, [0.05, 0.4, 0.5, 0.6, 0.95]) == 0.5
