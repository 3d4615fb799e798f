"""From a queue on disk to a receiver: in batches, again and again until it has them, in a thread of its own."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import logging
import math
import os
import random
import re
import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from labous.errors import NodeError
from labous.options import option, shown
from labous.spool import WHEN_FULL, Spool
from labous.station.counters import Counters
from labous.station.files import write_whole
from labous.station.log import Seldom
from labous.station.queue_file import Event

if TYPE_CHECKING:
    from labous.nodes import Context, Record
    from labous.station.observations import Observation

_LOG = logging.getLogger(__name__)
_STOP_SECONDS = 1.0
"""How long a node that is told to stop may go on sending."""
_ABORT_SECONDS = 0.2


class Unavailable(Exception):
    """A receiver that has not taken a batch, and may take it later.

    Attributes:
        seconds: how long it asks to be left alone, s.
    """

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class Rejected(Exception):
    """A receiver that will never take a batch as it is."""


class Transport(Protocol):
    """The way to a receiver."""

    def send(self, events: Sequence[Event]) -> None:
        """Return when the receiver has taken them all.

        Raises:
            Unavailable: it has not, or not all, or nobody knows.
            Rejected: it has looked at them and refused.
        """
        ...

    def abort(self) -> None:
        """Make a ``send`` that is under way in another thread fail soon."""
        ...

    def close(self) -> None:
        """Free what it holds; nothing is being sent."""
        ...


def named(default: str) -> Any:
    """The option ``name`` of a node that delivers."""
    return option(
        "of the node in counters and of its files; small letters, digits, dashes; two nodes of one kind need two names",
        default,
        pattern=r"[a-z0-9][a-z0-9-]{0,31}",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Queueing:
    """What a node that delivers may be told about its queue and its patience."""

    name: str
    input: str = option("column of observations", "observations", least=1)
    queue_bytes: int = option(
        "the most that queued events hold on disk, and again those that were refused, bytes", 64_000_000, minimum=10_000
    )
    when_full: str = option(
        "where the queue is full, drop_oldest and drop_newest lose events and count them; wait holds the pipeline up",
        "drop_oldest",
        choices=WHEN_FULL,
    )
    memory_bytes: int = option("the most that events hold which a full disk does not take", 1_000_000, minimum=10_000)
    batch_events: int = option("the most events that are sent at once", 100, minimum=1, maximum=10_000)
    batch_bytes: int = option("the most bytes of events that are sent at once, uncompressed", 500_000, minimum=1)
    batch_seconds: float = option("how long an event may wait for others to go with it, s", 10.0, minimum=0)
    pace_seconds: float = option("pause between batches while a queue is worked off, s", 1.0, minimum=0)
    timeout_seconds: float = option("how long a receiver may take to answer a batch, s", 30.0, above=0, maximum=3600)
    retry_seconds: float = option(
        "the longest pause after a first failure, doubled with each further one, s", 2.0, above=0, maximum=3600
    )
    retry_limit_seconds: float = option("the longest pause between attempts, s", 300.0, above=0, maximum=86_400)
    finish_seconds: float = option(
        "how long the end of a run waits for what is queued, s; when the station is stopped, no more than 1 s",
        5.0,
        minimum=0,
    )


class Delivery:
    """Sends what is put into a queue on disk to a receiver, until closed; the rest is sent by the next run.

    Batches of the newest events and of the oldest take turns, so that what is heard now arrives at once though a week
    is queued, the week arrives too, and no batch that a receiver chokes on stands in the way of the others. Where
    the receiver fails, pauses are random, up to a bound that doubles (full jitter), and at least as long as it asks
    for. A batch that it refuses for good becomes a file in the directory ``NAME-parked``.
    """

    def __init__(self, transport: Transport, options: Queueing, state: Path, counters: Counters) -> None:
        self._transport = transport
        self._options = options
        self._counters = counters
        self._label = f'{{node="{options.name}"}}'
        self._parked = state / f"{options.name}-parked"
        self._seldom = Seldom(_LOG, 600)
        self._spool = Spool(
            state / f"{options.name}.sqlite",
            options.name,
            counters,
            options.queue_bytes,
            options.memory_bytes,
            options.when_full,
            options.retry_seconds,
        )
        self._changed = threading.Condition()
        # what follows is in time.monotonic(), which no jump of the clock moves
        self._since = -math.inf  # what is queued since then goes out when it has waited long enough
        self._rest_until = -math.inf
        self._ends_at: float | None = None
        self._stopped_at: float | None = None
        self._ended = False
        self._failures = 0
        self._counters.set(f"parked_batches{self._label}", len(self._parked_files()))
        self._thread = threading.Thread(target=self._run, name=f"labous-{options.name}", daemon=True)
        self._thread.start()

    def put(self, events: Iterable[Event]) -> None:
        """Queue events; see :meth:`Spool.put`."""
        with self._changed:
            if self._spool.waiting()[0] == 0:
                self._since = time.monotonic()
            self._spool.put(events)
            self._changed.notify()

    def settle(self, stopping: threading.Event) -> None:
        """Wait until nothing that was put is only in memory.

        Raises:
            NodeError: the pipeline is to end, and something still is.
        """
        while not self._spool.save():
            if stopping.wait(min(0.5, self._options.retry_seconds)) and not self._spool.save():
                raise NodeError(
                    f"Node {self._options.name}: the disk or the queue is full, and the last detections are lost with "
                    "this stop; make room, and run again what was being analyzed."
                )

    def stop(self) -> None:
        """Begin to end: send what is queued, as far as that goes in time. Nothing is waited for, nor put any more."""
        with self._changed:
            if self._stopped_at is None:
                self._stopped_at = time.monotonic()
                self._ends_at = self._stopped_at + self._options.finish_seconds
                self._changed.notify()

    def close(self, stopping: threading.Event) -> None:
        """Wait until what is queued has been sent, or the time for it is over, and end the thread."""
        self.stop()
        assert self._stopped_at is not None and self._ends_at is not None
        while self._thread.is_alive() and time.monotonic() < self._ends_at and not stopping.is_set():
            self._thread.join(0.05)
        # all that stop at once have the same second for what they are sending
        self._thread.join(max(0.0, min(self._stopped_at + _STOP_SECONDS, self._ends_at) - time.monotonic()))
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._transport.abort()
        self._thread.join(_ABORT_SECONDS)  # it may hang in the system's search for an address: it holds nothing
        self._spool.close()
        self._transport.close()
        events, _ = self._spool.waiting()
        if events:
            _LOG.info("Node %s: %d events stay queued; the next run sends them.", self._options.name, events)

    def _run(self) -> None:
        newest = True
        while self._due():
            try:
                self._attempt(self._spool.take(self._options.batch_events, self._options.batch_bytes, newest))
            except Exception as error:
                _LOG.exception("Node %s: delivery failed by a fault of its own.", self._options.name)
                self._keep(shown(str(error)))
            newest = not newest

    def _due(self) -> bool:
        """Wait until a batch should be sent; False, if none should any more."""
        options = self._options
        with self._changed:
            while not self._ended:
                saved = self._spool.save()
                events, size = self._spool.waiting()
                now = time.monotonic()
                at = math.inf
                if self._ends_at is not None:
                    at = self._rest_until if self._failures else now
                    if events == 0 or at >= self._ends_at:
                        return False
                elif events:
                    whole = events >= options.batch_events or size >= options.batch_bytes
                    at = max(self._rest_until, -math.inf if whole else self._since + options.batch_seconds)
                if at <= now:
                    return True
                seconds = at - now if saved else min(at - now, options.retry_seconds)
                self._changed.wait(None if math.isinf(seconds) else seconds)
        return False

    def _attempt(self, batch: Sequence[Event]) -> None:
        if not batch:
            self._keep("the queue cannot be read")
            return
        self._since = time.monotonic()
        try:
            self._transport.send(batch)
        except Unavailable as error:
            self._keep(str(error), error.seconds)
        except Rejected as error:
            self._park(batch, str(error))
        else:
            self._counters.add(f"delivered_events_total{self._label}", len(batch))
            self._counters.set(f"last_delivery_time_seconds{self._label}", time.time())
            self._spool.remove(batch)
            if self._failures:
                _LOG.info("Node %s delivers again after %d failures.", self._options.name, self._failures)
            self._failures = 0
            self._rest_until = time.monotonic() + self._options.pace_seconds

    def _keep(self, message: str, seconds: float = 0.0) -> None:
        """Leave a batch in the queue."""
        self._spool.release()
        self._seldom.warning("kept", "Node %s: %s; events stay queued.", self._options.name, message)
        self._rest(seconds)

    def _rest(self, seconds: float = 0.0) -> None:
        """Leave the receiver alone for a while after a failure: at least this long."""
        options = self._options
        bound = min(options.retry_limit_seconds, options.retry_seconds * 2.0 ** min(self._failures, 32))
        pause = random.uniform(0, bound)
        if seconds > 0:  # what it asks for, and not all stations in the same moment
            pause = max(pause, seconds + random.uniform(0, options.retry_seconds))
        self._failures += 1
        self._rest_until = time.monotonic() + pause
        self._counters.add(f"sink_errors_total{self._label}")

    def _park(self, batch: Sequence[Event], message: str) -> None:
        """Keep a refused batch in a file instead of the queue: what was said of it, and its events as they were."""
        digest = hashlib.sha256("\n".join(event.id for event in batch).encode()).hexdigest()[:16]
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        about = json.dumps({"parked": now, "reason": message})
        content = b'%b, "events": [\n%b\n]}\n' % (about[:-1].encode(), b",\n".join(event.body for event in batch))
        try:
            files = self._parked_files()
            if sum(path.stat().st_size for path in files) + len(content) > self._options.queue_bytes:
                self._keep(f"{message}; and {str(self._parked)!r} is full of refused batches")
                return
            # its user's alone: a server's answer may tell what is nobody else's business
            write_whole(self._parked / f"{digest}.json", content, 0o600)
        except OSError as error:
            self._keep(f"{message}; and it cannot be written into {str(self._parked)!r} ({error.strerror})")
            return
        self._spool.remove(batch)
        self._counters.set(f"parked_batches{self._label}", len({*files, self._parked / f"{digest}.json"}))
        self._seldom.warning(
            "parked", "Node %s: %s; batches that are refused go to %r.", self._options.name, message, str(self._parked)
        )
        self._rest()  # others may be refused as well: where all are, the pauses grow

    def _parked_files(self) -> list[Path]:
        return list(self._parked.glob("*.json"))


class Sink:
    """A node that delivers the observations of each record, and gives the record on."""

    def __init__(self, transport: Transport, options: Queueing, context: Context) -> None:
        self._options = options
        self._context = context
        self._delivery = Delivery(transport, options, context.state, context.counters)

    def process(self, record: Record) -> Iterable[Record]:
        """Queue a record's observations."""
        observations: Sequence[Observation] = record.columns[self._options.input]
        if observations:
            station = self._context.station
            self._delivery.put(Event(o.id, json.dumps(o.event(station)).encode()) for o in observations)
            if self._options.when_full == "wait":
                self._delivery.settle(self._context.stopping)
        return (record,)

    def end(self, stream: str) -> Iterable[Record]:
        """Wait until all of the stream is on disk."""
        self._delivery.settle(self._context.stopping)
        return ()

    def stop(self) -> None:
        """Deliver for a last time."""
        self._delivery.stop()

    def close(self) -> None:
        """Wait for that, but not long."""
        self._delivery.close(self._context.stopping)


