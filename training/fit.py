"""Fit: train the network, keep the epoch that validates best, and be able to continue after Ctrl-C.

``python -m training.fit`` fills ``paths.fit``: model.keras (the best epoch), history.csv, fit.json; checkpoint/ holds
the last whole epoch while it runs.
"""

from __future__ import annotations

import json
import shutil

import pandas as pd

from training.config import Settings, stage_main
from training.console import say
from training.files import sha256_of_file, write_text, written_beside
from training.fitting import History, Validation, best_model, train
from training.prepared import read_prepared
from training.sampler import Sampler
from training.stages import FIT, run_stage, stage_key


def fit(settings: Settings) -> None:
    """Train and leave the best model in ``paths.fit``.

    Raises:
        StageError: the loss is not finite, or prepare has not been run.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(settings.fit.seed)
    tf.config.experimental.enable_op_determinism()
    recordings, _, labels = read_prepared(settings.paths.prepared, settings.dataset.root)
    codes, frontend, told = list(labels.ebird_code), settings.frontend, settings.fit
    sampler = Sampler(
        recordings[recordings.split == "train"],
        settings.paths.prepared,
        codes,
        frontend,
        settings.augment,
        seed=told.seed,
        batch_size=told.batch_size,
        label_smoothing=told.label_smoothing,
        secondary_weight=told.secondary_weight,
        crop_candidates=told.crop_candidates,
    )
    held_out = recordings[recordings.split == "valid"]
    valid = Validation(held_out, settings.paths.prepared, codes, frontend.n_frames, told.valid_windows)
    model = settings.model.build((frontend.n_mels, frontend.n_frames, 1), len(codes))
    place = settings.paths.fit
    place.mkdir(parents=True, exist_ok=True)
    if settings.force:
        shutil.rmtree(place / "checkpoint", ignore_errors=True)
    history = train(model, sampler, valid, told, place / "checkpoint", stage_key(FIT, settings))
    _finish(settings, history)


def _finish(settings: Settings, history: History) -> None:
    place = settings.paths.fit
    with written_beside(place / "model.keras") as beside:
        shutil.copyfile(best_model(place / "checkpoint"), beside)
    with written_beside(place / "history.csv") as beside:
        pd.DataFrame(history).to_csv(beside, index=False)
    chosen = max(history, key=lambda row: row["cmap"])
    record = {
        "epochs": len(history),
        "best_epoch": chosen["epoch"],
        "valid": {name: chosen[name] for name in ("cmap", "macro_roc_auc", "top1")},
        "model_sha256": sha256_of_file(place / "model.keras"),
    }
    write_text(place / "fit.json", json.dumps(record, indent=1) + "\n")
    shutil.rmtree(place / "checkpoint")
    say(f"          best epoch {chosen['epoch']} of {len(history)}: valid cmAP {chosen['cmap']:.3f}")


def run(settings: Settings) -> None:
    """The stage: :func:`fit` unless its result is up to date."""
    run_stage(FIT, settings, fit)


main = stage_main(run)

if __name__ == "__main__":
    main()
