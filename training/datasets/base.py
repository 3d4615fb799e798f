"""What every source of recordings gives: labels, a table of recordings and, where there are any, labelled soundscapes.

Nothing after this room asks where a recording comes from: it reads the columns below and opens `path`.
"""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

import pandas as pd

from labous.errors import LabousError

RECORDING_COLUMNS = ("recording_id", "path", "primary_label", "secondary_labels", "author", "rating", "license", "url")
SOUNDSCAPE_COLUMNS = ("row_id", "recording_id", "path", "start_seconds", "end_seconds", "labels")
BACKGROUND_COLUMNS = ("recording_id", "path", "start_seconds", "end_seconds", "author")
REMOVED_COLUMNS = ("recording_id", "rule", "detail")
BOX_COLUMNS = ("latitude_min", "latitude_max", "longitude_min", "longitude_max")
TABLES = Path(__file__).resolve().parents[2] / "data" / "species"


class DatasetError(LabousError):
    """A data set or a species table that is missing, empty or does not fit the other."""


@dataclass(frozen=True)
class Species:
    """One label of the classifier."""

    ebird_code: str
    scientific_name: str
    common_name: str
    french_name: str


@dataclass(frozen=True)
class Box:
    """Degrees north and east between which recordings of a species are kept.

    For labels that mix birds of two continents which sound different.
    """

    latitude_min: float
    latitude_max: float
    longitude_min: float
    longitude_max: float


class Dataset(Protocol):
    """A source of recordings."""

    name: str
    synthetic: bool
    root: str | Path

    def fetch(self, progress: bool = True) -> None:
        """Make sure that the files are on disk; raises DatasetError with the way to get them where they cannot be.

        Only here anything is downloaded: the other methods read what is there, and raise DatasetError for nothing.
        """

    def species(self) -> list[Species]:
        """The labels, sorted by ebird_code: the order of the logits."""

    def recordings(self) -> pd.DataFrame:
        """One row per recording of a species of the table, columns RECORDING_COLUMNS.

        `recording_id` is the path below the root with forward slashes, `path` absolute, `secondary_labels` a list of
        codes of the table, `author` the recordist in one spelling (the key of grouped splits), or "unknown " and the
        recording_id where nobody is named, `rating` 0 … 5 with 0 for unrated.
        """

    def soundscapes(self) -> pd.DataFrame:
        """One row per labelled window of a soundscape, columns SOUNDSCAPE_COLUMNS; empty where there are none.

        `start_seconds` and `end_seconds` are float, `labels` a sorted list of codes of the table, empty for none.
        """

    def backgrounds(self) -> pd.DataFrame:
        """One row per stretch of sound without any bird of the table, columns BACKGROUND_COLUMNS; empty for none.

        Whole files have `start_seconds` 0 and `end_seconds` NaN. `recording_id` is the path below the root, or the
        absolute path of a file outside it. `author` is what may not be on both sides of a split: the file itself, which
        for a stretch of a soundscape is the soundscape.
        """

    def removed(self) -> pd.DataFrame:
        """One row per recording of a species of the table that a rule left out, columns REMOVED_COLUMNS."""

    def revision(self) -> str:
        """Sha256 (hex) over what decides the data: what the files hold and are called, not where or how old they are.

        Of a data set that is made, what it is made from: see DemoDataset.
        """

    def notes(self) -> Notes:
        """What was left out on the way, for the report."""


@dataclass
class Notes:
    """What a loader left out or had to guess: counted here rather than dropped in silence."""

    missing: list[str] = field(default_factory=list)  # recording ids in the metadata without a file on disk
    unreadable: list[str] = field(default_factory=list)  # recording ids of audio that soundfile has no format for
    dropped_labels: Counter[str] = field(default_factory=Counter)  # secondary or soundscape labels outside the table
    removed: dict[str, dict[str, int]] = field(default_factory=dict)  # rule → species → recordings it left out
    unknown_recordists: int = 0  # recordings of nobody known: the split takes each for a recordist of its own


def find_table(species: str | Path) -> Path:
    """The CSV meant by a path, or by the name of one of the tables in data/species/."""
    path = Path(species)
    for candidate in (path, TABLES / path, TABLES / f"{path}.csv"):
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(table.stem for table in TABLES.glob("*.csv")))
    raise DatasetError(
        f"no species table at {path}: give the path of a CSV or the name of a table in data/species ({known})"
    )


def read_species_table(path: str | Path, tiers: Iterable[str] | None = None) -> list[Species]:
    """Species of a CSV with the columns of Species, sorted by code; `tiers` keeps those rows of its column `tier`.

    Other columns are allowed. Raises DatasetError for a missing table or column, an empty cell, a code given twice,
    a tier that no row has, and a table without rows.
    """
    table = find_table(path)
    rows = _rows(table)
    if tiers is not None:
        require_columns(table, list(rows[0][2]), ["tier"])
        wanted, there = {str(tier) for tier in tiers}, {(row["tier"] or "").strip() for _, _, row in rows}
        if not wanted <= there:
            missing = ", ".join(sorted(wanted - there))
            raise DatasetError(f"{table} has no species of tier {missing}: its tiers are {', '.join(sorted(there))}")
        rows = [(line, species, row) for line, species, row in rows if (row["tier"] or "").strip() in wanted]
    if not rows:
        raise DatasetError(f"{table} has no species: dataset.tiers is empty")
    return sorted((species for _, species, _ in rows), key=lambda species: species.ebird_code)


