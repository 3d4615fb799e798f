"""Clips on disk, under a budget: what is common makes room for what is rare."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from pathlib import Path

from labous.station.counters import Counters
from labous.station.files import later, write_whole

_FILE = re.compile(r"(?P<clip>(?:\d{8}T\d{6}Z|undated)-[0-9a-f-]{8,36})\.(?:flac|ogg|png)")
_PART = re.compile(rf"\.{_FILE.pattern}\.part")


class Shelf:
    """A folder per species with its clips, each one or two files of one stem.

    When they would take more than the budget, the oldest clip of the species with the most is deleted, and so on; of
    species with equally many, of that whose oldest is the oldest. What is there when the shelf is opened counts too;
    files with other names are left alone.

    Args:
        folder: made if it is missing.
        budget: bytes.
        counters: told ``clips_bytes``, ``clips_evicted_total`` and ``lost_clips_total``.
    """

    def __init__(self, folder: Path, budget: int, counters: Counters) -> None:
        self._folder, self._budget, self._counters = folder, budget, counters
        self._clips: dict[str, dict[str, tuple[int, int]]] = {}  # species → clip, the oldest first → when, bytes
        self._bytes = 0
        self._newest = 0
        for place in sorted(folder.iterdir()) if folder.is_dir() else ():
            if place.is_dir() and not place.is_symlink():
                self._read(place)
        self._counters.set("clips_bytes", self._bytes)

    def put(self, species: str, clip: str, files: Mapping[str, bytes]) -> bool:
        """Save a clip, or save it again.

        Args:
            species: a name of a folder.
            clip: the stem of its files: a time or "undated", a dash, and an id.
            files: their contents by suffix, the sound first.

        Returns:
            whether it was saved; not, where it alone is over the budget: it is counted as lost.

        Raises:
            OSError: it cannot be written.
        """
        size = sum(map(len, files.values()))
        if size > self._budget:
            self._counters.add("lost_clips_total")
            return False
        self._forget(species, clip)
        clips = self._clips.setdefault(species, {})
        self._newest = max(time.time_ns(), self._newest + 1)
        clips[clip] = (self._newest, 0)  # it counts when the commonest is looked for
        try:
            while self._bytes + size > self._budget:
                self._evict(but=(species, clip))
            for suffix, content in files.items():
                path = self._folder / species / f"{clip}{suffix}"
                write_whole(path, content)
                later(path, self._newest)
        except OSError:
            del clips[clip]
            for suffix in files:
                (self._folder / species / f"{clip}{suffix}").unlink(missing_ok=True)
            raise
        clips[clip] = (self._newest, size)
        self._bytes += size
        self._counters.set("clips_bytes", self._bytes)
        return True

    def _read(self, place: Path) -> None:
        found: dict[str, tuple[int, int]] = {}
        for path in place.iterdir():
            if _PART.fullmatch(path.name):  # a power cut
                with contextlib.suppress(OSError):
                    path.unlink()
            match = _FILE.fullmatch(path.name)
            if match is None:
                continue
            told = path.lstat()
            when, size = found.get(match["clip"], (told.st_mtime_ns, 0))
            found[match["clip"]] = min(when, told.st_mtime_ns), size + told.st_size
        self._clips[place.name] = dict(sorted(found.items(), key=lambda item: (item[1][0], item[0])))
        self._bytes += sum(size for _, size in found.values())
        self._newest = max([self._newest, *(when for when, _ in found.values())])

    def _forget(self, species: str, clip: str) -> None:
        _, size = self._clips.get(species, {}).pop(clip, (0, 0))
        self._bytes -= size

    def _evict(self, but: tuple[str, str]) -> None:
        """Delete one clip, but not that which room is made for."""

        def rank(species: str) -> tuple[int, int]:
            clips = self._clips[species]
            oldest = next(iter(clips.values()))[0]
            return -len(clips), oldest

        species = min((name for name, clips in self._clips.items() if set(clips) - {but[1]}), key=rank)
        clip = next(name for name in self._clips[species] if (species, name) != but)
        for suffix in (".flac", ".ogg", ".png"):
            (self._folder / species / f"{clip}{suffix}").unlink(missing_ok=True)
        self._forget(species, clip)
        self._counters.add("clips_evicted_total")
