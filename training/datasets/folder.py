"""One folder per label: the simplest way to bring one's own recordings."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd
import soundfile

from training.datasets.base import (
    RECORDING_COLUMNS,
    SOUNDSCAPE_COLUMNS,
    DatasetError,
    Notes,
    Species,
    hash_tables,
    read_species_table,
    require_columns,
    require_directory,
    require_recordings,
)

METADATA = "metadata.csv"
METADATA_COLUMNS = ("filename", "author")
HOW_TO_GET = "make it, with one folder of recordings per label, and set dataset.root to it"
# What soundfile.available_formats calls by another name than files do.
_OTHER_SUFFIXES = {".aif", ".aifc", ".oga", ".opus"}


class FolderDataset:
    """Recordings below `root`/<label>/, at any depth, in any format that soundfile reads.

    An optional `root`/metadata.csv with the columns filename (the path below root, with forward slashes) and author
    says who recorded what; a file that it does not name counts as recorded by somebody of its own.

    :param species: a species table (see base.find_table): its codes are the labels, other folders are ignored. When
        None, every folder with a recording is a label, its name serving as code and as names
    """

    def __init__(
        self,
        root: str | Path,
        species: str | Path | None = None,
        *,
        tiers: Sequence[str] | None = None,
        name: str = "folder",
        synthetic: bool = False,
    ) -> None:
        self.root = Path(root)
        self.table = species
        self.tiers = tiers
        self.name = name
        self.synthetic = synthetic

    def fetch(self, progress: bool = True) -> None:
        """Check that there are folders with recordings; there is nothing to download."""
        require_directory(self.root, HOW_TO_GET)
        if not self._files:
            raise DatasetError(f"{self.root} has no folder with a recording that soundfile reads: {HOW_TO_GET}")

    def species(self) -> list[Species]:
        if self.table is not None:
            return read_species_table(self.table, self.tiers)
        self.fetch()
        return [Species(label, label, label, label) for label in sorted({path.parts[0] for path in self._files})]

    def recordings(self) -> pd.DataFrame:
        return self._recordings.copy()

    def soundscapes(self) -> pd.DataFrame:
        return pd.DataFrame(columns=list(SOUNDSCAPE_COLUMNS))

    def revision(self) -> str:
        return hash_tables(self.species(), self._recordings, self.soundscapes())

    def notes(self) -> Notes:
        return Notes(missing=sorted(set(self._authors) - {path.as_posix() for path in self._files}))

    @cached_property
    def _files(self) -> list[Path]:
        """Recordings, relative to the root and at least one folder below it."""
        suffixes = {f".{name.lower()}" for name in soundfile.available_formats()} | _OTHER_SUFFIXES
        found = (path for path in self.root.glob("*/**/*") if path.suffix.lower() in suffixes and path.is_file())
        relative = (path.relative_to(self.root) for path in found)
        return sorted(path for path in relative if not any(part.startswith(".") for part in path.parts))

    @cached_property
    def _recordings(self) -> pd.DataFrame:
        self.fetch()
        species = self.species()
        codes = {label.ebird_code for label in species}
        root = self.root.resolve()
        rows: list[tuple[object, ...]] = []
        for path in self._files:
            if path.parts[0] in codes:
                name = path.as_posix()
                author = self._authors.get(name, f"unknown {name}")
                rows.append((name, str(root / path), path.parts[0], [], author, 0.0, "", ""))
        frame = pd.DataFrame(rows, columns=list(RECORDING_COLUMNS))
        reasons = dict.fromkeys(codes, f"no recording in a folder of that name in {self.root}")
        require_recordings(frame, species, reasons, self.table)
        return frame

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
                rows = [(row["filename"], (row["author"] or "").strip()) for row in reader]
        except UnicodeDecodeError as error:
            raise DatasetError(f"{path} is not UTF-8 text (byte {error.start}): save it again as UTF-8") from error
        return {name: author for name, author in rows if author}
