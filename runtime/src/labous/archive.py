"""A bundle's files: read from a directory or a .zip into memory, each proved by ``SHA256SUMS`` before it is used.

``SHA256SUMS`` is what ``sha256sum -c`` reads: ``<64 lower-case hex digits>  <path>`` per line, sorted by path. It is
read strictly, so that a flipped byte in it is refused as surely as one in the files it lists. It proves that nothing
was damaged on the way, not who made the bundle.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from labous.errors import BundleError

CHECKSUMS = "SHA256SUMS"
MAX_TOTAL_BYTES = 256 * 2**20
"""The most that all files of a bundle together may hold, uncompressed."""

_MAX_FILES = 1000
_MAX_CHECKSUM_BYTES = 2**20
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_AGAIN = "fetch the bundle again"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
"""What reading a damaged .zip or .npz raises."""


def read_files(path: Path) -> dict[str, bytes]:
    """Read every file that a bundle lists, and prove each.

    Args:
        path: a directory, or a .zip that holds the files at its root or in one folder.

    Returns:
        The bytes of each listed file by its path inside the bundle, ``SHA256SUMS`` itself left out.

    Raises:
        BundleError: a file is missing, damaged, too large, a link, or has a path that leaves the bundle.
    """
    with _open(path) as source:
        sums = _parse_checksums(source.read(CHECKSUMS, _MAX_CHECKSUM_BYTES))
        files: dict[str, bytes] = {}
        left = MAX_TOTAL_BYTES
        for name, digest in sums.items():
            content = source.read(name, left)
            left -= len(content)
            if hashlib.sha256(content).hexdigest() != digest:
                raise BundleError(f"{_where(path)}: {name} does not match {CHECKSUMS}: one is damaged; {_AGAIN}.")
            files[name] = content
    return files


def write_checksums(directory: str | Path) -> None:
    """Write ``SHA256SUMS`` over every file below a directory; the last step of making a bundle.

    Raises:
        BundleError: a file is a link or its path could not be listed.
    """
    root = Path(directory)
    lines = []
    for file in root.rglob("*"):
        name = file.relative_to(root).as_posix()
        if file.is_symlink():
            raise BundleError(f"{_where(root)}: {name!r} is a link; put the file itself into the bundle.")
        if file.is_file() and name != CHECKSUMS:
            _check_name(name)
            lines.append((name, f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n"))
    beside = root / f".{CHECKSUMS}.new"
    beside.write_text("".join(line for _, line in sorted(lines)), encoding="utf-8", newline="\n")
    beside.replace(root / CHECKSUMS)


def _parse_checksums(content: bytes) -> dict[str, str]:
    """Digest by path, in the file's order."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{CHECKSUMS} is damaged (it is not UTF-8); {_AGAIN}.") from error
    lines = text.split("\n")
    if lines.pop() != "" or not lines:
        raise BundleError(f"{CHECKSUMS} is damaged or cut short; {_AGAIN}.")
    if len(lines) > _MAX_FILES:
        raise BundleError(f"{CHECKSUMS} lists {len(lines)} files, over {_MAX_FILES}.")
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise BundleError(f"{CHECKSUMS} is damaged in line {number}; {_AGAIN}.")
        digest, name = match.groups()
        _check_name(name)
        if sums and name <= next(reversed(sums)):
            raise BundleError(f"{CHECKSUMS} is damaged: line {number} is out of order; {_AGAIN}.")
        sums[name] = digest
    return sums


def _check_name(name: str) -> None:
    """Refuse a path that is not plainly inside the bundle."""
    plain = name.isprintable() and "\\" not in name and ":" not in name and len(name) <= 200
    if not plain or any(part in ("", ".", "..") for part in name.split("/")) or name == CHECKSUMS:
        raise BundleError(
            f"{CHECKSUMS} lists the path {name[:200]!r}, which is refused: paths must stay in the bundle."
        )


def _where(path: Path) -> str:
    return f"Bundle {str(path)!r}"


