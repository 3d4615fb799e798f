"""Fit: train the network, keep the epoch that validates best, and be able to continue after Ctrl-C.

``python -m training.fit`` fills ``paths.fit``: model.keras (the best epoch), history.csv, fit.json; checkpoint/ holds
the last whole epoch while it runs.
"""

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

from training.config import Settings, stage_main
from training.console import progress, say
from training.errors import ConfigError, StageError
from training.files import directory_swapped_in, sha256_of_file, write_text, written_beside
from training.metrics import Metrics, measure
from training.prepare import read_prepared
from training.sampler import Sampler, steady_windows
from training.stages import FIT, run_stage, stage_key

if TYPE_CHECKING:
    import keras

_BATCHES_AHEAD = 4


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


def fit(settings: Settings) -> None:
    """Train and leave the best model in ``paths.fit``.

    Raises:
        StageError: the loss is not finite, or prepare has not been run.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(settings.fit.seed)
    tf.config.experimental.enable_op_determinism()
    recordings, _, labels = read_prepared(settings.paths.prepared)
    codes = list(labels.ebird_code)
    sampler = _sampler(settings, recordings[recordings.split == "train"], codes)
    valid = _Validation(settings, recordings[recordings.split == "valid"], codes)

    place, key = settings.paths.fit, stage_key(FIT, settings)
    place.mkdir(parents=True, exist_ok=True)
    model, history = _resume(place / "checkpoint", key)
    if model is None:
        frontend = settings.frontend
        model = settings.model.build((frontend.n_mels, frontend.n_frames, 1), len(codes))
        # XLA makes depthwise convolutions about nine times slower on a CPU
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        model.compile(_optimizer(settings.fit), loss, jit_compile=False)
    else:
        say(f"          continues after epoch {len(history)}")

    best = max((row["cmap"] for row in history), default=-1.0)
    for epoch in range(len(history), settings.fit.epochs):
        if _is_stale(history, settings.fit.patience):
            break
        _seed_dropout(model, settings.fit.seed, epoch)
        losses = [
            float(model.train_on_batch(inputs, targets))
            for inputs, targets in progress(
                _batches(sampler, epoch, settings.fit.steps_per_epoch),
                f"epoch {epoch + 1}/{settings.fit.epochs}",
                total=settings.fit.steps_per_epoch,
                unit="step",
            )
        ]
        loss = float(np.mean(losses))
        if not np.isfinite(loss):
            raise StageError(f"The loss is {loss} in epoch {epoch + 1}; lower fit.learning_rate.")
        score = valid.measure(model)
        history.append(
            {
                "epoch": epoch + 1,
                "loss": loss,
                "cmap": score.cmap,
                "macro_roc_auc": score.macro_roc_auc,
                "top1": score.top1,
            }
        )
        better = score.cmap > best
        if better:
            best = score.cmap
        _checkpoint(place / "checkpoint", model, history, key, better)
        say(
            f"          epoch {epoch + 1:3}  loss {loss:.4f}  valid cmAP {score.cmap:.3f}  "
            f"ROC-AUC {score.macro_roc_auc:.3f}  top-1 {score.top1:.3f}{'  *' if better else ''}"
        )
    _finish(place, history, best)


def _sampler(settings: Settings, recordings: pd.DataFrame, codes: list[str]) -> Sampler:
    told = settings.fit
    return Sampler(
        recordings,
        settings.paths.prepared,
        codes,
        settings.frontend,
        settings.augment,
        seed=told.seed,
        batch_size=told.batch_size,
        label_smoothing=told.label_smoothing,
        secondary_weight=told.secondary_weight,
        crop_candidates=told.crop_candidates,
    )


class _Validation:
    """Recording-level scores (the highest of a recording's windows) on the validation share."""

    def __init__(self, settings: Settings, recordings: pd.DataFrame, codes: list[str]) -> None:
        windows = [
            steady_windows(
                np.load(settings.paths.prepared / name, mmap_mode="r"),
                settings.frontend.n_frames,
                settings.fit.valid_windows,
            )
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


def _is_stale(history: list[dict[str, Any]], patience: int) -> bool:
    scores = [row["cmap"] for row in history]
    return len(scores) > patience and max(scores[:-patience]) >= max(scores[-patience:])


def _checkpoint(place: Path, model: keras.Model, history: list[dict[str, Any]], key: str, better: bool) -> None:
    with directory_swapped_in(place) as beside:
        model.save(beside / "last.keras")
        if better:
            shutil.copy(beside / "last.keras", beside / "best.keras")
        else:
            shutil.copy(place / "best.keras", beside / "best.keras")
        (beside / "state.json").write_text(json.dumps({"key": key, "history": history}))


def _resume(place: Path, key: str) -> tuple[keras.Model | None, list[dict[str, Any]]]:
    """The model and history of an interrupted run of this very configuration, or nothing."""
    import keras

    try:
        state = json.loads((place / "state.json").read_text())
        if state["key"] == key:
            return keras.saving.load_model(place / "last.keras"), state["history"]
    except (OSError, ValueError, KeyError):
        pass
    return None, []


def _finish(place: Path, history: list[dict[str, Any]], best: float) -> None:
    with written_beside(place / "model.keras") as beside:
        shutil.copyfile(place / "checkpoint" / "best.keras", beside)
    with written_beside(place / "history.csv") as beside:
        pd.DataFrame(history).to_csv(beside, index=False)
    chosen = next(row for row in history if row["cmap"] == best)
    write_text(
        place / "fit.json",
        json.dumps(
            {
                "epochs": len(history),
                "best_epoch": chosen["epoch"],
                "valid": {k: chosen[k] for k in ("cmap", "top1")},
                "model_sha256": sha256_of_file(place / "model.keras"),
            },
            indent=1,
        )
        + "\n",
    )
    shutil.rmtree(place / "checkpoint")
    say(f"          best epoch {chosen['epoch']} of {len(history)}: valid cmAP {best:.3f}")


def run(settings: Settings) -> None:
    """The stage: :func:`fit` unless its result is up to date."""
    run_stage(FIT, settings, fit)


main = stage_main(run)

if __name__ == "__main__":
    main()
