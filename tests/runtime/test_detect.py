"""From logits to detections: smoothing, calibration and the confirmation rule, without a bundle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from labous.detect import Confirmation, Scoring, sigmoid, smoothed

LOGITS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 6), st.just(3)),
    elements=st.floats(-50, 50, width=32),
)


def scoring(weight: float) -> Scoring:
    return Scoring(np.array([1, 0.5, 2], np.float32), np.array([0, 1, -1], np.float32), weight)


@given(LOGITS)
def test_plain_scoring_is_the_sigmoid(logits: np.ndarray) -> None:
    np.testing.assert_array_equal(Scoring.plain(3).probabilities(logits), sigmoid(logits))


@given(LOGITS, st.floats(0, 1 / 3))
def test_smoothing_stays_between_what_it_mixes_and_forgets_nothing(logits: np.ndarray, weight: float) -> None:
    found = np.array([row for _, row in smoothed(((None, r) for r in logits), weight)], np.float32)
    assert len(found) == len(logits)
    for i, row in enumerate(found):
        near = logits[max(0, i - 1) : i + 2]
        assert (row >= near.min(axis=0) - 1e-4).all()
        assert (row <= near.max(axis=0) + 1e-4).all()


@given(LOGITS, st.sampled_from([0.0, 0.1, 1 / 3]))
def test_keys_and_order_are_kept(logits: np.ndarray, weight: float) -> None:
    followed = list(scoring(weight).follow(enumerate(logits)))
    assert [key for key, _ in followed] == list(range(len(logits)))
    np.testing.assert_array_equal(
        scoring(weight).probabilities(logits), np.array([p for _, p in followed]).reshape(-1, 3)
    )


def test_a_window_waits_for_its_neighbor_and_for_no_more() -> None:
    given_so_far = []

    def windows():
        for i in range(4):
            given_so_far.append(i)
            yield i, np.zeros(3, np.float32)

    for key, _ in scoring(0.25).follow(windows()):
        assert len(given_so_far) == min(key + 2, 4)


@pytest.mark.parametrize(
    ("hits", "windows", "expected"),
    [
        (1, 1, [0, 1, 0, 1, 1, 0, 0, 0]),
        (2, 2, [0, 0, 0, 0, 1, 0, 0, 0]),
        (2, 3, [0, 0, 0, 1, 1, 1, 0, 0]),
        (1, 3, [0, 1, 1, 1, 1, 1, 1, 0]),
        (3, 100, [0, 0, 0, 0, 1, 1, 1, 1]),
    ],
)
def test_confirmation_counts_the_last_windows(hits: int, windows: int, expected: list[int]) -> None:
    detected = np.array([[0, 1, 0, 1, 1, 0, 0, 0]], bool).T
    np.testing.assert_array_equal(Confirmation(hits, windows).holds(detected)[:, 0], np.array(expected, bool))


@given(arrays.arrays(bool, st.tuples(st.integers(0, 12), st.just(2))), st.integers(1, 5), st.integers(1, 5))
def test_confirmation_is_what_counting_by_hand_gives(detected: np.ndarray, hits: int, windows: int) -> None:
    found = Confirmation(hits, windows).holds(detected)
    for i in range(len(detected)):
        np.testing.assert_array_equal(found[i], detected[max(0, i - windows + 1) : i + 1].sum(axis=0) >= hits)
