"""Libraries of machine code that come as bytes, and what machine this is: for boards that engines are not built for."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import struct
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from labous.errors import EngineError

_ROWS = {
    "x86_64": "x86-64",
    "aarch64": "64-bit Raspberry Pi OS",
    "armv7l": "32-bit Raspberry Pi OS",
    "riscv64": "Debian riscv64",
}
_LIKE_OTHERS = {"AMD64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l"}
_WITH_32_BITS = {"aarch64": "armv7l", "x86_64": "i686"}

_lock = threading.Lock()
_handles: dict[bytes, int] = {}  # sha256 → what dlopen gave; a library is never closed


def machine() -> str:
    """What this Python's programs are made for, as ``uname -m`` would say it.

    uname itself tells of the kernel, and that of a 32-bit Raspberry Pi OS may be a 64-bit one.
    """
    told = _LIKE_OTHERS.get(platform.machine(), platform.machine())
    return told if sys.maxsize > 1 << 32 else _WITH_32_BITS.get(told, told)


def board() -> str:
    """The machine for which a bundle's libraries could be loaded here; none outside Linux."""
    return machine() if sys.platform == "linux" else ""


def row() -> str:
    """Where the documentation says what to install on this machine."""
    name = _ROWS.get(machine())
    return "docs/devices.md" + (f", row {name!r}" if name else "")


def load(content: bytes, name: str) -> Any:
    """A ``ctypes.CDLL`` of these very bytes, which no file could have changed in the meantime.

    Args:
        content: of a shared library; the same bytes are loaded once in a process.
        name: for errors.

    Raises:
        EngineError: it cannot be loaded.
    """
    digest = hashlib.sha256(content).digest()
    with _lock:
        if digest not in _handles:
            try:
                if not _is_whole(content):
                    raise OSError("it is not a whole library")
                _handles[digest] = _opened(content)
            except OSError as error:
                raise EngineError(
                    f"{name} cannot be loaded on this machine ({error}); see {row()}, and export the bundle for it."
                ) from error
        return ctypes.CDLL(name, handle=_handles[digest])


def _is_whole(content: bytes) -> bool:
    """Whether an ELF file has all that it says it has: a loader that reads beyond the end ends the process."""
    wide = content[4:5] == b"\x02"
    try:
        (table,) = struct.unpack_from("<Q" if wide else "<I", content, 32 if wide else 28)
        size, count = struct.unpack_from("<HH", content, 54 if wide else 42)
        for n in range(count):
            place, length = struct.unpack_from("<8xQ16xQ" if wide else "<4xI8xI", content, table + n * size)
            if place + length > len(content):
                return False
    except (struct.error, OverflowError):
        return False
    return True


def _opened(content: bytes) -> int:
    with contextlib.suppress(OSError, AttributeError):  # another system, or /proc is not mounted
        descriptor = os.memfd_create("labous")
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(content)
            # the descriptor stays open: the loader knows libraries by their names, and this one must not come twice
            return ctypes.CDLL(f"/proc/self/fd/{descriptor}")._handle
        except OSError:
            os.close(descriptor)
    with tempfile.TemporaryDirectory(prefix="labous-") as folder:  # nobody else may write there
        path = Path(folder) / "library.so"
        path.write_bytes(content)
        return ctypes.CDLL(str(path))._handle
