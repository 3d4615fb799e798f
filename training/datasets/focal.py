"""What data sets of recordings without soundscapes have in common, wherever the recordings come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from training.datasets.backgrounds import background_files
from training.datasets.base import SOUNDSCAPE_COLUMNS, Notes, Species
from training.datasets.remembered import hash_tables
from training.datasets.rules import Account


class FocalDataset(ABC):
    """Everything of training.datasets.base.Dataset that follows from species and recordings."""

    root: Path
    background_folders: str | Sequence[str] | None

    @abstractmethod
    def species(self) -> list[Species]:
        """As Dataset.species."""

    @property
    @abstractmethod
    def _recordings(self) -> tuple[pd.DataFrame, Notes, Account]:
        """Recordings, what was noted beside what rules removed, and what they removed."""

    def recordings(self) -> pd.DataFrame:
        return self._recordings[0].copy()

    def soundscapes(self) -> pd.DataFrame:
        return pd.DataFrame(columns=list(SOUNDSCAPE_COLUMNS))

    def backgrounds(self) -> pd.DataFrame:
        return background_files(self.background_folders, self.root)

    def removed(self) -> pd.DataFrame:
        return self._recordings[2].table()

    def revision(self) -> str:
        return hash_tables(self.species(), self._recordings[0], self.soundscapes(), self.backgrounds())

    def notes(self) -> Notes:
        _, noted, account = self._recordings
        return replace(noted, missing=[*noted.missing], removed=account.counts())
