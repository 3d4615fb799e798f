"""What the teacher has said, as a source of training examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.detect import sigmoid
from training.errors import StageError
from training.sources import Example
from training.teacher.settings import BirdNetTeacher

Array = NDArray[np.float32]


class Taught:
    """Windows that a teacher has heard, those alone whose sounds may all be learnt from.

    Args:
        words: files of the teacher's words, mels: of the network's inputs, in the same order
            (see training/teacher/listening.py).
        allowed: recording_ids, of backgrounds too.
        temperature: the teacher's logits are divided by it: above 1 says more of what it holds for possible.
        embedding_size: principal components of the embedding that are learnt beside; 0: none.

    Raises:
        StageError: no mixture is left.
    """

    def __init__(
        self, words: list[Path], mels: list[Path], allowed: set[str], temperature: float, embedding_size: int
    ) -> None:
        self._mels = [np.load(path, mmap_mode="r") for path in mels]
        logits, embeddings, rows = [], [], []
        for n, path in enumerate(words):
            with np.load(path) as said:
                heard = zip(said["sources"], said["background"], strict=True)
                kept = [i for i, (sources, background) in enumerate(heard) if _names(sources, background) <= allowed]
                logits.append(said["logits"][kept].astype(np.float32))
                embeddings.append(said["embeddings"][kept].astype(np.float32).mean(axis=1))
                rows += [(n, i) for i in kept]
        if not rows:
            raise StageError("The teacher has heard no mixture of the training share alone; raise teacher.mixtures.")
        self._rows = rows
        # a bird that calls in any of the teacher's windows calls in the mixture
        self._targets = sigmoid(np.concatenate(logits).max(axis=1) / np.float32(temperature))
        self._embeddings = principal_components(np.concatenate(embeddings), embedding_size)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def embedding_size(self) -> int:
        """Of :attr:`training.sources.Example.embedding`."""
        return self._embeddings.shape[1]

    def draw(self, rng: np.random.Generator) -> Example:
        """One window, each as likely as any other."""
        row = int(rng.integers(len(self._rows)))
        file, place = self._rows[row]
        mel = np.asarray(self._mels[file][place], np.float32)
        embedding = self._embeddings[row] if self.embedding_size else None
        return Example(mel, self._targets[row], embedding=embedding, mixes=False)


def open_taught(place: Path, told: BirdNetTeacher, recordings: pd.DataFrame, backgrounds: pd.DataFrame) -> Taught:
    """What the teacher has said of these recordings and backgrounds alone.

    Args:
        place: ``paths.taught``.

    Raises:
        StageError: teach has not been run, or no mixture of these alone was heard.
    """
    record = read_record(place)
    allowed = {*recordings.recording_id, *backgrounds.recording_id}
    words, mels = ([place / name for name in record[kind]] for kind in ("words", "mels"))
    embedding_size = told.embedding_size if told.embedding_weight else 0
    return Taught(words, mels, allowed, told.temperature, embedding_size)


def read_record(place: Path) -> dict[str, Any]:
    """taught.json as the teach stage left it.

    Raises:
        StageError: it is not there.
    """
    try:
        return json.loads((place / "taught.json").read_text())
    except FileNotFoundError as error:
        raise StageError(f"{error.filename} is not there; run python -m training.teach first.") from None


def principal_components(values: Array, most: int) -> Array:
    """The first components [n, at most ``most``] of standardized values [n, size], their mean variance 1."""
    if most == 0:
        return np.zeros((len(values), 0), np.float32)
    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-3)
    # in float64, so that the order of additions matters little
    _, vectors = np.linalg.eigh(np.cov(values.T.astype(np.float64)))
    components = values @ vectors[:, ::-1][:, :most].astype(np.float32)
    return (components / np.sqrt(np.mean(components.var(axis=0)))).astype(np.float32)


def _names(sources: str, background: str) -> set[str]:
    return {name for name in [*str(sources).split("\n"), str(background)] if name}
