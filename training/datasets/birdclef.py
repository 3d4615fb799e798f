"""BirdCLEF 2021 as the competition lays it out on disk; the demo is written, and read, in the same layout."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from training.datasets.base import (
    RECORDING_COLUMNS,
    SOUNDSCAPE_COLUMNS,
    DatasetError,
    Notes,
    Species,
    hash_tables,
    one_spelling,
    read_species_table,
    require_columns,
    require_directory,
    require_recordings,
)

AUDIO = "train_short_audio"
SOUNDSCAPES = "train_soundscapes"
METADATA = "train_metadata.csv"
SOUNDSCAPE_LABELS = "train_soundscape_labels.csv"
METADATA_COLUMNS = (
    "primary_label",
    "secondary_labels",
    "type",
    "latitude",
    "longitude",
    "scientific_name",
    "common_name",
    "author",
    "date",
    "filename",
    "license",
    "rating",
    "time",
    "url",
)
USED_COLUMNS = ("primary_label", "secondary_labels", "author", "filename", "license", "rating", "url")
LABEL_COLUMNS = ("row_id", "site", "audio_id", "seconds", "birds")
LABEL_SECONDS = 5.0  # each row of the labels is a window of this length that ends at its `seconds`
ALIASES = {"rocpig1": "rocpig"}  # secondary labels use the code of the feral pigeon's group
NO_CALL = "nocall"
HOW_TO_GET = (
    "accept the competition's rules, then get it with "
    "`kaggle competitions download -c birdclef-2021 -p DIR`, unzip it and set dataset.root=DIR"
)


@dataclass(frozen=True)
class Region:
    """Species of which only recordings inside a box of coordinates are kept.

    For labels under which the competition mixes birds of two continents that sound different. A recording without
    coordinates is kept: it cannot be told.
    """

    codes: Sequence[str]
    latitude: Sequence[float]  # degrees north: lowest, highest
    longitude: Sequence[float]  # degrees east: lowest, highest

    def outside(self, metadata: pd.DataFrame) -> pd.Series:
        """Boolean per row of train_metadata.csv: to be left out."""
        latitude = pd.to_numeric(metadata["latitude"], errors="coerce")
        longitude = pd.to_numeric(metadata["longitude"], errors="coerce")
        inside = latitude.between(self.latitude[0], self.latitude[1]) & longitude.between(
            self.longitude[0], self.longitude[1]
        )
        return metadata["primary_label"].isin(list(self.codes)) & latitude.notna() & longitude.notna() & ~inside


class BirdClef2021:
    """The competition's folder, or any folder in its layout (soundscapes may be absent).

    :param root: folder that holds train_short_audio/ and train_metadata.csv
    :param species: path of a species table, or the name of one in data/species/
    :param tiers: keep only these tiers of the table; all of them when None
    :param codes: keep only these codes of the table; all of them when None
    :param min_rating: leave out recordings rated below it; unrated ones (0) stay out too as soon as it is positive
    :param region: arguments of :class:`Region`; None keeps every recording
    """

    def __init__(
        self,
        root: str | Path,
        species: str | Path,
        *,
        tiers: Sequence[str] | None = None,
        codes: Sequence[str] | None = None,
        min_rating: float = 0.0,
        region: Mapping[str, Any] | None = None,
        name: str = "birdclef2021",
        synthetic: bool = False,
    ) -> None:
        self.root = Path(root)
        self.table = species
        self.tiers = tiers
        self.codes = codes
        self.min_rating = float(min_rating)
        self.region = None if region is None else Region(**region)
        self.name = name
        self.synthetic = synthetic

    def fetch(self, progress: bool = True) -> None:
        """Check the layout. The competition's rules must be accepted by hand, so nothing is downloaded here."""
        require_directory(self.root, HOW_TO_GET)
        for needed in (METADATA, AUDIO):
            if not (self.root / needed).exists():
                raise DatasetError(f"{self.root} has no {needed}: it is not a BirdCLEF 2021 folder; {HOW_TO_GET}")

    def species(self) -> list[Species]:
        return list(self._species)

    def recordings(self) -> pd.DataFrame:
        return self._recordings[0].copy()

    def soundscapes(self) -> pd.DataFrame:
        return self._soundscapes[0].copy()

    def revision(self) -> str:
        return hash_tables(self._species, self._recordings[0], self._soundscapes[0])

    def notes(self) -> Notes:
        noted = self._recordings[1]
        return replace(noted, missing=[*noted.missing], dropped_labels=noted.dropped_labels + self._soundscapes[1])

    @cached_property
    def _species(self) -> list[Species]:
        table = read_species_table(self.table, self.tiers)
        return [label for label in table if self.codes is None or label.ebird_code in self.codes]

    @cached_property
    def _codes(self) -> frozenset[str]:
        return frozenset(label.ebird_code for label in self._species)

    @cached_property
    def _recordings(self) -> tuple[pd.DataFrame, Notes]:
        self.fetch()
        path = self.root / METADATA
        metadata = _read_csv(path)
        needed = USED_COLUMNS if self.region is None else (*USED_COLUMNS, "latitude", "longitude")
        require_columns(path, list(metadata.columns), needed)
        if metadata.empty:
            raise DatasetError(f"{path} lists no recording: {HOW_TO_GET}")
        reasons: dict[str, str] = {}
        rows = metadata[metadata["primary_label"].isin(self._codes)].copy()
        rows["line"] = rows.index + 2
        rows["rating"] = pd.to_numeric(rows["rating"], errors="coerce").fillna(0.0)
        rows = _keep(
            rows,
            rows["rating"] >= self.min_rating,
            reasons,
            f"no recording rated {self.min_rating:g} or more",
        )
        if self.region is not None:
            rows = _keep(rows, ~self.region.outside(rows), reasons, "all recordings from outside dataset.region")
        rows["recording_id"] = [
            f"{AUDIO}/{code}/{file}" for code, file in zip(rows["primary_label"], rows["filename"], strict=True)
        ]
        on_disk = {
            f"{AUDIO}/{code}/{file.name}" for code in self._codes for file in (self.root / AUDIO / code).glob("*")
        }
        present = rows["recording_id"].isin(on_disk)
        missing = sorted(rows.loc[~present, "recording_id"])
        rows = _keep(rows, present, reasons, f"no file below {self.root / AUDIO}")
        require_recordings(rows, self._species, reasons, self.table)

        dropped: Counter[str] = Counter()
        labels = []
        for line, text, primary in zip(rows["line"], rows["secondary_labels"], rows["primary_label"], strict=True):
            codes = [ALIASES.get(code, code) for code in _code_list(path, line, text)]
            dropped.update(code for code in codes if code not in self._codes)
            labels.append(sorted({code for code in codes if code in self._codes and code != primary}))
        rows["secondary_labels"] = pd.Series(labels, index=rows.index, dtype=object)
        root = self.root.resolve()
        rows["path"] = [str(root / identifier) for identifier in rows["recording_id"]]
        rows = rows.drop_duplicates("recording_id").sort_values("recording_id", ignore_index=True)
        rows["author"] = one_spelling(rows["author"])
        nobody = rows["author"] == ""
        rows.loc[nobody, "author"] = "unknown " + rows.loc[nobody, "recording_id"]
        noted = Notes(missing=missing, dropped_labels=dropped, unknown_recordists=int(nobody.sum()))
        return rows[list(RECORDING_COLUMNS)], noted

    @cached_property
    def _soundscapes(self) -> tuple[pd.DataFrame, Counter[str]]:
        path = self.root / SOUNDSCAPE_LABELS
        dropped: Counter[str] = Counter()
        if not path.is_file():
            return pd.DataFrame(columns=list(SOUNDSCAPE_COLUMNS)), dropped
        table = _read_csv(path)
        require_columns(path, list(table.columns), LABEL_COLUMNS)
        files = {"_".join(file.stem.split("_")[:2]): file for file in (self.root / SOUNDSCAPES).glob("*.ogg")}
        rows = []
        cells = zip(*(table[column] for column in LABEL_COLUMNS), strict=True)
        for line, (row_id, site, audio_id, seconds, birds) in enumerate(cells, start=2):
            file = files.get(f"{audio_id}_{site}")
            if file is None:
                raise DatasetError(
                    f"{path}, line {line}: there is no {audio_id}_{site}_*.ogg in {self.root / SOUNDSCAPES}: "
                    f"put the file there or delete its rows"
                )
            try:
                end = float(seconds)
            except ValueError:
                raise DatasetError(
                    f"{path}, line {line}: seconds is {seconds!r}: write the window's end in seconds"
                ) from None
            codes = [ALIASES.get(code, code) for code in birds.split() if code != NO_CALL]
            dropped.update(code for code in codes if code not in self._codes)
            labels = sorted({code for code in codes if code in self._codes})
            identifier = f"{SOUNDSCAPES}/{file.name}"
            rows.append((row_id, identifier, str(file.resolve()), end - LABEL_SECONDS, end, labels))
        frame = pd.DataFrame(rows, columns=list(SOUNDSCAPE_COLUMNS))
        return frame.sort_values(["recording_id", "start_seconds"], ignore_index=True), dropped


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV as text, cell by cell: nothing is guessed, and a bird called NA stays one."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as CSV ({str(error).strip()}): get it again") from error


def _keep(rows: pd.DataFrame, keep: pd.Series, reasons: dict[str, str], reason: str) -> pd.DataFrame:
    """Rows with `keep`; a species that loses its last one here has `reason` to be without."""
    kept = rows[keep].copy()
    for code in set(rows["primary_label"]) - set(kept["primary_label"]):
        reasons[code] = reason
    return kept


def _code_list(path: Path, line: int, text: str) -> list[str]:
    """The codes in a Python list literal such as "['houspa', 'eursta']"."""
    try:
        codes = ast.literal_eval(text) if text.strip() else []
    except (ValueError, SyntaxError):
        codes = None
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise DatasetError(f"{path}, line {line}: secondary_labels is {text!r}: write a list such as [] or ['houspa']")
    return codes
