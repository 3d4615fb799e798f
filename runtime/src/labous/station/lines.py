"""Files of lines that grow by appending and neither alone nor together without bound."""

from __future__ import annotations

import collections
import contextlib
import re
from pathlib import Path

from labous.nodes import Context
from labous.station.files import append_lines, later
from labous.station.writes import Writes, usable_folder

_WAITING = 16_000_000  # bytes of lines that a full disk may hold up
_KNOWN = 1000  # stems of which the newest part is remembered


class LineFiles:
    """Files ``STEM.SUFFIX``, and, when that is full, ``STEM.2.SUFFIX`` and so on.

    Args:
        context: of the node.
        node: its type.
        folder: of the files; made if it is missing.
        stems: a regular expression for all stems, so that no other files are ever deleted.
        suffix: of the files, with its dot.
        header: what each file begins with.
        limit: bytes at which a file is full.
        keep: how many files are kept; None for all.

    Raises:
        NodeError: nothing can be written into the folder.
    """

    def __init__(
        self,
        context: Context,
        node: str,
        folder: Path,
        stems: str,
        suffix: str,
        header: str,
        limit: int,
        keep: int | None,
    ) -> None:
        self._folder, self._suffix, self._header = usable_folder(folder), suffix, header.encode()
        self._limit, self._keep = limit, keep
        self._ours = re.compile(rf"(?P<stem>{stems})(?:\.(?P<part>[1-9]\d{{0,8}}))?{re.escape(suffix)}")
        self._parts: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._newest = max((when for when, _, _ in self._ages()), default=0) if keep is not None else 0
        self._writes = Writes(context, node, _WAITING)
        self.settle, self.finish, self.close = self._writes.settle, self._writes.finish, self._writes.close

    def put(self, stem: str, lines: str, anew: bool = False) -> None:
        """Append whole lines, now or when the disk has room; see :class:`labous.station.writes.Writes`.

        Args:
            stem: of the file.
            lines: each ended by a line feed.
            anew: whether files of this stem, which an earlier run has left, are deleted first.
        """
        content = lines.encode("utf-8", "backslashreplace")
        self._writes.put(stem, len(content), lambda: self._append(stem, content, anew))

    def _append(self, stem: str, content: bytes, anew: bool) -> None:
        if anew:
            for path, _ in self._files(stem):
                path.unlink(missing_ok=True)
            self._parts.pop(stem, None)
        part = self._parts.get(stem) or max((part for _, part in self._files(stem)), default=1)
        path = self._path(stem, part)
        size = _size(path)
        if size > 0 and size + len(content) > self._limit:
            part += 1
            path, size = self._path(stem, part), 0
        append_lines(path, content, self._header)
        if self._keep is not None:
            self._delete_old(path, begun=size == 0)
        self._parts[stem] = part
        self._parts.move_to_end(stem)
        if len(self._parts) > _KNOWN:
            self._parts.popitem(last=False)

    def _path(self, stem: str, part: int) -> Path:
        return self._folder / f"{stem}{f'.{part}' if part > 1 else ''}{self._suffix}"

    def _files(self, stem: str | None = None) -> list[tuple[Path, int]]:
        """The files there are, of one stem or of all, each with its part's number."""
        found = ((path, self._ours.fullmatch(path.name)) for path in self._folder.iterdir())
        return [
            (path, int(match["part"] or 1))
            for path, match in found
            if match is not None and stem in (None, match["stem"])
        ]

    def _ages(self) -> list[tuple[int, int, Path]]:
        """When each file was written to last, its part's number, and the file; the newest first."""
        found = []
        with contextlib.suppress(OSError):
            for path, part in self._files():
                with contextlib.suppress(OSError):
                    found.append((path.stat().st_mtime_ns, part, path))
        return sorted(found, reverse=True)

    def _delete_old(self, newest: Path, begun: bool) -> None:
        """Date the file that was written to behind all others, and, if it has just begun, delete the oldest."""
        others = [age for age in self._ages() if age[2] != newest] if begun else []
        self._newest = later(newest, max([self._newest, *(when for when, _, _ in others)]))
        with contextlib.suppress(OSError):  # the next file's turn
            for _, _, path in others[(self._keep or 1) - 1 :]:
                path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
