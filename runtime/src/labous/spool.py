"""A queue on disk: what has been put into it outlives crashes, power cuts, a full disk, and damage to its own file.

An event is on disk when :meth:`Spool.put` returns, and stays until it is removed. Where the disk does not take it, it
waits in a bounded part of memory, from where it can be sent as well, and the disk is tried again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from labous.errors import NodeError
from labous.options import shown
from labous.station import queue_file
from labous.station.counters import Counters
from labous.station.locks import locked
from labous.station.log import Seldom
from labous.station.queue_file import Event

WHEN_FULL = ("drop_oldest", "drop_newest", "wait")
_SOUND_SECONDS = 60.0
"""A file that fails again so soon after it was replaced is left alone for as long: the disk is at fault."""
_LOG = logging.getLogger(__name__)


class Spool:
    """Events in the order in which they were put, each id once; for several threads of one process.

    Args:
        path: the file, in a directory that will be made; nobody else may have it open as a spool.
        name: of the queue, in counters and log.
        max_bytes: the most that bodies of events on disk hold together.
        memory_bytes: the most that those hold which the disk has not taken.
        when_full: what happens at either bound: ``drop_oldest`` and ``drop_newest`` lose events, and count them;
            ``wait`` keeps all, and leaves it to the caller to put none until :meth:`save` says that there is room.
        retry_seconds: how long a disk that failed is left alone, s.

    Raises:
        NodeError: the file cannot be there, or is in use. A full disk is no such case.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        counters: Counters,
        max_bytes: int,
        memory_bytes: int,
        when_full: str,
        retry_seconds: float,
    ) -> None:
        self._path = path
        self._name = name
        self._counters = counters
        self._max_bytes = max_bytes
        self._memory_bytes = memory_bytes
        self._when_full = when_full
        self._retry_seconds = retry_seconds
        self._seldom = Seldom(_LOG, 600)
        self._lock = threading.RLock()
        self._memory: dict[str, bytes] = {}  # not yet on disk, in their order
        self._sent: set[str] = set()  # to be deleted from the disk
        self._flying: set[str] = set()
        self._events = self._bytes = 0  # on disk
        self._db: sqlite3.Connection | None = None
        self._damage: str | None = None
        self._untouched_until = self._doubted_at = -math.inf
        self._closed = False
        self._in_use = _claimed(path)
        self.save()

    def put(self, events: Iterable[Event]) -> None:
        """Add events, those left out that are queued already.

        Then each is on disk; or, where the disk fails or the queue is full, in memory; or counted as lost.
        """
        with self._lock:
            self._memory |= {event.id: event.body for event in events}
            self._sync()
            self._shed()
            self._tell()

    def take(self, most: int, most_bytes: int, newest: bool) -> list[Event]:
        """What to send next, the newest or the oldest, in the order in which they were put.

        They stay in the queue, whatever its bounds, until they are given to :meth:`remove` or :meth:`release`.

        Args:
            most: how many at most.
            most_bytes: how long the bodies together, unless the first alone is longer.
        """
        with self._lock:
            found: dict[str, bytes] = {}
            length = 0
            for name, body in self._in_order(newest):
                length += len(body)
                if found and (len(found) == most or length > most_bytes):
                    break
                found[name] = body
            self._flying = set(found)
            events = [Event(name, body) for name, body in found.items()]
            return events[::-1] if newest else events

    def remove(self, events: Iterable[Event]) -> None:
        """These have been delivered, or are safe elsewhere."""
        with self._lock:
            self.release()
            for event in events:
                if self._memory.pop(event.id, None) is None:
                    self._sent.add(event.id)
            self._sync()
            self._tell()

    def release(self) -> None:
        """What was taken last has not been delivered."""
        with self._lock:
            self._flying = set()

    def save(self) -> bool:
        """Try to bring to disk what waits in memory; whether all is there."""
        with self._lock:
            self._sync()
            self._tell()
            return not self._memory

    def waiting(self) -> tuple[int, int]:
        """How many events are queued, and how many bytes their bodies have."""
        with self._lock:
            size = self._bytes + sum(map(len, self._memory.values()))
            return self._events - len(self._sent) + len(self._memory), size

    def close(self) -> None:
        """Close the file. What the disk still does not take is lost, and counted."""
        with self._lock:
            if self._closed:
                return
            self._untouched_until = -math.inf
            self._sync()
            self._closed = True
            self._lose(len(self._memory), "disk")
            self._memory.clear()
            self._tell()
            self._disconnect()
            os.close(self._in_use)

    def _sync(self) -> None:
        """Make the disk hold what it should: in one transaction, or not at all."""
        if self._closed or time.monotonic() < self._untouched_until:
            return
        try:
            db = self._connected()
            if self._memory or self._sent:
                self._write(db)
        except queue_file.ERRORS as error:
            self._failed(error)
            if self._damage is not None:  # now with a file that takes its place
                self._sync()

    def _write(self, db: sqlite3.Connection) -> None:
        events, size = self._events, self._bytes
        waiting: dict[str, bytes] = {}
        lost = 0
        with _transaction(db):
            for name in self._sent:
                freed = _delete(db, name)
                events, size = events - (freed is not None), size - (freed or 0)
            for name, body in self._memory.items():
                if db.execute("SELECT 1 FROM events WHERE id = ?", (name,)).fetchone():
                    continue
                if size + len(body) > self._max_bytes and self._when_full == "drop_oldest":
                    for old in self._oldest(db, size + len(body) - self._max_bytes):
                        freed = _delete(db, old)
                        events, size, lost = events - 1, size - (freed or 0), lost + 1
                if size + len(body) <= self._max_bytes:
                    db.execute("INSERT INTO events (id, body) VALUES (?, ?)", (name, body))
                    events, size = events + 1, size + len(body)
                elif self._when_full == "wait" and len(body) <= self._max_bytes:
                    waiting[name] = body
                else:
                    lost += 1
        self._events, self._bytes, self._memory, self._sent = events, size, waiting, set()
        self._lose(lost, "queue_full")

    def _oldest(self, db: sqlite3.Connection, size: int) -> list[str]:
        """The oldest events that together have this size and are not being sent; none, if all have not."""
        found = []
        with contextlib.closing(db.execute("SELECT id, LENGTH(body) FROM events ORDER BY number")) as rows:
            for name, length in rows:
                if name not in self._flying:
                    found.append(name)
                    size -= length
                    if size <= 0:
                        return found
        return []

    def _in_order(self, newest: bool) -> Iterator[tuple[str, bytes]]:
        """All events not yet sent, those in memory behind those on disk."""
        memory = [(name, body) for name, body in self._memory.items() if name not in self._sent]
        if newest:
            yield from reversed(memory)
        try:
            if self._db is not None:
                order = "DESC" if newest else "ASC"
                with contextlib.closing(
                    self._db.execute(f"SELECT id, body FROM events ORDER BY number {order}")
                ) as rows:
                    for name, body in rows:
                        if not queue_file.is_whole(name, body):
                            raise sqlite3.DatabaseError("an event is garbled")
                        if name not in self._sent:
                            yield name, body
        except queue_file.ERRORS as error:
            self._failed(error)
        if not newest:
            yield from memory

    def _connected(self) -> sqlite3.Connection:
        if self._db is None:
            self._db, replaced = queue_file.opened(self._path, self._damage)
            self._damage = None
            before = self._events
            self._events, self._bytes = self._db.execute(
                "SELECT COUNT(*), IFNULL(SUM(LENGTH(body)), 0) FROM events"
            ).fetchone()
            if replaced is not None:
                self._counters.add(f'damaged_queues_total{{node="{self._name}"}}')
                _LOG.warning(
                    "The queue %r was set aside (%s), and a new one begun with %d events of it; the old one is kept%s.",
                    str(self._path),
                    shown(replaced.reason),
                    replaced.salvaged,
                    "" if replaced.kept is None else f" as {replaced.kept.name!r}",
                )
                self._lose(before - replaced.salvaged, "damaged")
        return self._db

    def _disconnect(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _failed(self, error: BaseException) -> None:
        """Leave the disk alone for a while; and where the file itself is at fault, have it replaced then."""
        now = time.monotonic()
        self._untouched_until = now + self._retry_seconds
        self._counters.add(f'sink_errors_total{{node="{self._name}"}}')
        if not queue_file.passes(error):
            self._disconnect()
            if now - self._doubted_at > _SOUND_SECONDS:
                self._damage, self._untouched_until = str(error) or type(error).__name__, -math.inf
            else:
                self._untouched_until = now + _SOUND_SECONDS
            self._doubted_at = now
        self._seldom.warning(
            "disk",
            "The queue %r cannot be used (%s): events wait in memory, and the disk is tried again.",
            str(self._path),
            shown(str(error)),
        )

    def _shed(self) -> None:
        """Keep memory within its bound."""
        size = sum(map(len, self._memory.values()))
        if size <= self._memory_bytes or self._when_full == "wait":
            return
        names = list(self._memory) if self._when_full == "drop_oldest" else list(reversed(self._memory))
        lost = 0
        for name in names:
            if size <= self._memory_bytes:
                break
            if name not in self._flying:
                size -= len(self._memory.pop(name))
                lost += 1
        self._lose(lost, "disk")

    def _lose(self, events: int, reason: str) -> None:
        if events > 0:
            self._counters.add(f'lost_events_total{{node="{self._name}",reason="{reason}"}}', events)
            self._seldom.warning(reason, "Events of the queue %r are lost: %s.", str(self._path), reason)

    def _tell(self) -> None:
        events, size = self.waiting()
        self._counters.set(f'queue_events{{node="{self._name}"}}', events)
        self._counters.set(f'queue_bytes{{node="{self._name}"}}', size)


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _delete(db: sqlite3.Connection, name: str) -> int | None:
    """Delete an event: how long it was; None, if it is not there."""
    row = db.execute("SELECT number, LENGTH(body) FROM events WHERE id = ?", (name,)).fetchone()
    if row is None:
        return None
    db.execute("DELETE FROM events WHERE number = ?", (row[0],))
    return int(row[1])


def _claimed(path: Path) -> int:
    """Make the directory, and lock the queue against a second user; the lock's descriptor."""
    place = repr(str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
            raise NodeError(f"Cannot keep a queue in {place}: it must be a file in a directory that can be written.")
        return locked(path.with_name(path.name + ".lock"), 0o600)
    except BlockingIOError as error:
        raise NodeError(f"The queue {place} is in use; give each node of one kind a name of its own.") from error
    except OSError as error:
        raise NodeError(f"Cannot keep a queue in {place}: {error.strerror}.") from error
