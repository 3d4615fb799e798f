"""Files that a station writes: durable, whole, and under names that no stranger's text can steer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from pathlib import Path

_ODD = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME = 80  # of the 255 bytes that file systems allow, as suffixes and times are added
_STEP = 1 << 16


def safe_name(text: str) -> str:
    """The text as a file's name: letters, digits, dots, dashes and underscores, none of them a dot at its beginning.

    A text that must be changed for that gets a hash of itself, so that different texts have different names.
    """
    name = _ODD.sub("_", text).lstrip(".")[:_LONGEST_NAME]
    if name == text and name:
        return name
    return f"{name}-{digits_of(text)}"


def digits_of(text: str) -> str:
    """Eight hexadecimal digits that tell this text from others."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def append_lines(path: Path, lines: bytes, header: bytes = b"") -> None:
    """Add whole lines to a file, all or none, and wait until they are on disk.

    Half a line at its end, which a crash in the middle of a write has left, is taken away first.

    Args:
        path: the file; it and its folder are made where they are missing.
        lines: each ended by a line feed.
        header: what an empty file gets first.

    Raises:
        OSError: they cannot be written, and none of them was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
    try:
        size = _whole_lines(descriptor)
        try:
            _write(descriptor, lines if size else header + lines)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if size == 0:
        sync_folder(path.parent)


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file beside its place, wait until it is on disk, and rename it into its place.

    Args:
        path: the file; its folder is made where it is missing.
        content: of the file.
        mode: who may read and write it.

    Raises:
        OSError: it cannot be written; what stood in its place still does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), mode)
        try:
            _write(descriptor, content)
        finally:
            os.close(descriptor)
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def later(path: Path, newest: int) -> int:
    """Date a file now, but behind another, whatever the clock says: so files keep their order when it was wrong.

    Args:
        path: the file, just written.
        newest: the other's modification time, ns.

    Returns:
        the file's modification time, ns.
    """
    when = max(time.time_ns(), newest + 1)
    with contextlib.suppress(OSError):  # a file system without
        os.utime(path, ns=(when, when))
    return when


def _whole_lines(descriptor: int) -> int:
    """The size of a file once half a line at its end is gone."""
    size = end = os.lseek(descriptor, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _STEP)
        os.lseek(descriptor, start, os.SEEK_SET)
        newline = os.read(descriptor, end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
    return end


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk; some systems cannot be asked for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
