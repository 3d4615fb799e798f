"""The training loop: batches in, the best epoch out, a checkpoint after each."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from training.console import progress, say
from training.errors import ConfigError, StageError
from training.files import directory_swapped_in
from training.metrics import Metrics, measure
from training.sampler import Sampler, steady_windows

if TYPE_CHECKING:
    import keras

History = list[dict[str, Any]]

_BATCHES_AHEAD = 4
_BEST, _LAST, _STATE = "best.keras", "last.keras", "state.json"


@dataclasses.dataclass(frozen=True)
class Fit:
    """How the network is trained; conf/fit says what each value means."""

    seed: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    learning_rate: float
    warmup_epochs: int
    weight_decay: float
    label_smoothing: float
    secondary_weight: float
    patience: int
    crop_candidates: int
    valid_windows: int

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "batch_size", "patience", "crop_candidates", "valid_windows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"fit.{name} is {getattr(self, name)}; it must be at least 1.")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ConfigError(
                f"fit.warmup_epochs is {self.warmup_epochs}; fit.epochs is {self.epochs}, and must be more."
            )


def train(
    untrained: keras.Model, sampler: Sampler, valid: Validation, told: Fit, checkpoint: Path, key: str
) -> History:
    """Train until the last epoch, or until none of the last ``told.patience`` epochs was the best.

    Args:
        untrained: the model to start with; not used where ``checkpoint`` holds an interrupted run with this ``key``.
        checkpoint: a directory that holds best.keras (the epoch with the highest validation cmAP) and last.keras after
            every epoch.
        key: of everything that decides the result.

    Returns:
        A row an epoch: epoch, loss, and the validation's cmap, macro_roc_auc and top1.

    Raises:
        StageError: the loss is not finite.
    """
    model, history = _resume(checkpoint, key)
    if model is None:
        import keras

        model = untrained
        objective = keras.losses.BinaryCrossentropy(from_logits=True)
        # XLA makes depthwise convolutions about nine times slower on a CPU
        model.compile(_optimizer(told), objective, jit_compile=False)
    else:
        say(f"          continues after epoch {len(history)}")
    for epoch in range(len(history), told.epochs):
        if _is_stale(history, told.patience):
            break
        best = max((row["cmap"] for row in history), default=-1.0)
        loss = _epoch(model, sampler, told, epoch)
        score = valid.measure(model)
        better = score.cmap > best
        scores = {"cmap": score.cmap, "macro_roc_auc": score.macro_roc_auc, "top1": score.top1}
        history.append({"epoch": epoch + 1, "loss": loss, **scores})
        _checkpoint(checkpoint, model, history, key, better)
        say(
            f"          epoch {epoch + 1:3}  loss {loss:.4f}  valid cmAP {score.cmap:.3f}  "
            f"ROC-AUC {score.macro_roc_auc:.3f}  top-1 {score.top1:.3f}{'  *' if better else ''}"
        )
    return history


def best_model(checkpoint: Path) -> Path:
    """Where :func:`train` left the best epoch."""
    return checkpoint / _BEST


def _epoch(model: keras.Model, sampler: Sampler, told: Fit, epoch: int) -> float:
    """Train one epoch; its mean loss."""
    _seed_dropout(model, told.seed, epoch)
    batches = _batches(sampler, epoch, told.steps_per_epoch)
    title = f"epoch {epoch + 1}/{told.epochs}"
    losses = [
        float(model.train_on_batch(inputs, targets))
        for inputs, targets in progress(batches, title, total=told.steps_per_epoch, unit="step")
    ]
    loss = float(np.mean(losses))
    if not np.isfinite(loss):
        raise StageError(f"The loss is {loss} in epoch {epoch + 1}; lower fit.learning_rate.")
    return loss


class Validation:
    """Recording-level scores (the highest of a recording's windows) on the validation share."""

    def __init__(
        self, recordings: pd.DataFrame, place: Path, codes: list[str], n_frames: int, windows_per_recording: int
    ) -> None:
        windows = [
            steady_windows(np.load(place / name, mmap_mode="r"), n_frames, windows_per_recording)
            for name in recordings.feature
        ]
        if not windows:
            raise StageError("No recording is left for validation; raise split.valid or add recordists.")
        self._inputs = np.concatenate(windows)[..., None]
        self._first = np.cumsum([0, *(len(w) for w in windows[:-1])])
        self._truth = np.array([[code == primary for code in codes] for primary in recordings.primary_label])

    def measure(self, model: keras.Model) -> Metrics:
        logits = model.predict(self._inputs, batch_size=64, verbose=0)
        # a fixed threshold: only the ranking metrics choose the epoch
        return measure(self._truth, np.maximum.reduceat(logits, self._first), threshold=0.0)


def _optimizer(told: Fit) -> keras.optimizers.Optimizer:
    import keras

    warmup = told.warmup_epochs * told.steps_per_epoch
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else told.learning_rate,
        decay_steps=told.epochs * told.steps_per_epoch - warmup,
        warmup_target=told.learning_rate if warmup else None,
        warmup_steps=warmup,
        alpha=0.01,
    )
    return keras.optimizers.AdamW(rate, weight_decay=told.weight_decay)


def _batches(sampler: Sampler, epoch: int, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of an epoch in order, made one thread ahead of the training step."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(sampler.batch, epoch, n) for n in range(min(_BATCHES_AHEAD, steps))]
        for number in range(steps):
            yield waiting.pop(0).result()
            if number + _BATCHES_AHEAD < steps:
                waiting.append(pool.submit(sampler.batch, epoch, number + _BATCHES_AHEAD))


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Make dropout depend on (seed, epoch) alone: its own state is not in a saved model."""
    for layer in model.layers:
        if hasattr(layer, "seed_generator"):
            layer.seed_generator.state.assign([seed, epoch])


def _is_stale(history: History, patience: int) -> bool:
    scores = [row["cmap"] for row in history]
    return len(scores) > patience and max(scores[:-patience]) >= max(scores[-patience:])


def _checkpoint(place: Path, model: keras.Model, history: History, key: str, better: bool) -> None:
    with directory_swapped_in(place) as beside:
        model.save(beside / _LAST)
        if better:
            shutil.copy(beside / _LAST, beside / _BEST)
        else:
            shutil.copy(place / _BEST, beside / _BEST)
        (beside / _STATE).write_text(json.dumps({"key": key, "history": history}))


def _resume(place: Path, key: str) -> tuple[keras.Model | None, History]:
    """The model and history of an interrupted run of this very configuration, or nothing."""
    import keras

    try:
        state = json.loads((place / _STATE).read_text())
        if state["key"] == key:
            return keras.saving.load_model(place / _LAST), state["history"]
    except (OSError, ValueError, KeyError):
        pass
    return None, []
