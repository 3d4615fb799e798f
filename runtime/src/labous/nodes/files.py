"""Recordings: one file, or a folder of them, which may be watched."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import heapq
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from labous import recordings
from labous.errors import NodeError, RecordingError
from labous.formats import printable
from labous.nodes import Context, EndOfStream, Record
from labous.options import option
from labous.station import filetime
from labous.station.attempts import Attempts
from labous.station.cutting import SourceOptions, cut
from labous.station.done import Done, Version
from labous.station.listing import versions

_MOST_OF_THE_TIME = 20  # a large folder is looked at less often, so that this costs one part in so many
_AT_ONCE = 1_000  # recordings of a folder, so that very many take no memory
_TIMES = ("auto", "name", "modified", "none")

_logger = logging.getLogger("labous")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordingOptions(SourceOptions):
    """What can be said of recordings."""

    time: str = option(
        "what tells when a recording was begun: its name (YYYYMMDD_HHMMSS), the time it was modified less its length; "
        "auto: the first of them that tells",
        "auto",
        choices=_TIMES,
    )
    time_zone: str = option(
        "of times in names that have neither Z nor an offset such as +0200: an offset, or a name such as Europe/Paris",
        "UTC",
        least=1,
    )

    def began(self, path: Path, zone: datetime.tzinfo) -> datetime.datetime | None:
        """When a recording was begun, in UTC; None where nobody knows.

        Raises:
            RecordingError: it cannot be read.
            OSError: it is gone.
        """
        found = None
        if self.time in ("auto", "name"):
            found = filetime.in_name(path.name, zone)
        if found is None and self.time in ("auto", "modified"):
            found = filetime.from_modified(path)
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class File(RecordingOptions):
    """A recording, cut as ``labous analyze`` cuts it."""

    path: str = option("of the recording, relative to the pipeline file", least=1, names="reads")

    def open(self, context: Context) -> FileSource:
        """The source.

        Raises:
            NodeError: the time zone is not known.
        """
        return FileSource(context, self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder(RecordingOptions):
    """The recordings in a folder, at any depth, in the order of their names; each once, also over restarts.

    Hidden files, and those that do not end as recordings do, are left out. A file that cannot be read is told in the
    log and not tried again until it changes; so is one in which runs died, as often as ``attempts`` says. An end that
    the station was told, or an error of a node, is not held against a file. Folders inside it in which the station
    saves clips are left out.
    """

    path: str = option("of the folder, relative to the pipeline file", least=1, names="reads")
    watch: bool = option("whether to wait for more, or to end when all have been read", False)
    settle_seconds: float = option(
        "for which a watched file's size and time must not change before it is read, s", 10.0, minimum=0
    )
    poll_seconds: float = option("from one look at a watched folder to the next, s", 5.0, above=0)
    attempts: int = option(
        "how many runs in a row may die at the same window of a file before it is given up; 0 for any number",
        3,
        minimum=0,
    )

    def open(self, context: Context) -> FolderSource:
        """The source.

        Raises:
            NodeError: the folder is not there, the time zone not known, or soundfile not installed.
        """
        try:
            import soundfile  # noqa: F401
        except (ImportError, OSError) as error:
            raise NodeError("Reading a folder needs soundfile; run: pip install 'labous[audio]'") from error
        path = context.path(self.path)
        if not path.is_dir():
            raise NodeError(f"Folder {str(path)!r} does not exist, or is none; check the path.")
        return FolderSource(context, self)


class _Reader:
    """Gives the windows of one recording after another."""

    def __init__(self, context: Context, options: RecordingOptions) -> None:
        self._context, self._options = context, options
        self._frontend = context.bundle.frontend
        self._zone = filetime.zone(options.time_zone)
        recordings.check_overlap(options.overlap, self._frontend)

    def windows(self, path: Path) -> Iterator[Record]:
        """Its windows, as far as the station runs.

        Raises:
            RecordingError: it cannot be read; perhaps only after some windows.
            OSError: it is gone.
        """
        began, rate = self._options.began(path, self._zone), self._frontend.sample_rate

        def when(sample: int) -> datetime.datetime | None:
            return None if began is None else began + datetime.timedelta(seconds=sample / rate)

        blocks = recordings.read_blocks(path, rate)
        with contextlib.closing(cut(_name(path), blocks, self._frontend, self._options, when)) as records:
            for record in records:
                if self._context.stopping.is_set():
                    return
                yield record

    def close(self) -> None:
        """Nothing is held between recordings."""


class FileSource(_Reader):
    """The windows of one recording. Where the station is stopped before its end, the end is not told."""

    def __init__(self, context: Context, options: File) -> None:
        super().__init__(context, options)
        self._path = context.path(options.path)

    def records(self) -> Iterator[Record | EndOfStream]:
        """See :class:`labous.nodes.Source`."""
        try:
            yield from self.windows(self._path)
        except (RecordingError, OSError) as error:
            yield EndOfStream(_name(self._path))
            raise NodeError(str(error)) from error
        if not self._context.stopping.is_set():
            yield EndOfStream(_name(self._path))


class FolderSource(_Reader):
    """The windows of a folder's recordings. One that is not read to its end is read again after a restart.

    Args:
        clock: monotonic, s.
    """

    def __init__(self, context: Context, options: Folder, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(context, options)
        self._folder, self._watch = context.path(options.path), options.watch
        self._settle, self._poll = options.settle_seconds, options.poll_seconds
        self._clock = clock
        self._most_attempts = options.attempts
        self._done = Done(context.state / "folder.sqlite", context.counters)
        self._attempts = Attempts(context.state / "folder.attempts", context.counters)
        self._seen: dict[Version, float] = {}  # what has not had its turn, and since when it is as it is
        self._left_out: set[str] = set()

    def records(self) -> Iterator[Record | EndOfStream]:
        """See :class:`labous.nodes.Source`."""
        stopping = self._context.stopping
        self._left_out = self._folders_left_out()
        last: Version | None = None
        while not stopping.is_set():
            began = self._clock()
            found = self._ready(began, last)
            looked = self._clock() - began
            for version in found:
                with self._attempts.reading(version):
                    yield from self._recording(version)
                if stopping.is_set():
                    return
            if not self._watch:
                if len(found) < _AT_ONCE:
                    return
                last = found[-1]  # each has one turn, whatever becomes of it
            elif not found:
                stopping.wait(max(self._poll, _MOST_OF_THE_TIME * looked))

    def close(self) -> None:
        """Close the lists of what is done and what is tried."""
        self._done.close()
        self._attempts.close()

    def _folders_left_out(self) -> set[str]:
        """The real paths of folders in which the station itself saves sound.

        Raises:
            NodeError: that would be the whole folder.
        """
        folder = os.path.realpath(self._folder)
        for clips in map(os.path.realpath, self._context.sound_folders):
            if Path(folder).is_relative_to(clips):
                raise NodeError(
                    f"Sound is saved in {clips!r} and would be heard again by the folder node; give one of the two "
                    "another path."
                )
        return {os.path.realpath(path) for path in (self._context.state, *self._context.sound_folders)}

    def _ready(self, now: float, after: Version | None = None) -> list[Version]:
        """The first versions that are to be read, in the order of their paths; none where the station is stopping."""
        met = False

        def new() -> Iterator[Version]:
            nonlocal met
            for version in versions(self._folder, self._left_out, self._context.stopping):
                if version in self._done:
                    met = True
                elif not self._done.passes_over(version) and (after is None or _order(version) > _order(after)):
                    yield version

        # more than are read at once: while these are, the others become still
        first = heapq.nsmallest(2 * _AT_ONCE, new(), _order)
        if self._context.stopping.is_set():
            return []
        if met:
            self._done.prune()
        self._seen = {version: self._seen.get(version, now) for version in first}
        still = [version for version in first if not self._watch or now - self._seen[version] >= self._settle]
        ready = still[:_AT_ONCE]
        for version in ready:
            del self._seen[version]
        return ready

    def _recording(self, version: Version) -> Iterator[Record | EndOfStream]:
        path = Path(version.path)
        end = functools.partial(EndOfStream, _name(path))
        given = False
        try:
            self._check_attempts(version)
            for record in self.windows(path):
                given = True
                yield record
                self._attempts.passed()
            if self._context.stopping.is_set():
                return
            changed = Version.of(path) != version
        except (RecordingError, OSError) as error:
            done = self._refused(version, error)
            if given:
                yield end(done)
            else:
                done()
            return
        if changed:
            _logger.warning("Recording %r has changed while it was read; it is read again.", _name(path))
            yield end()
            return
        self._context.counters.add("files_total")
        yield end(lambda: self._done.mark(version))

    def _check_attempts(self, version: Version) -> None:
        """Raises RecordingError where too many runs died in a recording."""
        deaths, windows = self._attempts.deaths(version)
        if 0 < self._most_attempts <= deaths:
            raise RecordingError(
                f"Recording {_name(Path(version.path))!r} is given up, as {deaths} runs in a row died at its window "
                f"{windows + 1}; it is left alone until it changes."
            )

    def _refused(self, version: Version, error: RecordingError | OSError) -> Callable[[], None]:
        """Tell why a recording cannot be read, and give what is to be done about it once its windows are through."""
        cause = error.__cause__
        if isinstance(cause, ImportError):  # not the recording's fault, and the same for all
            raise NodeError(str(error)) from error
        try:
            if Version.of(Path(version.path)) != version:
                return lambda: None  # another by now, which has its turn when it is still
        except OSError:
            return lambda: None
        self._context.counters.add("bad_files_total")
        _logger.warning("%s", printable(str(error)))
        if isinstance(error, OSError) or isinstance(cause, OSError):
            # no rights, or a disk that fails, which may be put right without a change of the file
            return lambda: self._done.pass_over(version)
        return lambda: self._done.mark(version, str(error))


def _order(version: Version) -> tuple[str, ...]:
    return Path(version.path).parts


def _name(path: Path) -> str:
    """The path as a stream's name."""
    return printable(str(path))
