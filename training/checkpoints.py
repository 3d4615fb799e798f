"""What an interrupted run continues from, and the file of a network: the same weights, the same bytes."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.files import directory_swapped_in

if TYPE_CHECKING:
    import keras

History = list[dict[str, Any]]

_BEST, _LAST, _STATE = "best.keras", "last.npz", "state.json"
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_METADATA, _SAVED = "metadata.json", "date_saved"
_CONFIG, _SHARED = "config.json", "shared_object_id"


def write_checkpoint(
    place: Path, state: Sequence[np.ndarray], history: History, key: str, best: keras.Model | None
) -> None:
    """Replace the checkpoint in ``place``, whole or not at all.

    Args:
        state: of the network in training, after the last epoch of ``history``.
        key: of everything that decides the result.
        best: the network to keep, where the last epoch was the best; None: the one that is there stays.
    """
    with directory_swapped_in(place) as beside:
        np.savez(beside / _LAST, *state)
        if best is None:
            shutil.copy(place / _BEST, beside / _BEST)
        else:
            write_model(beside / _BEST, best)
        (beside / _STATE).write_text(json.dumps({"key": key, "history": history}))


def read_checkpoint(place: Path, key: str) -> tuple[list[np.ndarray], History] | None:
    """State and history of an interrupted run with this very key; None where there is none, or a damaged one."""
    try:
        told = json.loads((place / _STATE).read_text())
        if told["key"] != key or not (place / _BEST).is_file():
            return None
        with np.load(place / _LAST) as arrays:
            return [arrays[name] for name in arrays.files], told["history"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def best_model(place: Path) -> Path:
    """Where :func:`write_checkpoint` left the best epoch."""
    return place / _BEST


def write_model(path: Path, model: keras.Model) -> None:
    """Write a .keras file so that the same network gives the same bytes.

    Keras puts the date into it, and addresses in memory, by which it knows objects that layers share.
    """
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(parts[_METADATA])
    metadata.pop(_SAVED, None)
    parts[_METADATA] = json.dumps(metadata, sort_keys=True).encode()
    parts[_CONFIG] = json.dumps(_numbered(json.loads(parts[_CONFIG]), {})).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name, _NO_DATE), data)


def _numbered(config: Any, seen: dict[int, int]) -> Any:
    """The configuration with shared objects numbered as they come."""
    if isinstance(config, dict):
        return {
            key: seen.setdefault(value, len(seen)) if key == _SHARED else _numbered(value, seen)
            for key, value in config.items()
        }
    return [_numbered(value, seen) for value in config] if isinstance(config, list) else config
