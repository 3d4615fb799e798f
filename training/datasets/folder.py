"""One folder per label: the simplest way to bring one's own recordings."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd

from training.datasets.backgrounds import background_folders, files_with_suffix, readable_suffixes
from training.datasets.base import (
    RECORDING_COLUMNS,
    UNKNOWN,
    DatasetError,
    Notes,
    Species,
    one_spelling,
    read_species_table,
    require_columns,
    require_directory,
    require_recordings,
    some,
)
from training.datasets.focal import FocalDataset
from training.datasets.rules import Account, Limits

METADATA = "metadata.csv"
METADATA_COLUMNS = ("filename", "author")
HOW_TO_GET = "make it, with one folder of recordings per label, and set dataset.root to it"
# What phones, cameras and older recorders write, and soundfile does not read.
# fmt: off
_FOREIGN_SUFFIXES = {
    ".3g2", ".3ga", ".3gp", ".aac", ".ac3", ".alac", ".amr", ".ape", ".asf", ".avi", ".awb", ".dff", ".dsf", ".flv",
    ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpc", ".mpeg", ".mpg", ".mts", ".ra", ".rm", ".shn",
    ".spx", ".tta", ".weba", ".webm", ".wma", ".wmv", ".wv",
}
# fmt: on


class FolderDataset(FocalDataset):
    """Recordings below `root`/<label>/, at any depth, in any format that soundfile reads; notes() lists the others.

    An optional `root`/metadata.csv with the columns filename (the path below root, with forward slashes) and author
    says who recorded what; a file that it does not name counts as recorded by somebody of its own.

    :param species: a species table (see base.find_table): its codes are the labels, other folders are ignored. When
        None, every folder with a recording is a label, its name serving as code and as names
    :param min_seconds: leave out shorter recordings; None for no bound
    :param max_seconds: leave out longer ones
    :param backgrounds: folders of recordings without any bird of the table, below root or anywhere; they are no labels
    :param require_all: whether a species of the table without a recording is an error
    """

    def __init__(
        self,
        root: str | Path,
        species: str | Path | None = None,
        *,
        tiers: Sequence[str] | None = None,
        min_seconds: float | None = None,
        max_seconds: float | None = None,
        backgrounds: Sequence[str] | None = None,
        require_all: bool = True,
        name: str = "folder",
        synthetic: bool = False,
    ) -> None:
        self.root = Path(root)
        self.table = species
        self.tiers = tiers
        self.limits = Limits(0.0, min_seconds, max_seconds)
        self.background_folders = backgrounds
        self.require_all = require_all
        self.name = name
        self.synthetic = synthetic

    def fetch(self, progress: bool = True) -> None:
        """Check that there are folders with recordings; there is nothing to download.

        A label that is lost because soundfile reads none of its recordings is an error, not a smaller model.
        """
        require_directory(self.root, HOW_TO_GET)
        mute = sorted({path.parts[0] for path in self._foreign} - {path.parts[0] for path in self._files})
        if mute and self.table is None:
            suffixes = sorted({path.suffix.lower() for path in self._foreign if path.parts[0] in mute})
            raise DatasetError(
                f"{self.root} has folders whose recordings are all in formats that soundfile does not read "
                f"({', '.join(suffixes)}): {some(mute)}: convert them to FLAC or WAV, or move the folders away"
            )
        if not self._files:
            raise DatasetError(f"{self.root} has no folder with a recording that soundfile reads: {HOW_TO_GET}")

    def species(self) -> list[Species]:
        if self.table is not None:
            return read_species_table(self.table, self.tiers)
        self.fetch()
        return [Species(label, label, label, label) for label in sorted({path.parts[0] for path in self._files})]

    @cached_property
    def _files(self) -> list[Path]:
        """Recordings, relative to the root and at least one folder below it."""
        return self._with_suffix(readable_suffixes())

    @cached_property
    def _foreign(self) -> list[Path]:
        """The same of audio that soundfile has no format for."""
        return self._with_suffix(_FOREIGN_SUFFIXES)

    def _with_suffix(self, suffixes: set[str]) -> list[Path]:
        root = self.root.resolve()
        places = background_folders(self.background_folders, root)
        noise = {*places, *(place.resolve() for place in places)}
        found = files_with_suffix(root, "*/**/*", suffixes)
        return [path for path in found if not any((root / path).is_relative_to(folder) for folder in noise)]

    @cached_property
    def _recordings(self) -> tuple[pd.DataFrame, Notes, Account]:
        self.fetch()
        species = self.species()
        codes = {label.ebird_code for label in species}
        root = self.root.resolve()
        rows: list[tuple[object, ...]] = []
        for path in self._files:
            if path.parts[0] in codes:
                name = path.as_posix()
                author = self._authors.get(name, UNKNOWN + name)
                rows.append((name, str(root / path), path.parts[0], [], author, 0.0, "", ""))
        frame = pd.DataFrame(rows, columns=list(RECORDING_COLUMNS))
        account = Account()
        frame = self.limits.long_enough(frame, account).reset_index(drop=True)
        reasons = dict.fromkeys(codes, f"no recording in a folder of that name in {self.root}")
        reasons |= {
            path.parts[0]: "only recordings in formats that soundfile does not read, to be converted to FLAC or WAV"
            for path in self._foreign
        }
        if self.require_all:
            require_recordings(frame, species, reasons | account.reasons(), self.table)
        noted = Notes(
            missing=sorted(set(self._authors) - {path.as_posix() for path in (*self._files, *self._foreign)}),
            unreadable=[path.as_posix() for path in self._foreign if path.parts[0] in codes],
            unknown_recordists=int((~frame["recording_id"].isin(list(self._authors))).sum()),
        )
        return frame, noted, account

    @cached_property
    def _authors(self) -> dict[str, str]:
        """Recordist of each file that metadata.csv names."""
        path = self.root / METADATA
        if not path.is_file():
            return {}
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                require_columns(path, reader.fieldnames or [], METADATA_COLUMNS)
                rows = {row["filename"] or "": row["author"] or "" for row in reader}
        except UnicodeDecodeError as error:
            raise DatasetError(f"{path} is not UTF-8 text (byte {error.start}): save it again as UTF-8") from error
        authors = one_spelling(pd.Series(rows, dtype=str))
        return {str(name): author for name, author in authors.items() if name and author}
