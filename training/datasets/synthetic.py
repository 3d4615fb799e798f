"""The demo with all that a source of recordings gives.

Its own folder decides its revision byte by byte; what only reads lies here.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from training.datasets.demo import DemoDataset


@dataclass(frozen=True, kw_only=True)
class SyntheticDataset(DemoDataset):
    """DemoDataset with the stretches of its soundscapes in which nothing sings as backgrounds."""

    def backgrounds(self) -> pd.DataFrame:
        return self._files.backgrounds()

    def removed(self) -> pd.DataFrame:
        return self._files.removed()
