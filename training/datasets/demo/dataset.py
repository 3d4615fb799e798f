"""The demo as a source of recordings: made where it is missing, read by BirdCLEF's loader."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from training.datasets.base import TABLES, DatasetError, Notes, Species, read_species_table
from training.datasets.birdclef import BirdClef2021
from training.datasets.demo import writer
from training.datasets.demo.recipe import Recipe
from training.files import directory_swapped_in

TABLE = TABLES / "demo.csv"
STAMP = "demo.json"  # in the root: what the data set there was made from, and the size of each of its files


@dataclass(frozen=True, kw_only=True)
class DemoDataset(Recipe):
    """Synthetic recordings and soundscapes of fifteen species, below `root`; see Recipe for the settings."""

    name: ClassVar[str] = "demo"
    synthetic: ClassVar[bool] = True

    root: str | Path

    def fetch(self, progress: bool = True) -> None:
        """Make the data set, unless it is there whole, with the same settings.

        It is whole when every file that was made is there with its size; a file changed at the same size is not
        noticed here. Half-made sets never take the root's place.
        """
        root = Path(self.root)
        if self._is_whole(root):
            return
        if root.is_file() or (root.is_dir() and not (root / STAMP).is_file() and next(root.iterdir(), None)):
            raise DatasetError(f"{root} holds something else than a demo data set: set dataset.root to a new folder")
        with directory_swapped_in(root) as folder:
            writer.write(self, self.species(), folder, progress)
            stamp = {"made_from": self._made_from, "files": _sizes(folder)}
            (folder / STAMP).write_text(_json(stamp), encoding="utf-8")

    def species(self) -> list[Species]:
        return [label for label in read_species_table(TABLE) if label.ebird_code in self.voices]

    def recordings(self) -> pd.DataFrame:
        return self._files.recordings()

    def soundscapes(self) -> pd.DataFrame:
        return self._files.soundscapes()

    def revision(self) -> str:
        """Sha256 over the settings and the generator's source: known before anything is made."""
        return hashlib.sha256(_json(self._made_from).encode()).hexdigest()

    def notes(self) -> Notes:
        return self._files.notes()

    @cached_property
    def _files(self) -> BirdClef2021:
        self.fetch()
        return BirdClef2021(self.root, TABLE, codes=list(self.voices), name=self.name, synthetic=True)

    def _is_whole(self, root: Path) -> bool:
        try:
            stamp = json.loads((root / STAMP).read_text(encoding="utf-8"))
            return stamp["made_from"] == self._made_from and stamp["files"].items() <= _sizes(root).items()
        except (OSError, ValueError, AttributeError, LookupError, TypeError):
            return False

    @cached_property
    def _made_from(self) -> dict[str, Any]:
        source = hashlib.sha256()
        for file in sorted(Path(__file__).parent.glob("*.py")):
            source.update(file.read_bytes())
        settings = {key: value for key, value in dataclasses.asdict(self).items() if key != "root"}
        settings["codes"] = list(self.voices)
        return {"generator": source.hexdigest(), "settings": json.loads(_json(settings))}


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file of a folder, by its path below it."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
