"""What a model says about a window: the column between tflite, confirm and privacy."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from labous.bundle import read_labels
from labous.detect import Label, Scoring
from labous.errors import BundleError, NodeError
from labous.nodes import Context


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A model as those behind it need to know it.

    Attributes:
        labels: one per logit.
        scoring: makes probabilities of its logits.
        thresholds: float32 [n_labels], probabilities from which it detects a label; None where nobody has chosen any.
        top_n: the most labels that one window shows.
        name: name and version, for ``identifiedBy``.
        not_birds: bool [n_labels], labels that it never detects, whatever threshold is asked for; None for none.
    """

    labels: tuple[Label, ...]
    scoring: Scoring
    thresholds: NDArray[np.float32] | None
    top_n: int
    name: str
    not_birds: NDArray[np.bool_] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Of one window: ``logits``, float32 [n_labels], not smoothed, and the model that gave them."""

    logits: NDArray[np.float32]
    classifier: Classifier


def labels_of(context: Context, path: str | None, node: str) -> tuple[Label, ...]:
    """The labels of a node's option: those of a table, or the bundle's.

    Raises:
        NodeError: the table cannot be read.
    """
    if path is None:
        return context.bundle.labels
    try:
        return read_labels(context.read(path, node), path, "mend the table")
    except BundleError as error:
        raise NodeError(f"{node}: {error}") from error
