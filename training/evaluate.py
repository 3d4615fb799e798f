"""Score held-out sound, each engine on its own front end: Keras behind librosa, the .tflite files behind the wasm.

The .tflite columns go the device's way, through the modules of the wheel: recordings, mel, models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.detect import sigmoid
from labous.frontend import Frontend
from labous.recordings import read_blocks, windows
from training.console import progress
from training.errors import ConfigError
from training.metrics import Scores, Truth

if TYPE_CHECKING:
    import keras

ENGINES = ("keras", "float32", "int8")


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """What is measured; conf/evaluate says what each value means."""

    overlap_seconds: float
    threshold_grid: Sequence[float]
    engine_windows: int
    golden_windows: int
    golden_seed: int
    golden_mel_tolerance: float
    golden_float32_tolerance: float
    golden_int8_steps: int

    def __post_init__(self) -> None:
        if len(self.threshold_grid) != 3 or not 0 < self.threshold_grid[0] <= self.threshold_grid[1] < 1:
            raise ConfigError(
                f"evaluate.threshold_grid is {list(self.threshold_grid)}; write [start, stop, step], probabilities "
                "between 0 and 1."
            )
        for name in ("engine_windows", "golden_windows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"evaluate.{name} is {getattr(self, name)}; it must be at least 1.")

    @property
    def thresholds(self) -> list[float]:
        """The probabilities tried."""
        start, stop, step = self.threshold_grid
        return [round(float(t), 6) for t in np.arange(start, stop + step / 2, step)]


@dataclasses.dataclass(frozen=True)
class Heard:
    """What every engine made of one recording.

    Attributes:
        starts: of the windows, float64 [n_windows], s.
        logits: by engine, float32 [n_windows, n_labels].
        mel_difference: largest difference between librosa's and the wasm's model input.
    """

    starts: NDArray[np.float64]
    logits: dict[str, Scores]
    mel_difference: float


class Listener:
    """Keras behind librosa and the two .tflite files behind the wasm, side by side on the same windows."""

    def __init__(self, model: keras.Model, float32: bytes, int8: bytes, frontend: Frontend) -> None:
        from labous.mel import MelSpectrogram
        from labous.models import open_model
        from training.features import mel_spectrogram

        self._frontend = frontend
        self._reference, self._device = mel_spectrogram(frontend, "librosa"), MelSpectrogram(frontend)
        self._keras = model
        self._tflite = {"float32": open_model(float32), "int8": open_model(int8)}

    def hear(self, path: str, overlap_seconds: float) -> Heard:
        """Run one recording through every engine.

        Raises:
            RecordingError: it cannot be read.
        """
        rate = self._frontend.sample_rate
        cut = list(windows(read_blocks(path, rate), self._frontend, overlap_seconds))
        starts = np.array([window.start / rate for window in cut])
        reference = np.stack([self._reference(window.samples) for window in cut])
        device = np.stack([self._device(window.samples) for window in cut])
        logits = {"keras": np.asarray(self._keras(reference[..., None], training=False), np.float32)}
        for name, model in self._tflite.items():
            logits[name] = np.stack([model.predict(mel) for mel in device])
        return Heard(starts, logits, float(np.abs(reference - device).max()))


def hear_all(paths: Sequence[str], listener: Listener, overlap_seconds: float) -> dict[str, Heard]:
    """Each path once, in order, with a progress bar."""
    unique = list(dict.fromkeys(paths))
    return {path: listener.hear(path, overlap_seconds) for path in progress(unique, "listening", unit="rec")}


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows to be scored: their names, truth [n, n_labels], and probabilities by engine [n, n_labels]."""

    names: list[str]
    truth: Truth
    scores: dict[str, Scores]


def recording_rows(recordings: pd.DataFrame, heard: dict[str, Heard], codes: list[str]) -> Rows:
    """A row a recording: its primary and secondary labels, and the highest of its windows' probabilities."""
    truth = _truth([[p, *s] for p, s in zip(recordings.primary_label, recordings.secondary_labels, strict=True)], codes)
    return _rows(
        list(recordings.recording_id),
        truth,
        lambda engine: [heard[path].logits[engine].max(axis=0) for path in recordings.path],
    )


def soundscape_rows(
    soundscapes: pd.DataFrame, heard: dict[str, Heard], codes: list[str], window_seconds: float
) -> Rows:
    """A row a labelled stretch, scored by the windows that share at least half of it (or of themselves)."""

    def scores(engine: str) -> list[Scores]:
        found = []
        for path, start, end in zip(soundscapes.path, soundscapes.start_seconds, soundscapes.end_seconds, strict=True):
            starts = heard[path].starts
            shared = np.minimum(starts + window_seconds, end) - np.maximum(starts, start)
            inside = shared >= 0.5 * min(window_seconds, end - start)
            inside |= shared == shared.max()
            found.append(heard[path].logits[engine][inside].max(axis=0))
        return found

    return _rows(list(soundscapes.row_id), _truth(list(soundscapes["labels"]), codes), scores)


def join(*parts: Rows) -> Rows:
    """Rows of several kinds as one set."""
    return Rows(
        [name for part in parts for name in part.names],
        np.concatenate([part.truth for part in parts]),
        {engine: np.concatenate([part.scores[engine] for part in parts]) for engine in ENGINES},
    )


def _rows(names: list[str], truth: Truth, logits: Callable[[str], list[Scores]]) -> Rows:
    n_labels = truth.shape[1]
    return Rows(
        names,
        truth,
        {engine: sigmoid(np.array(logits(engine), np.float32).reshape(-1, n_labels)) for engine in ENGINES},
    )


def _truth(labels: Sequence[Sequence[str]], codes: list[str]) -> Truth:
    return np.array([[code in row for code in codes] for row in labels], bool).reshape(-1, len(codes))


def first_window(path: str, frontend: Frontend) -> NDArray[np.float32]:
    """The first window of a recording, samples float32 [window_samples]."""
    return next(windows(read_blocks(path, frontend.sample_rate), frontend)).samples
