"""Mel modules, checked and compiled, and kept so from one process to the next in a folder of the user's own.

What Wasmtime has compiled is machine code, so the folder is trusted only as far as nobody else can write to it;
docs/adr/0005-precompiled-cache.md says what is checked, and why.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import platform
import re
import stat
import sys
import time
from pathlib import Path
from typing import Any

from labous import libraries
from labous._version import __version__
from labous.errors import EngineError
from labous.mel import abi

MODULE_LIMIT = 1 << 20
"""Bytes of a module, which have to be few, because compiling cannot be interrupted: ours has about 20 000."""

WASMTIME_MACHINES = ("x86_64", "aarch64")
"""Machines that Wasmtime has wheels for."""

CHOICE_VARIABLE = "LABOUS_WEBASSEMBLY"
"""Environment variable that says what runs WebAssembly, wasmtime or library; by default Wasmtime where it works."""

FOLDER_VARIABLE = "LABOUS_CACHE_DIR"
"""Environment variable that names the folder; an empty value means none."""

KEPT = 16
"""Entries that stay in the folder; the oldest go first."""

_MAGIC = b"labous-compiled\x00"
_ENTRY = r"[0-9a-f]{64}\.cwasm"
_PART = _ENTRY + r"\.[0-9a-f]{16}\.part"
_ABANDONED = 3600.0  # seconds after which nobody is still writing a file of a tenth of a megabyte

_logger = logging.getLogger("labous")


def import_wasmtime() -> Any:
    """The package wasmtime.

    Raises:
        EngineError: it cannot be imported.
    """
    try:
        import wasmtime
    except Exception as error:  # its wheel for any machine installs where it has no library, and raises then
        told = str(error).strip().split("\n")[0] or type(error).__name__
        if libraries.machine() in WASMTIME_MACHINES:
            do = "install it with `pip install wasmtime`"
        else:
            do = f"it is not made for this machine; see {libraries.row()}"
        raise EngineError(f"Wasmtime cannot be imported ({told}): {do}.") from error
    return wasmtime


def hindrance() -> str | None:
    """Why WebAssembly is not to run in Wasmtime, but as machine code that was made of it, in a clause; None if it is.

    Raises:
        EngineError: ``LABOUS_WEBASSEMBLY``, which can ask for either, says something else.
    """
    asked = os.environ.get(CHOICE_VARIABLE, "")
    if asked not in ("", "wasmtime", "library"):
        raise EngineError(f"{CHOICE_VARIABLE} is {asked!r}; set it to wasmtime or library, or not at all.")
    if asked:
        return f"{CHOICE_VARIABLE} asks for a library" if asked == "library" else None
    try:
        import_wasmtime()
    except EngineError as error:
        return str(error).rstrip(".")
    return None


def load(module: bytes, interruptible: bool) -> tuple[Any, Any]:
    """A new ``wasmtime.Engine`` and, in it, the compiled module: from memory, from the folder, or compiled now.

    Args:
        module: the WebAssembly.
        interruptible: compile it so that counting up the engine's epoch stops it; that makes it about a quarter slower.

    Raises:
        EngineError: Wasmtime is missing, or the module is not WebAssembly, or not a mel module.
    """
    code = _machine_code(module, interruptible)
    engine = _engine(interruptible)
    return engine, import_wasmtime().Module.deserialize(engine, code)


def folder() -> Path | None:
    """Where compiled modules are kept: ``LABOUS_CACHE_DIR``, or the platform's folder for what can be made again."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given is not None:
        return Path(given) if given else None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")  # noqa: PTH111 (Path's raises where there is no home)
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):  # noqa: PTH117 (as the XDG specification has it)
            base = os.path.expanduser("~/.cache")  # noqa: PTH111
    return Path(base) / "labous" if os.path.isabs(base) else None  # noqa: PTH117


@functools.lru_cache(maxsize=4)
def _machine_code(module: bytes, interruptible: bool) -> bytes:
    wasmtime = import_wasmtime()
    engine = _engine(interruptible)
    place = _place(module, interruptible)
    code = None if place is None else _read(place)
    if code is not None:
        try:
            wasmtime.Module.deserialize(engine, code)
            return code
        except wasmtime.WasmtimeError as error:  # the key missed a difference that Wasmtime itself looks for
            _logger.debug("%s is compiled again: %s", place, error)
    if len(module) > MODULE_LIMIT:
        raise EngineError(
            f"The mel module has {len(module)} bytes, and {MODULE_LIMIT} is the most; it is not a melspec.wasm: use "
            "another file."
        )
    try:
        compiled = wasmtime.Module(engine, module)
    except wasmtime.WasmtimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise EngineError(f"The mel module is not valid WebAssembly: {reason}.") from error
    _check_interface(compiled)
    code = bytes(compiled.serialize())
    if place is not None:
        _write(place, code)
    return code


