"""What the tests of the middle and of the sinks share: a context, and records without a source."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labous.bundle import Bundle
from labous.detect import Detection, Label, Scoring
from labous.nodes import Context, Node, Record
from labous.recordings import read_blocks, windows
from labous.station.counters import Counters
from labous.station.observations import Observation
from labous.station.predictions import Classifier, Prediction
from labous.station.settings import Station
from tests.runtime.bundles import FRONTEND, LABELS

RATE, SIZE = FRONTEND.sample_rate, FRONTEND.window_samples
MORNING = datetime.datetime(2026, 5, 1, 4, 15, 30, tzinfo=datetime.timezone.utc)


def context(bundle_path: Path, folder: Path, **station: Any) -> Context:
    """A station's context, its state below a folder."""
    state = folder / "state"
    state.mkdir(parents=True, exist_ok=True)
    told = Station(bundle=str(bundle_path), **{"precision": "float32", **station})
    bundle = Bundle.read(bundle_path, told.precision, told.engine)
    return Context(bundle, told, state, Counters(), threading.Event(), folder)


def at(
    start: int, end: int | None = None, stream: str = "garden.wav", fresh: int | None = None, **columns: Any
) -> Record:
    """A record, by its samples."""
    end = start + SIZE if end is None else end
    time = MORNING + datetime.timedelta(seconds=start / RATE)
    return Record(stream, start, end, SIZE if fresh is None else fresh, time, columns)


def of_file(path: Path, overlap: float = 0.0) -> Iterator[Record]:
    """The windows of a file as a file source gives them."""
    heard = 0
    for window in windows(read_blocks(path, RATE), FRONTEND, overlap):
        fresh = SIZE if heard <= window.start else window.end - heard
        heard = window.end
        yield at(window.start, window.end, str(path), fresh, audio=window.samples)


def through(nodes: Sequence[Node], records: Iterable[Record], stream: str | None = None) -> list[Record]:
    """What comes out behind the last node, a stream's end included where it is named."""
    found = list(records)
    for node in nodes:
        passed = [out for record in found for out in node.process(record)]
        found = passed + (list(node.end(stream)) if stream is not None else [])
    return found


def classifier(top_n: int = 4, neighbor_weight: float = 0.0) -> Classifier:
    """A model with the test bundle's labels, that needs none to run."""
    labels = tuple(Label(*row) for row in LABELS)
    plain = Scoring.plain(len(LABELS))
    scoring = Scoring(plain.scale, plain.offset, neighbor_weight)
    return Classifier(labels, scoring, np.full(len(LABELS), 0.5, np.float32), top_n, "test 1")


def predicted(logits: Sequence[float], model: Classifier) -> Prediction:
    """What that model says of a window."""
    return Prediction(np.array(logits, np.float32), model)


def observation(record: Record, label: int = 0, score: float = 0.75, station: str = "labous") -> Observation:
    """Of one species in a record's window."""
    detection = Detection(record.stream, record.start / RATE, record.end / RATE, *LABELS[label], score=score)
    return Observation.of(station, record.time, detection, 1, "test 1")
