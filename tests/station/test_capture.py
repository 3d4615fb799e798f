"""Captured sound: what is given, what is dropped and counted, and when it was captured."""

from __future__ import annotations

import datetime
import itertools
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labous.errors import NodeError
from labous.nodes import EndOfStream, Record
from labous.station import buffer as buffers
from labous.station.buffer import Buffer, Clock
from labous.station.capture import Live, LiveOptions, again_and_again
from labous.station.pipe import Pcm
from tests.counts import Counted
from tests.runtime.bundles import FRONTEND
from tests.station.sources import NOON, RATE, SIZE, SetClock, context, split

DROPPED = "audio_dropped_seconds_total"


class Hand:
    """Captures by hand: what the test puts while it holds a window, so that nothing runs beside it."""

    def __init__(self, folder: Path, live: bool | None = True, overlap: float = 0.0, seconds: float = 8.0) -> None:
        self.clock, self.context = SetClock(), context(folder)
        self.put_samples = 0
        self._there, self._over = threading.Event(), threading.Event()
        options = LiveOptions(overlap=overlap, buffer_seconds=seconds)
        self.source = Live(self.context, "hand", options, "garden", live, self._run, self.clock)

    def begin(self, *, windows: int) -> Iterator[Record | EndOfStream]:
        """Put so many windows, and begin to take."""
        self._first = windows * SIZE
        return self.source.records()

    def _run(self, buffer: Buffer) -> None:
        self.buffer = buffer
        buffer.begin(RATE)
        self.put(self._first)
        self._over.wait(20)

    def put(self, n: int, seconds: float | None = None) -> None:
        """The next n samples arrive, each holding its own number, in the time that they last, or in another."""
        self.clock.advance(n / RATE if seconds is None else seconds)
        self.buffer.put(np.arange(self.put_samples, self.put_samples + n, dtype=np.float32))
        self.put_samples += n

    def end(self) -> None:
        """Nothing more comes."""
        self._over.set()
        self.source._thread.join(5)

    def dropped(self) -> float:
        return self.context.counters.read().get(DROPPED, 0.0)


def check_whole(record: Record) -> None:
    """A window's samples follow one another."""
    samples = record.columns["audio"][: record.end - record.start]
    assert samples.shape == (record.end - record.start,)
    np.testing.assert_array_equal(np.diff(samples), 1)


def covered(records: list[Record]) -> int:
    """How many captured samples are in a window."""
    inside = np.zeros(1 + int(max((r.columns["audio"].max() for r in records), default=0)), bool)
    for record in records:
        samples = record.columns["audio"][: record.end - record.start].astype(np.int64)
        inside[samples[0] : samples[-1] + 1] = True
    return int(inside.sum())


