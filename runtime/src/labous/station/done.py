"""Which files of a folder have been analyzed: a list that outlives the station."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import NamedTuple

from labous.formats import printable
from labous.station.counters import Counters
from labous.station.files import append_lines, write_whole
from labous.station.log import Seldom

_PRUNED_ABOVE = 10_000
_TOLD_SECONDS = 60.0

_logger = logging.getLogger("labous")


class Version(NamedTuple):
    """A file as it was seen: replaced or written to, it is another version of itself."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Version:
        """The version that is there now.

        Raises:
            OSError: the file cannot be looked at.
        """
        found = path.stat()
        return cls(str(path), found.st_size, found.st_mtime_ns)


class Done:
    """The list, a JSON array per line: path, size, modification time in ns, and why it could not be read, or null.

    A line is on disk when :meth:`mark` returns, unless the disk is full: then it is kept and written with the next. In
    memory, a version takes some ten bytes, so that a folder may have very many.

    Args:
        path: of the list. Lines that cannot be read are passed over, so that at worst a file is analyzed again.
    """

    def __init__(self, path: Path, counters: Counters) -> None:
        self._path, self._counters = path, counters
        self._seldom = Seldom(_logger, _TOLD_SECONDS)
        self._waiting: list[bytes] = []
        self._known: set[int] = set()
        lines = _lines(path)
        read = [(line, version) for line, version in lines if version is not None]
        if len(read) < len(lines):
            _logger.warning(
                "%s: %d of %d lines could not be read; those files are analyzed again.",
                path, len(lines) - len(read), len(lines),
            )  # fmt: skip
        if len(lines) > _PRUNED_ABOVE:
            read = self._pruned(read)
        self._known = {_hash(version) for _, version in read}

    def __contains__(self, version: Version) -> bool:
        return _hash(version) in self._known

    def mark(self, version: Version, error: str | None = None) -> None:
        """Remember a version for good."""
        self._known.add(_hash(version))
        self._waiting.append(json.dumps([*version, error]).encode() + b"\n")
        try:
            append_lines(self._path, b"".join(self._waiting))
        except OSError as problem:
            self._counters.add('source_errors_total{node="folder"}')
            self._seldom.warning("write", "%s cannot be written: %s; tried again.", self._path, problem.strerror)
        else:
            self._waiting.clear()

    def _pruned(self, read: list[tuple[bytes, Version]]) -> list[tuple[bytes, Version]]:
        """Forget versions that are no more, where they are most of the list and not the whole disk is gone."""
        kept = []
        for line, version in read:
            try:
                if Version.of(Path(version.path)) == version:
                    kept.append((line, version))
            except OSError:
                continue
        if not 0 < len(kept) <= len(read) / 2:
            return read
        try:
            write_whole(self._path, b"".join(line + b"\n" for line, _ in kept))
        except OSError as problem:
            self._seldom.warning("write", "%s cannot be written: %s.", self._path, problem.strerror)
            return read
        return kept


def _lines(path: Path) -> list[tuple[bytes, Version | None]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        _logger.warning("%s cannot be read: %s; its files are analyzed again.", printable(str(path)), error.strerror)
        return []
    return [(line, _version(line)) for line in content.split(b"\n") if line]


def _version(line: bytes) -> Version | None:
    try:
        path, size, mtime_ns, _why = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(path, str) or type(size) is not int or type(mtime_ns) is not int or "\0" in path:
        return None
    return Version(path, size, mtime_ns)


def _hash(version: Version) -> int:
    text = f"{version.path}\0{version.size}\0{version.mtime_ns}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
