"""What is chosen on the validation share: calibration, thresholds, smoothing and the confirmation rule."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labous.detect import Confirmation, Scoring, sigmoid
from training.calibration import (
    Detection,
    choose_confirmation,
    choose_smoothing,
    choose_thresholds,
    fit_calibration,
)
from training.config import compose
from training.evaluate import Heard
from training.metrics import measure
from training.rows import RowSet
from training.validate import _decide

GRID = [round(0.05 * i, 2) for i in range(1, 20)]


def made(n_rows, scale, offsets, seed=1):
    """Rows whose probability of being true is sigmoid(scale · logit + offset)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n_rows, len(offsets))).astype(np.float32)
    truth = rng.random(logits.shape) < sigmoid((scale * logits + np.array(offsets)).astype(np.float32))
    return truth, logits


def test_what_made_the_rows_is_found_again():
    truth, logits = made(20_000, 1.6, [-2.0, -1.0, 0.5])
    scale, offset = fit_calibration(truth, logits, offset_sd=3.0, scale_sd=1.0)
    np.testing.assert_allclose(scale, 1.6, atol=0.06)
    np.testing.assert_allclose(offset, [-2.0, -1.0, 0.5], atol=0.1)


def test_calibration_lowers_the_calibration_error_of_other_rows():
    offsets = [-2.0, -1.0, 0.5, -3.0]
    scale, offset = fit_calibration(*made(400, 0.6, offsets), offset_sd=1.0, scale_sd=0.5)
    truth, logits = made(4000, 0.6, offsets, seed=2)
    before = measure(truth, sigmoid(logits), 0.5).ece
    assert measure(truth, Scoring(scale, offset, 0.0).calibrated(logits), 0.5).ece < 0.3 * before


def test_the_fit_is_where_its_loss_is_flat():
    truth, logits = made(50, 1.2, [-1.0, 0.0])
    scale, offset = fit_calibration(truth, logits, offset_sd=1.0, scale_sd=0.5)
    common = offset.mean()  # the prior pulls the offsets to their mean, and each gradient is then (own / sd²)
    gaps = sigmoid(scale * logits + offset) - truth
    np.testing.assert_allclose(gaps.sum(axis=0), -(offset - common), atol=0.01)
    np.testing.assert_allclose((gaps * logits).sum(), -(scale[0] - 1) / 0.25, atol=0.01)


def test_a_species_with_few_positives_is_pulled_to_the_others():
    truth, logits = made(300, 1.0, [-1.0, -1.0, -1.0, -1.0])
    truth[:, 3] = False  # never heard on the validation share
    _, loose = fit_calibration(truth, logits, offset_sd=10.0, scale_sd=0.5)
    _, tight = fit_calibration(truth, logits, offset_sd=0.5, scale_sd=0.5)
    assert loose[3] < tight[3] < tight[:3].mean()
    assert abs(tight[3] - tight[:3].mean()) < 0.4 * abs(loose[3] - loose[:3].mean())


@pytest.mark.parametrize("heard", [False, True])
def test_without_positives_or_negatives_nothing_is_changed(heard):
    scale, offset = fit_calibration(np.full((9, 2), heard), np.ones((9, 2), np.float32), 1.0, 0.5)
    assert scale.tolist() == [1, 1]
    assert offset.tolist() == [0, 0]


def test_a_validation_share_without_any_bird_chooses_nothing(capsys):
    told = compose(["evaluate.plain_threshold=0.7"]).evaluate
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    rows = RowSet(["a"], ["Ann"], ["a"], ["A"], np.zeros((1, 3), bool), [np.arange(6)])
    heard = {"A": Heard(np.arange(6.0), np.arange(1.0, 7.0), {"float32": logits}, 0.0)}
    for kind in ("background", "soundscapes"):
        found = _decide(told, {kind: rows}, heard, 3)
        assert found.thresholds.tolist() == [0.7] * 3
        np.testing.assert_array_equal(found.scoring.probabilities(logits), sigmoid(logits))
        assert found.confirmation == Confirmation(1, 1)
        assert "every threshold is 0.7" in capsys.readouterr().out


