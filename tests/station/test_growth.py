"""That the measure of a day's growth sees what leaks, and takes no single step for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.station.growth import Growth, Sample

HOURS = 24


def day(megabytes: Callable[[float], float], descriptors: Callable[[float], int] = lambda hour: 20) -> Growth:
    """Two hundred samples of a station of 90 MB, whose memory goes up and down by half a megabyte."""
    rng = np.random.default_rng(1)
    moments = np.linspace(0.1, HOURS - 0.1, 200)
    return Growth(
        [Sample(hour, 90 + megabytes(hour) + rng.uniform(-0.5, 0.5), descriptors(hour), 6) for hour in moments], HOURS
    )


@pytest.mark.parametrize("hour", [4, 8, 13.5, 18, 23])
@pytest.mark.parametrize("megabytes", [-2.5, 2.5])
def test_one_step_is_no_growth(hour: float, megabytes: float) -> None:
    day(lambda now: megabytes * (now > hour)).check()


@pytest.mark.parametrize(
    "megabytes",
    [
        lambda hour: 0.1 * hour,
        lambda hour: 0.1 * int(hour),
        lambda hour: 1.2 * int(hour / 6),
        lambda hour: -0.1 * hour,
    ],
    ids=["steadily", "by the hour", "four times", "downwards"],
)
def test_what_leaks_is_seen(megabytes: Callable[[float], float]) -> None:
    with pytest.raises(AssertionError, match="drift"):
        day(megabytes).check()


def test_a_high_step_is_seen() -> None:
    with pytest.raises(AssertionError, match="rise"):
        day(lambda hour: 12 * (hour > 12)).check()


def test_descriptors_that_stay_open_are_seen() -> None:
    with pytest.raises(AssertionError, match="descriptors"):
        day(lambda hour: 0.0, lambda hour: 20 + int(hour / 8)).check()
