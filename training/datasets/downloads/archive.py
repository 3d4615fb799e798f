"""Unpacking of an archive from elsewhere: whole files, nothing outside the folder, and on from where it stopped."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from training.console import progress as progress_bar
from training.datasets.base import DatasetError

_BLOCK = 1 << 20
_NEVER_MIND = 64 << 20  # bytes of disk that need not be free for tables and folders


def open_archive(path: Path) -> zipfile.ZipFile:
    """The archive, its index read.

    :raises DatasetError: for a file that is no archive, or has lost its end
    """
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DatasetError(f"{path} is not a whole zip archive ({error}): delete it and run the same again") from error


def unpack(archive: zipfile.ZipFile, place: Path, wanted: Callable[[str], bool], progress: bool) -> list[str]:
    """Unpack the wanted files of an archive below a folder; return their names.

    Each is written beside its place, its checksum compared, and renamed; one that is there with its size is not
    unpacked again.

    :raises DatasetError: for names that would leave the folder, links, damaged files, and a disk that is too small
    """
    files = [info for info in archive.infolist() if not info.is_dir() and wanted(info.filename)]
    for info in files:
        _check_name(archive, info)
    ahead = [info for info in files if not _is_there(place, info)]
    place.mkdir(parents=True, exist_ok=True)
    need, free = sum(info.file_size for info in ahead), shutil.disk_usage(place).free
    if need > free - _NEVER_MIND:
        raise DatasetError(
            f"{place} has {free / 1e9:.1f} GB free and {need / 1e9:.1f} GB to unpack: make room or take another folder"
        )
    for info in progress_bar(ahead, "unpacking", total=len(ahead), unit="file") if progress else ahead:
        target = place / info.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.part")
        try:
            with archive.open(info) as source, beside.open("wb") as file:
                shutil.copyfileobj(source, file, _BLOCK)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            beside.unlink(missing_ok=True)
            raise DatasetError(
                f"{archive.filename} is damaged at {info.filename} ({error}): delete it and run the same again"
            ) from error
        beside.replace(target)
    return [info.filename for info in files]


def _is_there(place: Path, info: zipfile.ZipInfo) -> bool:
    target = place / info.filename
    return target.is_file() and target.stat().st_size == info.file_size


def _check_name(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    path = PurePosixPath(info.filename)
    leaves = path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename
    if leaves or stat.S_ISLNK(info.external_attr >> 16):
        raise DatasetError(
            f"{archive.filename} holds {info.filename!r}, which points out of its folder: it is not unpacked"
        )
