"""From the queue to a receiver: in which order, when, again after failures, and at the end."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from labous.errors import NodeError
from labous.station import delivery
from labous.station.delivery import Delivery, Queueing, Rejected, Unavailable
from labous.station.queue_file import Event
from tests.counts import Counted
from tests.station import deliveries
from tests.station.deliveries import event, fill, total, wait_until
from tests.station.needs import small_disk


class Recorder:
    """A transport that does what a test says, and remembers what it was given."""

    def __init__(self, answer: Callable[[list[str]], None] = lambda names: None) -> None:
        self.answer = answer
        self.batches: list[list[str]] = []
        self.taken: list[str] = []
        self.aborted = threading.Event()
        self.closed = False

    def send(self, events: Sequence[Event]) -> None:
        names = [event.id for event in events]
        self.batches.append(names)
        self.answer(names)
        self.taken += names

    def abort(self) -> None:
        self.aborted.set()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes deliveries of a queue in tmp_path, and closes what a test leaves open."""
    made = []

    def make(transport: Recorder, folder: Path = tmp_path, **keys: Any) -> tuple[Delivery, deliveries.Counters]:
        counters = deliveries.Counters()
        options = Queueing(name="test", **(deliveries.HURRY | keys))
        made.append(Delivery(transport, options, folder, counters))
        return made[-1], counters

    yield make
    stopping = threading.Event()
    stopping.set()
    for each in made:
        each.close(stopping)


def queued(opened: Callable[..., Any], names: Sequence[object], folder: Path) -> None:
    """Leave events in the queue, as a run without a network does."""

    def down(names: list[str]) -> None:
        raise Unavailable("no network")

    first, _ = opened(Recorder(down), folder)
    first.put(event(name) for name in names)
    first.close(threading.Event())


def test_what_is_put_is_sent_and_counted(opened: Callable[..., Any]) -> None:
    transport = Recorder()
    sending, counters = opened(transport)
    before = time.time()
    sending.put(event(n) for n in range(5))
    wait_until(lambda: total(counters, "delivered_events_total") == 5)
    wait_until(lambda: total(counters, "queue_events") == 0)
    assert transport.taken == [str(n) for n in range(5)]
    assert before <= counters.read()['last_delivery_time_seconds{node="test"}'] <= time.time()


def test_events_wait_for_others_until_a_batch_is_whole_or_old(opened: Callable[..., Any]) -> None:
    transport = Recorder()
    sending, _ = opened(transport, batch_events=3, batch_seconds=0.4)
    started = time.monotonic()
    sending.put([event(0)])
    sending.put([event(1)])
    wait_until(lambda: len(transport.taken) == 2)
    assert time.monotonic() - started >= 0.4
    sending.put(event(n) for n in range(2, 5))
    wait_until(lambda: len(transport.taken) == 5)
    assert transport.batches == [["0", "1"], ["2", "3", "4"]]


def test_a_batch_is_whole_by_size_too(opened: Callable[..., Any]) -> None:
    transport = Recorder()
    sending, _ = opened(transport, batch_bytes=2 * len(event(0).body), batch_seconds=3600)
    sending.put(event(n) for n in range(4))
    wait_until(lambda: len(transport.taken) == 4)
    assert transport.batches == [["2", "3"], ["0", "1"]]


def test_new_events_are_not_stuck_behind_a_week(opened: Callable[..., Any], tmp_path: Path, counted: Counted) -> None:
    week = [f"old{n}" for n in range(1000)]
    queued(opened, week, tmp_path)
    transport = Recorder()
    sending, _ = opened(transport, batch_events=10, pace_seconds=0.005)
    late = []
    for n in range(20):
        at = len(transport.batches)
        sending.put([event(f"new{n}")])
        wait_until(lambda n=n: f"new{n}" in transport.taken)  # type: ignore[misc]
        late.append(next(i for i, batch in enumerate(transport.batches) if f"new{n}" in batch) - at)
    sent_when_live_was_done = sum(name.startswith("old") for name in transport.taken)
    assert max(late) <= 3, "one under way when it came, one of the oldest, its own"
    assert 0 < sent_when_live_was_done < 1000
    wait_until(lambda: len(transport.taken) == 1020)
    assert sorted(transport.taken) == sorted([*week, *(f"new{n}" for n in range(20))])
    assert "old0" in transport.batches[1], "the oldest go as well from the beginning"
    counted("1,000 queued, 20 new while they go", f"each new one within {max(late)} batches of 10, none lost")