class _Source(Protocol):
    def read(self, name: str, limit: int) -> bytes: ...


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_Source]:
    try:
        is_directory, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise BundleError(f"{_where(path)} cannot be read: {error.strerror}.") from error
    if is_directory:
        yield _Directory(path)
    elif not exists:
        raise BundleError(f"{_where(path)} does not exist; give a bundle's directory or .zip.")
    elif not path.is_file():
        raise BundleError(f"{_where(path)} is neither a directory nor a file; give a bundle's directory or .zip.")
    else:
        try:
            archive = zipfile.ZipFile(path)
        except ZIP_ERRORS as error:
            raise BundleError(
                f"{_where(path)} is not a directory and not a readable .zip ({error}); {_AGAIN}."
            ) from error
        with archive:
            yield _Zip(path, archive)


def _read_all(file: IO[bytes], name: str, size: int, limit: int, path: Path) -> bytes:
    """Read a file of the size it claims, never more than that, whatever it turns out to hold."""
    if size > limit:
        total = MAX_TOTAL_BYTES // 2**20
        raise BundleError(f"{_where(path)}: {name} is too large ({size} bytes); a bundle may hold {total} MiB in all.")
    content = file.read(size + 1)
    if len(content) != size:
        raise BundleError(f"{_where(path)}: {name} is not as long as it claims; {_AGAIN}.")
    return content


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str, limit: int) -> bytes:
        place = self._root
        try:
            for part in PurePosixPath(name).parts:
                # the listing, since some file systems find "Labels.csv" when asked for "labels.csv"
                if part not in {entry.name for entry in place.iterdir()}:
                    raise FileNotFoundError
                place /= part
                if place.is_symlink():
                    raise BundleError(f"{_where(self._root)}: {name} is a link; a bundle must hold the file itself.")
            status = place.stat()
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{_where(self._root)}: {name} is not a regular file.")
            with place.open("rb") as file:
                return _read_all(file, name, status.st_size, limit, self._root)
        except (FileNotFoundError, NotADirectoryError):
            raise BundleError(_missing(self._root, name)) from None
        except OSError as error:
            raise BundleError(f"{_where(self._root)}: {name} cannot be read: {error.strerror}.") from error


class _Zip:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        members = archive.infolist()
        if len(members) > _MAX_FILES:
            raise BundleError(f"{_where(path)} has {len(members)} entries, over {_MAX_FILES}.")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            name = member.filename.rstrip("/")
            if ".." in name.split("/") or name.startswith("/") or "\\" in member.orig_filename:
                raise BundleError(
                    f"{_where(path)}: its entry {name[:200]!r} is refused: paths must stay in the bundle."
                )
            if name in self._members:
                raise BundleError(f"{_where(path)} holds {name[:200]!r} twice; {_AGAIN}.")
            self._members[name] = member
        folders = {name.split("/")[0] for name in self._members}
        in_folder = CHECKSUMS not in self._members and len(folders) == 1
        self._prefix = f"{folders.pop()}/" if in_folder else ""

    def read(self, name: str, limit: int) -> bytes:
        member = self._members.get(self._prefix + name)
        if member is None:
            raise BundleError(_missing(self._path, name))
        mode = member.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG) or member.is_dir():
            raise BundleError(
                f"{_where(self._path)}: {name} is a link or not a file; a bundle must hold the file itself."
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(f"{_where(self._path)}: {name} is neither stored nor deflated; zip it the plain way.")
        try:
            with self._archive.open(member) as file:
                return _read_all(file, name, member.file_size, limit, self._path)
        except ZIP_ERRORS as error:
            raise BundleError(f"{_where(self._path)}: {name} is damaged ({error}); {_AGAIN}.") from error


def _missing(path: Path, name: str) -> str:
    if name == CHECKSUMS:
        return f"{_where(path)} has no {CHECKSUMS}; give a bundle's directory or .zip."
    return f"{_where(path)}: {name} is listed in {CHECKSUMS} and missing; {_AGAIN}."
