"""Recordings in which runs died: noted while one is read, so that the next run knows and does not try for ever."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from labous.errors import LabousError
from labous.station.counters import Counters
from labous.station.done import Version
from labous.station.log import Seldom

_COUNT = "{:019d}\n"  # how many windows; first in the file, where it is replaced alone
_MOST_DEATHS = 16  # recordings of which they are known
_MOST_BYTES = 1 << 20  # more than so many paths take
_TELL_SECONDS = 600.0

_logger = logging.getLogger("labous")


class Attempts:
    """What is being read, and how far, in a small file.

    A run that ends in any orderly way leaves nothing there; one that dies leaves the recording at hand, and how many of
    its windows had gone through. Deaths in a row at the same window are counted: a recording that kills runs does so at
    its same place each time, and power cuts do not.

    Nothing waits for the disk: what a process has written is there for the next one, whatever ended the first; only a
    power cut can undo it. A damaged file is begun anew, and where none can be written, nothing is counted.

    Args:
        path: of the file.
        counters: told of writes that failed.
    """

    def __init__(self, path: Path, counters: Counters) -> None:
        self._path, self._counters = path, counters
        self._seldom = Seldom(_logger, _TELL_SECONDS)
        self._windows = 0
        self._file: int | None = None
        self._deaths = _read(path)

    def deaths(self, version: Version) -> tuple[int, int]:
        """How many runs in a row died in a recording, and how many of its windows had gone through each time."""
        windows, times = self._deaths.get(version, (0, 0))
        return times, windows

    @contextlib.contextmanager
    def reading(self, version: Version) -> Iterator[None]:
        """Note that a recording is being read, and, at the end, that it is not."""
        self._windows = 0
        self._write(version)
        try:
            yield
        except Exception as error:
            if not isinstance(error, LabousError):  # what nobody expects is the recording's doing, as a crash is
                raise
            self._write(None)
            raise
        except BaseException:
            self._write(None)
            raise
        if self._windows > self.deaths(version)[1]:
            self._deaths.pop(version, None)
        self._write(None)

    def passed(self) -> None:
        """One more window of it has gone through."""
        self._windows += 1
        self._put(_COUNT.format(self._windows).encode())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, at: Version | None) -> None:
        deaths = [[*version, *found] for version, found in list(self._deaths.items())[-_MOST_DEATHS:]]
        line = json.dumps({"at": at, "deaths": deaths})
        self._put(f"{_COUNT.format(self._windows)}{line}\n".encode("ascii"))

    def _put(self, content: bytes) -> None:
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, content)
        except OSError as error:
            self._counters.add('source_errors_total{node="folder"}')
            self._seldom.warning("write", "%s cannot be written (%s).", self._path, error.strerror)


def _read(path: Path) -> dict[Version, tuple[int, int]]:
    """In which recordings runs died: how many windows had gone through, and how often in a row."""
    try:
        with path.open("rb") as file:
            count, line = file.read(_MOST_BYTES).split(b"\n")[:2]  # behind them may be the rest of a longer line
        told = json.loads(line)
        deaths = {Version(*row[:3]): (int(row[3]), int(row[4])) for row in told["deaths"]}
        if told["at"] is not None:
            died, windows = Version(*told["at"]), int(count)
            before, times = deaths.pop(died, (windows, 0))
            deaths[died] = (windows, times + 1 if before == windows else 1)
        return deaths
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        _logger.warning("What was read last, %s, is damaged (%s), and is begun anew.", path, type(error).__name__)
        return {}
