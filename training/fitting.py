"""The training loop: batches in, the best epoch out, a checkpoint after each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.checkpoints import History, read_checkpoint, write_checkpoint
from training.console import progress, say
from training.crops import steady_windows
from training.errors import ConfigError, StageError
from training.feeding import Feed
from training.files import write_text
from training.metrics import Metrics, measure
from training.optimizers import OPTIMIZERS, make_optimizer
from training.prepared import recording_truth
from training.sampler import Sampler
from training.strategies import STRATEGIES, Team
from training.trainee import PRECISIONS, Trainee

if TYPE_CHECKING:
    import keras

_SCORED = ("cmap", "macro_roc_auc", "top1")
_AT_ONCE = 64  # windows that are validated together


@dataclasses.dataclass(frozen=True)
class Fit:
    """How the network is trained; conf/fit says what each value means."""

    seed: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    optimizer: str
    learning_rate: float
    warmup_epochs: int
    weight_decay: float
    ema: float | None
    label_smoothing: float
    secondary_weight: float
    rating_weight: Sequence[Sequence[float]]
    patience: int
    crop_candidates: int
    valid_windows: int
    precision: str
    strategy: str
    loader_threads: int

    def __post_init__(self) -> None:
        for name in (
            "epochs", "steps_per_epoch", "batch_size", "patience", "crop_candidates", "valid_windows", "loader_threads",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"fit.{name} is {getattr(self, name)}; it must be at least 1.")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ConfigError(
                f"fit.warmup_epochs is {self.warmup_epochs}; fit.epochs is {self.epochs}, and must be more."
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"fit.label_smoothing is {self.label_smoothing}; it must be at least 0 and below 1.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"fit.ema is {self.ema}; it must lie between 0 and 1, or be null.")
        for point in self.rating_weight:
            if not isinstance(point, Sequence) or len(point) != 2 or not all(isinstance(n, int | float) for n in point):
                raise ConfigError(
                    f"fit.rating_weight is {self.rating_weight}; write points [[rating, weight], …], or []."
                )
        ratings = [rating for rating, _ in self.rating_weight]
        if ratings != sorted(set(ratings)) or any(weight < 0 for _, weight in self.rating_weight):
            raise ConfigError(
                f"fit.rating_weight is {list(self.rating_weight)}; let ratings rise, and weights not be negative."
            )
        for name, known in (("precision", PRECISIONS), ("strategy", STRATEGIES), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"fit.{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}.")

    def make_optimizer(self) -> keras.optimizers.Optimizer:
        """For the whole of the training."""
        return make_optimizer(
            self.optimizer,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            steps=self.epochs * self.steps_per_epoch,
            warmup=self.warmup_epochs * self.steps_per_epoch,
        )


def train(
    trainee: Trainee, sampler: Sampler, valid: Validation | None, told: Fit, team: Team, checkpoint: Path, key: str
) -> History:
    """Train until the last epoch, or until none of the last ``told.patience`` epochs was the best.

    Args:
        trainee: untrained; it continues from where ``checkpoint`` holds an interrupted run with this ``key``.
        valid: None where nothing is held out for it: then every epoch is trained, and the last one kept.
        checkpoint: a directory that is replaced after every epoch (:mod:`training.checkpoints`), by the chief; the
            time that was spent is written to timing.json beside it.
        key: of everything that decides the result.

    Returns:
        A row an epoch: epoch, loss, and the validation's cmap, macro_roc_auc and top1 where there is one.

    Raises:
        StageError: the loss is not finite, or this worker is set up otherwise than the chief.
        ConfigError: the workers cannot share a batch evenly.
    """
    rows = team.rows(told.batch_size)
    with team.lost_workers_told():
        history = _resume(trainee, team, checkpoint, key)
        feed = Feed(
            lambda epoch, number: sampler.batch(epoch, number, rows),
            range(len(history), told.epochs),
            told.steps_per_epoch,
            told.loader_threads,
        )
        timing = _Timing()
        try:
            for epoch in range(len(history), told.epochs):
                if valid is not None and _is_stale(history, told.patience):
                    break
                with timing.of(epoch + 1, feed):
                    loss = _epoch(trainee, feed, told, epoch)
                kept = trainee.kept()
                scores: dict[str, float] = {}
                if valid is not None:
                    scores = team.as_the_chief_says(valid.scores(kept) if team.is_chief else None)
                better = valid is None or all(scores["cmap"] > row["cmap"] for row in history)
                history.append({"epoch": epoch + 1, "loss": loss, **scores})
                if team.is_chief:
                    write_checkpoint(checkpoint, trainee.state(), history, key, kept if better else None)
                    say(f"          epoch {epoch + 1:3}  loss {loss:.4f}{_told(scores, better)}")
        finally:
            feed.close()
    if team.is_chief and timing.epochs:
        write_text(checkpoint.with_name("timing.json"), json.dumps(timing.to_dict(), indent=1) + "\n")
        say(f"          steps waited {timing.to_dict()['wait_share']:.1%} of their time for batches")
    return history


def _told(scores: dict[str, float], better: bool) -> str:
    if not scores:
        return ""
    told = "  valid cmAP {cmap:.3f}  ROC-AUC {macro_roc_auc:.3f}  top-1 {top1:.3f}".format(**scores)
    return f"{told}  *" if better else told


def _epoch(trainee: Trainee, feed: Feed, told: Fit, epoch: int) -> float:
    """Train one epoch; its mean loss."""
    trainee.seed_dropout(told.seed, epoch)
    title = f"epoch {epoch + 1}/{told.epochs}"
    batches = progress(feed.epoch(), title, total=told.steps_per_epoch, unit="step")
    loss = float(np.mean([trainee.step(batch) for batch in batches]))
    if not np.isfinite(loss):
        raise StageError(f"The loss is {loss} in epoch {epoch + 1}; lower fit.learning_rate.")
    return loss


class _Timing:
    """Seconds of each epoch's steps, and those of them that were spent waiting for batches."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    @contextlib.contextmanager
    def of(self, epoch: int, feed: Feed) -> Iterator[None]:
        began, waited = time.perf_counter(), feed.waited
        yield
        seconds, waited = time.perf_counter() - began, feed.waited - waited
        self.epochs.append(
            {
                "epoch": epoch,
                "seconds": round(seconds, 4),
                "waited": round(waited, 4),
                "wait_share": round(waited / seconds, 5),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        seconds, waited = (sum(row[name] for row in self.epochs) for name in ("seconds", "waited"))
        return {"seconds": round(seconds, 3), "wait_share": round(waited / seconds, 5), "epochs": self.epochs}


class Validation:
    """Recording-level scores (the highest of a recording's windows) on the validation share, against the truth that the
    figures have (:func:`training.prepared.recording_truth`).

    Windows are read anew for each score, some recordings at a time, so that memory does not grow with the data set.
    """

    def __init__(
        self, recordings: pd.DataFrame, place: Path, codes: list[str], n_frames: int, windows_per_recording: int
    ) -> None:
        if recordings.empty:
            raise StageError("No recording is left for validation; raise split.valid or add recordists.")
        self._paths = [place / name for name in recordings.feature]
        self._n_frames, self._most = n_frames, windows_per_recording
        self._truth = recording_truth(recordings, codes)

    def measure(self, model: keras.Model) -> Metrics:
        """Metrics of a model's logits; only those of their ranking mean something."""
        highest = np.concatenate(list(self._highest(model)))
        return measure(self._truth, highest, threshold=0.0)

    def scores(self, model: keras.Model) -> dict[str, float]:
        """What a row of the history says."""
        found = self.measure(model)
        return {name: getattr(found, name) for name in _SCORED}

    def _highest(self, model: keras.Model) -> Iterator[NDArray[np.float32]]:
        """Logits [some recordings, n_labels], the highest of each recording's windows."""
        together = max(1, math.ceil(_AT_ONCE / self._most))
        for first in range(0, len(self._paths), together):
            windows = [
                steady_windows(np.load(path, mmap_mode="r"), self._n_frames, self._most)
                for path in self._paths[first : first + together]
            ]
            logits = model.predict_on_batch(np.concatenate(windows)[..., None])
            yield np.maximum.reduceat(logits, np.cumsum([0, *(len(w) for w in windows[:-1])]))


def _is_stale(history: History, patience: int) -> bool:
    scores = [row["cmap"] for row in history]
    return len(scores) > patience and max(scores[:-patience]) >= max(scores[-patience:])


def _resume(trainee: Trainee, team: Team, checkpoint: Path, key: str) -> History:
    """Let every worker continue where the chief's checkpoint ends; the history so far."""
    left = read_checkpoint(checkpoint, key) if team.is_chief else None
    state, history = left if left is not None else (trainee.state(), [])
    chiefs_key, history = team.as_the_chief_says([key, history])
    if chiefs_key != key:
        raise StageError(
            f"Worker {team.worker} has another configuration, other code or other prepared data than the chief; give "
            "all workers the same."
        )
    trainee.set_state(team.arrays_of_the_chief(state))
    if history and team.is_chief:
        say(f"          continues after epoch {len(history)}")
    return history
