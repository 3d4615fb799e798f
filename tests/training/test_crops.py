"""Windows cut from prepared features."""

import numpy as np
import pytest

from training.crops import liveliness, random_window, steady_windows


def test_validation_windows_are_the_same_each_time_and_reach_the_end():
    segments = np.arange(1000, dtype=np.float16)[None, None].repeat(2, axis=1)
    cut = steady_windows(segments, 300, at_most=3)
    np.testing.assert_array_equal(cut[:, 0, 0], [0, 350, 700])
    np.testing.assert_array_equal(cut, steady_windows(segments, 300, at_most=3))


@pytest.mark.parametrize(("at_most", "chosen"), [(1, [0]), (2, [0, 10]), (3, [0, 5, 10]), (20, list(range(11)))])
def test_validation_windows_of_a_front_end_with_one_segment_a_window_are_spread_too(at_most, chosen):
    segments = np.arange(11, dtype=np.float16)[:, None, None] + np.zeros((11, 2, 300), np.float16)
    cut = steady_windows(segments, 300, at_most)
    assert cut.dtype == np.float32
    np.testing.assert_array_equal(cut[:, 0, 0], chosen)


@pytest.mark.parametrize("shape", [(1, 4, 30), (5, 4, 20)])
def test_windows_come_from_inside_one_segment(shape):
    segments = np.random.default_rng(6).random(shape).astype(np.float16)
    for seed in range(20):
        assert random_window(segments, 20, np.random.default_rng(seed)).shape == (4, 20)


@pytest.mark.parametrize("stretch", [0.8, 1.0, 1.25])
def test_stretch_is_the_pace_at_which_frames_are_gone_through(stretch):
    ramp = np.arange(1000, dtype=np.float32)[None, None].repeat(2, axis=1)
    for seed in range(10):
        cut = random_window(ramp, 100, np.random.default_rng(seed), stretch)
        assert cut.shape == (2, 100)
        np.testing.assert_allclose(np.diff(cut[0]), stretch, rtol=1e-3)


def test_a_segment_too_short_for_the_pace_is_gone_through_as_fast_as_it_allows():
    ramp = np.arange(110, dtype=np.float32)[None, None].repeat(2, axis=1)
    cut = random_window(ramp, 100, np.random.default_rng(0), 2.0)
    np.testing.assert_allclose(cut[0], np.linspace(0, 109, 100), rtol=1e-4)


def test_where_something_sounds_is_livelier_than_hum_or_silence():
    rng = np.random.default_rng(1)
    segments = np.full((1, 8, 300), -1.0, np.float32) + 0.1 * rng.standard_normal((1, 8, 300)).astype(np.float32)
    segments[0, :, :100] += 3  # loud, and steady
    segments[0, 3:5, 210:280:7] += 2  # chirps
    told = [liveliness(segments, 100, 0, start) for start in (0.0, 100.0, 200.0)]
    assert told[2] > 1.5 * max(told[:2])


@pytest.mark.parametrize("stretch", [0.7, 1.0, 1.3])
def test_liveliness_is_that_of_the_frames_gone_through(stretch):
    segments = np.zeros((1, 2, 400), np.float32)
    segments[0, :, 150:] = np.arange(250)
    assert liveliness(segments, 100, 0, 10.0, stretch) == 0
    assert liveliness(segments, 100, 0, 100.0, stretch) > 0
