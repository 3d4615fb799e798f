"""tflite: a model over a column."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from labous.bundle import Bundle
from labous.detect import Scoring
from labous.errors import EngineError, NodeError
from labous.models import ENGINES, Model, open_model
from labous.models.inputs import fits, mel_shape
from labous.nodes import Context, Record
from labous.options import Refused, option
from labous.station.predictions import Classifier, Prediction, labels_of


@dataclasses.dataclass(frozen=True)
class Tflite:
    """A TFLite model over a column: by default the bundle's, with its labels, in the precision that [station] names.

    A model of your own takes float32 [1, n_mels, n_frames, n_channels] (n_channels is 1 where the front end gives a
    plain mel spectrogram) or its int8 form and gives [1, n_labels] logits; its
    probabilities are their sigmoids, and ``confirm`` needs a ``threshold`` for it.
    """

    model: str | None = option(
        "path of a .tflite file, relative to the pipeline file; the bundle's, if left out", None, least=1, names="reads"
    )
    labels: str | None = option(
        "path of that model's labels, a table like a bundle's labels.csv; the bundle's, if left out",
        None,
        least=1,
        names="reads",
    )
    engine: str | None = option(
        "what runs the model: that of [station], if left out, and if that names none, the first installed of "
        f"{', '.join(ENGINES)}",
        None,
        choices=tuple(ENGINES),
    )
    input: str = option("column that it reads", "mel", least=1)
    output: str = option("column that it writes", "predictions", least=1)
    top_n: int = option("the most species that one window may show", 3, minimum=1)

    def __post_init__(self) -> None:
        """Check what keys mean together."""
        if self.labels is not None and self.model is None:
            raise Refused("labels", "goes with a model; name both, or neither for the bundle's.")

    def open(self, context: Context) -> _Node:
        """The node, its model loaded.

        Raises:
            EngineError: the engine is not installed, or refuses the model.
            NodeError: a file cannot be read, or model and labels do not fit together.
        """
        engine = self.engine or context.station.engine
        if self.model is None:
            return self._of_bundle(context.bundle, engine, context.station.engine)
        content = context.read(self.model, "tflite")
        labels = labels_of(context, self.labels, "tflite")
        try:
            model = open_model(content, engine)
        except EngineError as error:
            raise EngineError(f"tflite: {self.model!r}: {error}") from error
        if model.n_labels != len(labels):
            raise NodeError(
                f"tflite: {self.model!r} gives {model.n_labels} logits and there are {len(labels)} labels; name the "
                "table of labels that belongs to it."
            )
        plain = Scoring.plain(len(labels))
        name = context.path(self.model).name
        never = context.bundle.not_birds if self.labels is None else None
        return _Node(self, model, Classifier(labels, plain, None, self.top_n, name, not_birds=never))

    def _of_bundle(self, bundle: Bundle, engine: str | None, opened: str | None) -> _Node:
        if engine != opened:
            bundle = Bundle(bundle.path, bundle.files, bundle.precision, engine)
        name = f"{bundle.manifest.name} {bundle.manifest.version}"
        classifier = Classifier(
            bundle.labels, bundle.scoring, bundle.thresholds, self.top_n, name, not_birds=bundle.not_birds
        )
        return _Node(self, bundle.model, classifier)


class _Node:
    def __init__(self, options: Tflite, model: Model, classifier: Classifier) -> None:
        self._input, self._output = options.input, options.output
        self._model, self._classifier = model, classifier

    def process(self, record: Record) -> Iterator[Record]:
        """With a :class:`Prediction`."""
        values, taken = record.columns[self._input], self._model.input_shape
        shape = getattr(values, "shape", None)
        if shape is None or not fits(shape, taken):
            raise NodeError(
                f"tflite: the model takes {list(mel_shape(taken))} and the column {self._input} has "
                f"{list(shape) if shape is not None else type(values).__name__}; name another column, or give the node "
                "before it a shape."
            )
        try:
            logits = self._model.predict(values)
        except EngineError as error:
            raise NodeError(f"tflite: {error}") from error
        record.columns[self._output] = Prediction(logits, self._classifier)
        yield record

    def end(self, stream: str) -> tuple[Record, ...]:
        """Nothing is held back."""
        return ()

    def close(self) -> None:
        """Nothing is held that garbage collection would not free."""
