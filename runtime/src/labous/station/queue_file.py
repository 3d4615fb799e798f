"""A queue's file: an SQLite database that is sound when it is opened, or replaced by one with what can be salvaged.

The damaged one is kept under another name. A crash at any moment of the replacement leaves either the old file, which
is then replaced anew, or a whole new one beside it, which then takes its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from labous.station.files import sync_folder

ERRORS = (sqlite3.Error, OSError, MemoryError, OverflowError, UnicodeDecodeError)
"""What SQLite raises: the last three where a damaged file says how long something is, or what it is called."""
_APPLICATION = 0x4C61626F  # "Labo", in the file's header
_VERSION = 1
_SIDES = ("", "-wal", "-shm")
_MAX_PROBES = 100_000
# what the disk, or another program that looks into the file, may cause, and what passes
_WEATHER = (
    "database or disk is full",
    "disk I/O error",
    "database is locked",
    "database table is locked",
    "locking protocol",
    "unable to open database file",
)
_TABLE = "CREATE TABLE events (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL)"


class Event(NamedTuple):
    """What is queued: a JSON object, and its member ``id``."""

    id: str
    body: bytes


@dataclasses.dataclass(frozen=True)
class Replaced:
    """What became of a damaged file.

    Attributes:
        reason: what was wrong with it.
        kept: what it is called now; None, if it was gone.
        salvaged: how many events of it are in the new one.
    """

    reason: str
    kept: Path | None
    salvaged: int


def opened(path: Path, damage: str | None = None) -> tuple[sqlite3.Connection, Replaced | None]:
    """A connection to the file, made if it is not there, and what had to be done to it.

    Transactions are the caller's; once committed they outlive a power cut (WAL, synchronous=FULL).

    Args:
        path: in a directory that exists; SQLite keeps two more files beside it.
        damage: what is known to be wrong with the file.

    Raises:
        sqlite3.Error, OSError: not now: the disk is full, the file locked or not ours.
    """
    aside = _with_suffix(path, ".salvage")
    _remove(aside)
    new = _with_suffix(path, ".new")
    replaced = None
    if new.exists():  # a replacement was cut short when all was salvaged
        kept = _take_place(new, path)
        with contextlib.closing(_made(path)) as db:
            replaced = Replaced("it was damaged", kept, _count(db))
    elif reason := damage or _damage(path):
        with contextlib.closing(_made(aside)) as salvaged:
            count = _salvage(path, salvaged)
        aside.replace(new)
        sync_folder(path.parent)
        replaced = Replaced(reason, _take_place(new, path), count)
    return _made(path, "WAL"), replaced


def passes(error: BaseException) -> bool:
    """Whether an error of SQLite or the system comes from the disk or another program, and not from damage."""
    return isinstance(error, OSError) or (isinstance(error, sqlite3.OperationalError) and str(error) in _WEATHER)


def _made(path: Path, journal: str = "DELETE") -> sqlite3.Connection:
    """A connection to a file that is sound, or empty, or not there."""
    # isolation_level None: transactions begin where we say so, not before each INSERT
    db = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute("PRAGMA journal_size_limit = 4194304")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            db.execute("BEGIN IMMEDIATE")
            db.execute(_TABLE)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {_VERSION}")
            db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _damage(path: Path) -> str | None:
    """What is wrong with the file; None, if nothing is, or it is not there."""
    if not path.exists() or path.stat().st_size == 0:
        # SQLite would delete the log of an empty file, and what is in it
        return "it is empty, but its log is not" if _with_suffix(path, "-wal").exists() else None
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=0.5, isolation_level=None)) as db:
            return _damage_inside(db)
    except ERRORS as error:
        if passes(error):
            raise
        return str(error) or type(error).__name__


def _damage_inside(db: sqlite3.Connection) -> str | None:
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    tables = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    if (application, version, tables) == (0, 0, 0):
        return None  # a first start was cut short
    if application != _APPLICATION:
        return "it is not a queue of this program"
    if version != _VERSION:
        return f"it has version {version}, not {_VERSION}"
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        return str(found)
    db.execute("SELECT number, id, body FROM events LIMIT 1")
    db.execute("BEGIN IMMEDIATE")  # a damaged header can make it a file that is only read
    db.execute("ROLLBACK")
    return None


def _salvage(path: Path, into: sqlite3.Connection) -> int:
    """Copy the events that can be read; how many."""
    if not path.exists() or path.stat().st_size == 0:
        return 0
    into.execute("BEGIN IMMEDIATE")
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        db.text_factory = lambda text: text.decode("utf-8", "replace")
        db.execute("PRAGMA writable_schema = ON")  # else a file that is too short is not looked into at all
        for number, event in _readable(db):
            into.execute("INSERT OR IGNORE INTO events (number, id, body) VALUES (?, ?, ?)", (number, *event))
    into.execute("COMMIT")
    return _count(into)


def _readable(db: sqlite3.Connection) -> Iterator[tuple[int, Event]]:
    """Events of a damaged file and their numbers: up to the damage, from the end back to it, and what is between."""
    query = "SELECT rowid, id, body FROM events"
    below, above = 0, None
    for below, event in _rows(db, f"{query} ORDER BY rowid"):
        if event is not None:
            yield below, event
    for above, event in _rows(db, f"{query} WHERE rowid > {below} ORDER BY rowid DESC"):
        if event is not None:
            yield above, event
    between = range(below + 1, below + 1 + _MAX_PROBES // 10 if above is None else above)
    for number in between[-_MAX_PROBES:]:
        for _, event in _rows(db, f"{query} WHERE rowid = {number}"):
            if event is not None:
                yield number, event


def _rows(db: sqlite3.Connection, query: str) -> Iterator[tuple[int, Event | None]]:
    """The numbers and events that a query gives until it fails; None for what is no event."""
    with contextlib.suppress(*ERRORS):
        for number, name, body in db.execute(query):
            yield number, Event(name, body) if is_whole(name, body) else None


def is_whole(name: object, body: object) -> bool:
    """Whether they can be an event's."""
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(name, str) and isinstance(body, bytes):
            value = json.loads(body)
            return isinstance(value, dict) and value.get("id") == name
    return False


def set_aside(path: Path) -> Path | None:
    """Give a database and its log another name; which, or None if neither is there."""
    there = [side for side in _SIDES if _with_suffix(path, side).exists()]
    number = 1
    while any(_with_suffix(path, f".damaged-{number}{side}").exists() for side in there):
        number += 1
    kept = _with_suffix(path, f".damaged-{number}")
    for side in there:
        _with_suffix(path, side).replace(_with_suffix(kept, side))
    return kept if there else None


def _take_place(new: Path, path: Path) -> Path | None:
    """Set the file and its log aside, and put the new one there; under which name the old one is kept."""
    kept = set_aside(path)
    new.replace(path)
    sync_folder(path.parent)
    return kept


def _count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT COUNT(*) FROM events").fetchone()[0])


def _remove(path: Path) -> None:
    for side in ("", "-journal"):
        _with_suffix(path, side).unlink(missing_ok=True)


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
