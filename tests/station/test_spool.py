"""A queue on disk: what put returned for is there after crashes, damage and full disks, and every loss is counted."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labous.errors import NodeError
from labous.spool import Spool
from labous.station import queue_file
from labous.station.counters import Counters
from tests.counts import Counted
from tests.station.deliveries import event, fill, total
from tests.station.needs import small_disk

MANY = 10_000


def spool(path: Path, counters: Counters | None = None, **keys: Any) -> Spool:
    given: dict[str, Any] = {"max_bytes": 10_000_000, "memory_bytes": 100_000, "when_full": "drop_oldest"}
    return Spool(path, "test", counters or Counters(), retry_seconds=0.0, **(given | keys))


def content(queue: Spool) -> list[str]:
    names = [e.id for e in queue.take(MANY, 10**9, newest=False)]
    queue.release()
    return names


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "q.sqlite"


@pytest.fixture
def filled(path: Path) -> Path:
    """A queue's file with 300 events, some of which have come and gone before, all in the file itself."""
    queue = spool(path)
    queue.put(event(f"gone{n}", 400) for n in range(100))
    queue.put(event(n, 400) for n in range(200))
    queue.remove([event(f"gone{n}") for n in range(100)])
    queue.put(event(n, 400) for n in range(200, 300))
    queue.close()
    return path


def copies(path: Path) -> list[Path]:
    return sorted(p for p in path.parent.iterdir() if ".damaged-" in p.name and not p.name.endswith(("-wal", "-shm")))


def test_outlives_a_process_that_is_killed(path: Path) -> None:
    code = (
        "import os, signal, pathlib, tests.station.test_spool as t; q = t.spool(pathlib.Path(os.sys.argv[1]))\n"
        "for n in range(20): q.put([t.event(n)])\n"
        "q.remove([t.event(0)]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False, cwd=Path(__file__).parents[2])
    assert ended.returncode == -9
    assert content(spool(path)) == [str(n) for n in range(1, 20)]


def test_an_id_is_queued_once(path: Path) -> None:
    queue = spool(path)
    queue.put([event("a"), event("b"), event("a")])
    queue.put([event("b"), event("c")])
    assert content(queue) == ["a", "b", "c"]
    assert queue.waiting() == (3, 3 * len(event("a").body))


def test_newest_and_oldest_in_their_order_within_bounds(path: Path) -> None:
    queue = spool(path)
    queue.put(event(n) for n in range(10))
    size = len(event(0).body)
    assert [e.id for e in queue.take(3, 10**6, newest=True)] == ["7", "8", "9"]
    assert [e.id for e in queue.take(3, 10**6, newest=False)] == ["0", "1", "2"]
    assert [e.id for e in queue.take(100, 2 * size, newest=False)] == ["0", "1"]
    assert [e.id for e in queue.take(100, 1, newest=True)] == ["9"], "one goes even where it alone is too long"


@pytest.mark.parametrize("when_full, left", [("drop_oldest", range(5, 15)), ("drop_newest", range(10))])
def test_a_full_queue_loses_what_it_was_told_to_and_counts_it(path: Path, when_full: str, left: range) -> None:
    counters = Counters()
    queue = spool(path, counters, max_bytes=10 * len(event(10).body), when_full=when_full)
    for n in range(15):
        queue.put([event(f"{n:02d}")])
    assert content(queue) == [f"{n:02d}" for n in left]
    assert counters.read()['lost_events_total{node="test",reason="queue_full"}'] == 5
    assert counters.read()['queue_events{node="test"}'] == 10


def test_a_full_queue_that_waits_keeps_all(path: Path) -> None:
    counters = Counters()
    queue = spool(path, counters, max_bytes=3 * len(event(0).body), when_full="wait")
    queue.put(event(n) for n in range(5))
    assert not queue.save()
    queue.remove(queue.take(2, 10**6, newest=False))
    assert queue.save()
    assert content(queue) == ["2", "3", "4"]
    assert total(counters, "lost_events_total") == 0


def test_what_is_being_sent_is_not_dropped(path: Path) -> None:
    counters = Counters()
    queue = spool(path, counters, max_bytes=3 * len(event(0).body))
    queue.put(event(n) for n in range(3))
    flying = queue.take(1, 10**6, newest=False)
    queue.put([event(3)])
    queue.remove(flying)
    assert content(queue) == ["2", "3"]
    assert total(counters, "lost_events_total") == 1, "1 is lost; 0 was sent"


def test_an_event_larger_than_the_queue_does_not_empty_it(path: Path) -> None:
    counters = Counters()
    queue = spool(path, counters, max_bytes=1000, when_full="wait")
    queue.put([event("a"), event("b", size=2000)])
    assert queue.save() and content(queue) == ["a"]
    assert total(counters, "lost_events_total") == 1


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 6)),
        st.tuples(st.just("send"), st.integers(1, 6)),
        st.tuples(st.just("fail"), st.integers(1, 6)),
        st.tuples(st.just("reopen"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=15, deadline=None)
@given(_steps, st.sampled_from(("drop_oldest", "drop_newest")), st.booleans())
def test_every_event_is_queued_sent_or_counted_as_lost(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], when_full: str, newest: bool
) -> None:
    path, counters = tmp_path_factory.mktemp("q") / "q.sqlite", Counters()
    settings: dict[str, Any] = {"max_bytes": 12 * len(event(100).body), "when_full": when_full}
    queue, put, sent = spool(path, counters, **settings), 0, 0
    for step, n in steps:
        if step == "put":
            queue.put(event(100 + put + i) for i in range(n))
            put += n
        elif step == "reopen":
            queue.close()
            queue = spool(path, counters, **settings)
        else:
            taken = queue.take(n, 10**6, newest)
            if step == "send":
                queue.remove(taken)
                sent += len(taken)
            else:
                queue.release()
        queued = content(queue)
        assert len(set(queued)) == len(queued) == queue.waiting()[0] <= 12
        assert sent + len(queued) + total(counters, "lost_events_total") == put
    queue.close()


