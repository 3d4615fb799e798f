"""A data set of short noises, and settings to prepare it with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from training.config import Settings, compose
from training.datasets.base import (
    BACKGROUND_COLUMNS,
    RECORDING_COLUMNS,
    SOUNDSCAPE_COLUMNS,
    Notes,
    Species,
)
from training.datasets.rules import Account

RATE = 32_000


def noise(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """float32 [n_samples]."""
    return (np.random.default_rng(seed).standard_normal(round(seconds * rate)) * 0.1).astype(np.float32)


def write(path: Path, seconds: float, seed: int, rate: int = RATE) -> Path:
    """A 16-bit WAV of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seconds, seed, rate), rate, subtype="PCM_16")
    return path


@dataclasses.dataclass
class Noises:
    """What training.datasets.base.Dataset asks for, over files that :meth:`made` writes below ``root``."""

    root: Path
    recording_rows: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)  # id, label, author
    soundscape_rows: list[tuple[str, float, float]] = dataclasses.field(default_factory=list)  # id, start, end
    background_rows: list[tuple[str, float, float, str]] = dataclasses.field(default_factory=list)
    removed_rows: list[tuple[str, str, str, str]] = dataclasses.field(default_factory=list)  # as an Account's
    name = "noises"
    synthetic = True

    @classmethod
    def made(cls, root: Path, labels: str = "abc", per_label: int = 5) -> Noises:
        """Recordings of 1 to 7 s, each recordist with one of each label, two soundscapes and some backgrounds."""
        made = cls(root)
        for n, label in enumerate(labels):
            for k in range(per_label):
                made.add_recording(f"{label}/{k}.wav", label, f"person {k}", 1.0 + (n * per_label + k) % 7)
        for k in range(2):
            scene = f"scenes/{k}.wav"
            write(root / scene, 20.0, 1000 + k)
            made.soundscape_rows += [(scene, start, start + 5.0) for start in (0.0, 5.0, 10.0, 15.0)]
            made.background_rows += [(scene, 5.0, 10.0, scene), (scene, 12.5, 20.0, scene)]
        for k in range(6):
            rain = f"rain/{k}.wav"
            write(root / rain, 6.0, 2000 + k)
            made.background_rows.append((rain, 0.0, float("nan"), f"weather {k // 2}"))
        made.background_rows.append(("a/0.wav", 0.25, 0.75, "person 0"))
        made.removed_rows = [
            ("a/x.wav", "rating", "2.0", "a"),
            ("b/y.wav", "rating", "1.0", "b"),
            ("z.wav", "twice", "XC1", "b"),
        ]
        return made

    def add_recording(self, name: str, label: str, author: str, seconds: float) -> None:
        write(self.root / name, seconds, len(self.recording_rows))
        self.recording_rows.append((name, label, author))

    def fetch(self, progress: bool = True) -> None:
        pass

    def species(self) -> list[Species]:
        return [Species(*[label] * 4) for label in sorted({label for _, label, _ in self.recording_rows})]

    def recordings(self) -> pd.DataFrame:
        rows = [
            (name, str(self.root / name), label, [], author, 4.0, "CC0", "")
            for name, label, author in self.recording_rows
        ]
        return pd.DataFrame(rows, columns=list(RECORDING_COLUMNS))

    def soundscapes(self) -> pd.DataFrame:
        rows = [
            (f"{name} {end:g}", name, str(self.root / name), start, end, [])
            for name, start, end in self.soundscape_rows
        ]
        return pd.DataFrame(rows, columns=list(SOUNDSCAPE_COLUMNS))

    def backgrounds(self) -> pd.DataFrame:
        rows = [(name, str(self.root / name), start, end, author) for name, start, end, author in self.background_rows]
        return pd.DataFrame(rows, columns=list(BACKGROUND_COLUMNS))

    def removed(self) -> pd.DataFrame:
        return Account(self.removed_rows).table()

    def revision(self) -> str:
        return "0" * 64

    def notes(self) -> Notes:
        return Notes(removed=Account(self.removed_rows).counts())


def settings_for(dataset: Noises, place: Path, *overrides: str) -> Settings:
    """To prepare ``dataset`` into ``place``, quickly: the native mel stage, in this process."""
    quick = ("features.backend=native", "features.workers=1", f"paths.prepared={place}")
    return dataclasses.replace(compose([*quick, *overrides]), dataset=dataset)


def contents(place: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}
