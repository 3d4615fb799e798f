"""What the teacher has said, as a source of training examples."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.detect import sigmoid
from labous.frontend import Frontend
from training.augment import between, to_input, to_power
from training.errors import StageError
from training.sources import Example, Parts
from training.teacher.settings import BirdNetTeacher

Array = NDArray[np.float32]


class Taught:
    """Windows that a teacher has heard, those alone whose sounds may all be learnt from.

    Each comes with what the teacher says of its parts, which are shorter; of the whole it is taken to say what it says
    of the part where a species is clearest.

    Args:
        words: files of the teacher's words, mels: of the network's inputs, in the same order
            (see training/teacher/listening.py).
        labels: of recording_ids of recordings and backgrounds, to the numbers of the species that their labels name;
            those alone may be learnt from.
        parts: ends of the parts that the teacher has heard, in shares of the window.
        told: what is made of its words.
        frontend: of the network's inputs.

    Attributes:
        parts: as given.
        embedding_size: of :attr:`training.sources.Parts.embeddings`; 0 where none are learnt.

    Raises:
        StageError: no mixture is left.
    """

    def __init__(
        self,
        words: list[Path],
        mels: list[Path],
        labels: Mapping[str, Collection[int]],
        parts: Sequence[tuple[float, float]],
        told: BirdNetTeacher,
        frontend: Frontend,
    ) -> None:
        self._told, self._frontend = told, frontend
        self.parts = tuple(parts)
        self._mels = [np.load(path, mmap_mode="r") for path in mels]
        logits, embeddings, rows = [], [], []
        for n, path in enumerate(words):
            with np.load(path) as said:
                heard = [_names(*names) for names in zip(said["sources"], said["background"], strict=True)]
                kept = [i for i, names in enumerate(heard) if names <= labels.keys()]
                named = [{label for name in heard[i] for label in labels[name]} for i in kept]
                logits.append(_moved(said["logits"][kept].astype(np.float32), named, told))
                if told.embedding_weight:
                    embeddings.append(said["embeddings"][kept])
                rows += [(n, i) for i in kept]
        if not rows:
            raise StageError("The teacher has heard no mixture of the training share alone; raise teacher.mixtures.")
        self._rows = rows
        self._targets: Array = sigmoid((np.concatenate(logits) / told.temperature).astype(np.float32))
        self.embedding_size = 0
        if told.embedding_weight:
            said_of = np.concatenate(embeddings).astype(np.float32)
            found = principal_components(said_of.reshape(-1, said_of.shape[-1]), told.embedding_size)
            self._embeddings = found.reshape(*said_of.shape[:2], -1)
            self.embedding_size = found.shape[1]

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, rng: np.random.Generator) -> Example:
        """One window, each as likely as any other; or two in one, of which the teacher has said nothing together."""
        row, told = int(rng.integers(len(self._rows))), self._told
        mel, targets = self._mel(row), self._targets[row]
        embeddings = self._embeddings[row] if self.embedding_size else None
        if rng.random() < told.mix_probability:
            other, gain_db = int(rng.integers(len(self._rows))), between(told.mix_gain_db, rng)
            second = to_power(self._mel(other), self._frontend) * np.float32(10 ** (gain_db / 10))
            mel = to_input(to_power(mel, self._frontend) + second, self._frontend)
            targets, embeddings = np.maximum(targets, self._targets[other]), None
        return Example(mel, targets.max(axis=0), parts=Parts(targets, embeddings), mixes=False)

    def _mel(self, row: int) -> Array:
        file, place = self._rows[row]
        return np.asarray(self._mels[file][place], np.float32)


class Opinions:
    """What the teacher thinks of stretches of recordings (a :data:`training.sources.Opinion`).

    Args:
        directory: of the files of :class:`training.teacher.opinions.Hearing`.
        recordings: recording_id and primary_label of those that will be asked about.
        codes: labels in the order of the logits.
        window_seconds, hop_seconds: of the windows that the teacher heard.

    Raises:
        StageError: a recording was not heard.
    """

    def __init__(
        self,
        directory: Path,
        recordings: pd.DataFrame,
        codes: Sequence[str],
        *,
        window_seconds: float,
        hop_seconds: float,
    ) -> None:
        columns = {code: n for n, code in enumerate(codes)}
        self._hop, self._half = hop_seconds, window_seconds / 2
        self._said: dict[str, Array] = {}
        for name, label in zip(recordings.recording_id, recordings.primary_label, strict=True):
            try:
                logits = np.load(directory / f"{name}.npy", mmap_mode="r")
            except FileNotFoundError:
                raise StageError(
                    f"The teacher has not heard {name}; run python -m training.teach with this split."
                ) from None
            self._said[name] = np.asarray(logits[:, columns[label]], np.float32)

    def __call__(self, recording_id: str, start: float, end: float) -> float:
        """The highest logit of the recording's own species among windows centred in [start, end] (s), or near it."""
        said, half = self._said[recording_id], self._half
        first = int(np.ceil((start - half) / self._hop))
        last = int(np.floor((end - half) / self._hop))
        first = min(max(first, 0), len(said) - 1)
        return float(said[first : max(last, first) + 1].max())


