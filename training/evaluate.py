"""Hear held-out sound, each engine on its own front end: Keras behind librosa, the .tflite files behind the wasm.

The .tflite columns go the device's way, through the modules of the wheel: recordings, mel, models. What was heard
becomes rows in training/rows.py and figures in training/quality.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labous.frontend import Frontend
from labous.recordings import read_blocks, windows
from training.console import progress
from training.errors import ConfigError
from training.intervals import Bootstrap
from training.metrics import Scores

if TYPE_CHECKING:
    import keras

FILES = ("float32", "int8")
ENGINES = ("keras", *FILES)


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """What is measured and chosen; conf/evaluate says what each value means."""

    overlap_seconds: float
    calibration_offset_sd: float | None
    calibration_scale_sd: float
    threshold_grid: Sequence[float]
    threshold_shrinkage: float
    plain_threshold: float
    smoothing_weights: Sequence[float]
    confirmation_rules: Sequence[Sequence[int]]
    least_gain: float
    bootstrap_resamples: int
    bootstrap_seed: int
    bootstrap_level: float
    noise_snr_db: Sequence[float]
    noise_seed: int
    phase_shift_ms: Sequence[float]
    phase_windows: int
    wheel: bool
    wheel_precision: str
    engine_windows: int
    golden_windows: int
    golden_seed: int
    golden_mel_tolerance: float
    golden_float32_tolerance: float
    golden_int8_steps: int

    def __post_init__(self) -> None:
        for name, good, wanted in (
            (
                "threshold_grid",
                len(self.threshold_grid) == 3
                and 0 < self.threshold_grid[0] <= self.threshold_grid[1] < 1
                and self.threshold_grid[2] > 0,
                "write [start, stop, step], probabilities between 0 and 1, and a step above 0",
            ),
            ("plain_threshold", 0 < self.plain_threshold < 1, "it must lie between 0 and 1"),
            ("threshold_shrinkage", self.threshold_shrinkage >= 0, "it must be 0 or more"),
            (
                "calibration_offset_sd",
                self.calibration_offset_sd is None or self.calibration_offset_sd > 0,
                "it must be above 0, or null",
            ),
            ("calibration_scale_sd", self.calibration_scale_sd > 0, "it must be above 0"),
            (
                "smoothing_weights",
                all(0 <= weight <= 1 / 3 for weight in self.smoothing_weights),
                "each must lie between 0 and 1/3",
            ),
            (
                "confirmation_rules",
                all(len(rule) == 2 and 1 <= rule[0] <= rule[1] <= 1000 for rule in self.confirmation_rules),
                "each must be [hits, windows], no more hits than windows",
            ),
            ("bootstrap_level", 0 < self.bootstrap_level < 1, "it must lie between 0 and 1"),
            ("phase_shift_ms", all(shift >= 0 for shift in self.phase_shift_ms), "each must be 0 or more"),
            ("wheel_precision", self.wheel_precision in FILES, "choose float32 or int8"),
        ):  # fmt: skip
            if not good:
                value = getattr(self, name)
                raise ConfigError(f"evaluate.{name} is {value if isinstance(value, float) else repr(value)}; {wanted}.")
        for name in ("engine_windows", "golden_windows", "bootstrap_resamples", "phase_windows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"evaluate.{name} is {getattr(self, name)}; it must be at least 1.")

    @property
    def thresholds(self) -> list[float]:
        """The probabilities tried."""
        start, stop, step = self.threshold_grid
        return [round(float(t), 6) for t in np.arange(start, stop + step / 2, step)]

    @property
    def bootstrap(self) -> Bootstrap:
        """How intervals are drawn."""
        return Bootstrap(self.bootstrap_resamples, self.bootstrap_seed, self.bootstrap_level)


@dataclasses.dataclass(frozen=True)
class Heard:
    """What every engine made of one recording.

    Attributes:
        starts, ends: of the windows, float64 [n_windows], s.
        logits: by engine, float32 [n_windows, n_labels].
        mel_difference: largest difference between librosa's and the wasm's model input; 0 where Keras did not listen.
    """

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    logits: dict[str, Scores]
    mel_difference: float


class Listener:
    """Keras behind librosa and the two .tflite files behind the wasm, side by side on the same windows."""

    def __init__(self, model: keras.Model, float32: bytes, int8: bytes, frontend: Frontend) -> None:
        from labous.mel import MelSpectrogram
        from labous.models import open_model
        from training.features import mel_spectrogram

        self.frontend = frontend
        self._reference, self._device = mel_spectrogram(frontend, "librosa"), MelSpectrogram(frontend)
        self._keras = model
        self._tflite = {"float32": open_model(float32), "int8": open_model(int8)}

    def hear(self, path: str, overlap_seconds: float) -> Heard:
        """Run one recording through every engine.

        Raises:
            RecordingError: it cannot be read.
        """
        return self.hear_samples(read_blocks(path, self.frontend.sample_rate), overlap_seconds)

    def hear_samples(
        self, blocks: Iterable[NDArray[np.float32]], overlap_seconds: float, reference: bool = True
    ) -> Heard:
        """The same for samples at the front end's rate, in blocks float32 [n]; Keras only where ``reference``."""
        rate = self.frontend.sample_rate
        cut = list(windows(blocks, self.frontend, overlap_seconds))
        device = np.stack([self._device(window.samples) for window in cut])
        logits: dict[str, Scores] = {}
        difference = 0.0
        if reference:
            theirs = np.stack([self._reference(window.samples) for window in cut])
            logits["keras"] = np.asarray(self._keras(theirs[..., None], training=False), np.float32)
            difference = float(np.abs(theirs - device).max())
        for name, model in self._tflite.items():
            logits[name] = np.stack([model.predict(mel) for mel in device])
        times = np.array([(window.start, window.end) for window in cut]) / rate
        return Heard(times[:, 0], times[:, 1], logits, difference)

    def on_device(self, samples: NDArray[np.float32]) -> dict[str, Scores]:
        """Logits [n_labels] of the two files for one window of samples [window_samples]."""
        mel = self._device(samples)
        return {name: model.predict(mel) for name, model in self._tflite.items()}


def hear_all(paths: Sequence[str], listener: Listener, overlap_seconds: float) -> dict[str, Heard]:
    """Each path once, in order, with a progress bar."""
    unique = list(dict.fromkeys(paths))
    return {path: listener.hear(path, overlap_seconds) for path in progress(unique, "listening", unit="rec")}


def first_window(path: str, frontend: Frontend) -> NDArray[np.float32]:
    """The first window of a recording, samples float32 [window_samples]."""
    return next(windows(read_blocks(path, frontend.sample_rate), frontend)).samples
