"""conf/teacher: no teacher, or BirdNET with the mixtures that it listens to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from training.errors import ConfigError
from training.teacher.mixtures import Recipe

# what is made of a teacher's words, which are the same whatever these are
LEARNING = (
    "share", "temperature", "embedding_weight", "embedding_size", "mix_probability", "mix_gain_db", "chooses_windows",
    "opinion_hop_seconds", "label_logits",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class NoTeacher:
    """Labels alone."""


@dataclasses.dataclass(frozen=True)
class BirdNetTeacher(Recipe):
    """BirdNET v2.4, how much it listens to, and how much is made of what it says; conf/teacher explains each value."""

    path: Path | None
    seed: int
    mixtures: int
    mixtures_per_file: int
    draw_from: str
    windows: int
    recordings_mb: int
    share: float
    temperature: float
    embedding_weight: float
    embedding_size: int
    label_logits: Sequence[float]
    chooses_windows: bool
    opinion_hop_seconds: float
    mix_probability: float
    mix_gain_db: Sequence[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mixtures", "mixtures_per_file", "windows", "recordings_mb", "embedding_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"teacher.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.draw_from not in ("train", "all"):
            raise ConfigError(f"teacher.draw_from is {self.draw_from!r}; choose train or all.")
        if not 0 < self.share <= 1:
            raise ConfigError(f"teacher.share is {self.share}; it must lie above 0 and at most at 1.")
        if self.temperature <= 0:
            raise ConfigError(f"teacher.temperature is {self.temperature}; it must be above 0.")
        if not 0 <= self.mix_probability <= 1:
            raise ConfigError(f"teacher.mix_probability is {self.mix_probability}; a probability lies between 0 and 1.")
        if len(self.mix_gain_db) != 2 or self.mix_gain_db[0] > self.mix_gain_db[1]:
            raise ConfigError(f"teacher.mix_gain_db is {list(self.mix_gain_db)}; write [low, high].")
        if len(self.label_logits) != 2 or self.label_logits[0] < self.label_logits[1]:
            raise ConfigError(
                f"teacher.label_logits is {list(self.label_logits)}; write [labelled, others], and the first not below "
                "the second."
            )
        for name in ("mix_gain_db", "label_logits"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # hashable
        if self.opinion_hop_seconds <= 0:
            raise ConfigError(f"teacher.opinion_hop_seconds is {self.opinion_hop_seconds}; it must be above 0.")
        if self.embedding_weight < 0:
            raise ConfigError(f"teacher.embedding_weight is {self.embedding_weight}; it must be at least 0.")


Teacher = NoTeacher | BirdNetTeacher
