"""A teacher's opinion of where in a recording its bird is: for the choice of training windows.

opinions/<what decides them>/<recording_id>.npy below ``paths.taught`` holds float16 [n_windows, n_labels]: logits of
windows as long as the teacher hears, one every ``teacher.opinion_hop_seconds``.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from labous import recordings
from training.datasets.base import Species
from training.files import code_digest, short_hash, written_beside
from training.teacher import birdnet


@dataclasses.dataclass(frozen=True)
class Hearing:
    """The work of one recording, (recording_id, path); returns its recording_id when the file is there.

    Attributes:
        revision: of the data set, which covers the bytes of the files.
        path: of the teacher (see :func:`training.teacher.birdnet.find`).
        place: ``paths.taught``.
    """

    revision: str
    species: tuple[Species, ...]
    path: Path | None
    hop_seconds: float
    place: Path

    @functools.cached_property
    def directory(self) -> Path:
        """Where the files lie: named after what decides all of them."""
        ours = (Path(__file__).with_name(f"{name}.py") for name in ("birdnet", "opinions"))
        identity = {
            "revision": self.revision,
            "species": [dataclasses.astuple(bird) for bird in self.species],
            "hop_seconds": self.hop_seconds,
            "teacher": birdnet.identity(self.path),
            "code": code_digest(*ours, Path(recordings.__file__)),
        }
        return self.place / "opinions" / short_hash(identity)

    def __call__(self, job: tuple[str, str]) -> str:
        name, path = job
        file = self.directory / f"{name}.npy"
        if file.exists():
            return name
        teacher, hop = birdnet.opened(self.path, self.species), round(self.hop_seconds * birdnet.SAMPLE_RATE)
        samples = recordings.read(path, birdnet.SAMPLE_RATE)
        heard = teacher.embed_all(samples, birdnet.SAMPLE_RATE, lambda last: range(0, last + 1, hop))
        with written_beside(file) as beside, beside.open("wb") as opened:
            np.save(opened, teacher.logits(heard).astype(np.float16))
        return name
