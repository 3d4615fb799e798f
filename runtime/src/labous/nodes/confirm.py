"""confirm: from predictions to observations, what a station believes and reports."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from labous.detect import Confirmation, Detection, Hits, Label, Smoothing, best, birds_only
from labous.errors import NodeError
from labous.nodes import Context, Record
from labous.options import Refused, option
from labous.station.observations import Observation
from labous.station.occurrence import FILE, Occurrence, Species, read_list
from labous.station.predictions import Classifier, Prediction, labels_of
from labous.station.reports import Heard, Reports

_logger = logging.getLogger("labous")


@dataclasses.dataclass(frozen=True)
class Confirm:
    """What the station believes: species above their threshold in enough of the last windows, by default as the bundle
    says, each reported once per interval.

    Where the bundle smooths logits over neighboring windows, a window is given on when the next one has come. A window
    reports a species if it shows it itself and completes the count of ``hits`` in the last ``windows``; counting
    begins anew where sound is missing. Of several such windows within ``interval``, the first one reports. Windows
    are given on whether they report anything or not.

    Within a stream its samples tell how long ago a report was, as clocks may jump; from one stream to another, and over
    restarts, the clock tells, where both have a time: set back, it silences nothing. A report is remembered, in the
    station's state directory, once all nodes behind this one have it, so a crash may repeat one and loses none. A
    recording that is heard again, of the same name and beginning, is reported as it was the first time, with the same
    ids: its own reports, and those since, are forgotten.

    A species may be named by its eBird code or by any of its names in the bundle's labels.csv. What the bundle says is
    no bird (a dog, an engine, a voice) is never reported, whatever the options say.
    """

    threshold: float | None = option(
        "probability from which on any species is detected; the bundle's own for each, if left out",
        None,
        minimum=0,
        maximum=1,
    )
    thresholds: dict[str, float] | None = option(  # noqa: RUF009 (its default is None)
        "probability from which on a species is detected, by its name", None, minimum=0, maximum=1
    )
    hits: int | None = option(
        "in how many of the last windows a species must be detected; as the bundle says, if left out", None, minimum=1
    )
    windows: int | None = option(
        "how many windows are looked at, the newest included; as the bundle says, if left out",
        None,
        minimum=1,
        maximum=1000,
    )
    interval: float = option(
        "how long a species that was reported is not reported again, s; 0 to report each window", 0.0, minimum=0
    )
    species_list: str | None = option(
        "path of a list of species, one a line, relative to the pipeline file: only these are reported, whatever the "
        "bundle says of place and season",
        None,
        least=1,
        names="reads",
    )
    include: tuple[str, ...] = option(
        "species that are reported too, whatever the list, or the bundle of place and season, says", ()
    )
    exclude: tuple[str, ...] = option("species that are never reported", ())
    occurrence: float = option(
        "how often a species must be met in that week near the station, 0 … 1, to be reported, where the bundle tells; "
        "0 for any",
        0.001,
        minimum=0,
        maximum=1,
    )
    labels: str | None = option(
        "path of the labels of the model, if the tflite node was given such", None, least=1, names="reads"
    )
    name: str = option(
        "of the file of what it reported last; small letters, digits, dashes; two nodes of this kind need two names",
        "confirm",
        pattern=r"[a-z0-9][a-z0-9-]{0,31}",
    )
    input: str = option("column that it reads", "predictions", least=1)
    output: str = option("column that it writes", "observations", least=1)

    def __post_init__(self) -> None:
        """Check what keys mean together."""
        if self.hits is not None and self.windows is not None and self.hits > self.windows:
            raise Refused("hits", f"is {self.hits} of {self.windows} windows; it can be at most their number.")

    def open(self, context: Context) -> _Node:
        """The node.

        Raises:
            NodeError: a species is not the model's, or a list cannot be read.
        """
        return _Node(self, context)


class _Node:
    def __init__(self, options: Confirm, context: Context) -> None:
        self._options, self._context = options, context
        self._sample_rate = context.bundle.frontend.sample_rate
        self._labels = labels_of(context, options.labels, "confirm")
        self._species = Species(self._labels)
        self._rule = self._read_rule()
        self._thresholds = {
            index: value
            for name, value in (options.thresholds or {}).items()
            for index in self._species.named(name, f"confirm: thresholds.{name}")
        }
        self._season: Occurrence | None = None
        self._allowed = self._read_allowed()
        self._classifier: Classifier | None = None
        self._lowest = np.zeros(0, np.float32)
        self._streams: dict[str, _Stream] = {}
        self._reports: Reports | None = None
        if options.interval > 0:
            path = context.state / f"{options.name}-reports.json"
            self._reports = Reports(path, options.interval, context.counters)

    def process(self, record: Record) -> Iterator[Record]:
        """The window whose smoothed logits are known with this one's: this one, or the one before it."""
        prediction: Prediction = record.columns[self._options.input]
        if prediction.classifier is not self._classifier:
            self._meet(prediction.classifier)
        stream = self._streams.setdefault(record.stream, _Stream())
        self._date(stream, record)
        if stream.stretch is not None and not stream.stretch.goes_on_with(record):
            yield from self._flushed(stream)
        if stream.stretch is None:
            weight = prediction.classifier.scoring.neighbor_weight
            stream.stretch = _Stretch(weight, self._rule.windows, len(self._labels))
        stream.stretch.last = record.start, record.end
        known = stream.stretch.smoothing.push(record, prediction.logits)
        if known is not None:
            yield from self._observed(stream, stream.stretch, *known)
        if self._reports is not None:
            self._reports.settle()

    def end(self, stream: str) -> Iterator[Record]:
        """The last window."""
        yield from self._flushed(self._streams.pop(stream, _Stream()))
        if self._reports is not None:
            self._reports.save()

    def close(self) -> None:
        """Write down what was reported last."""
        if self._reports is not None:
            self._reports.save()

    def _flushed(self, stream: _Stream) -> Iterator[Record]:
        stretch, stream.stretch = stream.stretch, None
        known = None if stretch is None else stretch.smoothing.end()
        if stretch is not None and known is not None:
            yield from self._observed(stream, stretch, *known)

    def _observed(
        self, stream: _Stream, stretch: _Stretch, record: Record, logits: NDArray[np.float32]
    ) -> Iterator[Record]:
        classifier = self._classifier
        assert classifier is not None
        probabilities = classifier.scoring.calibrated(logits)
        considered = np.where(self._likely(record.time), probabilities, np.float32(-1))
        shown = best(considered, self._lowest, classifier.top_n)
        detected = np.zeros(len(self._labels), np.bool_)
        detected[shown] = True
        hits = stretch.hits.push(detected)
        due = [index for index in shown if hits[index] >= self._rule.hits and self._is_due(index, stream, record)]
        observations = []
        sound = record.digest() if due and record.time is None else ""
        for index in due:
            detection = self._detection(record, self._labels[index], float(probabilities[index]))
            station, name = self._context.station.name, classifier.name
            observations.append(Observation.of(station, record.time, detection, int(hits[index]), name, sound))
        self._context.counters.add("observations_total", len(observations))
        record.columns[self._options.output] = tuple(observations)
        yield record
        # from here on it is with all nodes behind this one: only now may it silence others
        stream.reported |= dict.fromkeys(due, record.start)
        if self._reports is not None and stream.heard is not None and record.time is not None:
            self._reports.add((self._labels[index].ebird_code for index in due), stream.heard, record.time)

    def _date(self, stream: _Stream, record: Record) -> None:
        """Note when a stream began, with its first window that has a time."""
        if self._reports is not None and stream.heard is None and record.time is not None:
            began = record.time - datetime.timedelta(seconds=record.start / self._sample_rate)
            stream.heard = Heard(record.stream, began)
            self._reports.begin(stream.heard)

    def _detection(self, record: Record, label: Label, score: float) -> Detection:
        rate = self._sample_rate
        return Detection(
            record.stream, record.start / rate, record.end / rate, **dataclasses.asdict(label), score=score
        )

    def _likely(self, time: datetime.datetime | None) -> NDArray[np.bool_]:
        if self._season is None:
            return self._allowed
        return np.asarray(self._allowed & (self._season.likely(time, self._options.occurrence) | self._included))

    def _is_due(self, index: int, stream: _Stream, record: Record) -> bool:
        """Whether a species may be reported again.

        Within a stream its samples tell, as clocks may jump; from one stream to another only the clock can.
        """
        before = stream.reported.get(index)
        if before is not None and 0 <= (record.start - before) / self._sample_rate < self._options.interval:
            return False
        if self._reports is None or stream.heard is None or record.time is None:
            return True
        return not self._reports.silences(self._labels[index].ebird_code, stream.heard, record.time)

    def _meet(self, classifier: Classifier) -> None:
        """Take a model's thresholds, once it is known which model it is."""
        if classifier.labels != self._labels:
            raise NodeError(
                "confirm: the predictions have other labels than expected; give this node the same labels as the "
                "tflite node."
            )
        if self._options.threshold is not None:
            self._lowest = np.full(len(self._labels), self._options.threshold, np.float32)
        elif classifier.thresholds is not None:
            self._lowest = classifier.thresholds.copy()
        else:
            raise NodeError(f"confirm: {classifier.name!r} has no thresholds of its own; set threshold.")
        for index, value in self._thresholds.items():
            self._lowest[index] = value
        if classifier.not_birds is not None:
            self._lowest = birds_only(self._lowest, classifier.not_birds)
            asked = [
                index for index in (*self._thresholds, *np.flatnonzero(self._included)) if classifier.not_birds[index]
            ]
            for name in sorted({self._labels[index].common_name for index in asked}):
                _logger.warning("confirm: %s is no bird and is never reported, whatever the options say.", name)
        self._classifier = classifier

    def _read_rule(self) -> Confirmation:
        told, options = self._context.bundle.manifest.detection.confirmation, self._options
        # a rule of which the user gives half: the other half gives way where it must
        hits, windows = options.hits or told.hits, options.windows or told.windows
        if hits > windows:
            hits, windows = (hits, hits) if options.windows is None else (windows, windows)
        return Confirmation(hits, windows)

    def _read_allowed(self) -> NDArray[np.bool_]:
        options, species, bundle = self._options, self._species, self._context.bundle
        indices = [species.named(name, "confirm: include") for name in options.include]
        self._included = _mask(len(self._labels), set().union(*indices))
        allowed = np.ones(len(self._labels), np.bool_)
        if options.species_list is not None:
            found = read_list(self._context.read(options.species_list, "confirm"), options.species_list, species)
            allowed = _mask(len(self._labels), found) | self._included
        elif options.occurrence > 0 and FILE in bundle.files:
            station = self._context.station
            latitude, longitude = station.latitude, station.longitude
            place = None if latitude is None or longitude is None else (latitude, longitude)
            self._season = Occurrence.read(bundle.files[FILE], self._labels, place)
            if self._season.kilometers is not None:
                _logger.info(
                    "Which species occur is told for a place %.0f km from the station.", self._season.kilometers
                )
        for name in options.exclude:
            allowed[list(species.named(name, "confirm: exclude"))] = False
        return allowed


class _Stream:
    """What is known of a stream while it lasts.

    Attributes:
        heard: its name and when it began; None while nobody knows when.
        stretch: at hand.
        reported: at which of its samples a label was last reported, by the label's index.
    """

    def __init__(self) -> None:
        self.heard: Heard | None = None
        self.stretch: _Stretch | None = None
        self.reported: dict[int, int] = {}


class _Stretch:
    """Windows of a stream of which each touches the one before."""

    def __init__(self, neighbor_weight: float, windows: int, n_labels: int) -> None:
        self.smoothing = Smoothing[Record](neighbor_weight)
        self.hits = Hits(windows, n_labels)
        self.last = (-1, -1)

    def goes_on_with(self, record: Record) -> bool:
        start, end = self.last
        return start < record.start <= end


def _mask(n_labels: int, indices: set[int]) -> NDArray[np.bool_]:
    mask = np.zeros(n_labels, np.bool_)
    mask[list(indices)] = True
    return mask
