"""Files that matter are written beside their place and renamed into it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from training.errors import StageError

_SOURCE = (".py", ".c", ".cpp", ".h")


def sha256_of_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_digest(*places: Path) -> str:
    """sha256 over source files, and over every source file of folders with its name.

    Raises:
        StageError: one of them is not there.
    """
    digest = hashlib.sha256()
    for place in places:
        if not place.exists():
            raise StageError(f"{place} is not there, and decides results; run make setup in a whole checkout.")
        for file in [place] if place.is_file() else sorted(place.rglob("*")):
            if place.is_file() or (file.suffix in _SOURCE and "__pycache__" not in file.parts):
                digest.update(f"{file.relative_to(place.parent).as_posix()} {sha256_of_file(file)}\n".encode())
    return digest.hexdigest()


def short_hash(identity: object) -> str:
    """A name for what these plain values decide: 20 hex digits of their hash."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; renamed onto it when the block ends well, removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o644)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_bytes(data)


@contextlib.contextmanager
def directory_swapped_in(place: Path) -> Iterator[Path]:
    """A new directory beside ``place`` to fill; it takes the place if the block ends well, else is removed."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.new-"))
    beside.chmod(0o755)
    try:
        yield beside
        old = place.with_name(f".{place.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            place.rename(old)
        beside.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
