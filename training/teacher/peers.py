"""What the teacher itself, and a logistic regression on its embeddings, make of the recordings that a run held out.

``python -m training.teacher.peers experiment=… teacher=birdnet`` reads what prepare left and writes peers.npz to
``paths.validate``, in the layout of scores.npz (see training/scores.py), so that :func:`training.scores.pooled` puts
them beside our own. Where it is there already, made of the same things, nothing is heard again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous import recordings as reading
from labous.detect import sigmoid
from labous.recordings import read
from training import conditions
from training.conditions import Backgrounds, mixed
from training.config import Settings, stage_main
from training.console import progress, say
from training.errors import ConfigError, StageError
from training.files import code_digest, sha256_of_file, short_hash
from training.metrics import Scores
from training.prepared import read_backgrounds, read_prepared, recording_truth
from training.rows import whole
from training.scores import read_scores, write_scores
from training.teach import species_of
from training.teacher import birdnet
from training.teacher.settings import BirdNetTeacher

Samples = NDArray[np.float32]
PEERS = ("birdnet", "logistic_regression")
# our sources that decide what the peers hear and say
CODE = (Path(__file__), Path(birdnet.__file__), Path(conditions.__file__), Path(reading.__file__))
_REGULARIZATION = 0.01  # C of the regression on standardized embeddings


def compare(settings: Settings) -> None:
    """Write the peers' scores of the held-out recordings: clean, and with the backgrounds that validate uses; unless
    they are there.

    Raises:
        TeacherError: the teacher is not there.
        ConfigError: no teacher is configured.
        StageError: prepare has not been run, or held nothing out.
    """
    told = settings.teacher
    if not isinstance(told, BirdNetTeacher):
        raise ConfigError("The peers are the teacher's; add teacher=birdnet.")
    recordings, _, labels = read_prepared(settings.paths.prepared, settings.dataset.root)
    backgrounds = whole(read_backgrounds(settings.paths.prepared, settings.dataset.root))
    codes = list(labels.ebird_code)
    train, test = (recordings[recordings.split == part].sort_values("path") for part in ("train", "test"))
    if test.empty:
        raise StageError("No recording was held out, on which the peers could be compared; give split.test or folds.")
    over = backgrounds[backgrounds.split == "test"]
    path, key = settings.paths.validate / "peers.npz", _key(settings, told)
    if path.exists() and str(read_scores(path).get("key")) == key:
        say(f"          {path} is up to date")
        return
    teacher = birdnet.BirdNet(told.path, species_of(labels))
    rate = settings.frontend.sample_rate

    def heard(table: pd.DataFrame, sound: Callable[[str], Samples], title: str) -> list[NDArray[np.float32]]:
        return [
            teacher.embed_all(sound(path), rate, overlapping) for path in progress(table.path, title, total=len(table))
        ]

    clean = heard(train, lambda path: read(path, rate), "training share")
    regression = Regression(clean, [codes.index(code) for code in train.primary_label], len(codes))
    arrays = {
        "key": np.array(key),
        "labels": np.array(codes),
        "thresholds": np.full(len(codes), settings.evaluate.plain_threshold),
    }
    behind = Backgrounds(over, settings.frontend, settings.evaluate.noise_seed)
    numbers = {path: number for number, path in enumerate(test.path)}
    for snr_db in (None, *(settings.evaluate.noise_snr_db if len(over) else ())):  # as validate

        def sound(path: str, snr_db: float | None = snr_db) -> Samples:
            signal = read(path, rate)
            return signal if snr_db is None else mixed(signal, behind.behind(signal, numbers[path]), snr_db)

        kind = "recordings" if snr_db is None else f"recordings_{snr_db:g}db"
        found = heard(test, sound, kind)
        scores = {
            "birdnet": [teacher.logits(windows).max(axis=0) for windows in found],
            "logistic_regression": [regression.logits(windows).max(axis=0) for windows in found],
        }
        arrays |= _rows(kind, test, codes, scores)
    write_scores(path, arrays)
    say(f"          {path}: {' and '.join(PEERS)} on {len(test)} recordings")


def _key(settings: Settings, told: BirdNetTeacher) -> str:
    """Of everything that decides the scores: what was prepared, the teacher, the backgrounds' levels, and our code."""
    prepared, noise = settings.paths.prepared, settings.evaluate
    tables = ("recordings.csv", "backgrounds.csv", "labels.csv")
    return short_hash(
        {
            "prepared": [sha256_of_file(prepared / name) for name in tables],
            "revision": json.loads((prepared / "summary.json").read_text())["revision"],
            "teacher": birdnet.identity(told.path),
            "frontend": settings.frontend.to_dict(),
            "noise": [noise.noise_seed, list(noise.noise_snr_db), noise.plain_threshold],
            "code": code_digest(*CODE),
        }
    )


def overlapping(last: int) -> list[int]:
    """Starts of windows that overlap by half; the last one ends with the recording."""
    half = round(birdnet.WINDOW_SECONDS * birdnet.SAMPLE_RATE) // 2
    return sorted({*range(0, last + 1, half), last})


class Regression:
    """Multinomial logistic regression on standardized embeddings; every window has its recording's label.

    Args:
        found: of each recording, [n_windows, size].
        labels: of each recording, its label's number.
    """

    def __init__(self, found: Sequence[NDArray[np.float32]], labels: Sequence[int], n_labels: int) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._model = make_pipeline(
            StandardScaler(), LogisticRegression(C=_REGULARIZATION, class_weight="balanced", max_iter=500)
        )
        self._model.fit(np.concatenate(found), np.repeat(labels, [len(windows) for windows in found]))
        self._n_labels = n_labels

    def logits(self, windows: NDArray[np.float32]) -> Scores:
        """[n_windows, n_labels]; very low for a label without a recording to train on."""
        found = np.full((len(windows), self._n_labels), -1e3, np.float32)
        said = self._model.decision_function(windows)
        # of two labels scikit-learn tells one number, the second's
        found[:, self._model.classes_] = said if said.ndim == 2 else np.stack([-said, said], axis=1)
        return found


def _rows(
    kind: str, table: pd.DataFrame, codes: list[str], scores: dict[str, list[NDArray[np.float32]]]
) -> dict[str, NDArray]:
    found = {
        f"{kind}/names": np.array(table.recording_id, str),
        f"{kind}/groups": np.array(table.author, str),
        f"{kind}/truth": recording_truth(table, codes),
    }
    for name, logits in scores.items():
        found[f"{kind}/logits/{name}"] = np.stack(logits).astype(np.float32)
        found[f"{kind}/probabilities/{name}"] = sigmoid(found[f"{kind}/logits/{name}"])
    return found


main = stage_main(compare)

if __name__ == "__main__":
    main()