def test_batches_have_a_pace(opened: Callable[..., Any]) -> None:
    times: list[float] = []
    sending, _ = opened(Recorder(lambda _: times.append(time.monotonic())), batch_events=1, pace_seconds=0.1)
    sending.put(event(n) for n in range(5))
    wait_until(lambda: len(times) == 5)
    assert all(b - a >= 0.1 for a, b in itertools.pairwise(times))


def test_pauses_double_up_to_a_bound_with_full_jitter(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[float] = []

    def uniform(low: float, high: float) -> float:
        assert low == 0
        bounds.append(high)
        return 0.0

    def down(_: list[str]) -> None:
        if len(bounds) < 8:
            raise Unavailable("no network")

    monkeypatch.setattr(delivery.random, "uniform", uniform)
    transport = Recorder(down)
    sending, counters = opened(transport, retry_seconds=1, retry_limit_seconds=30)
    sending.put([event(0)])
    wait_until(lambda: transport.taken == ["0"])
    assert bounds == [1, 2, 4, 8, 16, 30, 30, 30]
    assert total(counters, "sink_errors_total") == 8


def test_a_receiver_that_asks_for_a_pause_gets_it(opened: Callable[..., Any]) -> None:
    times: list[float] = []

    def busy(_: list[str]) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise Unavailable("busy", 0.5)

    sending, _ = opened(Recorder(busy))
    sending.put([event(0)])
    wait_until(lambda: len(times) == 2)
    assert 0.5 <= times[1] - times[0] < 2


@pytest.mark.parametrize("jump", [3600, -3600, 10 * 365 * 86400, -50 * 365 * 86400])
def test_a_clock_that_jumps_holds_nothing_up(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    real, jumped = time.time, [0.0]
    monkeypatch.setattr(delivery.time, "time", lambda: max(0.0, real() + jumped[0]))

    def down_then_up(_: list[str]) -> None:
        if len(transport.batches) < 4:
            jumped[0] = jump * (len(transport.batches) % 2)
            raise Unavailable("no network")

    transport = Recorder(down_then_up)
    sending, _ = opened(transport, batch_seconds=0.1)
    sending.put([event(0)])
    wait_until(lambda: transport.taken == ["0"], seconds=5)


def test_a_refused_batch_is_a_file_that_a_person_can_read_and_send_again(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    def picky(names: list[str]) -> None:
        if "bad" in names:
            raise Rejected("it answers 400 'no such species'")

    transport = Recorder(picky)
    sending, counters = opened(transport)
    sending.put([event("bad"), event("beside")])
    wait_until(lambda: total(counters, "parked_batches") == 1)
    sending.put([event("good")])
    wait_until(lambda: transport.taken == ["good"])
    (parked,) = (tmp_path / "test-parked").iterdir()
    value = json.loads(parked.read_text())
    assert value["reason"] == "it answers 400 'no such species'"
    assert value["events"] == [json.loads(event(name).body) for name in ("bad", "beside")]
    wait_until(lambda: total(counters, "queue_events") == 0)
    assert total(counters, "lost_events_total") == 0
    sending.close(threading.Event())
    _, counters = opened(Recorder())
    assert total(counters, "parked_batches") == 1, "the next run tells it as well"


def test_refused_batches_are_bounded_and_then_stay_queued(opened: Callable[..., Any], tmp_path: Path) -> None:
    def refuse(_: list[str]) -> None:
        raise Rejected("401")

    sending, counters = opened(Recorder(refuse), queue_bytes=10_000, batch_events=2)
    for n in range(60):
        sending.put([event(n, 1000)])
    wait_until(lambda: total(counters, "sink_errors_total") > 10)
    files = list((tmp_path / "test-parked").iterdir())
    assert 2 < len(files) <= 5 and sum(file.stat().st_size for file in files) <= 10_000
    parked = sum(len(json.loads(file.read_text())["events"]) for file in files)
    assert parked + total(counters, "queue_events") + total(counters, "lost_events_total") == 60


def test_a_fault_of_our_own_does_not_end_delivery(opened: Callable[..., Any]) -> None:
    def fault(_: list[str]) -> None:
        if len(transport.batches) == 1:
            raise ZeroDivisionError

    transport = Recorder(fault)
    sending, _ = opened(transport)
    sending.put([event(0)])
    wait_until(lambda: transport.taken == ["0"])


def test_the_end_of_a_run_waits_for_what_is_queued(opened: Callable[..., Any]) -> None:
    transport = Recorder(lambda _: time.sleep(0.05))
    sending, _ = opened(transport, batch_seconds=3600, pace_seconds=3600, batch_events=10, finish_seconds=20)
    sending.put(event(n) for n in range(9))
    sending.close(threading.Event())
    assert len(transport.taken) == 9 and transport.closed


def test_a_stop_does_not_wait_for_a_receiver_that_hangs(opened: Callable[..., Any], tmp_path: Path) -> None:
    def hang(_: list[str]) -> None:
        transport.aborted.wait(30)
        raise Unavailable("aborted")

    transport = Recorder(hang)
    sending, counters = opened(transport, finish_seconds=60)
    sending.put([event(0)])
    wait_until(lambda: len(transport.batches) == 1)
    stopping = threading.Event()
    threading.Timer(0.2, stopping.set).start()
    started = time.monotonic()
    sending.close(stopping)
    assert time.monotonic() - started < 2.5
    assert total(counters, "queue_events") == 1
    again = Recorder()
    opened(again, tmp_path)
    wait_until(lambda: again.taken == ["0"])


def test_all_that_hang_have_the_same_second(opened: Callable[..., Any], tmp_path: Path) -> None:
    """Though nothing ends what they are sending, as a search for an address does not end."""
    over, stopping = threading.Event(), threading.Event()
    hung = [Recorder(lambda names: over.wait(30) and None) for _ in range(3)]
    sending = [opened(transport, tmp_path / str(n), finish_seconds=60.0)[0] for n, transport in enumerate(hung)]
    for each in sending:
        each.put([event(0)])
    wait_until(lambda: all(transport.batches for transport in hung))
    stopping.set()
    started = time.monotonic()
    for each in sending:
        each.stop()
    assert time.monotonic() - started < 0.2
    for each in sending:
        each.close(stopping)
    assert time.monotonic() - started < 2.2
    assert all(transport.closed and transport.aborted.is_set() for transport in hung)
    over.set()


def test_without_a_network_the_end_comes_as_soon_as_no_attempt_fits_in(opened: Callable[..., Any]) -> None:
    def down(_: list[str]) -> None:
        raise Unavailable("no network", 3600)

    transport = Recorder(down)
    sending, _ = opened(transport, finish_seconds=60)
    sending.put([event(0)])
    wait_until(lambda: len(transport.batches) == 1)
    started = time.monotonic()
    sending.close(threading.Event())
    assert time.monotonic() - started < 2.5


def test_a_full_disk_and_a_network_deliver_from_memory(
    opened: Callable[..., Any], tmp_path: Path, counted: Counted
) -> None:
    with small_disk(tmp_path / "disk", 512) as disk:
        transport = Recorder()
        sending, counters = opened(transport, disk)
        sending.put([event("before")])
        wait_until(lambda: transport.taken == ["before"])
        filler = fill(disk)
        for n in range(300):
            sending.put([event(n, 400)])
        wait_until(lambda: len(transport.taken) == 301)
        filler.unlink()
        sending.settle(threading.Event())
        wait_until(lambda: total(counters, "queue_events") == 0)
        assert sorted(transport.taken[1:], key=int) == [str(n) for n in range(300)], "and none twice"
        assert total(counters, "lost_events_total") == 0
        sending.close(threading.Event())
    counted("disk full, and back", f"{len(transport.taken)} events put, as many delivered, 0 twice, 0 lost")


def test_the_end_of_a_stream_waits_for_the_disk_or_says_that_it_did_not_get_there(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    def down(_: list[str]) -> None:
        raise Unavailable("no network")

    with small_disk(tmp_path / "disk", 512) as disk:
        sending, _ = opened(Recorder(down), disk)
        filler = fill(disk)
        sending.put([event(0)])
        stopping = threading.Event()
        stopping.set()
        with pytest.raises(NodeError, match="the last detections are lost with this stop"):
            sending.settle(stopping)
        threading.Timer(0.3, filler.unlink).start()
        sending.settle(threading.Event())
        sending.close(stopping)


def test_a_queue_that_waits_holds_the_pipeline_until_there_is_room(opened: Callable[..., Any]) -> None:
    gate = threading.Event()

    def closed_gate(_: list[str]) -> None:
        if not gate.is_set():
            raise Unavailable("closed")

    transport = Recorder(closed_gate)
    sending, counters = opened(transport, when_full="wait", queue_bytes=10_000)
    sending.put(event(n, 1000) for n in range(12))
    threading.Timer(0.3, gate.set).start()
    started = time.monotonic()
    sending.settle(threading.Event())
    assert time.monotonic() - started >= 0.2
    wait_until(lambda: len(transport.taken) == 12)
    assert total(counters, "lost_events_total") == 0