def open_taught(
    place: Path,
    told: BirdNetTeacher,
    frontend: Frontend,
    recordings: pd.DataFrame,
    backgrounds: pd.DataFrame,
    codes: Sequence[str],
) -> Taught:
    """What the teacher has said of these recordings and backgrounds alone.

    Args:
        place: ``paths.taught``.
        codes: labels in the order of the logits.

    Raises:
        StageError: teach has not been run, or otherwise, or no mixture of these alone was heard.
    """
    record = _record_for(place, codes, "words", "mels", "parts")
    number = {code: n for n, code in enumerate(codes)}
    labels: dict[str, list[int]] = {name: [] for name in backgrounds.recording_id}
    columns = (recordings.recording_id, recordings.primary_label, recordings.secondary_labels)
    for name, primary, secondary in zip(*columns, strict=True):
        labels[name] = [number[code] for code in (primary, *secondary) if code in number]
    words, mels = ([place / name for name in record[kind]] for kind in ("words", "mels"))
    parts = [(float(begin), float(end)) for begin, end in record["parts"]]
    return Taught(words, mels, labels, parts, told, frontend)


def open_opinions(place: Path, recordings: pd.DataFrame, codes: Sequence[str]) -> Opinions:
    """What the teacher thinks of stretches of these recordings.

    Args:
        place: ``paths.taught``.
        codes: labels in the order of the logits.

    Raises:
        StageError: teach has not been run, or otherwise, or not for these recordings.
    """
    heard = _record_for(place, codes, "opinions")["opinions"]
    lengths = {name: heard[name] for name in ("window_seconds", "hop_seconds")}
    return Opinions(place / heard["directory"], recordings, codes, **lengths)


def read_record(place: Path) -> dict[str, Any]:
    """taught.json as the teach stage left it.

    Raises:
        StageError: it is not there.
    """
    try:
        return json.loads((place / "taught.json").read_text())
    except FileNotFoundError as error:
        raise StageError(f"{error.filename} is not there; run python -m training.teach first.") from None


def _record_for(place: Path, codes: Sequence[str], *names: str) -> dict[str, Any]:
    """taught.json, where it has these names and is of these labels."""
    record = read_record(place)
    lacking = [name for name in names if name not in record]
    if lacking or record.get("labels") != list(codes):
        wrong = f"says nothing of {lacking[0]}" if lacking else "is of other species"
        raise StageError(f"{place / 'taught.json'} {wrong}; run python -m training.teach with this configuration.")
    return record


def principal_components(values: Array, most: int) -> Array:
    """The first components [n, at most ``most``] of standardized values [n, size], their mean variance 1."""
    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-3)
    # in float64, so that the order of additions matters little
    _, vectors = np.linalg.eigh(np.cov(values.T.astype(np.float64)))
    components = values @ vectors[:, ::-1][:, :most].astype(np.float32)
    return (components / np.sqrt(np.mean(components.var(axis=0)))).astype(np.float32)


def _names(sources: str, background: str) -> set[str]:
    return {name for name in [*str(sources).split("\n"), str(background)] if name}


def _moved(logits: Array, named: Sequence[Collection[int]], told: BirdNetTeacher) -> Array:
    """Logits [n, n_parts, n_labels] with what labels add: who gave them heard the whole recording, or saw the bird.

    To add to logits is to change the odds that the teacher started from, whatever it has heard (Bayes).
    """
    labelled, others = told.label_logits
    shifts = np.full((len(logits), 1, logits.shape[-1]), others, np.float32)
    for shift, labels in zip(shifts, named, strict=True):
        shift[:, list(labels)] = labelled
    return logits + shifts
