"""Weekly occurrence: eBird's bar charts of a region become the table from which a station knows what may be there.

docs/bundle.md says how to get such a file, and what becomes of its numbers.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import hashlib
import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous.detect import Label
from labous.formats import csv_line, printable
from labous.options import shown
from labous.station.occurrence import HEADER, WEEKS
from training.errors import ConfigError

_KEY = "bundle.occurrence"
_CHECKLISTS = "sample size"
_JANUARY = "Jan"
_MAX_BYTES = 64 * 2**20  # four times what every bird of the world would take
_MAX_CHECKLISTS = 10**9
# float() would take 1_0, inf and digits of other scripts as well
_NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_AGAIN = "download the histogram data from eBird again"


@dataclasses.dataclass(frozen=True)
class Source:
    """A bar chart's file, and the place it is taken to tell of, in degrees."""

    file: Path
    latitude: float
    longitude: float


@dataclasses.dataclass(frozen=True)
class BarChart:
    """What eBird tells of a region.

    Attributes:
        checklists: float64 [WEEKS], whole numbers.
        names: of each taxon, common and scientific; empty where it is not told.
        frequency: float64 [n_taxa, WEEKS], the share of checklists with it, 0 … 1.
    """

    checklists: NDArray[np.float64]
    names: tuple[tuple[str, str], ...]
    frequency: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Told:
    """What a bar chart gave: rows for so many ``species`` of the labels, none for the ``unknown``, named."""

    source: Source
    checklists: int
    species: int
    unknown: tuple[str, ...]

    def sentence(self) -> str:
        """For the person at the terminal; every label that got no row is named."""
        name, all_of_them = printable(str(self.source.file)), self.species + len(self.unknown)
        rest = f"; reported all year, as it has no line of them: {', '.join(self.unknown)}" if self.unknown else ""
        return f"{name}: {self.checklists:,} checklists, {self.species} of {all_of_them} species{rest}"

    def to_dict(self) -> dict[str, Any]:
        """For the manifest, ready for JSON; the file by its name alone, as its folder is nobody else's business."""
        place = {"latitude": self.source.latitude, "longitude": self.source.longitude}
        counts = {"checklists": self.checklists, "species": self.species}
        return {"file": printable(self.source.file.name), **place, **counts}


def sources(given: Any) -> tuple[Source, ...]:
    """The value of ``bundle.occurrence``, typed.

    Raises:
        ConfigError: it is no list of files with a place each, or a place is impossible or there twice.
    """
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise ConfigError(f"{_KEY} is {shown(given)}; give a list of {{file: …, latitude: …, longitude: …}}.")
    found = tuple(_source(f"{_KEY}[{n}]", value) for n, value in enumerate(given))
    places = collections.Counter((source.latitude, source.longitude) for source in found)
    for (latitude, longitude), count in places.items():
        if count > 1:
            raise ConfigError(f"{_KEY} has {count} files for the place {latitude:g}, {longitude:g}; give one for each.")
    return found


def _source(where: str, value: Any) -> Source:
    if isinstance(value, Source):
        return value
    names = [field.name for field in dataclasses.fields(Source)]
    if not isinstance(value, Mapping) or set(value) != set(names):
        raise ConfigError(f"{where} is {shown(value)}; give it {', '.join(names[:-1])} and {names[-1]}, nothing else.")
    if not isinstance(value["file"], str) or not value["file"]:
        raise ConfigError(f"{where}.file is {shown(value['file'])}; write a path.")
    for name, most in (("latitude", 90), ("longitude", 180)):
        degrees = value[name]
        if isinstance(degrees, bool) or not isinstance(degrees, int | float) or not -most <= degrees <= most:
            raise ConfigError(f"{where}.{name} is {shown(degrees)}; write degrees of -{most} to {most}.")
    return Source(Path(value["file"]), float(value["latitude"]), float(value["longitude"]))


def digest(given: Sequence[Source]) -> list[str]:
    """sha256 of each file, hex.

    Raises:
        ConfigError: one cannot be read.
    """
    return [hashlib.sha256(_content(source)).hexdigest() for source in given]


