"""Fit: train the network, keep the epoch that validates best, and be able to continue after Ctrl-C.

``python -m training.fit`` fills ``paths.fit``: model.keras (the best epoch), history.csv, fit.json, and timing.json, on
which nothing depends; checkpoint/ holds the last whole epoch while it runs.

With ``fit.strategy=multi_worker`` every host runs this command on the same prepared data, with a TF_CONFIG of its own;
the chief alone writes files.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd

from training.checkpoints import History, best_model
from training.config import Settings, stage_main
from training.console import say
from training.files import sha256_of_file, write_text, written_beside
from training.fitting import Validation, train
from training.prepared import read_backgrounds, read_prepared
from training.sampler import Sampler
from training.sources import Backgrounds, Recordings, Source
from training.stages import FIT, is_up_to_date, run_stage, stage_key
from training.strategies import Team, task
from training.teacher.settings import BirdNetTeacher
from training.teacher.taught import open_opinions, open_taught, read_record
from training.trainee import Trainee


def fit(settings: Settings) -> None:
    """Train and leave the best model in ``paths.fit``.

    Raises:
        StageError: the loss is not finite, prepare has not been run, or another worker is lost.
        ConfigError: fit.strategy asks for workers that cannot be found, or that cannot share a batch.
    """
    import keras
    import tensorflow as tf

    team = Team(settings.fit.strategy)
    keras.utils.set_random_seed(settings.fit.seed)
    tf.config.experimental.enable_op_determinism()
    recordings, _, labels = read_prepared(settings.paths.prepared, settings.dataset.root)
    codes, frontend, told = list(labels.ebird_code), settings.frontend, settings.fit
    backgrounds = read_backgrounds(settings.paths.prepared, settings.dataset.root)
    sampler = make_sampler(settings, recordings, backgrounds[backgrounds.split == "train"], codes)
    held_out = recordings[recordings.split == "valid"]
    valid = None
    if settings.split.valid:
        valid = Validation(held_out, settings.paths.prepared, codes, frontend.n_frames, told.valid_windows)
    trainee = make_trainee(settings, sampler, len(codes), team)
    place = settings.paths.fit
    if team.is_chief:
        place.mkdir(parents=True, exist_ok=True)
        if settings.force:
            shutil.rmtree(place / "checkpoint", ignore_errors=True)
    history = train(trainee, sampler, valid, told, team, place / "checkpoint", stage_key(FIT, settings))
    if team.is_chief:
        _finish(place, history, read_record(settings.paths.taught)["teacher"])


def make_trainee(settings: Settings, sampler: Sampler, n_labels: int, team: Team) -> Trainee:
    """The untrained network of a configuration, for the batches of a sampler."""
    frontend, told, teacher = settings.frontend, settings.fit, settings.teacher
    return Trainee(
        lambda fused: settings.model.build((frontend.n_mels, frontend.n_frames, 1), n_labels, fused=fused),
        told.make_optimizer,
        team,
        precision=told.precision,
        ema=told.ema,
        batch_size=told.batch_size,
        parts=sampler.parts,
        embedding_size=sampler.embedding_size,
        embedding_weight=teacher.embedding_weight if isinstance(teacher, BirdNetTeacher) else 0.0,
    )


def make_sampler(settings: Settings, recordings: pd.DataFrame, backgrounds: pd.DataFrame, codes: list[str]) -> Sampler:
    """The training share of the recordings as batches: with what a teacher has said of it, and these backgrounds."""
    place, told, augment = settings.paths.prepared, settings.fit, settings.augment
    train = recordings[recordings.split == "train"]
    teacher = settings.teacher if isinstance(settings.teacher, BirdNetTeacher) else None
    opinion = None
    if teacher and teacher.chooses_windows:
        opinion = open_opinions(settings.paths.taught, train, codes)
    labelled = Recordings(
        train,
        place,
        codes,
        settings.frontend,
        label_smoothing=told.label_smoothing,
        secondary_weight=told.secondary_weight,
        crop_candidates=told.crop_candidates,
        rating_weight=told.rating_weight,
        stretch=augment.draw_stretch,
        opinion=opinion,
    )
    sources: list[tuple[Source, float]] = [(labelled, 1.0)]
    parts: tuple[tuple[float, float], ...] = ()
    embedding_size = 0
    if teacher:
        taught = open_taught(settings.paths.taught, teacher, settings.frontend, train, backgrounds, codes)
        sources = [(labelled, 1 - teacher.share), (taught, teacher.share)]
        parts, embedding_size = taught.parts, taught.embedding_size
    return Sampler(
        sources,
        None if backgrounds.empty else Backgrounds(backgrounds, place, settings.frontend.n_frames),
        augment,
        settings.frontend,
        seed=told.seed,
        batch_size=told.batch_size,
        n_labels=len(codes),
        parts=parts,
        embedding_size=embedding_size,
    )


def _finish(place: Path, history: History, teacher: dict[str, str] | None) -> None:
    with written_beside(place / "model.keras") as beside:
        shutil.copyfile(best_model(place / "checkpoint"), beside)
    with written_beside(place / "history.csv") as beside:
        pd.DataFrame(history).to_csv(beside, index=False)
    validated = "cmap" in history[-1]
    chosen = max(history, key=lambda row: row["cmap"]) if validated else history[-1]
    record = {
        "epochs": len(history),
        "best_epoch": chosen["epoch"],
        "valid": {name: chosen[name] for name in ("cmap", "macro_roc_auc", "top1")} if validated else None,
        "model_sha256": sha256_of_file(place / "model.keras"),
        "teacher": teacher,
    }
    write_text(place / "fit.json", json.dumps(record, indent=1) + "\n")
    shutil.rmtree(place / "checkpoint")
    if validated:
        say(f"          best epoch {chosen['epoch']} of {len(history)}: valid cmAP {chosen['cmap']:.3f}")
    else:
        say(f"          nothing is held out to choose an epoch by (split.valid=0): the last of {len(history)} is kept")


def run(settings: Settings) -> None:
    """The stage: :func:`fit` unless its result is up to date."""
    if settings.fit.strategy == "multi_worker" and not task().is_chief:
        if settings.force or not is_up_to_date(FIT, settings):  # as the chief finds as well
            fit(settings)
        return
    run_stage(FIT, settings, fit)


main = stage_main(run)

if __name__ == "__main__":
    main()