def f1(truth, predicted):
    return 2 * (truth & predicted).sum() / max(1, truth.sum() + predicted.sum())


@given(st.integers(0, 100))
def test_each_for_itself_no_threshold_has_a_higher_f1(seed):
    rng = np.random.default_rng(seed)
    truth, p = rng.random((60, 3)) < 0.2, rng.random((60, 3)).astype(np.float32)
    chosen = choose_thresholds(truth, p, GRID, shrinkage=0.0)
    for t, s, threshold in zip(truth.T, p.T, chosen, strict=True):
        assert f1(t, s >= np.float32(threshold)) == pytest.approx(max(f1(t, s >= np.float32(g)) for g in GRID))


def test_shrinkage_leads_from_each_its_own_to_one_for_all():
    truth = np.zeros((200, 3), bool)
    p = np.zeros((200, 3), np.float32)
    for label, (positive, negative) in enumerate([(0.9, 0.6), (0.9, 0.6), (0.4, 0.1)]):
        truth[:50, label] = True
        p[:, label] = np.where(truth[:, label], positive, negative)
    own = choose_thresholds(truth, p, GRID, 0.0)
    assert own[0] == own[1] > 0.6
    assert 0.1 < own[2] <= 0.4
    common = choose_thresholds(truth, p, GRID, 1e9)
    assert len(set(common)) == 1


def test_a_species_without_positives_gets_what_is_best_for_all():
    rng = np.random.default_rng(0)
    truth = rng.random((300, 3)) < 0.3
    truth[:, 2] = False
    p = np.where(truth, 0.7, 0.3).astype(np.float32) + rng.normal(0, 0.1, truth.shape).astype(np.float32)
    p[:, 2] = 0.0
    found = choose_thresholds(truth, p, GRID, 2.0)
    assert found[2] == pytest.approx(found[:2].mean(), abs=0.11)


def test_smoothing_must_be_worth_it():
    quality = {0.0: 0.8, 0.1: 0.805, 0.2: 0.83, 0.3: 0.82}
    assert choose_smoothing([0.1, 0.2, 0.3], quality.__getitem__, 0.01) == 0.2
    assert choose_smoothing([0.1], quality.__getitem__, 0.01) == 0.0
    assert choose_smoothing([], quality.__getitem__, 0.01) == 0.0
    assert choose_smoothing([0.1], lambda _: float("nan"), 0.0) == 0.0


def test_a_rule_that_takes_out_single_false_alarms_is_chosen():
    rng = np.random.default_rng(5)
    heard = []
    for i in range(40):
        present = np.array([i % 2 == 0])
        detected = np.zeros((10, 1), bool)
        detected[rng.integers(10)] = True  # a false alarm in every recording
        if present:
            detected[3:7] = True
        heard.append((detected, present))
    assert choose_confirmation([[2, 2], [2, 3], [3, 5]], heard, 0.01) == Confirmation(2, 2)  # the shortest that does
    assert choose_confirmation([[5, 5]], heard, 0.01) == Confirmation(1, 1)
    assert choose_confirmation([[2, 2]], [], 0.01) == Confirmation(1, 1)


def test_short_recordings_keep_the_single_window():
    heard = [(np.array([[True]]), np.array([True])), (np.array([[False]]), np.array([False]))]
    assert choose_confirmation([[2, 3]], heard, 0.01) == Confirmation(1, 1)


def test_the_manifest_has_what_was_measured_to_the_last_digit():
    truth, logits = made(200, 1.3, [-1.0, 0.3])
    scale, offset = fit_calibration(truth, logits, 1.0, 0.5)
    told = Detection(Scoring(scale, offset, 0.2), np.array([0.3, 0.41]), Confirmation(2, 3)).to_manifest(["a", "b"])
    read = json.loads(json.dumps(told))
    assert read["thresholds"] == {"a": 0.3, "b": 0.41}
    assert np.float32(read["calibration"]["a"]["scale"]) == scale[0]
    assert np.float32(read["calibration"]["b"]["offset"]) == offset[1]
    assert read["smoothing"] == {"neighbor_weight": 0.2}
    assert read["confirmation"] == {"hits": 2, "windows": 3}
