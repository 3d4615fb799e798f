"""jsonl, csv, raven and audacity: observations as lines of files that people and programs read."""

from __future__ import annotations

import abc
import dataclasses
import datetime
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from labous import formats
from labous.detect import Detection
from labous.nodes import Context, Record
from labous.options import option
from labous.power_law import AnyFrontend
from labous.station.files import digits_of, safe_name
from labous.station.lines import LineFiles
from labous.station.observations import Observation, timestamp

_MEGABYTE = 1_000_000
_STREAMS = r"[A-Za-z0-9._-]*-[0-9a-f]{8}"  # stems of the files that have a stream each
_ID_DIGITS = 16  # enough for no two recordings to have the same
_COLUMNS = ("id", "time", *(field.name for field in dataclasses.fields(Detection)), "windows", "identified_by")


@dataclasses.dataclass(frozen=True)
class _Options:
    path: str | None = option(
        "folder of the files, relative to the pipeline file; if left out, `tables` in the station's state directory",
        None,
        least=1,
        names="writes",
    )
    megabytes: float = option("size at which a file is full and the next one begins, MB", 20.0, above=0)
    keep: int | None = option(
        "how many files are kept, the newest; the others are deleted. All, if left out", None, minimum=1
    )
    input: str = option("column that it reads", "observations", least=1)

    def files(self, context: Context, node: str, stems: str, suffix: str, header: str) -> LineFiles:
        folder = context.state / "tables" if self.path is None else context.path(self.path)
        return LineFiles(context, node, folder, stems, suffix, header, int(self.megabytes * _MEGABYTE), self.keep)


@dataclasses.dataclass(frozen=True)
class _DatedOptions(_Options):
    prefix: str = option(
        "letters, digits, dots, dashes and underscores with which the files' names begin",
        "detections",
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
    )
    rotate: str = option(
        "when a new file begins: with each day, in UTC, that the detections are of, and when one is full; or only "
        "when one is full",
        "day",
        choices=("day", "size"),
    )

    @property
    def stems(self) -> str:
        return re.escape(self.prefix) + (r"-\d{4}-\d\d-\d\d" if self.rotate == "day" else "")


@dataclasses.dataclass(frozen=True)
class JsonLines(_DatedOptions):
    """Observations as JSON, a line each, in files named by day: ``detections-2026-05-01.jsonl``.

    A row has the keys of ``labous analyze``, and ``id``, ``time`` (when it begins, in UTC), ``windows`` (in how many
    of the last ones it was heard) and ``identified_by``. A recording that is analyzed again, as after a power cut,
    gives the same ``id`` again.
    """

    def open(self, context: Context) -> _Dated:
        """The node.

        Raises:
            NodeError: nothing can be written into the folder.
        """
        return _JsonLines(self, self.files(context, "jsonl", self.stems, ".jsonl", ""))


@dataclasses.dataclass(frozen=True)
class Csv(_DatedOptions):
    """Observations as a CSV table with a header, in files named by day: ``detections-2026-05-01.csv``.

    Its columns are the keys of ``jsonl``.
    """

    def open(self, context: Context) -> _Dated:
        """The node.

        Raises:
            NodeError: nothing can be written into the folder.
        """
        return _Csv(self, self.files(context, "csv", self.stems, ".csv", formats.csv_line(_COLUMNS)))


@dataclasses.dataclass(frozen=True)
class Raven(_Options):
    """A selection table for Raven of each recording, or of each time that a live source begins.

    Times are from there. The file's name is the recording's, when it began, and eight digits that tell it from others
    of that name. Where nobody knows when it began, the first digits of the ``id`` of what was first heard in it stand
    for that. A recording that is analyzed again has the same name again, and its table is made anew.
    """

    def open(self, context: Context) -> _Raven:
        """The node.

        Raises:
            NodeError: nothing can be written into the folder.
        """
        files = self.files(context, "raven", _STREAMS, formats.Raven.suffix, formats.RAVEN_HEADER)
        return _Raven(self, files, context.bundle.frontend)


