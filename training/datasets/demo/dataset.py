"""The demo as a source of recordings: made where it is missing, read by BirdCLEF's loader."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pandas as pd

from training.datasets.base import TABLES, DatasetError, Notes, Species, read_species_table
from training.datasets.birdclef import BirdClef2021
from training.datasets.demo import writer
from training.datasets.demo.recipe import Recipe
from training.files import directory_swapped_in

TABLE = TABLES / "demo.csv"
STAMP = "demo.json"  # in the root: what the data set there was made from


@dataclass(frozen=True, kw_only=True)
class DemoDataset(Recipe):
    """Synthetic recordings and soundscapes of fifteen species, below `root`; see Recipe for the settings."""

    name: ClassVar[str] = "demo"
    synthetic: ClassVar[bool] = True

    root: str | Path

    def fetch(self, progress: bool = True) -> None:
        """Make the data set, unless it is there with the same settings. Half-made ones never take the root's place."""
        root = Path(self.root)
        stamp = root / STAMP
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == self._stamp:
            return
        if root.is_file() or (root.is_dir() and not stamp.is_file() and next(root.iterdir(), None) is not None):
            raise DatasetError(f"{root} holds something else than a demo data set: set dataset.root to a new folder")
        with directory_swapped_in(root) as folder:
            writer.write(self, self.species(), folder, progress)
            (folder / STAMP).write_text(self._stamp, encoding="utf-8")

    def species(self) -> list[Species]:
        return [label for label in read_species_table(TABLE) if label.ebird_code in self.voices]

    def recordings(self) -> pd.DataFrame:
        return self._files.recordings()

    def soundscapes(self) -> pd.DataFrame:
        return self._files.soundscapes()

    def revision(self) -> str:
        """Sha256 over the settings and the generator's source: known before anything is made."""
        return hashlib.sha256(self._stamp.encode()).hexdigest()

    def notes(self) -> Notes:
        return self._files.notes()

    @cached_property
    def _files(self) -> BirdClef2021:
        self.fetch()
        return BirdClef2021(self.root, TABLE, codes=list(self.voices), name=self.name, synthetic=True)

    @cached_property
    def _stamp(self) -> str:
        source = hashlib.sha256()
        for file in sorted(Path(__file__).parent.glob("*.py")):
            source.update(file.read_bytes())
        settings = {key: value for key, value in dataclasses.asdict(self).items() if key != "root"}
        settings["codes"] = list(self.voices)
        return json.dumps({"generator": source.hexdigest(), "settings": settings}, indent=2, sort_keys=True) + "\n"
