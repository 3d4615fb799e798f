"""What earlier stages left, read back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from training.errors import StageError

if TYPE_CHECKING:
    import keras

_NUMBERS = (
    "rating", "seconds", "start_seconds", "end_seconds", "train_recordings", "test_rows",
    "average_precision_float32", "average_precision_int8", "roc_auc_float32", "roc_auc_int8",
)  # fmt: skip


_SECONDS = ("start_seconds", "end_seconds", "seconds")
BACKGROUND_COLUMNS = ("recording_id", "author", "start_seconds", "end_seconds", "seconds", "split", "feature")


def read_table(path: Path) -> pd.DataFrame:
    """A CSV of ours: numbers in the columns that hold numbers, and text, as it is, in all others.

    Left to guess, pandas takes a label such as 01 for a number, and one called NA for nothing.

    Raises:
        StageError: it is not there.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise StageError(f"{path} is not there; run python -m training.train, which makes it.") from None
    for column in table.columns.intersection(list(_NUMBERS)):
        table[column] = pd.to_numeric(table[column])
    return table


def read_prepared(place: Path, root: str | Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """recordings, soundscapes and labels as prepare wrote them, label columns as lists again.

    Args:
        place: ``paths.prepared``.
        root: of the data set; the tables hold paths below it, so that both can be moved.

    Raises:
        StageError: a table is not there.
    """
    recordings, soundscapes, labels = (
        read_table(place / f"{name}.csv") for name in ("recordings", "soundscapes", "labels")
    )
    for table in (recordings, soundscapes):
        table["path"] = [str(Path(root) / name) for name in table.recording_id]
    recordings["secondary_labels"] = recordings.secondary_labels.str.split()
    soundscapes["labels"] = soundscapes["labels"].str.split()
    return recordings, soundscapes, labels


def read_backgrounds(place: Path, root: str | Path) -> pd.DataFrame:
    """Stretches of sound without birds: BACKGROUND_COLUMNS and path; no rows where there are none.

    ``start_seconds`` and ``end_seconds`` (NaN: the recording's end) say which part of ``path`` it is, ``seconds`` how
    long, and ``feature`` where in ``place`` its features are.

    Raises:
        StageError: the table is not there.
    """
    table = read_table(place / "backgrounds.csv").astype(dict.fromkeys(_SECONDS, float))
    table["path"] = [str(Path(root) / name) for name in table.recording_id]
    return table


def load_fitted(place: Path) -> keras.Model:
    """The model that the fit stage left in ``place``.

    Raises:
        StageError: there is none.
    """
    import keras

    path = place / "model.keras"
    if not path.exists():
        raise StageError(f"{path} is not there; run python -m training.fit first.")
    return keras.saving.load_model(path, compile=False)
