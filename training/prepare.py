"""Prepare: read every recording once, compute its features, split by recordist, and write the tables.

``python -m training.prepare`` fills ``paths.prepared``:

======================  =================================================================
recordings.csv          recording_id (its path below the data set's root), labels, author, split, seconds, feature
soundscapes.csv         one row per labelled stretch of a soundscape, with its split
labels.csv              the species, in the order of the model's outputs
splits.csv              recording_id, author, split: who was held out from whom
skipped.csv             recording_id, reason: what could not be read, and why
summary.json            counts, hours, the data's revision
features/               one .npy a recording, float16 [segments, n_mels, n_frames]
======================  =================================================================
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from training.config import Settings, stage_main
from training.console import progress, say
from training.errors import StageError
from training.features import mel_spectrogram
from training.files import write_text, written_beside
from training.segments import Outcome, feature_code, feature_of, readable_of
from training.splits import lacking, split_soundscapes
from training.splits import split as split_recordings
from training.stages import PREPARE, run_stage

_LABEL_COLUMNS = ("ebird_code", "scientific_name", "common_name", "french_name")


def prepare(settings: Settings) -> None:
    """Fill ``paths.prepared``. What cannot be used is skipped and listed, and does not end the run.

    Raises:
        StageError: not one recording can be used, or a label has no recording to train on.
        EngineError: the backend of features is not there.
    """
    dataset, place = settings.dataset, settings.paths.prepared
    dataset.fetch()
    recordings, soundscapes, species = dataset.recordings(), dataset.soundscapes(), dataset.species()
    outcomes = pd.DataFrame([dataclasses.asdict(outcome) for outcome in _outcomes(settings, recordings, soundscapes)])
    bad = outcomes[outcomes.reason != ""]
    notes = dataset.notes()
    skipped = pd.concat(
        [
            _listed(notes.missing, "is listed in the metadata, and not on disk"),
            _listed(notes.unreadable, "is in a format that soundfile does not read; convert it to FLAC or WAV"),
            bad[["recording_id", "reason"]],
        ]
    )
    good = outcomes[outcomes.reason == ""].drop(columns="reason")
    table = recordings.merge(good, on="recording_id", validate="one_to_one").sort_values(
        "recording_id", ignore_index=True
    )
    soundscapes = soundscapes[soundscapes.recording_id.isin(good.recording_id)].copy()
    if table.empty:
        raise StageError(
            f"Not one of the {len(recordings)} recordings of {dataset.name} can be used; the first says: "
            f"{skipped.reason.iloc[0] if len(skipped) else 'there is none'}"
        )
    split = settings.split
    table["split"] = split_recordings(table, split.seed, split.valid, split.test)
    soundscapes["split"] = split_soundscapes(soundscapes, split.seed, split.soundscapes_valid)
    _check_labels(table, [s.ebird_code for s in species], skipped)

    labels = pd.DataFrame([dataclasses.asdict(s) for s in species], columns=list(_LABEL_COLUMNS))
    splits = pd.concat(
        [
            table[["recording_id", "author", "split"]],
            soundscapes[["recording_id", "split"]].drop_duplicates().assign(author=""),
        ]
    )[["recording_id", "author", "split"]]
    for name, frame in {
        "recordings": _with_joined(table.drop(columns="path"), "secondary_labels"),
        "soundscapes": _with_joined(soundscapes.drop(columns="path"), "labels"),
        "labels": labels,
        "splits": splits,
        "skipped": skipped,
    }.items():
        with written_beside(place / f"{name}.csv") as beside:
            frame.to_csv(beside, index=False)
    summary: dict[str, Any] = {
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        "revision": dataset.revision(),
        "species": len(species),
        "recordings": len(table),
        "recordists_unknown": notes.unknown_recordists,
        "skipped": len(skipped),
        "hours": round(float(table.seconds.sum()) / 3600, 4),
        "labels_outside_the_table": dict(sorted(notes.dropped_labels.items())),
        "species_without": {part: codes for part, codes in lacking(table, table.split).items() if codes},
        "recordings_by_split": table.split.value_counts().sort_index().to_dict(),
        "soundscape_rows_by_split": soundscapes.split.value_counts().sort_index().to_dict(),
    }
    write_text(place / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")
    _drop_stale(place / "features", set(table.feature))
    _tell(summary, place)


def _tell(summary: dict[str, Any], place: Path) -> None:
    counts = ", ".join(f"{n} {name}" for name, n in summary["recordings_by_split"].items())
    total = f"{summary['recordings']} recordings of {summary['species']} species, {summary['hours']:.2f} h"
    say(f"          {total} ({counts})")
    for part, codes in summary["species_without"].items():
        say(f"          no {part} recording of {', '.join(codes)}: too few recordists", style="yellow")
    if summary["recordists_unknown"]:
        unknown = summary["recordists_unknown"]
        say(f"          {unknown} recordings name no recordist: each is split as somebody's only one", style="yellow")
    if summary["skipped"]:
        say(
            f"          {summary['skipped']} skipped, listed with the reason in {place / 'skipped.csv'}", style="yellow"
        )


def _listed(recording_ids: list[str], reason: str) -> pd.DataFrame:
    return pd.DataFrame({"recording_id": recording_ids, "reason": [f"It {reason}."] * len(recording_ids)})


def _outcomes(settings: Settings, recordings: pd.DataFrame, soundscapes: pd.DataFrame) -> Iterator[Outcome]:
    """Features of every recording, and whether every soundscape can be read."""
    backend, frontend, place = settings.features.backend, settings.frontend, settings.paths.prepared
    mel_spectrogram(frontend, backend)  # what is wrong with the backend is no recording's fault
    feature = functools.partial(feature_of, frontend=frontend, backend=backend, code=feature_code(backend), place=place)
    readable = functools.partial(readable_of, sample_rate=frontend.sample_rate)
    scenes = soundscapes.drop_duplicates("recording_id")
    jobs = [functools.partial(feature, *job) for job in zip(recordings.recording_id, recordings.path, strict=True)]
    jobs += [functools.partial(readable, *job) for job in zip(scenes.recording_id, scenes.path, strict=True)]
    (place / "features").mkdir(parents=True, exist_ok=True)
    if settings.features.workers == 1:
        yield from progress((job() for job in jobs), "features", total=len(jobs), unit="rec")
        return
    # spawn: forking a process that has started threads (TensorFlow's, BLAS's) can hang
    with concurrent.futures.ProcessPoolExecutor(
        settings.features.workers, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        with _interrupts_ignored():  # which the workers inherit: Ctrl-C is for this process to deal with
            waiting = [pool.submit(job) for job in jobs]
        try:
            yield from progress((future.result() for future in waiting), "features", total=len(jobs), unit="rec")
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _check_labels(table: pd.DataFrame, codes: list[str], skipped: pd.DataFrame) -> None:
    trained = set(table.primary_label[table.split == "train"])
    without = [code for code in codes if code not in trained]
    if without:
        hint = f" ({len(skipped)} were skipped; the first: {skipped.reason.iloc[0]})" if len(skipped) else ""
        raise StageError(
            f"No recording to train on is left for {', '.join(without)}{hint}; add recordings of them, or leave these "
            "species out."
        )


def _with_joined(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table.assign(**{column: [" ".join(labels) for labels in table[column]]})


def _drop_stale(place: Path, used: set[str]) -> None:
    for path in place.rglob("*.npy"):
        if path.relative_to(place.parent).as_posix() not in used:
            path.unlink()


def run(settings: Settings) -> None:
    """The stage: :func:`prepare` unless its result is up to date."""
    run_stage(PREPARE, settings, prepare)


main = stage_main(run)

if __name__ == "__main__":
    main()
