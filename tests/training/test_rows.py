"""Held-out sound as rows: which windows score which row, and false alarms where no bird is."""

import math

import numpy as np
import pandas as pd
import pytest

from labous.detect import Confirmation
from training.rows import alarms, background_rows, held_out, recording_rows, soundscape_rows, whole

CODES = ["comcuc", "gretit1"]


def times(window, *starts):
    return np.array(starts, float), np.array(starts, float) + window


def recordings(**columns):
    table = {
        "recording_id": ["a", "b"],
        "path": ["A", "B"],
        "author": ["Ann", ""],
        "primary_label": CODES,
        "secondary_labels": [["gretit1"], []],
        "split": ["test", "valid"],
    }
    return pd.DataFrame(table | columns)


def backgrounds(*stretches):
    return pd.DataFrame(
        [("x", "X", "Ann", start, end, "test") for start, end in stretches],
        columns=["recording_id", "path", "author", "start_seconds", "end_seconds", "split"],
    )


NO_SOUNDSCAPES = pd.DataFrame(
    columns=["row_id", "recording_id", "path", "start_seconds", "end_seconds", "labels", "split"]
)


def test_a_recording_scores_its_best_window_and_counts_background_species_as_there():
    values = {"A": np.array([[1, -3], [-2, 4]], np.float32), "B": np.array([[0, 2]], np.float32)}
    when = {"A": times(5, 0, 5), "B": times(5, 0)}
    rows = recording_rows(recordings(), when, CODES)
    np.testing.assert_array_equal(rows.truth, [[True, True], [False, True]])
    np.testing.assert_array_equal(rows.highest(values), [[1, 4], [0, 2]])
    np.testing.assert_array_equal(rows.where(values, when), [[0, 5], [0, 0]])


def test_rows_are_drawn_by_recordist_or_else_by_recording():
    rows = recording_rows(recordings(), {"A": times(5, 0), "B": times(5, 0)}, CODES)
    assert rows.groups == ["Ann", "b"]
    assert rows.sources == ["a", "b"]


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
    rising = np.column_stack([np.arange(len(starts)), -np.arange(len(starts))]).astype(np.float32)
    rows = soundscape_rows(table, {"X": times(window, *starts)}, CODES, window)
    np.testing.assert_array_equal(rows.highest({"X": rising})[:, 0], expected)
    np.testing.assert_array_equal(rows.truth, [[True, False], [False, False], [False, True]])


def test_background_is_heard_in_whole_windows_only():
    when = {"X": times(5.0, 0, 5, 10, 15)}
    rows = background_rows(whole(backgrounds((0.0, 10.0), (12.0, 16.0), (9.0, math.nan))), when, 2)
    assert [list(inside) for inside in rows.windows] == [[0, 1], [2, 3]]
    assert rows.names == ["x 0-10 s", "x 9-20 s"]
    assert not rows.truth.any()


def test_a_short_background_is_heard_to_its_end():
    when = {"X": (np.array([0.0]), np.array([3.2]))}
    assert len(background_rows(whole(backgrounds((0.0, math.nan))), when, 2).names) == 1


def test_false_alarms_are_windows_and_hours_are_counted_once():
    when = {"X": times(5.0, 0, 2.5, 5, 7.5)}  # overlapping
    rows = background_rows(whole(backgrounds((0.0, math.nan))), when, 2)
    heard = {"X": np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.1], [0.9, 0.6]], np.float32)}
    found = alarms(rows, heard, when, np.array([0.5, 0.6]), Confirmation(2, 2))
    assert found.hours.tolist() == pytest.approx([12.5 / 3600])
    assert found.detected.tolist() == [[3, 1]]
    assert found.confirmed.tolist() == [[1, 0]]


def test_a_share_has_the_kinds_that_it_has():
    when = {"A": times(5, 0), "B": times(5, 0), "X": times(5, 0)}
    both = (recordings(), NO_SOUNDSCAPES, whole(backgrounds((0.0, 5.0))))
    assert set(held_out("test", *both, when, CODES, 5.0)) == {"recordings", "background"}
    assert set(held_out("valid", *both, when, CODES, 5.0)) == {"recordings"}
    assert held_out("train", *both, when, CODES, 5.0) == {}


def test_rows_of_other_recordings():
    rows = recording_rows(recordings(), {"A": times(5, 0, 5), "B": times(5, 0)}, CODES)
    left = rows.without({"A"})
    assert (left.names, left.groups, left.paths) == (["b"], ["b"], ["B"])
    np.testing.assert_array_equal(left.truth, [[False, True]])
    assert len(left.windows) == 1