def test_a_second_user_is_refused(path: Path) -> None:
    queue = spool(path)
    with pytest.raises(NodeError, match="is in use; give each node of one kind a name of its own"):
        spool(path)
    queue.close()
    spool(path).close()


def test_a_place_that_cannot_be_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "q.sqlite").mkdir()
    for path in (tmp_path / "file" / "q.sqlite", tmp_path / "q.sqlite"):
        with pytest.raises(NodeError, match=r"Cannot keep a queue in '.*q\.sqlite'"):
            spool(path)


def truncated(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def garbage(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(rng.randrange(1, 50_000)))


def a_page_lost(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    at = 4096 * rng.randrange(1, len(content) // 4096)
    content[at : at + 4096] = rng.choice((bytes(4096), rng.randbytes(4096)))
    path.write_bytes(content)


def bytes_flipped(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.randrange(1, 20)):
        content[rng.randrange(len(content) if rng.random() < 0.5 else 200)] = rng.randrange(256)
    path.write_bytes(content)


@pytest.mark.parametrize("files", [4, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("damage", [truncated, garbage, a_page_lost, bytes_flipped])
def test_a_damaged_file_is_set_aside_and_what_can_be_is_salvaged(
    filled: Path, damage: Any, files: int, counted: Counted
) -> None:
    whole = filled.read_bytes()
    replaced = salvaged = 0
    for seed in range(files):
        for old in filled.parent.iterdir():
            old.unlink()
        filled.write_bytes(whole)
        damage(filled, random.Random(seed))
        broken, counters = filled.read_bytes(), Counters()
        queue = spool(filled, counters)
        content(queue)  # some damage is only seen when an event is read
        queue.save()
        names = content(queue)
        assert set(names) <= {str(n) for n in range(300)}
        # a flipped byte may be one of an event's number
        assert damage is bytes_flipped or names == sorted(names, key=int), "in their order"
        queue.put([event("new")])
        queue.close()
        assert content(spool(filled)) == [*names, "new"]
        kept = [p.read_bytes() for p in copies(filled)]
        if len(broken) == 0:
            assert kept == []
        elif kept:
            assert kept == [broken] and total(counters, "damaged_queues_total") == 1
            replaced, salvaged = replaced + 1, salvaged + len(names)
        else:
            assert len(names) == 300 or damage is bytes_flipped, "nothing may vanish from a file that is used on"
    counted(
        f"{files} queue files, {damage.__name__}",
        f"{replaced} set aside, {salvaged:,} of their {replaced * 300:,} events salvaged",
    )
    assert replaced > 0
    assert damage is garbage or salvaged > 0


def test_an_older_version_is_set_aside_and_its_events_are_taken_over(filled: Path) -> None:
    with sqlite3.connect(filled) as db:
        db.execute("PRAGMA user_version = 0")
        db.execute("ALTER TABLE events RENAME COLUMN number TO serial")
    queue = spool(filled)
    assert content(queue) == [str(n) for n in range(300)]
    assert len(copies(filled)) == 1


def test_a_stranger_s_database_is_kept(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE birds (name TEXT)")
    queue = spool(path)
    assert content(queue) == []
    (kept,) = copies(path)
    with sqlite3.connect(kept) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("birds",)]


def test_what_is_only_in_the_log_is_salvaged_too(filled: Path) -> None:
    queue = spool(filled)
    queue.put(event(n, 400) for n in range(300, 310))
    saved = {p: p.read_bytes() for p in filled.parent.iterdir() if p.name in ("q.sqlite", "q.sqlite-wal")}
    queue.close()
    for p, data in saved.items():
        p.write_bytes(data)
    with filled.open("r+b") as file:
        file.seek(4096 * 5)
        file.write(bytes(4096))
    names = content(spool(filled))
    assert names[-10:] == [str(n) for n in range(300, 310)]
    assert len(names) > 250


@pytest.mark.parametrize("cut", range(4))
def test_a_replacement_cut_short_is_finished_by_the_next_start(
    filled: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled.open("r+b") as file:
        file.seek(4096 * 5)
        file.write(bytes(4096))
    broken = filled.read_bytes()
    filled.with_name("q.sqlite-wal").write_bytes(b"a log of its own")
    original, renames = Path.replace, iter(range(100))

    def dying(self: Path, target: Any) -> Any:
        if next(renames) == cut:
            raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            queue_file.opened(filled)
    queue = spool(filled)
    assert 250 < len(content(queue)) < 300
    assert broken in [p.read_bytes() for p in copies(filled)]


def test_damage_while_it_is_used(filled: Path) -> None:
    counters = Counters()
    queue = spool(filled, counters)
    with filled.open("r+b") as file:
        file.seek(4096)
        file.write(random.Random(0).randbytes(filled.stat().st_size - 4096))
    for n in range(20):
        queue.put([event(f"new{n}")])
        queue.remove(queue.take(1, 10**6, newest=False)[:0])
    names = content(queue)
    assert names[-20:] == [f"new{n}" for n in range(20)]
    assert total(counters, "damaged_queues_total") == 1
    assert counters.read()['lost_events_total{node="test",reason="damaged"}'] == 300 + 20 - len(names)
    queue.close()
    assert content(spool(filled))[-20:] == names[-20:]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 512) as folder:
        yield folder


@pytest.mark.parametrize("when_full, left", [("drop_oldest", "newest"), ("drop_newest", "oldest")])
def test_a_full_disk_is_waited_out_in_bounded_memory(disk: Path, when_full: str, left: str, counted: Counted) -> None:
    counters = Counters()
    queue = spool(disk / "q.sqlite", counters, memory_bytes=50_000, when_full=when_full)
    queue.put([event("first", 400)])
    filler = fill(disk)
    for n in range(1000):
        queue.put([event(n, 400)])
    names = content(queue)
    lost = total(counters, "lost_events_total")
    assert not queue.save()
    assert 100 < len(names) < 1000 and len(names) + lost == 1001
    assert names == (["first", *map(str, range(1000))][: len(names)] if left == "oldest" else names)
    assert left == "oldest" or names[-100:] == [str(n) for n in range(900, 1000)]
    sent = queue.take(50, 10**6, newest=False)
    queue.remove(sent)
    assert content(queue) == names[50:], "what was sent is not sent again, though it cannot be deleted"
    filler.unlink()
    assert queue.save()
    queue.close()
    assert content(spool(disk / "q.sqlite")) == names[50:]
    assert total(counters, "lost_events_total") == lost
    counted(
        f"disk full under a queue, {when_full}",
        f"1,001 put, {int(lost)} lost and counted, 50 sent, {len(names) - 50} on disk later; "
        f"{int(total(counters, 'sink_errors_total'))} failed writes",
    )


def test_a_disk_that_is_full_at_the_start(disk: Path) -> None:
    filler = fill(disk)
    queue = spool(disk / "q.sqlite")
    queue.put([event("a")])
    assert content(queue) == ["a"] and not queue.save()
    filler.unlink()
    assert queue.save()
    queue.close()
    assert content(spool(disk / "q.sqlite")) == ["a"]


def test_a_disk_that_stays_full_to_the_end_is_counted(disk: Path) -> None:
    fill(disk)
    counters = Counters()
    queue = spool(disk / "q.sqlite", counters)
    queue.put([event("a")])
    queue.close()
    assert counters.read()['lost_events_total{node="test",reason="disk"}'] == 1


def test_another_program_that_holds_the_file_is_waited_for(path: Path) -> None:
    queue = spool(path)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        queue.put([event("a")])
        assert not queue.save() and content(queue) == ["a"]
        other.execute("ROLLBACK")
    assert queue.save() and content(queue) == ["a"]
    assert copies(path) == []


def test_the_file_stays_within_its_bound(path: Path) -> None:
    queue = spool(path, max_bytes=1_000_000)
    for n in range(40):
        queue.put(event(f"{n}.{i}", 900) for i in range(100))
    queue.close()
    assert queue.waiting()[1] <= 1_000_000
    assert path.stat().st_size < 1_400_000
