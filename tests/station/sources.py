"""What the sources' tests share: a context and a clock that can be set."""

from __future__ import annotations

import datetime
import threading
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from labous import recordings
from labous.nodes import Context, EndOfStream, Record
from labous.station.buffer import Clock
from labous.station.counters import Counters
from labous.station.settings import Station
from tests.runtime.bundles import FRONTEND

RATE, SIZE = FRONTEND.sample_rate, FRONTEND.window_samples
NOON = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.timezone.utc)


def context(folder: Path) -> Context:
    """Of a station with the test bundle's front end, all of whose files are in a folder."""
    bundle: Any = types.SimpleNamespace(frontend=FRONTEND)  # sources ask for nothing else
    state = folder / "state"
    state.mkdir(exist_ok=True)
    return Context(bundle, Station(bundle="b"), state, Counters(), threading.Event(), folder)


class SetClock(Clock):
    """Both clocks stand still until they are set."""

    def __init__(self) -> None:
        self.seconds, self.time = 1000.0, NOON

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime.datetime | None:
        return self.time

    def advance(self, seconds: float) -> None:
        """Time goes by."""
        self.seconds += seconds
        self.time += datetime.timedelta(seconds=seconds)


def split(given: Iterable[Record | EndOfStream]) -> tuple[list[Record], list[EndOfStream]]:
    """Windows, and ends of streams."""
    records: list[Record] = []
    ends: list[EndOfStream] = []
    for one in given:
        if isinstance(one, EndOfStream):
            ends.append(one)
        else:
            records.append(one)
    return records, ends


def check_as_analyzed(records: list[Record], path: Path, overlap: float = 0.0) -> None:
    """The windows are, to the last bit, those of ``labous analyze``."""
    wanted = list(recordings.windows(recordings.read_blocks(path, RATE), FRONTEND, overlap))
    assert [(r.start, r.end) for r in records] == [(w.start, w.end) for w in wanted]
    had = 0
    for record, window in zip(records, wanted, strict=True):
        np.testing.assert_array_equal(record.columns["audio"], window.samples)
        assert record.fresh == (min(record.end - had, SIZE) if had else SIZE)
        had = record.end
