"""Detections as text: JSON lines, CSV, Raven selection tables, Audacity labels, and a table to read.

A recording's name and a species' name are text from elsewhere: control characters are written as escapes, so that they
can neither break a line nor steer a terminal.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from labous.detect import Detection
from labous.errors import LabousError
from labous.power_law import AnyFrontend

_FIELDS = [field.name for field in dataclasses.fields(Detection)]
_RAVEN = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
    "Begin Path", "Species Code", "Common Name", "Scientific Name", "Confidence",
)  # fmt: skip
RAVEN_HEADER = "\t".join(_RAVEN) + "\n"
_TABLE = "{:>9}  {:>9}  {:<10}  {:<28}  {:<28}  {:>5}\n"


class Writer:
    """Writes detections to one text stream, one recording after another.

    Attributes:
        suffix: how a file of this format ends.
        one_recording: whether the format holds a single recording, so that each needs a file of its own.
    """

    suffix = ""
    one_recording = False

    def __init__(self, out: TextIO, frontend: AnyFrontend) -> None:
        self._out = out
        self._frontend = frontend

    def begin(self) -> None:
        """Write what comes before the first recording."""

    def write(self, recording: str, detections: Iterable[Detection]) -> None:
        """Write a recording's detections, in their order."""
        raise NotImplementedError


class Jsonl(Writer):
    """A JSON object per line."""

    suffix = ".jsonl"

    def write(self, recording: str, detections: Iterable[Detection]) -> None:
        for detection in detections:
            self._out.write(json_line(rounded(detection)))


class Csv(Writer):
    """Comma-separated values with a header (RFC 4180, with line feeds)."""

    suffix = ".csv"

    def begin(self) -> None:
        self._out.write(csv_line(_FIELDS))

    def write(self, recording: str, detections: Iterable[Detection]) -> None:
        for detection in detections:
            self._out.write(csv_line(rounded(detection).values()))


class Raven(Writer):
    """A selection table for Raven: tab-separated, a selection per detection over the front end's band."""

    suffix = ".selections.txt"
    one_recording = True

    def begin(self) -> None:
        self._out.write(RAVEN_HEADER)

    def write(self, recording: str, detections: Iterable[Detection]) -> None:
        for number, detection in enumerate(detections, 1):
            self._out.write(raven_line(number, recording, detection, self._frontend))


class Audacity(Writer):
    """A label track for Audacity: start, end and text, tab-separated, without a header."""

    suffix = ".labels.txt"
    one_recording = True

    def write(self, recording: str, detections: Iterable[Detection]) -> None:
        for detection in detections:
            self._out.write(audacity_line(detection))


class Table(Writer):
    """Columns to read, a heading per recording."""

    suffix = ".txt"

    def write(self, recording: str, detections: Iterable[Detection]) -> None:
        self._out.write(f"{printable(recording)}\n")
        rows = [
            _TABLE.format(
                f"{d.start:.2f}",
                f"{d.end:.2f}",
                *map(printable, (d.ebird_code, d.common_name, d.french_name)),
                f"{d.score:.2f}",
            )
            for d in detections
        ]
        header = _TABLE.format("start s", "end s", "code", "name", "nom", "score")
        self._out.write(header + "".join(rows) if rows else "  nothing above the thresholds\n")


FORMATS: dict[str, type[Writer]] = {"table": Table, "jsonl": Jsonl, "csv": Csv, "raven": Raven, "audacity": Audacity}


def printable(text: str) -> str:
    """The text with each control character, line break and lone surrogate as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def json_line(values: Mapping[str, object]) -> str:
    """An object of JSON and a line feed; accents stay readable, what is not printable becomes JSON's own escape."""
    text = json.dumps(values, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text) + "\n"


def csv_line(values: Iterable[object]) -> str:
    """A row of a CSV table, its texts printable."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow(printable(v) if isinstance(v, str) else v for v in values)
    return out.getvalue()


def raven_line(number: int, recording: str, detection: Detection, frontend: AnyFrontend) -> str:
    """A row of a Raven selection table: the ``number``-th selection, over the front end's band."""
    d, (lowest, highest) = detection, frontend.band
    columns = (
        str(number), "Spectrogram 1", "1", f"{d.start:.3f}", f"{d.end:.3f}", f"{lowest:g}", f"{highest:g}", recording,
        d.ebird_code, d.common_name, d.scientific_name, f"{d.score:.4f}",
    )  # fmt: skip
    return "\t".join(map(printable, columns)) + "\n"


def audacity_line(detection: Detection) -> str:
    """A label of an Audacity label track."""
    return f"{detection.start:.6f}\t{detection.end:.6f}\t{printable(detection.common_name)} {detection.score:.2f}\n"


def rounded(detection: Detection) -> dict[str, object]:
    """A detection's fields; times to the microsecond, the score to six digits."""
    values = dataclasses.asdict(detection)
    for name in ("start", "end", "score"):
        values[name] = round(values[name], 6)
    return values


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file (UTF-8, line feeds) written beside its place and renamed into it when the block ends well.

    Raises:
        LabousError: the file cannot be written.
    """
    beside = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = beside.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise LabousError(f"Cannot write {str(path)!r}: {error.strerror}.") from error
    try:
        with handle:
            yield handle
        beside.replace(path)
    except OSError as error:
        raise LabousError(f"Cannot write {str(path)!r}: {error.strerror}.") from error
    finally:
        beside.unlink(missing_ok=True)