def read_all(given: Sequence[Source], least: int) -> list[BarChart]:
    """The bar chart of each source.

    Args:
        given: the files.
        least: checklists that a year must have.

    Raises:
        ConfigError: a file cannot be read, is no bar chart, or has too few checklists.
    """
    return [read_bar_chart(_content(source), str(source.file), least) for source in given]


def _content(source: Source) -> bytes:
    name = printable(str(source.file))
    try:
        if not source.file.is_file():  # a pipe would be waited for
            raise ConfigError(f"{_KEY} names {name}, and there is no such file; see docs/bundle.md for how to get it.")
        with source.file.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{_KEY}: {name} cannot be read ({error.strerror}); check the path.") from error
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{_KEY}: {name} has more than {_MAX_BYTES:,} bytes; that is no bar chart of eBird's.")
    return content


def read_bar_chart(content: bytes, name: str, least: int) -> BarChart:
    """What "Download Histogram Data" gives: some lines, the months, "Sample Size:", and a line for each taxon.

    Args:
        content: of the file, UTF-8, separated by tabs.
        name: of the file, for errors.
        least: checklists that the year must have.

    Raises:
        ConfigError: it is no such file, not of a whole year, damaged, or has too few checklists.
    """
    name = printable(name)
    checklists: list[float] | None = None
    names, frequency = [], []
    for line, cells in _lines(content, name):
        where = f"{name}: line {line}"
        if cells[0].casefold().startswith(_CHECKLISTS):
            if checklists is not None:
                raise ConfigError(f"{where} is a second {shown(cells[0])}; give each bar chart a file of its own.")
            checklists = [_checklists(cell, where) for cell in _numbers(cells, where)]
        elif checklists is not None:
            if not cells[0]:
                raise ConfigError(f"{where} names no species; {_AGAIN}.")
            numbers = zip(_numbers(cells, where), checklists, strict=True)
            frequency.append([_frequency(cell, count, where) for cell, count in numbers])
            names.append(_names(cells[0]))
        elif _JANUARY in cells[2:]:
            raise ConfigError(f"{where} begins the year with {shown(cells[1])}; choose January to December at eBird.")
    if checklists is None:
        raise ConfigError(f"{name} is no bar chart of eBird's: no line begins with Sample Size; {_AGAIN}.")
    if not names:
        raise ConfigError(f"{name} tells of no species; {_AGAIN}.")
    if sum(checklists) < least:
        raise ConfigError(
            f"{name} is of {sum(checklists):g} checklists in all, fewer than bundle.least_checklists ({least}); choose "
            "a larger region."
        )
    return BarChart(np.array(checklists), tuple(names), np.array(frequency))


