"""Detections as text: JSON lines, CSV, Raven selection tables, Audacity labels, and a table to read.

A recording's name and a species' name are text from elsewhere: control characters are written as escapes, so that they
can neither break a line nor steer a terminal.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from labous.detect import Detection
from labous.errors import LabousError
from labous.frontend import Frontend

_FIELDS = [field.name for field in dataclasses.fields(Detection)]
_RAVEN = [
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
    "Begin Path", "Species Code", "Common Name", "Scientific Name", "Confidence",
]  # fmt: skip
_TABLE = "{:>9}  {:>9}  {:<10}  {:<28}  {:<28}  {:>5}\n"


class Writer:
    """Writes detections to one text stream, one recording after another.

    Attributes:
        suffix: how a file of this format ends.
        one_recording: whether the format holds a single recording, so that each needs a file of its own.
    """

    suffix = ""
    one_recording = False

    def __init__(self, out: TextIO, frontend: Frontend) -> None:
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
            text = json.dumps(_rounded(detection), ensure_ascii=False)
            # accents stay readable; what is not printable becomes JSON's own escape
            self._out.write("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text) + "\n")


class Csv(Writer):
    """Comma-separated values with a header (RFC 4180, with line feeds)."""

    suffix = ".csv"

    def begin(self) -> None:
        csv.writer(self._out, lineterminator="\n").writerow(_FIELDS)

    def write(self, recording: str, detections: Iterable[Detection]) -> None:
        writer = csv.writer(self._out, lineterminator="\n")
        for detection in detections:
            writer.writerow(printable(v) if isinstance(v, str) else v for v in _rounded(detection).values())


class Raven(Writer):
    """A selection table for Raven: tab-separated, a selection per detection over the front end's band."""

    suffix = ".selections.txt"
    one_recording = True

    def begin(self) -> None:
        self._out.write("\t".join(_RAVEN) + "\n")

    def write(self, recording: str, detections: Iterable[Detection]) -> None:
        low, high = self._frontend.f_min, self._frontend.f_max
        for number, d in enumerate(detections, 1):
            columns = (
                str(number), "Spectrogram 1", "1", f"{d.start:.3f}", f"{d.end:.3f}", f"{low:g}", f"{high:g}",
                recording, d.ebird_code, d.common_name, d.scientific_name, f"{d.score:.4f}",
            )  # fmt: skip
            self._out.write("\t".join(map(printable, columns)) + "\n")


class Audacity(Writer):
    """A label track for Audacity: start, end and text, tab-separated, without a header."""

    suffix = ".labels.txt"
    one_recording = True

    def write(self, recording: str, detections: Iterable[Detection]) -> None:
        for d in detections:
            self._out.write(f"{d.start:.6f}\t{d.end:.6f}\t{printable(d.common_name)} {d.score:.2f}\n")


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


def _rounded(detection: Detection) -> dict[str, object]:
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
