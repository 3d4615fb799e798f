"""Mixtures by the file: what they sound like to the network, and what the teacher says of them, found again next time.

======================  ===========================================================================================
NNNN.npz                embeddings float16 [mixtures, windows, size], logits float16 [mixtures, windows, n_labels],
                        sources and background: the recording_ids in each mixture, sources joined by a line break
<front end>/NNNN.npy    mel float16 [mixtures, n_mels, n_frames]
======================  ===========================================================================================

Both lie in a directory of mixtures/ named after everything that decides the sound and the teacher's words about it,
so that a change of the front end asks the teacher nothing, and a change of the split nothing at all.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous import recordings as reading
from labous.frontend import Frontend
from training.datasets.base import Species
from training.features import Mel, mel_spectrogram
from training.files import code_digest, short_hash, written_beside
from training.segments import feature_code
from training.teacher import birdnet
from training.teacher.mixtures import Library, Mixer
from training.teacher.settings import LEARNING, BirdNetTeacher

# our sources that decide how a mixture sounds and what is kept of the teacher's words
CODE = (
    *(Path(__file__).with_name(f"{name}.py") for name in ("birdnet", "mixtures", "listening")),
    Path(reading.__file__),
)


@dataclasses.dataclass(frozen=True)
class Sounds:
    """What mixtures are drawn from, as plain values that travel to worker processes.

    Attributes:
        recordings: rows of (recording_id, path, primary_label, author).
        backgrounds: rows of (recording_id, path, start_seconds, end_seconds).
        revision: of the data set, which covers the bytes of the files.
    """

    recordings: tuple[tuple[str, str, str, str], ...]
    backgrounds: tuple[tuple[str, str, float, float], ...]
    revision: str

    @classmethod
    def of(cls, recordings: pd.DataFrame, backgrounds: pd.DataFrame, revision: str) -> Sounds:
        """From prepared tables."""

        def rows(table: pd.DataFrame, *columns: str) -> tuple[tuple, ...]:
            return tuple(table.sort_values(list(columns[:1]))[list(columns)].itertuples(index=False, name=None))

        return cls(
            rows(recordings, "recording_id", "path", "primary_label", "author"),
            rows(backgrounds, "recording_id", "path", "start_seconds", "end_seconds"),
            revision,
        )


@dataclasses.dataclass(frozen=True)
class Listening:
    """The work of one file of mixtures, by its number; returns the number when the file is there.

    Attributes:
        place: ``paths.taught``.
    """

    sounds: Sounds
    species: tuple[Species, ...]
    frontend: Frontend
    backend: str
    told: BirdNetTeacher
    place: Path

    @functools.cached_property
    def words_place(self) -> Path:
        """The directory of what the teacher says."""
        recipe = {f.name: getattr(self.told, f.name) for f in dataclasses.fields(self.told)}
        # how many there are, and what is made of them later, changes none of them
        for name in ("path", "mixtures", "draw_from", "recordings_mb", *LEARNING):
            del recipe[name]
        identity = {
            "recipe": recipe,
            "revision": self.sounds.revision,
            "recordings": [(name, *rest) for name, _, *rest in self.sounds.recordings],
            "backgrounds": [(name, *rest) for name, _, *rest in self.sounds.backgrounds],
            "species": [dataclasses.astuple(bird) for bird in self.species],
            "sample_rate": self.frontend.sample_rate,
            "window_seconds": self.frontend.window_seconds,
            "teacher": birdnet.identity(self.told.path),
            "code": code_digest(*CODE),
        }
        return self.place / "mixtures" / short_hash(identity)

    @functools.cached_property
    def mel_place(self) -> Path:
        """The directory of the network's inputs."""
        return self.words_place / short_hash([self.frontend.to_dict(), self.backend, feature_code(self.backend)])

    def words(self, number: int) -> Path:
        """The file of the teacher's words."""
        return self.words_place / f"{number:05}.npz"

    def mels(self, number: int) -> Path:
        """The file of the network's inputs."""
        return self.mel_place / f"{number:05}.npy"

    def __call__(self, number: int) -> int:
        words, mels = self.words(number), self.mels(number)
        missing = not words.exists(), not mels.exists()
        if not any(missing):
            return number
        rng = np.random.default_rng([self.told.seed, number])
        mixer, spectrogram = _mixer(self), _spectrogram(self.frontend, self.backend)
        mixtures = [mixer.draw(rng) for _ in range(self.told.mixtures_per_file)]
        if missing[0]:
            teacher = birdnet.opened(self.told.path, self.species)
            found = np.stack([self._embeddings(mixture.samples, teacher) for mixture in mixtures])
            with written_beside(words) as beside, beside.open("wb") as file:
                np.savez(
                    file,
                    embeddings=found.astype(np.float16),
                    logits=teacher.logits(found).astype(np.float16),
                    sources=np.array(["\n".join(mixture.sources) for mixture in mixtures]),
                    background=np.array([mixture.background for mixture in mixtures]),
                )
        with written_beside(mels) as beside, beside.open("wb") as file:
            np.save(file, np.stack([spectrogram(mixture.samples) for mixture in mixtures]).astype(np.float16))
        return number

    def _embeddings(self, samples: NDArray[np.float32], teacher: birdnet.BirdNet) -> NDArray[np.float32]:
        """What the teacher makes of evenly spread windows of its own length, [windows, size]."""
        return teacher.embed_all(samples, self.frontend.sample_rate, functools.partial(_spread, self.told.windows))


def spans(windows: int, window_seconds: float) -> tuple[tuple[float, float], ...]:
    """Which parts of a mixture the teacher hears: where each begins and ends, in shares of its ``window_seconds``."""
    samples = round(window_seconds * birdnet.SAMPLE_RATE)
    heard = round(birdnet.WINDOW_SECONDS * birdnet.SAMPLE_RATE)
    starts = _spread(windows, max(0, samples - heard))
    return tuple((float(first / samples), float(min(1.0, (first + heard) / samples))) for first in starts)


def _spread(windows: int, last: int) -> NDArray[np.int_]:
    """First samples of windows spread evenly, up to the last that there can be."""
    return np.linspace(0, last, windows).round().astype(int)


# Set up once a process, not once a file. A listening that is equal is the same work.
@functools.lru_cache(maxsize=1)
def _mixer(work: Listening) -> Mixer:
    recordings = pd.DataFrame(list(work.sounds.recordings), columns=["recording_id", "path", "primary_label", "author"])
    backgrounds = pd.DataFrame(
        list(work.sounds.backgrounds), columns=["recording_id", "path", "start_seconds", "end_seconds"]
    )
    rate = work.frontend.sample_rate
    library = Library(rate, work.told.recordings_mb * 2**20)
    return Mixer(recordings, backgrounds, work.told, library, rate, work.frontend.window_samples)


@functools.lru_cache(maxsize=1)
def _spectrogram(frontend: Frontend, backend: str) -> Mel:
    return mel_spectrogram(frontend, backend)