def _check_interface(module: Any) -> None:
    """Refuses what a mel plan could not call; what is in the folder has passed this."""
    wasmtime = import_wasmtime()
    if module.imports:
        names = ", ".join(f"{i.module}.{i.name}" for i in module.imports)
        raise EngineError(f"The mel module asks its host for {names}; a mel module imports nothing: use another file.")
    exports = {export.name: export.type for export in module.exports}
    missing = sorted({*abi.FUNCTIONS, "memory"} - exports.keys())
    if missing:
        raise EngineError(f"The mel module lacks {', '.join(missing)}; it is not a melspec.wasm: use another file.")
    i32 = wasmtime.ValType.i32()
    for name, kinds in (abi.FUNCTIONS | abi.LAW_FUNCTIONS).items():
        if name not in exports:
            continue  # an older module's power law
        function = exports[name]
        if (
            not isinstance(function, wasmtime.FuncType)
            or function.params != [i32] * len(kinds)
            or function.results not in ([], [i32])
        ):
            raise EngineError(
                f"The mel module's {name} is not the function of version {abi.ABI_VERSION} of the mel stage's ABI: "
                "install a labous of the same age as the module."
            )
    memory = exports["memory"]
    if not isinstance(memory, wasmtime.MemoryType) or memory.is_64:
        raise EngineError("The mel module's memory is not a 32-bit one; it is not a melspec.wasm: use another file.")


def _engine(interruptible: bool) -> Any:
    wasmtime = import_wasmtime()
    if not interruptible:
        return wasmtime.Engine()
    config = wasmtime.Config()  # whatever else is ever set here must go into _key as well
    config.epoch_interruption = True
    return wasmtime.Engine(config)


def _place(module: bytes, interruptible: bool) -> Path | None:
    where, build = folder(), _wasmtime_build()
    if where is None or build is None:
        return None
    return where / f"{_key(module, interruptible, build)}.cwasm"


def _key(module: bytes, interruptible: bool, build: bytes) -> str:
    settings = b"epochs" if interruptible else b"plain"
    functions = abi.FUNCTIONS | abi.LAW_FUNCTIONS
    checked = repr((__version__, functions)).encode()  # against what _check_interface has checked it
    parts = (_MAGIC, checked, build, settings, _host(), module)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).hexdigest()


def _wasmtime_build() -> bytes | None:
    """What tells this build of Wasmtime's library from every other; None where it is not where its wheel puts it.

    Its size and its first page, in which linkers write a hash of the whole or the place of every part. The version
    would not do: it takes longer to find out than all the rest here, and Wasmtime takes the code of any patch release
    of its own major version, so that a fault in one would outlive the update that mends it.
    """
    build = b""
    with contextlib.suppress(OSError):
        for folder in os.scandir(Path(import_wasmtime().__file__).parent):
            for entry in os.scandir(folder) if folder.is_dir() else ():
                if entry.name.startswith(("_libwasmtime.", "_wasmtime.")):
                    with open(entry, "rb", buffering=0) as file:  # noqa: PTH123
                        build += b"%d:" % entry.stat().st_size + file.read(4096)
    return build or None


def _host() -> bytes:
    """What code is compiled for: a home folder may be shared by machines with different processors."""
    features = os.environ.get("PROCESSOR_IDENTIFIER", "").encode()  # Windows
    with contextlib.suppress(OSError), open("/proc/cpuinfo", "rb", buffering=0) as file:  # Linux  # noqa: PTH123
        lines = file.read(8192).splitlines()
        features += next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")
    return f"{sys.platform} {platform.machine()} ".encode() + features


def _read(place: Path) -> bytes | None:
    """The code at this place, if it is whole and nobody but this user can have written it."""
    no_surprises = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not _ours(place.parent.lstat(), stat.S_ISDIR):
            _logger.debug(
                "%s is not used: it must be a folder that only its owner, this user, can write to", place.parent
            )
            return None
        descriptor = os.open(place, os.O_RDONLY | no_surprises)
        with os.fdopen(descriptor, "rb") as file:
            if not _ours(os.fstat(descriptor), stat.S_ISREG):
                return None
            data = file.read()
    except OSError:
        return None
    start = len(_MAGIC) + hashlib.sha256().digest_size
    code = data[start:]
    return code if data[:start] == _MAGIC + _digest(place, code) else None


def _write(place: Path, code: bytes) -> None:
    """Puts the code there, whole or not at all; never over the old file, which others may have open."""
    part = place.with_name(f"{place.name}.{os.urandom(8).hex()}.part")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours(place.parent.lstat(), stat.S_ISDIR):
            return
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + _digest(place, code) + code)
            part.replace(place)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        _prune(place.parent)
    except OSError as error:
        _logger.debug("%s cannot be kept: %s", place, error)


def _digest(place: Path, code: bytes) -> bytes:
    """Bound to the name: an intact file under another's name is another module's code."""
    return hashlib.sha256(place.name.encode() + code).digest()


def _ours(found: os.stat_result, is_kind: Any) -> bool:
    """Whether this is what it should be, and no other user can have put it there or changed it."""
    if not is_kind(found.st_mode):
        return False
    if not hasattr(os, "geteuid"):  # Windows: %LOCALAPPDATA% belongs to the user alone, and modes say nothing
        return True
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _prune(where: Path) -> None:
    """Deletes all but the newest entries, and what an interrupted process left; nothing with another kind of name."""
    entries: list[tuple[float, Path]] = []
    for path in where.iterdir():
        is_part = re.fullmatch(_PART, path.name)
        if not is_part and not re.fullmatch(_ENTRY, path.name):
            continue
        with contextlib.suppress(OSError):  # another process may be pruning too
            found = path.lstat()
            if not _ours(found, stat.S_ISREG):
                continue
            if not is_part:
                entries.append((found.st_mtime, path))
            elif found.st_mtime < time.time() - _ABANDONED:
                path.unlink()
    for _, path in sorted(entries, reverse=True)[KEPT:]:
        with contextlib.suppress(OSError):
            path.unlink()
