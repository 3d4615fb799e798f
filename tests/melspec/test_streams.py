"""Streams: every chunking gives, to the last bit, the windows that whole arrays give."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from front_ends import PLAIN, front_ends
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labous.errors import SamplesError
from labous.frontend import Frontend
from labous.mel import MelSpectrogram, MelStream, NativeEngine, Output, WasmEngine

pytestmark = pytest.mark.filterwarnings("ignore:Empty filters", "ignore:n_fft=")
streams = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def expected(frontend: Frontend, engine: NativeEngine | WasmEngine, output: Output, samples: np.ndarray, step: int):
    """What a stream must give: each window by itself."""
    mel = MelSpectrogram(frontend, engine)
    compute = {Output.POWER: mel.power, Output.DECIBELS: mel.decibels, Output.SCALED: mel}[output]
    size = frontend.window_samples
    return [compute(samples[start : start + size]) for start in range(0, samples.size - size + 1, step)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Frontend, Output, int, np.ndarray, list[int]]:
    """A front end with a short window, a step, a signal of a few windows, and how it is cut into chunks."""
    frontend = draw(front_ends())
    least = max(frontend.n_fft, frontend.hop_length // 2)
    seconds = draw(st.integers(least, 6 * frontend.n_fft)) / frontend.sample_rate
    frontend = dataclasses.replace(frontend, window_seconds=seconds)
    size, hop = frontend.window_samples, frontend.hop_length
    step = draw(
        st.one_of(
            st.integers(1, max(1, size // hop)).map(lambda k: k * hop),  # one grid for all windows
            st.integers(1, max(1, 2 * size // hop)).map(lambda k: max(1, k * hop // 2)),  # every second window
            st.integers(max(1, size // 8), 2 * size),  # seldom or never, and with gaps
        )
    )
    count = size + draw(st.integers(0, 5)) * step + draw(st.integers(0, step))
    samples = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).standard_normal(count).astype(np.float32)
    cuts = draw(st.lists(st.integers(0, count), max_size=12))
    return frontend, draw(st.sampled_from(Output)), step, samples, sorted(cuts)


def assert_equal(stream: MelStream, samples: np.ndarray, cuts: list[int], wanted: list[np.ndarray]) -> None:
    found = [window for chunk in np.split(samples, cuts) for window in stream.push(chunk)]
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == np.float32
        assert ours.tobytes() == theirs.tobytes()


@streams
@given(case=cases())
def test_every_chunking_gives_the_bits_of_whole_windows(
    native: NativeEngine, case: tuple[Frontend, Output, int, np.ndarray, list[int]]
) -> None:
    frontend, output, step, samples, cuts = case
    wanted = expected(frontend, native, output, samples, step)
    stream = MelStream(frontend, step, native, output)
    assert_equal(stream, samples, cuts, wanted)
    stream.reset()
    assert_equal(stream, samples, [], wanted)


@settings(streams, max_examples=25)
@given(case=cases())
def test_streams_in_webassembly(
    wasm: WasmEngine, native: NativeEngine, case: tuple[Frontend, Output, int, np.ndarray, list[int]]
) -> None:
    frontend, output, step, samples, cuts = case
    stream = MelStream(frontend, step, wasm, output)
    assert_equal(stream, samples, cuts, expected(frontend, native, output, samples, step))
    stream.close()


@pytest.mark.parametrize(("center", "hop"), [(True, 320), (False, 500), (True, 512)])
def test_a_long_stream_in_small_chunks(native: NativeEngine, center: bool, hop: int) -> None:
    """Windows of 1 s every 0.2 s over 20 s: the rings go round, the buffer is moved, nothing drifts."""
    frontend = dataclasses.replace(PLAIN, center=center, pad_mode="reflect", hop_length=hop)
    samples = np.random.default_rng(3).standard_normal(20 * 32_000).astype(np.float32)
    wanted = expected(frontend, native, Output.SCALED, samples, 6400)
    assert len(wanted) == 96
    assert_equal(MelStream(frontend, 6400, native), samples, list(range(441, samples.size, 441)), wanted)


def test_memory_is_given_back(built: dict) -> None:
    engine = WasmEngine(built["wasm"].path.read_bytes())
    for count in range(200):
        stream = MelStream(PLAIN, 16_000, engine)
        stream.push(np.zeros(40_000, np.float32))
        stream.close()
        if count == 3:
            size = engine.memory_bytes
    assert engine.memory_bytes == size


@pytest.mark.parametrize("kind", ["wasm", "native"])
def test_a_bad_sample_is_told_by_its_position_in_the_stream(kind: str, wasm: WasmEngine, native: NativeEngine) -> None:
    stream = MelStream(PLAIN, 32_000, wasm if kind == "wasm" else native)
    assert len(stream.push(np.zeros(40_000, np.float32))) == 1
    chunk = np.zeros(1000, np.float32)
    chunk[7] = math.nan
    with pytest.raises(SamplesError, match=r"Sample 40007 \(at 1\.250 s\) is nan"):
        stream.push(chunk)
    stream.push(np.zeros(23_999, np.float32))  # nothing of the bad chunk was taken
    assert len(stream.push(np.zeros(1, np.float32))) == 1


@pytest.mark.parametrize("step", [0, -1, 1 << 31])
def test_impossible_steps(native: NativeEngine, wasm: WasmEngine, step: int) -> None:
    for engine in (native, wasm):
        with pytest.raises(SamplesError, match="at least 1"):
            MelStream(PLAIN, step, engine)
        if step < 1:
            with pytest.raises(SamplesError, match="step_samples must be at least 1"):
                engine.stream(PLAIN, Output.SCALED, step)


@settings(streams, max_examples=25)
@given(case=cases())
def test_streams_of_the_fast_build(
    fast: NativeEngine, case: tuple[Frontend, Output, int, np.ndarray, list[int]]
) -> None:
    frontend, output, step, samples, cuts = case
    wanted = expected(frontend, fast, output, samples, step)
    assert_equal(MelStream(frontend, step, fast, output), samples, cuts, wanted)


def test_impossible_chunks(native: NativeEngine) -> None:
    stream = MelStream(PLAIN, 100, native)
    for samples, words in ((np.zeros((2, 5), np.float32), "one channel"), (np.zeros(5, np.int16), "int16")):
        with pytest.raises(SamplesError, match=words):
            stream.push(samples)
    assert stream.push(np.zeros(0, np.float32)) == []
