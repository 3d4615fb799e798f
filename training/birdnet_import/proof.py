"""Generated sound through the original and through what was made of it: how far scores lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labous.detect import sigmoid
from labous.power_law import PowerLawFrontend
from training.birdnet_import.errors import BirdNetImportError
from training.engines import Engine

Samples = NDArray[np.float32]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Difference:
    """Between two models' answers to the same windows.

    Attributes:
        logit, score: the largest, of any class.
        top1_equal: share of windows with the same class first.
    """

    logit: float
    score: float
    top1_equal: float

    @classmethod
    def between(cls, ours: Logits, theirs: Logits) -> Difference:
        """Of logits [n, n_labels]."""
        return cls(
            float(np.abs(ours - theirs).max()),
            float(np.abs(sigmoid(ours) - sigmoid(theirs)).max()),
            float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()),
        )


def shifted(frontend: PowerLawFrontend, samples: Samples) -> Samples:
    """The windows [n, window_samples] as each shift hears them: [n · n_shifts, window_samples], a window's together.

    The samples that a shift leaves out go to the end, where no frame is, so that the window has the same peak.
    """
    return np.stack([np.roll(window, -shift) for window in samples for shift in frontend.shifts])


def original_logits(data: bytes, frontend: PowerLawFrontend, samples: Samples, rows: NDArray[np.int64]) -> Logits:
    """What the original says of windows [n, window_samples] in the classes kept, the mean over the shifts."""
    heard = Engine("litert").run(data, shifted(frontend, samples))[:, rows]
    return heard.reshape(len(samples), len(frontend.shifts), -1).mean(axis=1, dtype=np.float32)


def cut_logits(data: bytes, frontend: PowerLawFrontend, mels: NDArray[np.float32], engine: str = "litert") -> Logits:
    """What a cut says of mel maps [n, (n_shifts,) n_mels, n_frames, n_channels], the mean over the shifts."""
    heard = Engine(engine).run(data, mels.reshape(-1, *frontend.input_shape[1:]))
    return heard.reshape(len(mels), len(frontend.shifts), -1).mean(axis=1, dtype=np.float32)


def check(kind: str, found: Difference, most: float) -> None:
    """Refuse a model that differs more than is allowed.

    Raises:
        BirdNetImportError: scores lie too far apart, or another class comes first.
    """
    if not found.score <= most or found.top1_equal < 1:
        raise BirdNetImportError(
            f"With {kind} weights, scores differ from the original's by {found.score:.2g} on generated sound, where "
            f"{most:g} is allowed, and the same class is first in {found.top1_equal:.0%} of the windows: nothing was "
            "written."
        )


def check_twin(file: str, found: Difference, most: float) -> None:
    """Refuse an ONNX file that is not the model of ``file`` over again.

    Raises:
        BirdNetImportError: scores lie too far apart.
    """
    if not found.score <= most:
        raise BirdNetImportError(
            f"model.onnx gives scores that differ from {file}'s by {found.score:.2g} on generated sound, where "
            f"{most:g} is allowed: nothing was written."
        )