def test_when_all_goes_well_all_is_given(tmp_path: Path) -> None:
    hand = Hand(tmp_path, overlap=0.5)
    taken = hand.begin(windows=1)
    records = [next(taken)]
    for _ in range(5):
        hand.put(SIZE // 2)
        records.append(next(taken))
    hand.put(700)
    hand.end()
    rest, ends = split(taken)
    records += rest
    assert [e.stream for e in ends] == ["garden"]
    assert [r.start for r in records] == [*range(0, 3 * SIZE, SIZE // 2), 2 * SIZE + SIZE // 2 + 700]
    assert [r.fresh for r in records] == [SIZE, *5 * [SIZE // 2], 700]
    for record in records:
        check_whole(record)
        assert record.columns["audio"][0] == record.start
    assert hand.dropped() == 0


def test_the_newest_wins_and_no_window_lies_across_a_gap(tmp_path: Path, counted: Counted) -> None:
    hand = Hand(tmp_path)
    taken = hand.begin(windows=2)
    records = [next(taken)]
    for _ in range(200):  # the pipeline takes 2 s for a window of 1 s
        for _ in range(20):
            hand.put(SIZE // 10)
        records.append(next(taken))
    hand.end()
    rest, _ = split(taken)
    records += rest
    for record in records:
        check_whole(record)
        assert record.start == record.columns["audio"][0]  # its place tells of the gap too
    gaps = sum(b.start != a.end for a, b in itertools.pairwise(records))
    for before, after in itertools.pairwise(records):
        assert after.fresh == (SIZE if after.start >= before.end else after.end - before.end)
    assert records[-1].end == hand.put_samples
    lost = hand.put_samples - covered(records)
    assert hand.dropped() * RATE == pytest.approx(lost)
    assert 40 <= gaps <= 60, "a stretch is half a buffer long, here four windows"
    counted(
        "a pipeline half as fast as sound",
        f"{hand.put_samples / RATE:g} s captured, {hand.dropped():g} s dropped in {gaps} gaps, the rest given",
    )


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.one_of(st.integers(1, 6 * SIZE), st.sampled_from(["again", "take", "take", "take"])), min_size=1, max_size=25
    ),
    overlap=st.sampled_from([0.0, 0.25, 0.9]),
)
def test_every_sample_is_given_or_counted(
    steps: list[int | str], overlap: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    hand = Hand(tmp_path_factory.mktemp("s"), overlap=overlap, seconds=3.0)
    taken = hand.begin(windows=3)
    records: list[Record] = [next(taken)]
    waiting = 0  # windows that must be there
    for step in steps:
        if step == "again":
            hand.clock.advance(7.5)
            hand.buffer.begin(RATE)
        elif step == "take" and waiting:
            records.append(next(taken))
            waiting = 0
        elif isinstance(step, int):
            hand.put(step)
            waiting = step >= 2 * SIZE
    hand.end()
    records += split(taken)[0]
    for record in records:
        check_whole(record)
    for before, after in itertools.pairwise(records):
        same = after.columns["audio"][0] - before.columns["audio"][0] == after.start - before.start
        assert after.start >= before.end or (same and after.fresh == after.end - before.end)
        assert after.start < before.end or after.fresh == SIZE
    # a stretch's last samples, fewer than a frame, make no window of their own: a file's are left out as well
    stretches = 1 + sum(step == "again" for step in steps) + int(hand.dropped() > 0) * len(steps)
    lost = hand.put_samples - covered(records) - hand.dropped() * RATE
    assert -1e-6 <= lost < stretches * FRONTEND.n_fft


def test_a_source_that_waits_loses_nothing(tmp_path: Path) -> None:
    def capture(buffer: Buffer) -> None:
        buffer.begin(RATE)
        for second in range(60):
            buffer.put(np.arange(second * RATE, (second + 1) * RATE, dtype=np.float32))

    for live in (False, None):
        station = context(tmp_path)
        source = Live(station, "hand", LiveOptions(buffer_seconds=2.0), "garden", live, capture)
        records, _ = split(source.records())
        assert [r.columns["audio"][0] for r in records] == list(range(0, 60 * RATE, SIZE))
        assert {r.time for r in records} == {None}
        assert station.counters.read() == {}


@pytest.mark.parametrize(("pace", "live"), [(1.0, True), (0.2, False)])
def test_whether_it_is_live_shows_in_its_pace(pace: float, live: bool, tmp_path: Path) -> None:
    clock, stopping = SetClock(), threading.Event()
    buffer = Buffer(10.0, None, stopping, lambda seconds: None, clock)
    buffer.begin(RATE)
    for _ in range(80):
        clock.advance(0.1 * pace)
        buffer.put(np.zeros(RATE // 10, np.float32))
    block = buffer.take()
    assert block is not None
    assert (buffer.when(block.capture, 0) is not None) == live


def test_the_pace_is_that_since_the_first_sample(tmp_path: Path) -> None:
    """A recording that is piped in while the other nodes take their time to open."""
    clock, lost = SetClock(), []
    buffer = Buffer(30.0, None, threading.Event(), lost.append, clock)
    clock.advance(60)
    buffer.begin(RATE)
    for _ in range(280):
        buffer.put(np.zeros(RATE // 10, np.float32))
    block = buffer.take()
    assert block is not None and buffer.when(block.capture, 0) is None, "not live"
    assert lost == []


def test_a_sound_cards_clock_is_followed(counted: Counted) -> None:
    """Of cards that are wrong by 100 ppm, with late arrivals and a hiccup of 8 s, over half a day."""
    for error in (-100e-6, 0.0, 100e-6):
        random = np.random.default_rng(1)
        clock = SetClock()
        buffer = Buffer(10.0, True, threading.Event(), lambda seconds: None, clock)
        buffer.begin(RATE)
        began, worst, late = clock.seconds, 0.0, 0.0
        capture = buffer._capture
        for number in range(1, 12 * 3600):
            truly = began + number / (1 + error)  # when the last of so many samples was captured
            late = 8.0 if number == 20_000 else max(0.0, late - 1 / (1 + error))
            clock.advance(max(0.0, truly + late + random.exponential(0.03) - clock.seconds))
            capture.arrived(RATE, clock.seconds)
            if number > 60:
                worst = max(worst, abs(capture.when(number * RATE) - truly))
        counted(f"a sound card {1e6 * error:+g} ppm wrong", f"at most {1000 * worst:.1f} ms off in 12 h")
        assert worst < 0.06


@pytest.mark.parametrize("hours", [1, -1, 24 * 365 * 10, -24 * 365 * 3])
def test_a_jump_of_the_clock_changes_only_the_time(hours: int, tmp_path: Path, counted: Counted) -> None:
    hand = Hand(tmp_path)
    taken = hand.begin(windows=2)
    records = [next(taken), next(taken)]
    jump = datetime.timedelta(hours=hours)
    for number in range(10):
        if number == 5:
            hand.clock.time += jump
        hand.put(SIZE)
        records.append(next(taken))
    hand.end()
    records += split(taken)[0]
    times = [r.time for r in records]
    # two windows came at once at the beginning; from then on one as long as it lasts
    assert times == [NOON + number * datetime.timedelta(seconds=1) + (number >= 7) * jump for number in range(12)]
    assert [r.start for r in records] == [number * SIZE for number in range(12)]
    assert {r.fresh for r in records} == {SIZE}
    assert hand.dropped() == 0
    counted(f"the clock jumps by {hours:+,} h", f"{len(records)} windows, all there, the new time from the jump on")


def test_a_clock_that_was_never_set_gives_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, known in ((0.0, False), (1e9, False), (1.78e9, True), (1e18, False)):
        monkeypatch.setattr(buffers.time, "time", lambda seconds=seconds: seconds)
        assert (Clock().now() is not None) == known


def test_an_interrupted_capture_begins_a_new_stretch(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    taken = hand.begin(windows=1)
    records = [next(taken)]
    hand.put(700)
    hand.clock.advance(60)
    hand.buffer.begin(RATE)
    hand.put(SIZE)
    hand.end()
    records += split(taken)[0]
    assert [(r.start, r.end, r.fresh) for r in records] == [
        (0, SIZE, SIZE),
        (700, SIZE + 700, 700),  # the end of the first stretch, as of a file
        (61 * RATE + 700, 62 * RATE + 700, SIZE),
    ]
    times = [r.time for r in records]
    assert None not in times
    assert times[2] - times[1] == datetime.timedelta(seconds=61)  # type: ignore[operator]


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_windows_on_the_two_sides_of_a_gap_never_touch(overlap: float, tmp_path: Path) -> None:
    """Web radio gives a burst when it is reached, so that its sound seems to reach beyond the gap that follows."""
    hand = Hand(tmp_path, overlap=overlap, seconds=30.0)
    taken = hand.begin(windows=1)
    records = [next(taken)]
    hand.put(9 * SIZE, seconds=2.0)
    hand.clock.advance(3)
    hand.buffer.begin(RATE)
    hand.put(3 * SIZE)
    hand.end()
    records += split(taken)[0]
    after = [r.columns["audio"][0] >= 10 * SIZE for r in records].index(True)
    assert records[0].start == 0 and records[after].fresh == SIZE
    for number, (one, next_one) in enumerate(itertools.pairwise(records), 1):
        assert (next_one.start > one.end) == (number == after)


def test_the_stations_end_is_prompt_and_counted(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    taken = hand.begin(windows=4)
    next(taken)
    hand.context.stopping.set()
    records, ends = split(taken)
    assert (records, len(ends)) == ([], 1)
    assert hand.dropped() == pytest.approx(3)
    hand.end()
    hand.source.close()


def test_whoever_waits_for_room_is_let_go_at_the_end(tmp_path: Path) -> None:
    def capture(buffer: Buffer) -> None:
        buffer.begin(RATE)
        while not station.stopping.is_set():
            buffer.put(np.zeros(RATE, np.float32))

    station = context(tmp_path)
    source = Live(station, "hand", LiveOptions(buffer_seconds=2.0), "garden", False, capture)
    next(source.records())
    source.close()
    assert not source._thread.is_alive()


def test_a_thread_that_dies_ends_the_source_with_its_error(tmp_path: Path) -> None:
    def capture(buffer: Buffer) -> None:
        buffer.begin(RATE)
        buffer.put(np.zeros(SIZE + 700, np.float32))
        raise ZeroDivisionError("a fault of ours")

    source = Live(context(tmp_path), "hand", LiveOptions(), "garden", True, capture)
    given: list[Record | EndOfStream] = []
    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        for one in source.records():
            given.append(one)
    assert [type(one) for one in given] == [Record, Record, EndOfStream], "what was captured is given first"


def test_a_dead_microphone_is_told_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def capture(buffer: Buffer) -> None:
        buffer.begin(RATE)
        for level in (0.0, 0.0, 0.1, 0.25):
            buffer.put(np.full(SIZE, level, np.float32) + np.linspace(0, level == 0.1, SIZE, dtype=np.float32))

    station = context(tmp_path)
    records, _ = split(Live(station, "hand", LiveOptions(), "garden", False, capture).records())
    assert len(records) == 4
    assert station.counters.read() == {"silent_windows_total": 3}
    assert [record.getMessage() for record in caplog.records] == [
        "Nothing at all is heard from garden; check the microphone."
    ]


def test_a_buffer_must_hold_two_windows(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=r"buffer_seconds to 2 or more"):
        Live(context(tmp_path), "hand", LiveOptions(buffer_seconds=1.9), "garden", True, lambda buffer: None)


def test_waits_grow_until_sound_comes_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    station, waits = context(tmp_path), []
    buffer = Buffer(10.0, True, station.stopping, lambda seconds: None, SetClock())
    buffer.begin(RATE)

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return self.is_set()

    def attempt() -> None:
        if len(waits) == 9:
            buffer.put(np.zeros(10, np.float32))
        if len(waits) == 11:
            stopping.set()
        raise NodeError("nobody answers")

    stopping = Stopping()
    again_and_again(
        type(station)(**{**vars(station), "stopping": stopping}), "hand", attempt, buffer, 60.0, "rtsp://garden"
    )
    for number, wait in enumerate(waits):
        full = min(2.0**number, 60.0) if number < 9 else 2.0 ** (number - 9)
        assert full / 2 <= wait <= full
    assert station.counters.read() == {'reconnects_total{node="hand"}': 11}
    assert caplog.text.count("rtsp://garden") == 1, "told once, not every second"


PIECES = st.lists(st.integers(1, 50), max_size=60)


@settings(deadline=None)
@given(format=st.sampled_from(["u8", "s16le", "s24le", "s32le", "f32le"]), channels=st.integers(1, 3), pieces=PIECES)
def test_pcm_does_not_see_the_pieces(format: str, channels: int, pieces: list[int]) -> None:
    random = np.random.default_rng(0)
    data = random.normal(0, 1, 300).astype("<f4").tobytes() if format == "f32le" else random.bytes(1200)
    whole = np.concatenate(list(Pcm(format, RATE, channels).decode([data])))
    cuts = np.minimum(np.cumsum([0, *pieces, len(data)]), len(data))
    parts = [data[a:b] for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(list(Pcm(format, RATE, channels).decode(parts))), whole)
    assert whole.dtype == np.float32 and np.abs(whole).max() <= (4 if format == "f32le" else 1)


def test_pcm_that_is_not_finite_is_silence() -> None:
    data = np.array([0.5, np.nan, np.inf, -np.inf, 0.25], "<f4").tobytes()
    (samples,) = Pcm("f32le", RATE, 1).decode([data])
    np.testing.assert_array_equal(samples, np.array([0.5, 0, 0, 0, 0.25], np.float32))


@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_file_whose_length_is_no_whole_frames(channels: int) -> None:
    """What comes after it is thrown away, not kept."""
    sound = bytes(range(4 * channels))
    fmt = struct.pack("<IHHIIHH", 16, 1, channels, RATE, 2 * channels * RATE, 2 * channels, 16)
    data = b"data" + struct.pack("<I", len(sound) + 1)
    header = b"RIFF" + bytes(4) + b"WAVEfmt " + fmt + data
    decoder = Pcm("s16le", 1_000, 1)
    tracemalloc.start()
    try:
        pieces = itertools.chain([header + sound], (bytes(2**16) for _ in range(100)))
        samples = np.concatenate(list(decoder.decode(pieces)))
        kept = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(samples) == 2 and decoder.channels == channels
    assert kept < 10**6


@settings(deadline=None, max_examples=300)
@given(header=st.binary(max_size=80), riff=st.booleans())
def test_no_header_breaks_the_decoder(header: bytes, riff: bool) -> None:
    data = (b"RIFF\0\0\0\0WAVE" if riff else b"") + header + bytes(1000)
    decoder = Pcm("s16le", RATE, 1)
    try:
        for samples in decoder.decode([data[:7], data[7:]]):
            assert np.isfinite(samples).all()
    except NodeError as error:
        assert "WAV header" in str(error)