def _lines(content: bytes, name: str) -> list[tuple[int, list[str]]]:
    """Those that are not blank, by number: cells without the blanks around them, and without tabs at the end."""
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter="\t")
        rows = [(reader.line_num, [" ".join(cell.split()) for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{name} is not UTF-8 text with tabs ({printable(str(error))}); {_AGAIN}.") from error
    lines = []
    for number, cells in rows:
        while len(cells) > WEEKS + 1 and not cells[-1]:
            cells.pop()
        if any(cells):
            lines.append((number, cells))
    return lines


def _numbers(cells: list[str], where: str) -> list[str]:
    if len(cells) != WEEKS + 1:
        raise ConfigError(f"{where} ({shown(cells[0])}) has {len(cells) - 1} numbers, not {WEEKS}; {_AGAIN}.")
    return cells[1:]


def _number(cell: str) -> float:
    return float(cell) if _NUMBER.fullmatch(cell) else math.nan


def _checklists(cell: str, where: str) -> float:
    count = _number(cell)
    if not (count <= _MAX_CHECKLISTS and count.is_integer()):
        raise ConfigError(f"{where} has {shown(cell)} where a number of checklists should be; {_AGAIN}.")
    return count


def _frequency(cell: str, checklists: float, where: str) -> float:
    if checklists == 0 and cell.casefold() in ("", "nan"):  # a share of nothing
        return 0.0
    value = _number(cell)
    if not value <= 1:
        raise ConfigError(f"{where} has {shown(cell)} where a frequency of 0 to 1 should be; {_AGAIN}.")
    return value


def _names(cell: str) -> tuple[str, str]:
    """Common and scientific name from ``Common (<em class="sci">Scientific</em>)``, without its markup, or either."""
    before, tag, after = cell.partition("<em")
    if tag:
        common, scientific = before.rstrip().removesuffix("("), after.partition(">")[2].partition("</em>")[0]
    else:
        # a group's name, Mallard (Domestic type), is not to become the species': what is common is the whole
        common, scientific = cell, cell.removesuffix(")").rpartition("(")[2] if cell.endswith(")") else ""
    return " ".join(html.unescape(common).split()), " ".join(html.unescape(scientific).split())


def weekly(chart: BarChart, least: int) -> NDArray[np.float64]:
    """How often each taxon is met, where weeks with few checklists lean on those around them.

    A week with fewer than ``least`` checklists is pooled with as many weeks before and after it, around the turn of the
    year too, as it takes to have so many. Its own frequency stands where it is higher: that a bird was seen counts
    always, that it was not only where enough people looked.

    Args:
        chart: of a region.
        least: at most the checklists of the year, which :func:`read_bar_chart` sees to.

    Returns:
        float64 [n_taxa, WEEKS].
    """
    checklists, frequency = chart.checklists, chart.frequency.copy()
    for week in range(WEEKS):
        reach, around = 0, [week]
        while checklists[around].sum() < least:
            reach += 1
            around = sorted({(week + step) % WEEKS for step in range(-reach, reach + 1)})
        if reach:
            pooled = chart.frequency[:, around] @ checklists[around] / checklists[around].sum()
            frequency[:, week] = np.maximum(frequency[:, week], pooled)
    return frequency


def rows_of(labels: Sequence[Label], names: Sequence[tuple[str, str]], where: str) -> list[int | None]:
    """For each label its taxon's row, None where there is none.

    By scientific name; else by common or French name, among the taxa whose scientific name is no label's. Only whole
    names count, so that what is not one species (``duck sp.``, slashes, hybrids, groups) is nobody's.

    Args:
        labels: the model's.
        names: of the taxa, common and scientific.
        where: the file, for errors.

    Raises:
        ConfigError: a species is there twice.
    """
    known = {label.scientific_name.casefold() for label in labels}
    by_name: dict[str, list[int]] = collections.defaultdict(list)
    for row, (common, scientific) in enumerate(names):
        by_name[(scientific if scientific.casefold() in known else common).casefold()].append(row)
    by_name.pop("", None)
    found: list[int | None] = []
    for label in labels:
        called = (label.scientific_name, label.common_name, label.french_name)
        rows = next((by_name[name.casefold()] for name in called if name.casefold() in by_name), [])
        if len(rows) > 1:
            raise ConfigError(f"{printable(where)} tells of {label.common_name} {len(rows)} times; {_AGAIN}.")
        found.append(rows[0] if rows else None)
    return found


def table(given: Sequence[Source], labels: Sequence[Label], least: int) -> tuple[bytes, list[Told]]:
    """occurrence.csv as :class:`labous.station.occurrence.Occurrence` reads it, and what each source gave.

    Args:
        given: the bar charts, one or more.
        labels: the model's; one that a bar chart does not tell of gets no row for its place.
        least: checklists below which a week leans on its neighbors, see :func:`weekly`.

    Raises:
        ConfigError: a file cannot be used, or tells of none of the labels.
    """
    lines, told = [csv_line(HEADER)], []
    for source, chart in zip(given, read_all(given, least), strict=True):
        frequency = weekly(chart, least)
        rows = rows_of(labels, chart.names, str(source.file))
        for label, row in zip(labels, rows, strict=True):
            if row is not None:
                weeks = (f"{value:.6g}" for value in frequency[row])
                lines.append(csv_line([label.ebird_code, source.latitude, source.longitude, *weeks]))
        unknown = tuple(label.common_name for label, row in zip(labels, rows, strict=True) if row is None)
        if len(unknown) == len(labels):
            raise ConfigError(
                f"{printable(str(source.file))} tells of none of the model's {len(labels)} species; check its names, "
                "which must be scientific, English or French."
            )
        told.append(Told(source, int(chart.checklists.sum()), len(labels) - len(unknown), unknown))
    return "".join(lines).encode(), told
