"""A teacher's opinion of where in a recording its bird is: for the choice of training windows.

opinions/<what decides them>/<number>.npy below ``paths.taught`` holds float16 [n_windows, n_labels]: the teacher's
logits of windows of 3 s, one every ``teacher.opinion_hop_seconds``. The numbers are those of opinions.json beside them.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.datasets.base import Species
from training.errors import StageError
from training.files import code_digest, written_beside
from training.teacher import birdnet


@dataclasses.dataclass(frozen=True)
class Hearing:
    """The work of one recording, by its number; returns the number when the file is there.

    Attributes:
        recordings: recording_id and path of each.
        revision: of the data set, which covers the bytes of the files.
        path: of the teacher (see :func:`training.teacher.birdnet.find`).
        place: ``paths.taught``.
    """

    recordings: tuple[tuple[str, str], ...]
    revision: str
    species: tuple[Species, ...]
    path: Path | None
    hop_seconds: float
    place: Path

    @functools.cached_property
    def directory(self) -> Path:
        """Where the files lie: named after all that decides them."""
        teacher, labels = birdnet.find(self.path)
        identity = {
            "recordings": [name for name, _ in self.recordings],
            "revision": self.revision,
            "species": [dataclasses.astuple(bird) for bird in self.species],
            "hop_seconds": self.hop_seconds,
            "teacher": [birdnet.digest(teacher), birdnet.digest(labels)],
            "code": code_digest(*(Path(__file__).with_name(f"{name}.py") for name in ("birdnet", "opinions"))),
        }
        return self.place / "opinions" / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]

    def __call__(self, number: int) -> int:
        from labous.recordings import read

        file = self.directory / f"{number:06}.npy"
        if file.exists():
            return number
        teacher, hop = _teacher(self.path, self.species), round(self.hop_seconds * birdnet.SAMPLE_RATE)
        samples = read(self.recordings[number][1], birdnet.SAMPLE_RATE)
        heard = teacher.embed_all(samples, birdnet.SAMPLE_RATE, lambda last: range(0, last + 1, hop))
        with written_beside(file) as beside, beside.open("wb") as opened:
            np.save(opened, teacher.logits(heard).astype(np.float16))
        return number


class Opinions:
    """What the teacher thinks of stretches of recordings (a :data:`training.sources.Opinion`).

    Args:
        directory: of the files of :class:`Hearing`.
        recordings: recording_id and primary_label of those that will be asked about.
        names: all recordings that were heard, in the order of the files.
        codes: labels in the order of the logits.

    Raises:
        StageError: a recording was not heard.
    """

    def __init__(
        self, directory: Path, recordings: pd.DataFrame, names: list[str], codes: list[str], hop_seconds: float
    ) -> None:
        numbers, columns = ({name: n for n, name in enumerate(order)} for order in (names, codes))
        self._hop = hop_seconds
        self._said: dict[str, NDArray[np.float32]] = {}
        for name, label in zip(recordings.recording_id, recordings.primary_label, strict=True):
            if name not in numbers:
                raise StageError(f"The teacher has not heard {name}; run python -m training.teach with this split.")
            logits = np.load(directory / f"{numbers[name]:06}.npy", mmap_mode="r")
            self._said[name] = np.asarray(logits[:, columns[label]], np.float32)

    def __call__(self, recording_id: str, start: float, end: float) -> float:
        """The highest logit of the recording's own species among windows centred in [start, end] (s), or near it."""
        said, half = self._said[recording_id], birdnet.WINDOW_SECONDS / 2
        first = int(np.ceil((start - half) / self._hop))
        last = int(np.floor((end - half) / self._hop))
        first = min(max(first, 0), len(said) - 1)
        return float(said[first : max(last, first) + 1].max())


@functools.lru_cache(maxsize=1)
def _teacher(path: Path | None, species: tuple[Species, ...]) -> birdnet.BirdNet:
    return birdnet.BirdNet(path, species)
