"""BirdCLEF 2021 as the competition lays it out on disk; the demo is written, and read, in the same layout."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from training.datasets.backgrounds import background_files, joined, silent_stretches
from training.datasets.base import (
    RECORDING_COLUMNS,
    SOUNDSCAPE_COLUMNS,
    DatasetError,
    Notes,
    Species,
    read_aliases,
    read_boxes,
    read_species_table,
    recordists,
    require_columns,
    require_directory,
    require_recordings,
)
from training.datasets.downloads.competition import Competition, kept_species
from training.datasets.remembered import hash_tables
from training.datasets.rules import Account, Limits, inside_boxes

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
NO_CALL = "nocall"
HOW_TO_GET = (
    "get it with `python -m training.download dataset=birdclef2021 dataset.root=DIR`, or accept the rules of the "
    "competition, `kaggle competitions download -c birdclef-2021 -p DIR`, unzip it and set dataset.root=DIR"
)


class BirdClef2021:
    """The competition's folder, or any folder in its layout (soundscapes may be absent).

    :param root: folder that holds train_short_audio/ and train_metadata.csv
    :param species: path of a species table, or the name of one in data/species/
    :param tiers: keep only these tiers of the table; all of them when None
    :param codes: keep only these codes of the table; all of them when None
    :param min_rating: leave out recordings rated below it; unrated ones (0) stay out too as soon as it is positive
    :param min_seconds: leave out shorter recordings; None for no bound
    :param max_seconds: leave out longer ones
    :param backgrounds: folders of recordings without any bird of the table
    :param require_all: whether a species of the table without a recording is an error
    :param download: where :meth:`fetch` gets the data; None where nothing is downloaded
    :param keep_only_table: whether :meth:`fetch` unpacks recordings of species of the table only
    """

    def __init__(
        self,
        root: str | Path,
        species: str | Path,
        *,
        tiers: Sequence[str] | None = None,
        codes: Sequence[str] | None = None,
        min_rating: float = 0.0,
        min_seconds: float | None = None,
        max_seconds: float | None = None,
        backgrounds: Sequence[str] | None = None,
        require_all: bool = True,
        download: Competition | None = None,
        keep_only_table: bool = False,
        name: str = "birdclef2021",
        synthetic: bool = False,
    ) -> None:
        self.root = Path(root)
        self.table = species
        self.tiers = tiers
        self.codes = codes
        self.limits = Limits(float(min_rating), min_seconds, max_seconds)
        self.background_folders = backgrounds
        self.require_all = require_all
        self.download = download
        self.keep_only_table = keep_only_table
        self.name = name
        self.synthetic = synthetic

    def fetch(self, progress: bool = True) -> None:
        """Download the competition where it is not on disk, or was unpacked without a species of the table."""
        codes = sorted(self._codes)  # a mistake in the table is told before anything is downloaded
        if self.download is not None and not self._is_whole():
            try:
                self.download.fetch(self.root, codes if self.keep_only_table else None, progress)
            except DatasetError as error:
                raise DatasetError(
                    f"{self.root} does not hold BirdCLEF 2021, and fetching it failed. {error}"
                ) from error
        self._check_layout()

    def _is_whole(self) -> bool:
        kept = kept_species(self.root)
        there = all((self.root / needed).exists() for needed in (METADATA, AUDIO))
        return there and (kept is None or self._codes <= kept)

    def _check_layout(self) -> None:
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

    def backgrounds(self) -> pd.DataFrame:
        return joined(background_files(self.background_folders, self.root), self._soundscapes[2])

    def removed(self) -> pd.DataFrame:
        return self._recordings[2].table()

    def revision(self) -> str:
        return hash_tables(self._species, self._recordings[0], self._soundscapes[0], self.backgrounds())

    def notes(self) -> Notes:
        _, noted, account = self._recordings
        return replace(
            noted,
            missing=[*noted.missing],
            dropped_labels=noted.dropped_labels + self._soundscapes[1],
            removed=account.counts(),
        )

    @cached_property
    def _species(self) -> list[Species]:
        table = read_species_table(self.table, self.tiers)
        return [label for label in table if self.codes is None or label.ebird_code in self.codes]

    @cached_property
    def _codes(self) -> frozenset[str]:
        return frozenset(label.ebird_code for label in self._species)

    @cached_property
    def _aliases(self) -> dict[str, str]:
        return read_aliases(self.table)

    @cached_property
    def _recordings(self) -> tuple[pd.DataFrame, Notes, Account]:
        self._check_layout()
        path = self.root / METADATA
        metadata = _read_csv(path)
        boxes = read_boxes(self.table)
        require_columns(path, list(metadata.columns), (*USED_COLUMNS, *(("latitude", "longitude") if boxes else ())))
        if metadata.empty:
            raise DatasetError(f"{path} lists no recording: {HOW_TO_GET}")
        account = Account()
        metadata["line"] = metadata.index + 2
        rows = metadata[metadata["primary_label"].isin(self._codes)].copy()
        rows["recording_id"] = [
            f"{AUDIO}/{code}/{file}" for code, file in zip(rows["primary_label"], rows["filename"], strict=True)
        ]
        rows = rows.drop_duplicates("recording_id").sort_values("recording_id", ignore_index=True)
        rows["rating"] = pd.to_numeric(rows["rating"], errors="coerce").fillna(0.0)
        rows = self.limits.rated(rows, account)
        rows = inside_boxes(rows, boxes, account)
        on_disk = {
            f"{AUDIO}/{code}/{file.name}" for code in self._codes for file in (self.root / AUDIO / code).glob("*")
        }
        present = rows["recording_id"].isin(on_disk)
        missing, gone = list(rows.loc[~present, "recording_id"]), set(rows.loc[~present, "primary_label"])
        rows = rows[present].copy()
        root = self.root.resolve()
        rows["path"] = [str(root / identifier) for identifier in rows["recording_id"]]
        rows = self.limits.long_enough(rows, account).reset_index(drop=True)
        if self.require_all:
            reasons = dict.fromkeys(gone, f"no file below {self.root / AUDIO}")
            require_recordings(rows, self._species, reasons | account.reasons(), self.table)

        dropped: Counter[str] = Counter()
        labels = []
        for line, text, primary in zip(rows["line"], rows["secondary_labels"], rows["primary_label"], strict=True):
            codes = [self._aliases.get(code, code) for code in _code_list(path, line, text)]
            dropped.update(code for code in codes if code not in self._codes)
            labels.append(sorted({code for code in codes if code in self._codes and code != primary}))
        rows["secondary_labels"] = pd.Series(labels, index=rows.index, dtype=object)
        unknown = sum(not author.strip() for author in rows["author"])
        rows["author"] = recordists(rows["author"], rows["recording_id"])
        noted = Notes(missing=missing, dropped_labels=dropped, unknown_recordists=unknown)
        return rows[list(RECORDING_COLUMNS)], noted, account

    @cached_property
    def _soundscapes(self) -> tuple[pd.DataFrame, Counter[str], pd.DataFrame]:
        """Labelled windows, codes outside the table, and the stretches labelled as silent."""
        path = self.root / SOUNDSCAPE_LABELS
        dropped: Counter[str] = Counter()
        rows: list[tuple[object, ...]] = []
        silent: list[bool] = []
        if path.is_file():
            table = _read_csv(path)
            require_columns(path, list(table.columns), LABEL_COLUMNS)
            files = {"_".join(file.stem.split("_")[:2]): file for file in (self.root / SOUNDSCAPES).glob("*.ogg")}
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
                codes = [self._aliases.get(code, code) for code in birds.split() if code != NO_CALL]
                dropped.update(code for code in codes if code not in self._codes)
                labels = sorted({code for code in codes if code in self._codes})
                identifier = f"{SOUNDSCAPES}/{file.name}"
                rows.append((row_id, identifier, str(file.resolve()), end - LABEL_SECONDS, end, labels))
                silent.append(birds.split() == [NO_CALL])
        frame = pd.DataFrame(rows, columns=list(SOUNDSCAPE_COLUMNS))
        stretches = silent_stretches(frame[pd.Series(silent, index=frame.index, dtype=bool)])
        return frame.sort_values(["recording_id", "start_seconds"], ignore_index=True), dropped, stretches


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV as text, cell by cell: nothing is guessed, and a bird called NA stays one."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as CSV ({str(error).strip()}): get it again") from error


def _code_list(path: Path, line: int, text: str) -> list[str]:
    """The codes in a Python list literal such as "['houspa', 'eursta']"."""
    try:
        codes = ast.literal_eval(text) if text.strip() else []
    except (ValueError, SyntaxError):
        codes = None
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise DatasetError(f"{path}, line {line}: secondary_labels is {text!r}: write a list such as [] or ['houspa']")
    return codes