def credential(node: str, what: str) -> str:
    """The name under which systemd hands a node's secret to a service."""
    return f"{node}-{what}"


def secret(node: str, file: Path | None, variable: str | None, what: str) -> str | None:
    """What a file or an environment variable holds: a token or a password; None, if neither is named.

    A service has a copy of the file, which its user may read though the file is root's.

    Raises:
        NodeError: there is none, or it holds more than one word.
    """
    if file is None and variable is None:
        return None
    given = Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), credential(node, what))
    if file is not None and given.is_absolute() and given.exists():
        file = given
    where = f"file {str(file)!r}" if file is not None else f"environment variable {variable}"
    try:
        text = file.read_text(encoding="utf-8") if file is not None else os.environ.get(str(variable), "")
    except (OSError, ValueError) as error:
        raise NodeError(
            f"The {what} cannot be read from the {where}: {getattr(error, 'strerror', 'not text')}."
        ) from None
    if not re.fullmatch(r"[!-~]+", text.strip()):
        raise NodeError(f"The {what} in the {where} must be one word of ASCII characters.")
    return text.strip()


def trusted(ca_file: Path | None) -> ssl.SSLContext:
    """What verifies a server's certificate: by the system's authorities, or those of a file.

    Raises:
        NodeError: the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = shown(error.strerror if isinstance(error, OSError) and error.strerror else str(error))
        raise NodeError(f"The certificates in {str(ca_file)!r} cannot be used ({reason}); give a PEM file.") from error
