"""Sound without any bird of the table: folders of noise, and the stretches of soundscapes labelled as silent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import soundfile

from training.datasets.base import BACKGROUND_COLUMNS, DatasetError

# What soundfile.available_formats calls by another name than files do.
OTHER_SUFFIXES = {".aif", ".aifc", ".bwf", ".mp2", ".oga", ".opus"}


def readable_suffixes() -> set[str]:
    """Suffixes, in small letters, of the formats that soundfile reads."""
    return {f".{name.lower()}" for name in soundfile.available_formats()} | OTHER_SUFFIXES


def files_with_suffix(root: Path, pattern: str, suffixes: set[str]) -> list[Path]:
    """Files below a folder, relative to it and sorted, hidden ones and those in hidden folders left out.

    :raises DatasetError: for a name that is not UTF-8, which no table could hold
    """
    found = (path for path in root.glob(pattern) if path.suffix.lower() in suffixes and path.is_file())
    relative = (path.relative_to(root) for path in found)
    shown = sorted(path for path in relative if not any(part.startswith(".") for part in path.parts))
    for path in shown:
        try:
            path.as_posix().encode()
        except UnicodeEncodeError:
            raise DatasetError(
                f"{root} has a recording whose name is not UTF-8, {path.as_posix()!a}: rename it"
            ) from None
    return shown


def background_folders(folders: str | Sequence[str | Path] | None, root: str | Path) -> list[Path]:
    """The folders that dataset.backgrounds names, one or several: below the root where they are there, or anywhere.

    :raises DatasetError: for one that is missing
    """
    base, found = Path(root).resolve(), []
    for folder in [folders] if isinstance(folders, str) else folders or ():
        place = base / folder if (base / folder).is_dir() else Path(folder).resolve()
        if not place.is_dir():
            raise DatasetError(f"dataset.backgrounds names {folder}, which is no folder: correct it or leave it out")
        found.append(place)
    return found


def background_files(folders: str | Sequence[str | Path] | None, root: str | Path) -> pd.DataFrame:
    """Every recording below some folders, whole, with the columns BACKGROUND_COLUMNS, sorted by recording_id.

    :param folders: see :func:`background_folders`
    :param root: of the data set: files below it are named by their path there, others by their absolute path
    :raises DatasetError: for a folder that is missing or holds no recording
    """
    base = Path(root).resolve()
    paths: set[Path] = set()
    for place in background_folders(folders, root):
        found = files_with_suffix(place, "**/*", readable_suffixes())
        if not found:
            raise DatasetError(f"dataset.backgrounds names {place}, which has no recording that soundfile reads")
        paths |= {place / path for path in found}
    names = {path: (path.relative_to(base) if path.is_relative_to(base) else path).as_posix() for path in paths}
    rows = sorted((name, str(path), 0.0, float("nan"), name) for path, name in names.items())
    return _frame(rows)


def silent_stretches(windows: pd.DataFrame) -> pd.DataFrame:
    """Neighbouring windows of soundscapes joined to stretches, with the columns BACKGROUND_COLUMNS.

    :param windows: recording_id, path, start_seconds and end_seconds of the windows in which nothing is heard
    """
    rows: list[tuple[str, str, float, float, str]] = []
    ordered = windows.sort_values(["recording_id", "start_seconds"])
    columns = ("recording_id", "path", "start_seconds", "end_seconds")
    for identifier, path, start, end in zip(*(ordered[column] for column in columns), strict=True):
        if rows and rows[-1][0] == identifier and start <= rows[-1][3]:
            rows[-1] = (*rows[-1][:3], max(end, rows[-1][3]), identifier)
        else:
            rows.append((identifier, path, start, end, identifier))
    return _frame(rows)


def joined(*tables: pd.DataFrame) -> pd.DataFrame:
    """Backgrounds of several places in one table; what is in two of them is there once."""
    filled = [table for table in tables if len(table)]
    if not filled:
        return _frame([])
    return pd.concat(filled, ignore_index=True).drop_duplicates(["path", "start_seconds"], ignore_index=True)


def _frame(rows: Sequence[tuple[str, str, float, float, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(BACKGROUND_COLUMNS))
    return frame.astype({"start_seconds": float, "end_seconds": float})
