"""Recordings as a source of examples: balance, targets, weights, and which window of a recording is taken."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from training.config import compose
from training.sources import Backgrounds, Recordings

FRONTEND = compose().frontend
N = FRONTEND.n_frames
CODES = ["comcuc", "gretit1", "tawowl1"]
COLUMNS = ["primary_label", "secondary_labels", "author", "rating"]
# two recordists of the cuckoo, one of whom is keen; nobody known for two of the tits
ROWS = [
    *[("comcuc", [], "Ana", 4.0)] * 6,
    ("comcuc", ["gretit1", "elsewhere"], "Bob", 1.0),
    ("gretit1", [], "", 0.0),
    ("gretit1", [], float("nan"), 3.0),
    ("gretit1", [], "Ana", float("nan")),
]


@pytest.fixture
def source(tmp_path):
    table = pd.DataFrame(ROWS, columns=COLUMNS).assign(recording_id=[f"{i}.ogg" for i in range(len(ROWS))])
    table["feature"] = [f"{i}.npy" for i in range(len(ROWS))]
    for i in range(len(ROWS)):
        np.save(tmp_path / f"{i}.npy", np.full((1, FRONTEND.n_mels, N + 100), i, np.float16))
    plain = {"label_smoothing": 0.0, "secondary_weight": 0.5, "crop_candidates": 1}
    return lambda **told: Recordings(table, tmp_path, CODES, FRONTEND, **plain | told)


def drawn(source, n=3000):
    rng = np.random.default_rng(5)
    return [source.draw(rng) for _ in range(n)]


def shares(examples):
    counts = Counter(int(example.mel[0, 0]) for example in examples)
    return {row: count / len(examples) for row, count in counts.items()}


def test_species_are_balanced_and_within_them_recordists(source):
    found = shares(drawn(source()))
    assert sum(found[i] for i in range(7)) == pytest.approx(0.5, abs=0.04)
    assert found[6] == pytest.approx(0.25, abs=0.03)  # one recording of Bob's, as often as Ana's six together
    for row in (7, 8, 9):  # each the only one of somebody
        assert found[row] == pytest.approx(1 / 6, abs=0.03)


def test_targets_know_other_birds_and_smoothing(source):
    by_row = {int(e.mel[0, 0]): e.targets for e in drawn(source(label_smoothing=0.1), 300)}
    np.testing.assert_allclose(by_row[0], [0.95, 0.05, 0.05], atol=1e-6)
    np.testing.assert_allclose(by_row[6], [0.95, 0.5, 0.05], atol=1e-6)


def test_ratings_weigh_along_the_line_and_none_is_neutral(source):
    examples = drawn(source(rating_weight=[[2, 0.5], [4, 0.9]]), 300)
    by_row = {int(e.mel[0, 0]): e.weight for e in examples}
    assert {row: by_row[row] for row in (0, 6, 7, 8, 9)} == pytest.approx({0: 0.9, 6: 0.5, 7: 1.0, 8: 0.7, 9: 1.0})
    assert {e.weight for e in drawn(source(), 100)} == {1.0}


def test_an_example_depends_on_the_generator_alone(source):
    one, other = source(crop_candidates=3), source(crop_candidates=3)
    one.draw(np.random.default_rng(1))
    first, second = (s.draw(np.random.default_rng(2)) for s in (one, other))
    np.testing.assert_array_equal(first.mel, second.mel)
    np.testing.assert_array_equal(first.targets, second.targets)


@pytest.fixture
def ramp(tmp_path):
    """One recording of three windows, whose values are its frames, the second of them lively."""
    mel = np.tile(np.arange(3 * N, dtype=np.float32), (FRONTEND.n_mels, 1)) / 8
    mel[::2, N : 2 * N] += 100 * (np.arange(N) % 7 == 0)
    np.save(tmp_path / "ramp.npy", mel[None])
    table = pd.DataFrame(
        [("comcuc", [], "Ana", 4.0, "a.ogg", "ramp.npy")], columns=[*COLUMNS, "recording_id", "feature"]
    )
    plain = {"label_smoothing": 0.0, "secondary_weight": 0.5, "crop_candidates": 8}
    return lambda **told: Recordings(table, tmp_path, CODES, FRONTEND, **plain | told)


def starts(source, n=60):
    return np.array([e.mel[1, 0] * 8 for e in drawn(source, n)])


def test_the_liveliest_window_is_taken(ramp):
    near = [np.mean(np.abs(starts(ramp(crop_candidates=n)) - N) < N / 2) for n in (1, 8)]
    assert near[0] < 0.75
    assert near[1] > 0.9


def test_an_opinion_is_asked_about_seconds_and_decides(ramp):
    asked = []

    def late(recording_id, start, end):
        asked.append((recording_id, start, end))
        return start

    found = starts(ramp(opinion=late))
    assert found.min() > N
    names, begins, ends = zip(*asked, strict=True)
    assert set(names) == {"a.ogg"}
    np.testing.assert_allclose(np.subtract(ends, begins), FRONTEND.window_samples / FRONTEND.sample_rate)
    assert 0 <= min(begins) < max(begins) <= 2 * N * FRONTEND.hop_length / FRONTEND.sample_rate


@pytest.mark.parametrize("pace", [0.8, 1.25])
def test_windows_go_at_the_pace_told(ramp, pace):
    for example in drawn(ramp(stretch=lambda rng: pace, crop_candidates=2), 20):
        np.testing.assert_allclose(np.diff(example.mel[1]) * 8, pace, rtol=1e-3)


def test_backgrounds_are_even_over_those_who_recorded_them(tmp_path):
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", np.full((1, 4, 20), i, np.float16))
    table = pd.DataFrame({"author": ["Ana"] * 3 + ["Bob"], "feature": [f"{i}.npy" for i in range(4)]})
    rng, backgrounds = np.random.default_rng(0), Backgrounds(table, tmp_path, 20)
    found = [backgrounds.window(rng) for _ in range(600)]
    assert {window.shape for window in found} == {(4, 20)}
    assert np.mean([window[0, 0] == 3 for window in found]) == pytest.approx(0.5, abs=0.07)
