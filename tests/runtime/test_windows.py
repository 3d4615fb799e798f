"""The rule by which a recording is cut into windows."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labous.errors import LabousError
from labous.recordings import windows
from tests.runtime.bundles import FRONTEND

SIZE, N_FFT, RATE = FRONTEND.window_samples, FRONTEND.n_fft, FRONTEND.sample_rate


def cut(n: int, overlap: float = 0.0) -> list[tuple[int, int]]:
    samples = np.arange(1, n + 1, dtype=np.float32)
    found = []
    for window in windows([samples], FRONTEND, overlap):
        expected = np.zeros(SIZE, np.float32)
        expected[: window.end - window.start] = samples[window.start : window.end]
        assert window.samples.dtype == np.float32
        np.testing.assert_array_equal(window.samples, expected)
        found.append((window.start, window.end))
    return found


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, [(0, 1)]),
        (N_FFT, [(0, N_FFT)]),
        (SIZE - 1, [(0, SIZE - 1)]),
        (SIZE, [(0, SIZE)]),
        (SIZE + N_FFT - 1, [(0, SIZE)]),
        (SIZE + N_FFT, [(0, SIZE), (N_FFT, SIZE + N_FFT)]),
        (2 * SIZE, [(0, SIZE), (SIZE, 2 * SIZE)]),
        (2 * SIZE + 7000, [(0, SIZE), (SIZE, 2 * SIZE), (SIZE + 7000, 2 * SIZE + 7000)]),
    ],
)
def test_known_lengths(n: int, expected: list[tuple[int, int]]) -> None:
    assert cut(n) == expected


def test_overlap() -> None:
    half = SIZE // 2
    assert cut(2 * SIZE, 0.5) == [(0, SIZE), (half, half + SIZE), (SIZE, 2 * SIZE)]
    assert cut(2 * SIZE + 600, 0.5)[-1] == (SIZE + 600, 2 * SIZE + 600)


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 2.0, math.nan, math.inf, 0.99999])
def test_an_overlap_that_cannot_be_is_refused(overlap: float) -> None:
    with pytest.raises(LabousError, match="overlap"):
        cut(SIZE, overlap)


@given(
    n=st.integers(1, 5 * SIZE),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.9, 0.7321]),
    splits=st.lists(st.integers(0, 5 * SIZE), max_size=8),
)
def test_the_rule_whatever_the_blocks(n: int, overlap: float, splits: list[int]) -> None:
    samples = np.random.default_rng(n).normal(size=n).astype(np.float32)
    blocks = np.split(samples, sorted(min(s, n) for s in splits))
    found = list(windows(blocks, FRONTEND, overlap))
    step = SIZE - round(overlap * RATE)
    whole = list(range(0, n - SIZE + 1, step))
    expected = [(start, start + SIZE) for start in whole]
    if n < SIZE:
        expected = [(0, n)]
    elif n - expected[-1][1] >= N_FFT:
        expected.append((n - SIZE, n))
    assert [(w.start, w.end) for w in found] == expected
    for window in found:
        part = samples[window.start : window.end]
        np.testing.assert_array_equal(window.samples, np.pad(part, (0, SIZE - len(part))))


def test_no_samples_give_no_window() -> None:
    assert list(windows([], FRONTEND)) == []


def test_memory_does_not_grow_with_the_recording() -> None:
    def blocks(seconds: int) -> Iterator[np.ndarray]:
        for i in range(seconds):
            yield np.full(RATE, i, np.float32)

    def peak(seconds: int) -> int:
        tracemalloc.start()
        assert sum(1 for _ in windows(blocks(seconds), FRONTEND, 0.5)) == 2 * seconds - 1
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(600) < 1.2 * peak(10) < 10 * SIZE * 4
