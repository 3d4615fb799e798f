"""A small network in training, on recordings that are quickly learnt.

As a command it is one worker: ``python fit_fixtures.py STRATEGY PLACE [key=value …]`` trains, and leaves its last
weights in PLACE/weights-<worker>.npz and its history in PLACE/history-<worker>.json.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from training.augment import Augment
from training.config import compose, told_in_a_sentence
from training.fit import make_trainee
from training.fitting import Fit, Validation, train
from training.models import Block, PlainCnn
from training.sampler import Sampler
from training.sources import Example, Parts, Recordings
from training.strategies import Team
from training.trainee import Trainee

if TYPE_CHECKING:
    import keras

CODES = ["high", "low", "wide"]
SETTINGS = compose()
TAUGHT = compose(["teacher=birdnet", "teacher.embedding_weight=0.5"])
FRONTEND = dataclasses.replace(SETTINGS.frontend, n_mels=16, window_seconds=0.5)
SHAPE = (FRONTEND.n_mels, FRONTEND.n_frames, 1)
OFF = {field.name: 0.0 for field in dataclasses.fields(Augment) if field.name.endswith("_probability")}
AUGMENT = dataclasses.replace(SETTINGS.augment, **OFF | {"noise_probability": 1.0, "mixup_probability": 0.3})
TOLD = dataclasses.replace(
    SETTINGS.fit, epochs=3, steps_per_epoch=4, batch_size=8, warmup_epochs=1, patience=3, valid_windows=2
)
NETWORK = PlainCnn(
    stem=8, rows=8, blocks=(Block(16, 2),), pool_mel=False, head=16, dropout=0.2, batch_norm_momentum=0.8
)


class Unfused(PlainCnn):
    """Normalises by the kernels that several replicas use: AdamW makes steps of what another one rounds otherwise."""

    def build(self, input_shape: tuple[int, int, int], n_labels: int, *, fused: bool = False) -> keras.Model:
        return super().build(input_shape, n_labels)


def recordings(place: Path) -> pd.DataFrame:
    """A table of recordings with features in ``place``: each label sounds in bands of its own."""
    rows = []
    for i in range(18):
        label, rng = i % 3, np.random.default_rng(i)
        mel = rng.normal(-1.0, 0.2, (1, SHAPE[0], SHAPE[1] + 20))
        mel[0, (slice(10, 13), slice(3, 6), slice(2, 14))[label], ::3] += 1.5
        np.save(place / f"{i}.npy", mel.astype(np.float16))
        rows.append(
            (f"{i}.ogg", CODES[label], [], f"somebody {i % 5}", 4.0, f"{i}.npy", "valid" if i >= 12 else "train")
        )
    columns = ["recording_id", "primary_label", "secondary_labels", "author", "rating", "feature", "split"]
    return pd.DataFrame(rows, columns=columns)


PARTS = ((0.0, 0.5), (0.5, 1.0))


class WithTeacher:
    """Another source's examples, each with an opinion of its halves and an embedding that its labels decide."""

    def __init__(self, source: Recordings) -> None:
        self._source = source

    def draw(self, rng: np.random.Generator) -> Example:
        example = self._source.draw(rng)
        embedding = np.eye(3, 4, dtype=np.float32)[example.targets.argmax()]
        return example._replace(parts=Parts(np.stack([example.targets] * 2), np.stack([embedding] * 2)), mixes=False)


@dataclasses.dataclass
class Training:
    """All that :func:`training.fitting.train` is given."""

    trainee: Trainee
    sampler: Sampler
    valid: Validation | None
    told: Fit
    team: Team

    def train(self, checkpoint: Path, key: str = "key") -> list[dict[str, Any]]:
        return train(self.trainee, self.sampler, self.valid, self.told, self.team, checkpoint, key)


def training(place: Path, team: Team, *, taught: bool = False, network: PlainCnn = NETWORK, **told: Any) -> Training:
    """Set a training up from scratch; ``place`` gets the features."""
    import keras

    fit = dataclasses.replace(TOLD, **told)
    keras.utils.set_random_seed(fit.seed)
    table = recordings(place)
    plain = {"label_smoothing": fit.label_smoothing, "secondary_weight": 0.5, "crop_candidates": 2}
    source = Recordings(table[table.split == "train"], place, CODES, FRONTEND, **plain)
    numbers = {"seed": fit.seed, "batch_size": fit.batch_size, "n_labels": len(CODES)}
    sources = [(WithTeacher(source), 1.0), (source, 1.0)] if taught else [(source, 1.0)]
    opinion = {"parts": PARTS, "embedding_size": 4} if taught else {}
    sampler = Sampler(sources, None, AUGMENT, FRONTEND, **numbers, **opinion)
    valid = Validation(table[table.split == "valid"], place, CODES, FRONTEND.n_frames, fit.valid_windows)
    settings = dataclasses.replace(TAUGHT if taught else SETTINGS, frontend=FRONTEND, model=network, fit=fit)
    return Training(make_trainee(settings, sampler, len(CODES), team), sampler, valid, fit, team)


def main(strategy: str, place: Path, *words: str) -> None:
    """One worker. ``stop=1`` ends it after an epoch, and ``key`` says what it takes its configuration to be."""
    import tensorflow as tf

    told = {key: json.loads(value) for key, _, value in (word.partition("=") for word in words)}
    stop, key = told.pop("stop", None), told.pop("key", "key")
    if strategy == "mirrored":  # two devices of one processor, for want of GPUs
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    team = Team(strategy)
    tf.config.experimental.enable_op_determinism()
    own = place / f"worker-{team.worker}"
    own.mkdir(exist_ok=True)
    # each replica drops out by itself
    network = Unfused(**vars(dataclasses.replace(NETWORK, dropout=0.0)))
    whole = training(own, team, network=network, **told)
    if stop is not None:
        whole.told = dataclasses.replace(whole.told, epochs=stop, warmup_epochs=0)
    with told_in_a_sentence():
        history = whole.train(own / "checkpoint", key)
    np.savez(place / f"weights-{team.worker}.npz", *whole.trainee.kept().get_weights())
    (place / f"history-{team.worker}.json").write_text(json.dumps(history))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
