"""Locks on files, which end with the process that holds them."""

from __future__ import annotations

import os
from pathlib import Path


def locked(path: Path, mode: int) -> int:
    """Lock a file, which is made if it is missing, against every other descriptor of it.

    Args:
        path: of the file.
        mode: who may read and write it.

    Returns:
        a descriptor: whoever closes it gives up the lock.

    Raises:
        BlockingIOError: it is locked.
        OSError: it cannot be opened or locked.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, mode)
    try:
        import fcntl
    except ImportError:  # Windows, where boards do not run
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
