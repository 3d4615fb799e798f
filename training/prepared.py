"""What earlier stages left, read back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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


def recording_truth(recordings: pd.DataFrame, codes: Sequence[str]) -> NDArray[np.bool_]:
    """Which species are in each recording, bool [n_recordings, n_labels]: those of its primary and secondary labels.

    The secondary ones were heard by the recordist as well, so a network that finds them is right. All that is scored by
    recordings has its truth from here (the choice of an epoch, of calibration, thresholds and rules, and the figures),
    so that what is chosen is good at what is measured.

    Args:
        recordings: columns primary_label and secondary_labels, as :func:`read_prepared` gives them.
        codes: labels in the order of the columns.
    """
    named = zip(recordings.primary_label, recordings.secondary_labels, strict=True)
    return truth_of([(primary, *others) for primary, others in named], codes)


def truth_of(labels: Iterable[Collection[str]], codes: Sequence[str]) -> NDArray[np.bool_]:
    """Which labels each row has, bool [n_rows, n_labels]."""
    return np.array([[code in row for code in codes] for row in labels], bool).reshape(-1, len(codes))


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
