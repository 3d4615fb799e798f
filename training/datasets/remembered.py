"""What was read from files, remembered: a file is read again only where it has changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile

from training.console import progress
from training.datasets.base import Species
from training.files import sha256_of_file, write_text

# in the working directory: a data set's own folder may be read-only
HASHES = Path("data/raw/.hashes.json")
DURATIONS = Path("data/raw/.durations.json")
_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system: a younger file can change and keep its times
_UNREADABLE = "unreadable"  # in the place of a hash


def hash_tables(
    species: Sequence[Species],
    recordings: pd.DataFrame,
    soundscapes: pd.DataFrame,
    backgrounds: pd.DataFrame,
    cache: Path = HASHES,
) -> str:
    """Sha256 over labels, tables and the bytes of every file: changes when, and only when, the data does.

    Paths and times are left out, so that a data set keeps its revision when it is moved or copied; of a background
    file outside the root, the name counts. `cache` is explained at :func:`hash_files`.
    """
    digest = hashlib.sha256()
    for label in species:
        digest.update(repr(label).encode())
    backgrounds = backgrounds.assign(
        recording_id=[_placeless(identifier) for identifier in backgrounds["recording_id"]],
        author=[_placeless(author) for author in backgrounds["author"]],
    )
    tables = [recordings, soundscapes, *([] if backgrounds.empty else [backgrounds])]
    hashes = hash_files([path for table in tables for path in table["path"].unique()], cache)
    for table in tables:
        digest.update(table.drop(columns="path").to_csv(index=False, lineterminator="\n").encode())
        files = table.drop_duplicates("path")
        for identifier, path in zip(files["recording_id"], files["path"], strict=True):
            digest.update(f"{identifier} {hashes[path]}\n".encode())
    return digest.hexdigest()


def _placeless(identifier: str) -> str:
    return Path(identifier).name if Path(identifier).is_absolute() else identifier


def hash_files(paths: Sequence[str], cache: Path) -> dict[str, str]:
    """Sha256 (hex) of the bytes of each file by its path; another word for files that cannot be read.

    The JSON file `cache` remembers hashes with the size, mtime and ctime of their files, so that only new and changed
    files are read. One that is damaged, or cannot be written, costs time and nothing else; files that are gone are
    forgotten. A file changed less than two seconds ago is not remembered: a second change might leave its times.
    """
    known = _remembered(paths, cache, sha256_of_file, lambda value: isinstance(value, str) and len(value) == 64)
    return {path: known.get(path, _UNREADABLE) for path in paths}


def durations(paths: Sequence[str], cache: Path = DURATIONS) -> dict[str, float]:
    """Seconds of each recording by its path, from its header; files that soundfile cannot read are left out.

    `cache` works as in :func:`hash_files`.
    """
    return _remembered(paths, cache, _seconds, lambda value: isinstance(value, float) and value >= 0)


def _seconds(path: Path) -> float:
    try:
        return float(soundfile.info(path).duration)
    except soundfile.LibsndfileError as error:
        raise OSError(str(error)) from error


def _remembered(
    paths: Sequence[str], cache: Path, read: Callable[[Path], Any], sound: Callable[[Any], bool]
) -> dict[str, Any]:
    """`read` of each file by its path, without those for which it raises OSError; see :func:`hash_files`.

    :param sound: whether a value that the cache gave back can be one
    """
    known = _read_cache(cache, sound)
    values: dict[str, Any] = {}
    unread: dict[str, list[int]] = {}
    for path in paths:
        try:
            stat = Path(path).stat()
        except OSError:
            continue
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        entry = known.get(path)
        if entry is not None and entry[:-1] == state:
            values[path] = entry[-1]
        else:
            unread[path] = state
    learned: dict[str, list[Any]] = {}
    try:
        for path, state in progress(unread.items(), "reading", total=len(unread), unit="file"):
            now = time.time_ns()
            try:
                values[path] = read(Path(path))
            except OSError:
                continue
            if now - max(state[1:]) > _SETTLED_NS:
                learned[path] = [*state, values[path]]
    finally:  # what was read before an interruption need not be read again
        if learned:
            kept = {path: entry for path, entry in known.items() if path in values or Path(path).exists()}
            with contextlib.suppress(OSError):
                write_text(cache, json.dumps(kept | learned))
    return values


def _read_cache(cache: Path, sound: Callable[[Any], bool]) -> dict[str, list[Any]]:
    """[size, mtime_ns, ctime_ns, value] by path; nothing where the file is missing or is not what it should be."""
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
        whole = all(len(entry) == 4 and sound(entry[3]) for entry in known.values())
    except (OSError, ValueError, AttributeError, TypeError, LookupError):
        return {}
    return known if whole else {}