def read_boxes(path: str | Path) -> dict[str, Box]:
    """Boxes of the species that have one, by code, from the columns BOX_COLUMNS of a species table.

    A table without these columns has none. Raises DatasetError for a box with an edge missing, that is no number, or
    below the opposite one.
    """
    table = find_table(path)
    boxes: dict[str, Box] = {}
    for line, species, row in _rows(table):
        edges = [(row.get(column) or "").strip() for column in BOX_COLUMNS]
        if not any(edges):
            continue
        try:
            box = Box(*(float(edge) for edge in edges))
        except ValueError:
            raise DatasetError(
                f"{table}, line {line}: the box of {species.ebird_code} needs a number of degrees in each of "
                f"{', '.join(BOX_COLUMNS)}, or none in all of them"
            ) from None
        if not (box.latitude_min < box.latitude_max and box.longitude_min < box.longitude_max):
            raise DatasetError(
                f"{table}, line {line}: the box of {species.ebird_code} has its edges the wrong way round"
            )
        boxes[species.ebird_code] = box
    return boxes


def read_aliases(path: str | Path) -> dict[str, str]:
    """Other codes that mean a species of the table, from its column `aliases` (codes separated by spaces)."""
    aliases: dict[str, str] = {}
    table = find_table(path)
    rows = _rows(table)
    codes = {species.ebird_code for _, species, _ in rows}
    for line, species, row in rows:
        for alias in (row.get("aliases") or "").split():
            if alias in codes or alias in aliases:
                raise DatasetError(f"{table}, line {line}: the alias {alias} already means another species")
            aliases[alias] = species.ebird_code
    return aliases


def read_column(path: str | Path, column: str) -> dict[str, str]:
    """Cells of an optional column of a species table, by code, empty ones left out."""
    rows = _rows(find_table(path))
    return {label.ebird_code: cell for _, label, row in rows if (cell := (row.get(column) or "").strip())}


def table_lines(path: str | Path) -> dict[str, int]:
    """Line of each code in a species table, to point at it in a message."""
    return {species.ebird_code: line for line, species, _ in _rows(find_table(path))}


def _rows(table: Path) -> list[tuple[int, Species, dict[str, str]]]:
    """Line, species and all cells of each row of a table."""
    columns = [column.name for column in fields(Species)]
    rows: list[tuple[int, Species, dict[str, str]]] = []
    lines: dict[str, int] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            require_columns(table, reader.fieldnames or [], columns)
            for row in reader:
                values = {column: (row[column] or "").strip() for column in columns}
                empty = [column for column, value in values.items() if not value]
                if empty:
                    raise DatasetError(
                        f"{table}, line {reader.line_num}: no {empty[0]}: fill the cell or delete the line"
                    )
                code = values["ebird_code"]
                if code in lines:
                    raise DatasetError(
                        f"{table}, lines {lines[code]} and {reader.line_num}: {code} is there twice: delete one"
                    )
                lines[code] = reader.line_num
                rows.append((reader.line_num, Species(**values), row))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{table} is not UTF-8 text (byte {error.start}): save it again as UTF-8") from error
    if not rows:
        raise DatasetError(f"{table} has no species: give it at least one line")
    return rows


def require_columns(path: Path, have: Sequence[str], need: Iterable[str]) -> None:
    """Raise DatasetError naming the columns of `need` that a CSV lacks."""
    missing = [column for column in need if column not in have]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise DatasetError(
            f"{path} has no column{plural} {', '.join(missing)}: it has {', '.join(have) or 'no header line'}"
        )


def require_directory(root: Path, how_to_get: str) -> None:
    """Raise DatasetError unless `root` is a folder with something in it; `how_to_get` ends the sentence."""
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetError(f"the data set's folder {root} {what}: {how_to_get}")
    if next(root.iterdir(), None) is None:
        raise DatasetError(f"the data set's folder {root} is empty: {how_to_get}")


def require_recordings(
    recordings: pd.DataFrame, species: Sequence[Species], reasons: dict[str, str], table: str | Path | None
) -> None:
    """Raise DatasetError naming the species left without a single recording, why, and their lines in the table."""
    have = set(recordings["primary_label"])
    empty = [label.ebird_code for label in species if label.ebird_code not in have]
    if not empty:
        return
    lines = {} if table is None else table_lines(table)
    by_reason: dict[str, list[str]] = defaultdict(list)
    for code in empty:
        line = f" (line {lines[code]})" if code in lines else ""
        by_reason[reasons.get(code, "the data set does not have")].append(code + line)
    said = "; ".join(f"{reason}: {some(codes)}" for reason, codes in sorted(by_reason.items()))
    where = "the species" if table is None else f"the species table {find_table(table)}"
    raise DatasetError(f"{where} asks for birds without a recording ({said}): correct the code or delete the line")


def some(names: Sequence[str], most: int = 8) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


UNKNOWN = "unknown "  # before the recording_id, in the place of a recordist whom nobody names


def recordists(authors: pd.Series, recording_ids: pd.Series) -> pd.Series:
    """The column `author`: recordists in one spelling, and UNKNOWN with the recording_id for the nameless."""
    found = zip(one_spelling(authors), recording_ids, strict=True)
    return pd.Series([name or UNKNOWN + identifier for name, identifier in found], index=authors.index, dtype=object)


def one_spelling(authors: pd.Series) -> pd.Series:
    """Recordists with each person spelled one way, so that all recordings of one fall on one side of a split.

    White space is collapsed and Unicode composed (NFC); of spellings that differ in case alone, the first in sorting
    order stands for all.
    """
    tidy = authors.map(lambda author: unicodedata.normalize("NFC", " ".join(author.split())))
    return tidy.groupby(tidy.str.casefold()).transform("min")
