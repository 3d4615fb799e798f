"""Figures of what was heard, and the file that lets runs be pooled."""

import math

import numpy as np
import pandas as pd
import pytest

from training.errors import StageError
from training.intervals import Bootstrap
from training.metrics import measure
from training.quality import Kind, of_background, of_rows, parity, shifts, species_table
from training.rows import Alarms, RowSet
from training.scores import engines_of, kinds_of, pooled, read_scores, write_scores
from training.tables import calibration_table, curves, predictions, without_nan

BOOTSTRAP = Bootstrap(200, 1, 0.95)
CODES = ["comcuc", "gretit1"]


def row_set(n, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"r{seed}-{i}" for i in range(n)]
    groups = [f"p{seed}-{i // 3}" for i in range(n)]
    truth = rng.random((n, 2)) < 0.4
    scores = (0.5 * rng.random((n, 2)) + 0.5 * truth * rng.random((n, 2))).astype(np.float32)
    return RowSet(names, groups, names, names, truth, [np.arange(1)] * n), scores


def test_each_figure_lies_in_its_interval():
    rows, scores = row_set(60)
    found = of_rows(rows, scores, np.array([0.5, 0.4]), BOOTSTRAP)
    assert found["rows"] == 60
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high, name


def test_false_alarms_by_hand():
    counted = Alarms(np.array([0.5, 1.5]), np.array([[1.0, 0], [2, 3]]), np.array([[0.0, 0], [1, 0]]))
    found = of_background(counted, ["a", "b"], BOOTSTRAP)
    assert found["hours"] == 2.0
    assert found["false_alarms_per_hour"] == 3.0
    assert found["confirmed_false_alarms_per_hour"] == 0.5
    # drawn by file: from twice the first (1 in half an hour) to twice the second (5 in an hour and a half)
    assert found["intervals"]["false_alarms_per_hour"] == pytest.approx([2.0, 10 / 3])


def test_shifts_by_hand():
    before = {"int8": np.array([[1.0, 0.0], [0.0, 3.0]], np.float32)}
    after = {"int8": [np.array([[1.5, 0.0], [0.0, 3.0]], np.float32), np.array([[0.0, 1.0], [0.0, 2.0]], np.float32)]}
    found = shifts(before, after)["int8"]
    assert found["median"] == pytest.approx(np.median([0.5, 0.0, 1.0, 1.0]))
    assert found["percentile_95"] == pytest.approx(1.0)
    assert found["flips"] == 0.25


def test_parity_by_hand():
    logits = {
        "keras": [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])],
        "float32": [np.array([[1.0, 0.0]]), np.array([[0.0, 1.25]])],
        "int8": [np.array([[0.0, 0.5]]), np.array([[0.0, 1.0]])],
    }
    found = parity(logits, 1e-5)
    assert found["float32_logit"] == 0.25
    assert found["float32_logit_median"] == 0.125
    assert found["int8_logit"] == 1.0
    assert found["int8_top1_equal"] == 0.5
    assert found["mel_decibels"] == 1e-5


def table_of_species(kinds, counted):
    labels = pd.DataFrame({"ebird_code": CODES, "common_name": ["Cuckoo", "Great Tit"]})
    detection = {
        "thresholds": {"comcuc": 0.5, "gretit1": 0.4},
        "calibration": {code: {"scale": 1.0, "offset": i} for i, code in enumerate(CODES)},
    }
    return species_table(labels, pd.Series({"comcuc": 7}), kinds, detection, counted, BOOTSTRAP)


def test_the_species_table_has_a_row_a_species():
    rows, scores = row_set(60)
    kinds = {engine: Kind(rows, scores, scores) for engine in ("float32", "int8")}
    counted = Alarms(np.array([2.0]), np.array([[4.0, 0]]), np.array([[0.0, 0]]))
    found = table_of_species(kinds, counted)
    assert found.train_recordings.tolist() == [7, 0]
    assert found.test_rows.tolist() == rows.truth.sum(axis=0).tolist()
    assert (found.ap_low_int8 <= found.average_precision_int8).all()
    assert (found.average_precision_int8 <= found.ap_high_int8).all()
    assert found.false_alarms_per_hour.tolist() == [2.0, 0.0]
    assert found.calibration_offset.tolist() == [0, 1]


def test_where_nothing_was_held_out_the_table_says_so():
    found = table_of_species({}, None)
    assert found.average_precision_int8.isna().all()
    assert found.test_rows.tolist() == [0, 0]
    assert found.false_alarms_per_hour.isna().all()
    for table in (predictions({}, CODES), curves({}), calibration_table(None)):
        assert table.empty
        assert list(table.columns)


def test_tables_of_rows():
    rows, scores = row_set(30)
    kinds = {engine: Kind(rows, np.log(scores / (1 - scores)), scores) for engine in ("keras", "int8")}
    found = predictions({"recordings": kinds}, CODES)
    assert found.row.tolist() == rows.names
    assert found.best_int8.tolist() == [CODES[i] for i in scores.argmax(axis=1)]
    assert set(found.truth) <= {"nocall", "comcuc", "gretit1", "comcuc gretit1"}
    curve = curves(kinds)
    assert set(curve.engine) == {"keras", "int8"}
    assert curve.recall.max() == pytest.approx(1.0)
    meaning = calibration_table(kinds["int8"])
    assert meaning.groupby("probabilities")["count"].sum().tolist() == [60, 60]


def scores_file(path, seed, labels=CODES, thresholds=(0.5, 0.4)):
    rows, scores = row_set(24, seed)
    arrays = {
        "labels": np.array(labels),
        "thresholds": np.array(thresholds),
        "recordings/names": np.array(rows.names),
        "recordings/groups": np.array(rows.groups),
        "recordings/truth": rows.truth,
        "recordings/probabilities/int8": scores,
    }
    write_scores(path, arrays)
    return rows.truth, scores


def test_pooled_runs_are_one_set_of_rows_each_with_its_own_thresholds(tmp_path):
    files = [tmp_path / f"{i}.npz" for i in range(2)]
    parts = [scores_file(path, i, thresholds=(0.5, 0.4 + i / 10)) for i, path in enumerate(files)]
    truth, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = pooled(files, BOOTSTRAP)["int8"]["recordings"]
    thresholds = np.repeat([[0.5, 0.4], [0.5, 0.5]], 24, axis=0)
    expected = measure(truth, scores, thresholds)
    assert found["rows"] == 48
    for name in ("cmap", "macro_roc_auc", "row_f1", "ece"):
        assert found[name] == pytest.approx(getattr(expected, name))
        low, high = found["intervals"][name]
        assert low <= found[name] <= high
    assert kinds_of(read_scores(files[0])) == ["recordings"]
    assert engines_of(read_scores(files[0]), "recordings") == ["int8"]


def test_runs_of_other_labels_are_not_pooled(tmp_path):
    files = [tmp_path / f"{i}.npz" for i in range(2)]
    scores_file(files[0], 0)
    scores_file(files[1], 1, labels=["gretit1", "comcuc"])
    with pytest.raises(StageError, match="same labels"):
        pooled(files, BOOTSTRAP)
    with pytest.raises(StageError, match=r"training\.validate"):
        read_scores(tmp_path / "absent.npz")


def test_the_same_scores_are_the_same_bytes(tmp_path):
    scores_file(tmp_path / "a.npz", 0)
    scores_file(tmp_path / "b.npz", 0)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_what_is_no_number_is_null():
    assert without_nan({"a": math.nan, "b": [1.0, math.nan], "c": {"d": math.nan}}) == {
        "a": None,
        "b": [1.0, None],
        "c": {"d": None},
    }
