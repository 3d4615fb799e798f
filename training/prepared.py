"""The tables that prepare leaves, read back."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from training.errors import StageError


def read_prepared(place: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """recordings, soundscapes and labels as prepare wrote them, label columns as lists again."""
    texts = {"primary_label": str, "secondary_labels": str, "labels": str, "author": str, "row_id": str}
    try:
        recordings, soundscapes, labels = (
            pd.read_csv(place / f"{name}.csv", dtype=texts, keep_default_na=False)
            for name in ("recordings", "soundscapes", "labels")
        )
    except FileNotFoundError as error:
        raise StageError(f"{error.filename} is not there; run python -m training.prepare first.") from None
    recordings["secondary_labels"] = recordings.secondary_labels.str.split()
    soundscapes["labels"] = soundscapes["labels"].str.split()
    return recordings, soundscapes, labels
