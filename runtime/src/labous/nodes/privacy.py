"""privacy: what people say near a station is neither stored nor sent."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator

import numpy as np

from labous.detect import Label
from labous.errors import NodeError
from labous.formats import printable
from labous.nodes import Context, Record
from labous.options import option
from labous.station.occurrence import Species
from labous.station.predictions import Classifier, Prediction, labels_of
from labous.station.voice import voicing

# the three of "Human …" are BirdNET's: who steps or whistles near a station may speak next
_VOICES = ("Homo sapiens", "Human", "Human vocal", "Human non-vocal", "Human whistle", "Speech")
_PREDICTIONS = "predictions"

_logger = logging.getLogger("labous")


@dataclasses.dataclass(frozen=True)
class Privacy:
    """Withholds every window that touches one with a human voice, from all nodes behind it: sound and observations.

    A voice is heard where the model has a class for it and gives that a probability of ``probability``, or where the
    sound has what a voice has: a pitch with harmonics that lasts. The log says which of these it goes by.

    Times are compared inclusively: a window that ends
    with the sample with which one with a voice begins is withheld too. To know that, windows are given on when one
    comes that does not touch them, with windows that do not overlap two late.

    Its place is behind tflite and before confirm: then a species that a withheld window shows is not taken for
    reported, and is reported by the next window.
    """

    voices: tuple[str, ...] | None = option(
        "labels that are human voices, by code or any name, each of which the model must have; if left out, "
        f"{', '.join(_VOICES)}, where it has them",
        None,
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
    predictions: str | None = option(
        "column of the model's predictions; `predictions`, if left out and there is one", None, least=1
    )
    labels: str | None = option(
        "path of the labels of the model, if the tflite node was given such", None, least=1, names="reads"
    )

    def reads(self) -> tuple[str, ...]:
        """The sound, where it is examined, and the predictions, where it cannot do without."""
        needed = bool(self.voices) or self.predictions is not None or not self.listen
        return (self.input,) * self.listen + (self.predictions or _PREDICTIONS,) * needed

    def open(self, context: Context) -> _Node:
        """The node.

        Raises:
            NodeError: a label is not the model's, or no voice could be heard at all.
        """
        return _Node(self, context)


class _Node:
    def __init__(self, options: Privacy, context: Context) -> None:
        self._options, self._counters = options, context.counters
        self._rate = context.bundle.frontend.sample_rate
        self._margin = round(options.margin * self._rate)
        self._labels = labels_of(context, options.labels, "privacy")
        self._find_voices(self._labels)
        self._classifier: Classifier | None = None
        self._told = False
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
        prediction = record.columns.get(options.predictions or _PREDICTIONS)
        classifier = prediction.classifier if isinstance(prediction, Prediction) else None
        if classifier is not self._classifier or not self._told:
            self._meet(classifier)
        if isinstance(prediction, Prediction) and self._voices:
            probabilities = prediction.classifier.scoring.calibrated(prediction.logits)[self._voices]
            if (probabilities >= np.float32(options.probability)).any():
                return True
        return options.listen and voicing(record.columns[options.input], self._rate) >= options.voicing

    def _meet(self, classifier: Classifier | None) -> None:
        """Take a model's labels, once it is known which model it is, if any; and tell what a voice is."""
        options = self._options
        labels = () if classifier is None else classifier.labels
        if labels != self._labels:
            self._find_voices(labels)
        rules = []
        if self._voices:
            names = ", ".join(dict.fromkeys(labels[index].common_name for index in self._voices))
            rules.append(f"what the model takes for {names}, with {options.probability:g} or more")
        if options.listen:
            rules.append(f"a pitch with harmonics, with {options.voicing:g} or more")
        _logger.info("privacy withholds %s.", printable(", and ".join(rules)))
        self._classifier, self._told = classifier, True

    def _find_voices(self, labels: tuple[Label, ...]) -> None:
        """Which of a model's labels are voices.

        Raises:
            NodeError: one that was named is not there, or no voice could be heard at all.
        """
        species, options = Species(labels), self._options
        if options.voices is None:
            found = [species.known(name) for name in _VOICES]
        else:
            found = [species.named(name, "privacy: voices") for name in options.voices]
        self._voices = sorted(set().union(*found))
        if not self._voices and not options.listen:
            raise NodeError(
                "privacy: no voice can be heard: the model has no label for one, or none is named, and the sound is "
                "not examined; set listen = true, or name labels of the model in voices (and their table in labels, if "
                "it is not the bundle's)."
            )


class _Stream:
    """Of one stream: the windows held back, where the newest began, and to which sample the last voice reaches."""

    def __init__(self) -> None:
        self.held: list[Record] = []
        self.start = -1
        self.voice_end = -1
