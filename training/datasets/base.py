"""What every source of recordings gives: labels, a table of recordings and, where there are any, labelled soundscapes.

Nothing after this room asks where a recording comes from: it reads the columns below and opens `path`.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from labous.errors import LabousError
from training.console import progress
from training.files import sha256_of_file, write_text

RECORDING_COLUMNS = ("recording_id", "path", "primary_label", "secondary_labels", "author", "rating", "license", "url")
SOUNDSCAPE_COLUMNS = ("row_id", "recording_id", "path", "start_seconds", "end_seconds", "labels")
TABLES = Path(__file__).resolve().parents[2] / "data" / "species"
HASHES = Path("data/raw/.hashes.json")  # in the working directory: a data set's own folder may be read-only
_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system: a younger file can change and keep its times
_UNREADABLE = "unreadable"  # in the place of a hash


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
    root: str | Path

    def fetch(self, progress: bool = True) -> None:
        """Make sure that the files are on disk; raises DatasetError with the way to get them where they cannot be."""

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
    said = "; ".join(f"{reason}: {some(codes)}" for reason, codes in sorted(by_reason.items()))
    where = "the species" if table is None else f"the species table {find_table(table)}"
    raise DatasetError(f"{where} asks for birds without a recording ({said}): correct the code or delete the line")


def some(names: Sequence[str], most: int = 8) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_spelling(authors: pd.Series) -> pd.Series:
    """Recordists with each person spelled one way, so that all recordings of one fall on one side of a split.

    White space is collapsed and Unicode composed (NFC); of spellings that differ in case alone, the first in sorting
    order stands for all.
    """
    tidy = authors.map(lambda author: unicodedata.normalize("NFC", " ".join(author.split())))
    return tidy.groupby(tidy.str.casefold()).transform("min")


def hash_tables(
    species: Sequence[Species], recordings: pd.DataFrame, soundscapes: pd.DataFrame, cache: Path = HASHES
) -> str:
    """Sha256 over labels, both tables and the bytes of every file: changes when, and only when, the data does.

    Paths and times are left out, so that a data set keeps its revision when it is moved or copied. `cache` is
    explained at :func:`hash_files`.
    """
    digest = hashlib.sha256()
    for label in species:
        digest.update(repr(label).encode())
    hashes = hash_files([*recordings["path"], *soundscapes["path"].unique()], cache)
    for table in (recordings, soundscapes):
        digest.update(table.drop(columns="path").to_csv(index=False, lineterminator="\n").encode())
        files = table.drop_duplicates("recording_id")
        for identifier, path in zip(files["recording_id"], files["path"], strict=True):
            digest.update(f"{identifier} {hashes[path]}\n".encode())
    return digest.hexdigest()


def hash_files(paths: Sequence[str], cache: Path) -> dict[str, str]:
    """Sha256 (hex) of the bytes of each file by its path; another word for files that cannot be read.

    The JSON file `cache` remembers hashes with the size, mtime and ctime of their files, so that only new and changed
    files are read. One that is damaged, or cannot be written, costs time and nothing else; files that are gone are
    forgotten. A file changed less than two seconds ago is not remembered: a second change might leave its times.
    """
    known = _read_hashes(cache)
    hashes: dict[str, str] = {}
    unread: dict[str, list[int]] = {}
    for path in paths:
        try:
            stat = Path(path).stat()
        except OSError:
            hashes[path] = _UNREADABLE
            continue
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        remembered = known.get(path)
        if remembered is not None and remembered[:-1] == state:
            hashes[path] = remembered[-1]
        else:
            unread[path] = state
    learned: dict[str, list[Any]] = {}
    try:
        for path, state in progress(unread.items(), "hashing", total=len(unread), unit="file"):
            now = time.time_ns()
            try:
                hashes[path] = sha256_of_file(Path(path))
            except OSError:
                hashes[path] = _UNREADABLE
                continue
            if now - max(state[1:]) > _SETTLED_NS:
                learned[path] = [*state, hashes[path]]
    finally:  # what was read before an interruption need not be read again
        if learned:
            kept = {path: entry for path, entry in known.items() if path in hashes or Path(path).exists()}
            with contextlib.suppress(OSError):
                write_text(cache, json.dumps(kept | learned))
    return hashes


def _read_hashes(cache: Path) -> dict[str, list[Any]]:
    """[size, mtime_ns, ctime_ns, sha256] by path; nothing where the file is missing or is not what it should be."""
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
        whole = all(len(entry) == 4 and len(entry[3]) == 64 for entry in known.values())
    except (OSError, ValueError, AttributeError, TypeError, LookupError):
        return {}
    return known if whole else {}
