"""Which recordings lie in a folder."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from labous.recordings import SUFFIXES
from labous.station.done import Version

_LIFE_EVERY = 256  # entries


def versions(folder: Path, left_out: Collection[str], stopping: threading.Event) -> Iterator[Version]:
    """A folder's recordings at any depth, as they are now and in no order. Hidden files are left out.

    However many there are, they take no memory. Where the station is stopping, there are no more.

    Args:
        left_out: real paths of folders that are not looked into.
    """
    count = 0
    waiting = [(str(folder), os.path.realpath(folder))]
    while waiting:
        path, real = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(path) as entries:  # what cannot be listed has nothing to read
            for entry in entries:
                count += 1
                if count % _LIFE_EVERY == 0 and stopping.wait(0):  # a wait tells the watchdog too that it goes on
                    return
                if entry.is_dir(follow_symlinks=False):
                    inside = os.path.join(real, entry.name)  # noqa: PTH118
                    if inside not in left_out:
                        waiting.append((entry.path, inside))
                elif not entry.name.startswith(".") and os.path.splitext(entry.name)[1].lower() in SUFFIXES:  # noqa: PTH122
                    with contextlib.suppress(OSError):  # gone since it was listed, or a link to nothing
                        found = entry.stat()
                        yield Version(entry.path, found.st_size, found.st_mtime_ns)
