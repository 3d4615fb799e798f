"""privacy: what people say near a station is neither stored nor sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from labous.detect import Label
from labous.nodes import Context, Record
from labous.options import option
from labous.station.predictions import Classifier, Prediction
from labous.station.voice import voicing


@dataclasses.dataclass(frozen=True)
class Privacy:
    """Withholds every window that touches one with a human voice, from all nodes behind it: sound and observations.

    A voice is heard where the model has a class for it and gives that a probability of ``probability``, or where the
    sound has what a voice has: a pitch with harmonics that lasts. Times are compared inclusively: a window that ends
    with the sample with which one with a voice begins is withheld too. To know that, windows are given on when one
    comes that does not touch them, with windows that do not overlap two late.

    Its place is behind tflite and before confirm: then a species that a withheld window shows is not taken for
    reported, and is reported by the next window.
    """

    voices: tuple[str, ...] = option(
        "labels that are human voices, by code or any name, where the model has them",
        ("Homo sapiens", "Human", "Human vocal", "Speech"),
    )
    probability: float = option(
        "from which on such a label is a voice, neither smoothed nor confirmed", 0.1, minimum=0, maximum=1
    )
    listen: bool = option("whether the sound itself is examined too, whatever the model says", True)
    voicing: float = option(
        "how strong a pitch is a voice, 0 … 1: less withholds more; at 0.45, 2 to 3 % of windows with birds, most "
        "machines and nearly all speech",
        0.45,
        above=0,
        maximum=1,
    )
    margin: float = option("before and after a window with a voice that is withheld too, s", 0.0, minimum=0)
    input: str = option("column of the sound", "audio", least=1)
    predictions: str = option("column of the model's predictions, if there is one", "predictions", least=1)

    def open(self, context: Context) -> _Node:
        """The node."""
        return _Node(self, context)


class _Node:
    def __init__(self, options: Privacy, context: Context) -> None:
        self._options, self._counters = options, context.counters
        self._rate = context.bundle.frontend.sample_rate
        self._margin = round(options.margin * self._rate)
        self._names = {name.casefold() for name in options.voices}
        self._classifier: Classifier | None = None
        self._voices: list[int] = []
        self._streams: dict[str, _Stream] = {}

    def process(self, record: Record) -> Iterator[Record]:
        """The windows that no later one can withhold any more."""
        stream = self._streams.setdefault(record.stream, _Stream())
        if record.start <= stream.start:  # begun anew without an end
            yield from self.end(record.stream)
            stream = self._streams[record.stream] = _Stream()
        stream.start = record.start
        while stream.held and stream.held[0].end + self._margin < record.start:
            yield stream.held.pop(0)
        if self._hears_voice(record):
            self._counters.add("private_windows_total", len(stream.held) + 1)
            stream.held.clear()
            stream.voice_end = record.end + self._margin
        elif record.start <= stream.voice_end:
            self._counters.add("private_windows_total")
        else:
            stream.held.append(record)

    def end(self, stream: str) -> Iterator[Record]:
        """The windows that were held back."""
        ended = self._streams.pop(stream, None)
        if ended is not None:
            yield from ended.held

    def close(self) -> None:
        """Nothing is held that garbage collection would not free."""

    def _hears_voice(self, record: Record) -> bool:
        options = self._options
        prediction = record.columns.get(options.predictions)
        if isinstance(prediction, Prediction):
            if prediction.classifier is not self._classifier:
                self._classifier = prediction.classifier
                self._voices = [n for n, label in enumerate(self._classifier.labels) if self._is_voice(label)]
            if self._voices:
                probabilities = self._classifier.scoring.calibrated(prediction.logits)[self._voices]
                if (probabilities >= np.float32(options.probability)).any():
                    return True
        return options.listen and voicing(record.columns[options.input], self._rate) >= options.voicing

    def _is_voice(self, label: Label) -> bool:
        names = (label.ebird_code, label.scientific_name, label.common_name, label.french_name)
        return not self._names.isdisjoint(name.casefold() for name in names)


class _Stream:
    """Of one stream: the windows held back, where the newest began, and to which sample the last voice reaches."""

    def __init__(self) -> None:
        self.held: list[Record] = []
        self.start = -1
        self.voice_end = -1
