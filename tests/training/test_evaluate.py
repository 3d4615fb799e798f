import numpy as np
import pandas as pd
import pytest

from labous.detect import sigmoid
from training.evaluate import ENGINES, Heard, join, recording_rows, soundscape_rows

CODES = ["comcuc", "gretit1"]


def heard(starts, logits):
    logits = np.array(logits, np.float32)
    return Heard(np.array(starts, np.float64), dict.fromkeys(ENGINES, logits), 0.0)


def test_a_recording_scores_its_best_window_and_counts_background_species_as_there():
    table = pd.DataFrame(
        {"recording_id": ["a", "b"], "path": ["A", "B"], "primary_label": CODES, "secondary_labels": [["gretit1"], []]}
    )
    rows = recording_rows(table, {"A": heard([0, 5], [[1, -3], [-2, 4]]), "B": heard([0], [[0, 2]])}, CODES)
    np.testing.assert_array_equal(rows.truth, [[True, True], [False, True]])
    np.testing.assert_allclose(rows.scores["int8"], sigmoid(np.array([[1, 4], [0, 2]], np.float32)))


@pytest.mark.parametrize(
    ("window", "starts", "expected"),
    [
        (5.0, [0, 5, 10], [0, 1, 2]),  # windows on the rows
        (3.0, [0, 3, 6, 9, 12], [1, 2, 4]),  # each row is scored by the windows that lie mostly in it
        (10.0, [0, 10], [0, 0, 1]),  # windows longer than a row
    ],
)
def test_a_stretch_is_scored_by_the_windows_that_share_it(window, starts, expected):
    table = pd.DataFrame(
        {
            "row_id": ["x_5", "x_10", "x_15"],
            "recording_id": "x",
            "path": "X",
            "labels": [["comcuc"], [], ["gretit1"]],
            "start_seconds": [0.0, 5.0, 10.0],
            "end_seconds": [5.0, 10.0, 15.0],
        }
    )
    rising = np.column_stack([np.arange(len(starts)), -np.arange(len(starts))])
    rows = soundscape_rows(table, {"X": heard(starts, rising)}, CODES, window)
    np.testing.assert_allclose(rows.scores["keras"][:, 0], sigmoid(np.array(expected, np.float32)))
    np.testing.assert_array_equal(rows.truth, [[True, False], [False, False], [False, True]])


def test_rows_of_both_kinds_join():
    table = pd.DataFrame({"recording_id": ["a"], "path": ["A"], "primary_label": ["comcuc"], "secondary_labels": [[]]})
    rows = recording_rows(table, {"A": heard([0], [[1, 2]])}, CODES)
    both = join(rows, rows)
    assert both.names == ["a", "a"]
    assert both.truth.shape == both.scores["float32"].shape == (2, 2)


def test_no_rows_are_no_rows():
    empty = pd.DataFrame(columns=["row_id", "recording_id", "path", "start_seconds", "end_seconds", "labels"])
    assert soundscape_rows(empty, {}, CODES, 5.0).truth.shape == (0, 2)
