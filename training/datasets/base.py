"""What every source of recordings gives: labels, a table of recordings and, where there are any, labelled soundscapes.

Nothing after this room asks where a recording comes from: it reads the columns below and opens `path`.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

import pandas as pd

from labous.errors import LabousError

RECORDING_COLUMNS = ("recording_id", "path", "primary_label", "secondary_labels", "author", "rating", "license", "url")
SOUNDSCAPE_COLUMNS = ("row_id", "recording_id", "path", "start_seconds", "end_seconds", "labels")
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


class Dataset(Protocol):
    """A source of recordings."""

    name: str
    synthetic: bool

    def fetch(self, progress: bool = True) -> None:
        """Make sure that the files are on disk; raises DatasetError with the way to get them where they cannot be."""

    def species(self) -> list[Species]:
        """The labels, sorted by ebird_code: the order of the logits."""

    def recordings(self) -> pd.DataFrame:
        """One row per recording of a species of the table, columns RECORDING_COLUMNS.

        `recording_id` is the path below the root with forward slashes, `path` absolute, `secondary_labels` a list of
        codes of the table, `author` the recordist (the key of grouped splits), `rating` 0 … 5 with 0 for unrated.
        """

    def soundscapes(self) -> pd.DataFrame:
        """One row per labelled window of a soundscape, columns SOUNDSCAPE_COLUMNS; empty where there are none.

        `start_seconds` and `end_seconds` are float, `labels` a sorted list of codes of the table, empty for none.
        """

    def revision(self) -> str:
        """Sha256 (hex) over what decides the data."""

    def notes(self) -> Notes:
        """What was left out on the way, for the report."""


@dataclass
class Notes:
    """What a loader left out: counted here rather than dropped in silence."""

    missing: list[str] = field(default_factory=list)  # recording ids in the metadata without a file on disk
    dropped_labels: Counter[str] = field(default_factory=Counter)  # secondary or soundscape labels outside the table


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
    return sorted((species for _, species in _numbered(table, tiers)), key=lambda species: species.ebird_code)


def table_lines(path: str | Path) -> dict[str, int]:
    """Line of each code in a species table, to point at it in a message."""
    return {species.ebird_code: line for line, species in _numbered(find_table(path), None)}


def _numbered(table: Path, tiers: Iterable[str] | None) -> list[tuple[int, Species]]:
    wanted = None if tiers is None else {str(tier) for tier in tiers}
    columns = [column.name for column in fields(Species)]
    rows: list[tuple[int, Species]] = []
    lines: dict[str, int] = {}
    seen_tiers: set[str] = set()
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            needed = columns if wanted is None else [*columns, "tier"]
            require_columns(table, reader.fieldnames or [], needed)
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
                tier = (row.get("tier") or "").strip()
                seen_tiers.add(tier)
                if wanted is None or tier in wanted:
                    rows.append((reader.line_num, Species(**values)))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{table} is not UTF-8 text (byte {error.start}): save it again as UTF-8") from error
    if wanted and wanted - seen_tiers:
        missing = ", ".join(sorted(wanted - seen_tiers))
        raise DatasetError(
            f"{table} has no species of tier {missing}: its tiers are {', '.join(sorted(seen_tiers)) or 'none'}"
        )
    if not rows:
        raise DatasetError(f"{table} has no species: give it at least one line, or ask for other tiers")
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
    said = "; ".join(f"{reason}: {_some(codes)}" for reason, codes in sorted(by_reason.items()))
    where = "the species" if table is None else f"the species table {find_table(table)}"
    raise DatasetError(f"{where} asks for birds without a recording ({said}): correct the code or delete the line")


def _some(names: Sequence[str], most: int = 8) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def hash_tables(species: Sequence[Species], recordings: pd.DataFrame, soundscapes: pd.DataFrame) -> str:
    """Sha256 over labels, both tables and the size of every file: changes when, and only when, the data does.

    Paths are left out, so that a data set keeps its revision when it is moved.
    """
    digest = hashlib.sha256()
    for label in species:
        digest.update(repr(label).encode())
    for table in (recordings, soundscapes):
        digest.update(table.drop(columns="path").to_csv(index=False, lineterminator="\n").encode())
        files = table.drop_duplicates("recording_id")
        for identifier, path in zip(files["recording_id"], files["path"], strict=True):
            digest.update(f"{identifier} {Path(path).stat().st_size}\n".encode())
    return digest.hexdigest()
