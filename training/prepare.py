"""Prepare: read every recording once, compute its features, split by recordist, and write the tables.

``python -m training.prepare`` fills ``paths.prepared``:

======================  =================================================================
recordings.csv          recording_id, path, labels, author, split, seconds, feature
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
import dataclasses
import functools
import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from training.config import Settings, stage_main
from training.console import progress, say
from training.errors import StageError
from training.files import write_text, written_beside
from training.segments import Outcome, feature_of
from training.splits import lacking, split_soundscapes
from training.splits import split as split_recordings
from training.stages import PREPARE, code_digest, run_stage

_LABEL_COLUMNS = ("ebird_code", "scientific_name", "common_name", "french_name")


def prepare(settings: Settings) -> None:
    """Fill ``paths.prepared``. A recording that cannot be used is skipped and listed, and does not end the run.

    Raises:
        StageError: not one recording can be used, or a label has no recording to train on.
    """
    dataset, place = settings.dataset, settings.paths.prepared
    dataset.fetch()
    recordings, soundscapes, species = dataset.recordings(), dataset.soundscapes(), dataset.species()
    outcomes = pd.DataFrame([dataclasses.asdict(outcome) for outcome in _features(settings, recordings)])
    table = recordings.merge(outcomes, on="recording_id", validate="one_to_one")
    notes = dataset.notes()
    absent = pd.DataFrame({"recording_id": notes.missing, "reason": "listed in the metadata, and not on disk"})
    skipped = pd.concat([absent, table.loc[table.reason != "", ["recording_id", "reason"]]])
    table = table[table.reason == ""].drop(columns="reason").sort_values("recording_id", ignore_index=True)
    if table.empty:
        raise StageError(
            f"Not one of the {len(recordings)} recordings of {dataset.name} can be used; the first says: "
            f"{skipped.reason.iloc[0] if len(skipped) else 'there is none'}"
        )
    split = settings.split
    table["split"] = split_recordings(table, split.seed, split.valid, split.test)
    soundscapes["split"] = split_soundscapes(soundscapes, split.seed, split.soundscapes_valid)
    _check_labels(table, [s.ebird_code for s in species])

    labels = pd.DataFrame([dataclasses.asdict(s) for s in species], columns=list(_LABEL_COLUMNS))
    splits = pd.concat(
        [
            table[["recording_id", "author", "split"]],
            soundscapes[["recording_id", "split"]].drop_duplicates().assign(author=""),
        ]
    )[["recording_id", "author", "split"]]
    for name, frame in {
        "recordings": _with_joined(table, "secondary_labels"),
        "soundscapes": _with_joined(soundscapes, "labels"),
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
        "skipped": len(skipped),
        "hours": round(float(table.seconds.sum()) / 3600, 4),
        "labels_outside_the_table": dict(sorted(notes.dropped_labels.items())),
        "species_without": {part: codes for part, codes in lacking(table, table.split).items() if codes},
        "recordings_by_split": table.split.value_counts().sort_index().to_dict(),
        "soundscape_rows_by_split": soundscapes.split.value_counts().sort_index().to_dict(),
    }
    write_text(place / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")
    _drop_stale(place / "features", set(table.feature))
    counts = ", ".join(f"{n} {name}" for name, n in table.split.value_counts().items())
    say(f"          {len(table)} recordings of {len(species)} species, {summary['hours']:.2f} h ({counts})")
    for part, codes in summary["species_without"].items():
        say(f"          [yellow]no {part} recording[/] of {', '.join(codes)}: too few recordists")
    if len(skipped):
        say(f"          [yellow]{len(skipped)} skipped[/], listed with the reason in {place / 'skipped.csv'}")


def _features(settings: Settings, recordings: pd.DataFrame) -> Iterator[Outcome]:
    jobs = list(zip(recordings.recording_id, recordings.path, strict=True))
    work = functools.partial(
        feature_of,
        frontend=settings.frontend,
        backend=settings.features.backend,
        code=code_digest(Path(__file__).with_name("features.py")),
        place=settings.paths.prepared,
    )
    (settings.paths.prepared / "features").mkdir(parents=True, exist_ok=True)
    if settings.features.workers == 1:
        yield from progress(map(work, jobs), "features", total=len(jobs), unit="rec")
        return
    # spawn: forking a process that has started threads (TensorFlow's, BLAS's) can hang
    with concurrent.futures.ProcessPoolExecutor(
        settings.features.workers, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        try:
            yield from progress(pool.map(work, jobs, chunksize=4), "features", total=len(jobs), unit="rec")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _check_labels(table: pd.DataFrame, codes: list[str]) -> None:
    trained = set(table.primary_label[table.split == "train"])
    without = [code for code in codes if code not in trained]
    if without:
        raise StageError(
            f"No recording to train on is left for {', '.join(without)}; add recordings of them, or take them out of "
            "the species table."
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
