"""What became of every file so far, on disk after each, so that no run does again what one before it has done."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from training.files import write_text
from training.segments import Extraction, Feature, Job, Outcome, Stretch

_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system: a younger file can change and keep its times
_SHOWN = 16  # outcomes, at most, of files with a file's name and size, for the worker that hashes it


class _State(NamedTuple):
    """A file before it was read: its size (-1: there is none) and times, and whether a later change shows in them."""

    size: int
    mtime_ns: int
    ctime_ns: int
    settled: bool


@dataclasses.dataclass(frozen=True)
class _Entry:
    state: _State
    outcome: Outcome


class Journal:
    """Outcomes by path, one line of JSON each, added as they come and flushed: killed at any moment, a line is lost.

    A file that has the size and the times it had is taken for the same. One of which only the times changed, or that
    is in another folder now, is hashed by a worker, and decoded only if the hash is new. Entries of another front end,
    backend or code are forgotten, and so, by :meth:`keep_only`, are those of files that are no longer asked for.

    It is a context manager, which closes its file.

    Args:
        path: of the journal.
        work: how features are computed, and where they are kept.
    """

    def __init__(self, path: Path, work: Extraction) -> None:
        self._path, self._work, self._key = path, work, work.key
        self._entries: dict[str, _Entry] = {}
        self._states: dict[str, _State] = {}  # of the files that are being read
        text = _text(path)
        lines = text.splitlines()
        for line in lines:
            entry = self._parsed(line)
            if entry is not None:
                self._entries[entry.outcome.path] = entry
        self._alike: dict[tuple[str, int], list[Outcome]] = defaultdict(list)
        for entry in self._entries.values():
            self._alike[Path(entry.outcome.path).name, entry.state.size].append(entry.outcome)
        if len(self._entries) < len(lines) or not text.endswith("\n"):  # lines are added to whole lines only
            self._write_all()
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def known(self, path: str, stretches: tuple[Stretch, ...]) -> Outcome | Job:
        """What became of a file, if nothing that decides it has changed; else the job to find out."""
        state = _state(path)
        entry = self._entries.get(path)
        if entry is not None and state.settled and entry.state == state:
            kept = self._work.kept(entry.outcome, stretches)
            if kept is not None:
                return kept
        self._states[path] = state
        return Job(path, stretches, state.size, tuple(self._alike.get((Path(path).name, state.size), [])[:_SHOWN]))

    def add(self, outcome: Outcome) -> None:
        """Write down what became of a job, unless the file cannot be used: perhaps another time it can."""
        entry = _Entry(self._states.pop(outcome.path), outcome)
        if outcome.reason:
            return
        self._entries[outcome.path] = entry
        self._file.write(self._line(entry))
        self._file.flush()

    def keep_only(self, paths: Iterable[str]) -> None:
        """Forget all other files, and end the journal, sorted by path."""
        self._file.close()
        self._entries = {path: self._entries[path] for path in sorted(set(paths) & self._entries.keys())}
        self._write_all()

    def _write_all(self) -> None:
        write_text(self._path, "".join(self._line(entry) for entry in self._entries.values()))

    def _line(self, entry: _Entry) -> str:
        outcome = entry.outcome
        features = [[*_ends(f.stretch), f.name, f.seconds, f.reason] for f in outcome.features]
        fields = [self._key, entry.state, outcome.path, outcome.sha256, outcome.seconds, outcome.reason, features]
        return json.dumps(fields, ensure_ascii=True) + "\n"

    def _parsed(self, line: str) -> _Entry | None:
        """None for a line of other work, or one that was being written when the process was killed."""
        try:
            key, state, path, sha256, seconds, reason, features = json.loads(line)
            found = tuple(
                Feature(Stretch(start, float("inf") if end is None else end), *rest) for start, end, *rest in features
            )
            return _Entry(_State(*state), Outcome(path, sha256, seconds, reason, found)) if key == self._key else None
        except (ValueError, TypeError):
            return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _ends(stretch: Stretch) -> list[Any]:
    return [stretch.start, None if stretch.end == float("inf") else stretch.end]


def _state(path: str) -> _State:
    now = time.time_ns()
    try:
        stat = Path(path).stat()
    except (OSError, ValueError):
        return _State(-1, 0, 0, False)
    settled = now - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS
    return _State(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, settled)
