"""Which species a station has reported and when: what keeps them from being reported again too soon."""

from __future__ import annotations

import datetime
import json
import logging
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from labous.formats import printable
from labous.station.counters import Counters
from labous.station.files import write_whole
from labous.station.log import Seldom

_VERSION = 1
_SAVE_SECONDS = 1.0  # from one write to the next: a folder is read much faster than birds sing
_TELL_SECONDS = 600.0
_MOST_BYTES = 1 << 24  # ten times what two reports of every bird on earth take

_logger = logging.getLogger("labous")


class Heard(NamedTuple):
    """A stream, known by its name and by when it began, in UTC."""

    name: str
    began: datetime.datetime


class _Report(NamedTuple):
    species: str
    stream: Heard
    time: datetime.datetime


class Reports:
    """Dated reports, in a file that outlives the station: of each species the newest, and that of an earlier stream.

    The second is there because a recording may be heard again from its beginning, as after a crash: it then finds what
    was there when it was first heard. Those of its own would silence what nobody may have got.

    The file is written once a second at most, and when a stream ends. One that is damaged is ignored, and one that
    cannot be written is tried again: either way a species may be reported once more than it should.

    Args:
        path: of the file.
        interval: s, after which a report no longer matters.
        counters: told ``reports_errors_total``.
    """

    def __init__(self, path: Path, interval: float, counters: Counters) -> None:
        self._path, self._interval, self._counters = path, interval, counters
        self._seldom = Seldom(_logger, _TELL_SECONDS)
        self._kept: list[_Report] = _read(path)  # in their order
        self._began: datetime.datetime | None = None
        self._changed, self._not_before = False, -math.inf

    def begin(self, stream: Heard) -> None:
        """A stream begins; if it is one that is heard again, all since it was first heard is forgotten."""
        self._began = stream.began
        first = next((number for number, report in enumerate(self._kept) if report.stream == stream), None)
        if first is not None:
            del self._kept[first:]
            self._changed = True

    def silences(self, species: str, stream: Heard, when: datetime.datetime) -> bool:
        """Whether a species' newest report is of another stream, and a time lies within the interval after it.

        A time that lies before it does not: the clock was set back, and nobody knows how long ago that report was.
        """
        newest = next((report for report in reversed(self._kept) if report.species == species), None)
        if newest is None or newest.stream == stream:
            return False
        return 0 <= (when - newest.time).total_seconds() < self._interval

    def add(self, species: Iterable[str], stream: Heard, when: datetime.datetime) -> None:
        """Some species have been reported."""
        for one in species:
            earlier = [report for report in self._kept if report.species == one and report.stream != stream]
            self._kept = [report for report in self._kept if report.species != one or report in earlier[-1:]]
            self._kept.append(_Report(one, stream, when))
            self._changed = True

    def settle(self) -> None:
        """Write what has changed, if it is time."""
        if self._changed and time.monotonic() >= self._not_before:
            self.save()

    def save(self) -> None:
        """Write what has changed, without what is too old for the newest stream."""
        if not self._changed:
            return
        self._not_before = time.monotonic() + _SAVE_SECONDS
        kept = self._recent()
        rows = [[one.species, one.stream.name, *map(str, (one.stream.began, one.time))] for one in kept]
        try:
            write_whole(self._path, json.dumps({"version": _VERSION, "reports": rows}).encode("ascii"))
        except OSError as error:
            self._counters.add("reports_errors_total")
            self._seldom.warning("write", "%s cannot be written (%s); tried again.", self._path, error.strerror)
        else:
            self._kept, self._changed = kept, False

    def _recent(self) -> list[_Report]:
        """Without those that are too old for the stream that began last, and those behind which such a one came."""
        kept: list[_Report] = []
        over: set[str] = set()
        for report in reversed(self._kept):
            if self._began is not None and (self._began - report.time).total_seconds() >= self._interval:
                over.add(report.species)
            if report.species not in over:
                kept.append(report)
        return kept[::-1]


def _read(path: Path) -> list[_Report]:
    """The reports in a file; none, where it is damaged."""
    try:
        if not path.is_file():
            return []
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too long")
        told = json.loads(path.read_bytes())
        if not isinstance(told, dict) or told.get("version") != _VERSION:
            raise ValueError(f"it is no such list of version {_VERSION}")
        return list(_reports(told.get("reports")))
    except (OSError, ValueError, RecursionError) as error:
        _logger.warning(
            "What was reported last, %s, cannot be read (%s); species may be reported again.",
            path,
            printable(str(error)),
        )
        return []


def _reports(rows: object) -> Iterator[_Report]:
    """Raises ValueError where they are none."""
    for row in rows if isinstance(rows, list) else [None]:
        if not isinstance(row, list) or len(row) != 4 or not all(isinstance(value, str) for value in row):
            raise ValueError("a report is garbled")
        began, when = (datetime.datetime.fromisoformat(value) for value in row[2:])
        if began.tzinfo is None or when.tzinfo is None:
            raise ValueError("a report has a time without a zone")
        yield _Report(row[0], Heard(row[1], began), when)