@dataclasses.dataclass(frozen=True)
class Audacity(_Options):
    """A label track for Audacity of each recording, or of each time that a live source begins.

    Times, and the files' names, are as those of ``raven``.
    """

    def open(self, context: Context) -> _Audacity:
        """The node.

        Raises:
            NodeError: nothing can be written into the folder.
        """
        files = self.files(context, "audacity", _STREAMS, formats.Audacity.suffix, "")
        return _Audacity(self, files, context.bundle.frontend)


class _Node(abc.ABC):
    def __init__(self, options: _Options, files: LineFiles) -> None:
        self._input, self._files = options.input, files
        self.close = files.close

    def process(self, record: Record) -> Iterator[Record]:
        """The record, its observations written."""
        self._files.settle()
        observations = record.columns[self._input]
        if observations:
            self._write(record, observations)
        yield record

    def end(self, stream: str) -> tuple[Record, ...]:
        """Nothing is held back, and all is on disk.

        Raises:
            NodeError: it is not, and the station is to stop.
        """
        self._files.finish()
        return ()

    @abc.abstractmethod
    def _write(self, record: Record, observations: Sequence[Observation]) -> None: ...


class _Dated(_Node):
    def __init__(self, options: _DatedOptions, files: LineFiles) -> None:
        super().__init__(options, files)
        self._prefix, self._by_day = options.prefix, options.rotate == "day"

    def _write(self, record: Record, observations: Sequence[Observation]) -> None:
        stem = self._prefix
        if self._by_day:
            time = record.time or datetime.datetime.now(datetime.timezone.utc)
            stem += f"-{time.astimezone(datetime.timezone.utc):%Y-%m-%d}"
        self._files.put(stem, "".join(self._line(_row(observation)) for observation in observations))

    @abc.abstractmethod
    def _line(self, row: dict[str, object]) -> str: ...


class _JsonLines(_Dated):
    def _line(self, row: dict[str, object]) -> str:
        return formats.json_line(row)


class _Csv(_Dated):
    def _line(self, row: dict[str, object]) -> str:
        return formats.csv_line(row.values())


class _PerStream(_Node):
    def __init__(self, options: _Options, files: LineFiles, frontend: AnyFrontend) -> None:
        super().__init__(options, files)
        self._frontend = frontend
        self._stems: dict[str, str] = {}
        self._lines: dict[str, int] = {}

    def end(self, stream: str) -> tuple[Record, ...]:
        """As of any; the stream of that name that comes next gets a file of its own."""
        self._stems.pop(stream, None)
        self._lines.pop(stream, None)
        return super().end(stream)

    def _write(self, record: Record, observations: Sequence[Observation]) -> None:
        stream, anew = record.stream, record.stream not in self._stems
        if anew:
            self._stems[stream], self._lines[stream] = self._stem(record, observations[0]), 0
        lines = [self._line(self._lines[stream] + number, seen) for number, seen in enumerate(observations, 1)]
        self._lines[stream] += len(lines)
        self._files.put(self._stems[stream], "".join(lines), anew)

    def _stem(self, record: Record, first: Observation) -> str:
        if record.time is None:
            when = first.id.replace("-", "")[:_ID_DIGITS]  # which comes of the sound itself
        else:
            begun = record.time - datetime.timedelta(seconds=record.start / self._frontend.sample_rate)
            when = f"{begun.astimezone(datetime.timezone.utc):%Y%m%dT%H%M%SZ}"
        name = safe_name(PurePath(record.stream).name or "stream")
        return f"{name}-{when}-{digits_of(record.stream)}"

    @abc.abstractmethod
    def _line(self, number: int, observation: Observation) -> str: ...


class _Raven(_PerStream):
    def _line(self, number: int, observation: Observation) -> str:
        detection = observation.detection
        return formats.raven_line(number, detection.recording, detection, self._frontend)


class _Audacity(_PerStream):
    def _line(self, number: int, observation: Observation) -> str:
        return formats.audacity_line(observation.detection)


def _row(observation: Observation) -> dict[str, object]:
    return {
        "id": observation.id,
        "time": None if observation.time is None else timestamp(observation.time),
        **formats.rounded(observation.detection),
        "windows": observation.hits,
        "identified_by": observation.identified_by,
    }
