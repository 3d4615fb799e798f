"""Which files of a folder have been analyzed: a list that outlives the station."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from labous.errors import NodeError
from labous.formats import printable
from labous.station import queue_file
from labous.station.counters import Counters
from labous.station.log import Seldom

_APPLICATION = 0x4C616244  # "LabD", in the file's header
_VERSION = 1
_TABLE = """CREATE TABLE done (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, error TEXT
) WITHOUT ROWID"""
_PASSED_OVER = """CREATE TEMP TABLE passed_over (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL
) WITHOUT ROWID"""
_PASS_OVER = "INSERT OR REPLACE INTO passed_over (path, size, mtime_ns) VALUES (?, ?, ?)"
_PUT = "INSERT OR REPLACE INTO done (path, size, mtime_ns, error) VALUES (?, ?, ?, ?)"
_PRUNED_ABOVE = 10_000
_PRUNED_AT_ONCE = 1_000  # and two for each that was added, so that the list cannot grow faster than it is pruned
_TOLD_SECONDS = 60.0

_logger = logging.getLogger("labous")

_Row = tuple[bytes, int, int, str | None]


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
    """The list, an SQLite database: of each path the last version, and why it could not be read, or NULL.

    A version is on disk when :meth:`mark` returns, unless the disk is full: then it is kept and written with the next.
    A list of any length takes no more memory than a short one.

    Args:
        path: of the list. A damaged one is set aside; what of it can be read is taken over, and the other files are
            analyzed again.

    Raises:
        NodeError: it cannot be opened.
    """

    def __init__(self, path: Path, counters: Counters) -> None:
        self._path, self._counters = path, counters
        self._seldom = Seldom(_logger, _TOLD_SECONDS)
        self._waiting: dict[bytes, _Row] = {}
        self._added, self._pruned_to = 0, b""
        try:
            self._db = _opened(path)
        except queue_file.ERRORS as error:
            raise self._failed(error) from error

    def __contains__(self, version: Version) -> bool:
        """Whether a version has been analyzed.

        Raises:
            NodeError: the list cannot be read.
        """
        path = os.fsencode(version.path)
        if path in self._waiting:
            return self._waiting[path][1:3] == version[1:]
        return self._has("done", version)

    def mark(self, version: Version, error: str | None = None) -> None:
        """Remember a version for good.

        Raises:
            NodeError: the list is damaged.
        """
        path = os.fsencode(version.path)
        self._waiting[path] = path, version.size, version.mtime_ns, None if error is None else printable(error)
        if self._changed(_PUT, list(self._waiting.values())):
            self._added += len(self._waiting)
            self._waiting.clear()

    def pass_over(self, version: Version) -> None:
        """Remember a version for as long as this object lives; many take little memory, as SQLite keeps them on disk.

        Raises:
            NodeError: there is no place for it.
        """
        try:
            self._db.execute(_PASS_OVER, (os.fsencode(version.path), version.size, version.mtime_ns))
        except queue_file.ERRORS as error:
            raise self._failed(error) from error

    def passes_over(self, version: Version) -> bool:
        """Whether a version has been passed over.

        Raises:
            NodeError: the list cannot be read.
        """
        return self._has("passed_over", version)

    def prune(self) -> None:
        """Forget some of the files that are no more, where the list is long.

        To be called again and again, and only where the folder's disk is there: what was on it would be forgotten. (It
        would then be analyzed again, and have the same ids again.)

        Raises:
            NodeError: the list is damaged.
        """
        count = _PRUNED_AT_ONCE + 2 * self._added
        try:
            if self._db.execute("SELECT 1 FROM done LIMIT 1 OFFSET ?", (_PRUNED_ABOVE,)).fetchone() is None:
                return
            query = "SELECT path FROM done WHERE path > ? ORDER BY path LIMIT ?"
            paths = [path for (path,) in self._db.execute(query, (self._pruned_to, count))]
        except queue_file.ERRORS as error:
            raise self._failed(error) from error
        gone = [(path,) for path in paths if not os.path.lexists(path)]
        if not gone or self._changed("DELETE FROM done WHERE path = ?", gone):
            self._added, self._pruned_to = 0, paths[-1] if len(paths) == count else b""

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _has(self, table: str, version: Version) -> bool:
        query = f"SELECT size, mtime_ns FROM {table} WHERE path = ?"
        try:
            found = self._db.execute(query, (os.fsencode(version.path),)).fetchone()
        except queue_file.ERRORS as error:
            raise self._failed(error) from error
        return bool(found == version[1:])

    def _changed(self, statement: str, rows: list[_Row] | list[tuple[bytes]]) -> bool:
        """Whether a statement, for each of some rows, is on disk; where it is not, that is told and counted."""
        try:
            _write(self._db, statement, rows)
        except queue_file.ERRORS as error:
            if not queue_file.passes(error):
                raise self._failed(error) from error
            self._counters.add('source_errors_total{node="folder"}')
            self._seldom.warning("write", "%s cannot be written: %s; tried again.", self._path, error)
            return False
        return True

    def _failed(self, error: BaseException) -> NodeError:
        return NodeError(f"The list of analyzed files {str(self._path)!r} cannot be used ({error}); start again.")


def _opened(path: Path) -> sqlite3.Connection:
    """A connection to the list, which is made if it is not there, or made anew if it is damaged."""
    try:
        return _sound(path)
    except queue_file.ERRORS as error:
        if queue_file.passes(error):
            raise
        damage = error
    kept = queue_file.set_aside(path)
    db = _sound(path)
    if kept is not None:
        _write(db, _PUT, _readable(kept))
    (count,) = db.execute("SELECT COUNT(*) FROM done").fetchone()
    _logger.warning(
        "The list of analyzed files %s is damaged (%s) and kept as %s; %d files of it are known, others are analyzed "
        "again.",
        path, printable(str(damage)), kept, count,
    )  # fmt: skip
    return db


def _sound(path: Path) -> sqlite3.Connection:
    # isolation_level None: transactions begin where we say so, not before each INSERT
    db = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA synchronous = FULL")  # with WAL: what is committed outlives a power cut
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA journal_size_limit = 1048576")
        told = db.execute("PRAGMA application_id").fetchone() + db.execute("PRAGMA user_version").fetchone()
        if told == (0, 0) and db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,):
            db.execute("BEGIN IMMEDIATE")
            db.execute(_TABLE)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {_VERSION}")
            db.execute("COMMIT")
        elif told != (_APPLICATION, _VERSION):
            raise sqlite3.DatabaseError("it is no such list of this version")
        elif (found := db.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
            raise sqlite3.DatabaseError(found[0])
        db.execute("PRAGMA temp_store = FILE")
        db.execute(_PASSED_OVER)
    except BaseException:
        db.close()
        raise
    return db


def _write(db: sqlite3.Connection, statement: str, rows: Iterable[_Row] | Iterable[tuple[bytes]]) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        db.executemany(statement, rows)
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have done it itself
            db.execute("ROLLBACK")
        raise


def _readable(path: Path) -> Iterator[_Row]:
    """What can be read of a damaged list: its rows up to the damage, from either end."""
    with contextlib.suppress(*queue_file.ERRORS), contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA writable_schema = ON")  # else a file that is too short is not looked into at all
        db.text_factory = lambda text: text.decode("utf-8", "replace")
        for order in ("", "DESC"):
            with contextlib.suppress(*queue_file.ERRORS):
                for row in db.execute(f"SELECT path, size, mtime_ns, error FROM done ORDER BY path {order}"):
                    if [type(value) for value in row[:3]] == [bytes, int, int]:
                        yield row
