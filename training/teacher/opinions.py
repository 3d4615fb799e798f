"""A teacher's opinion of where in a recording its bird is: for the choice of training windows.

opinions/<what decides them>/<number>.npy below ``paths.taught`` holds float16 [n_windows, n_labels]: the teacher's
logits of windows of its own length, one every ``teacher.opinion_hop_seconds``. The numbers are those of taught.json.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import numpy as np

from training.datasets.base import Species
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


@functools.lru_cache(maxsize=1)
def _teacher(path: Path | None, species: tuple[Species, ...]) -> birdnet.BirdNet:
    return birdnet.BirdNet(path, species)
