"""Prepare: read every recording once, compute its features, split by recordist, and write the tables.

``python -m training.prepare`` fills ``paths.prepared``:

======================  =================================================================
recordings.csv          recording_id (its path below the data set's root), labels, author, split, seconds, feature
soundscapes.csv         one row per labelled stretch of a soundscape, with its split
backgrounds.csv         recording_id, author, start_seconds, end_seconds (empty: its end), seconds, split, feature of
                        each stretch without birds
labels.csv              the species, in the order of the model's outputs
splits.csv              recording_id, author, split: who was held out from whom
skipped.csv             recording_id, reason: what could not be read, and why
removed.csv             recording_id, rule, detail: what a rule of the data set left out
summary.json            counts, hours, the data's revision
features/               one .npy a recording or stretch, float16 [segments, n_mels, n_frames]
======================  =================================================================

Beside it lies a journal (``.<its name>.journal.jsonl``) of what became of each file, so that a run which was killed is
continued, and one that has new files reads no others. Memory does not grow with the length of recordings, and with
their number only by a row of the tables each.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.config import Settings, Split, stage_main
from training.console import say
from training.errors import StageError
from training.files import write_text, written_beside
from training.preparation.outcomes import find_outcomes, stretches_of, unusable, with_features
from training.prepared import BACKGROUND_COLUMNS
from training.segments import WHOLE
from training.splits import TEST, VALID, lacking, split_backgrounds, split_folds, split_soundscapes
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
    backgrounds, removed, notes = dataset.backgrounds(), dataset.removed(), dataset.notes()
    outcomes = find_outcomes(settings, recordings, soundscapes, backgrounds)
    skipped = pd.concat(
        [
            _listed(notes.missing, "It is listed in the metadata, and not on disk."),
            _listed(notes.unreadable, "It is in a format that soundfile does not read; convert it to FLAC or WAV."),
            unusable(outcomes, recordings, soundscapes, backgrounds),
        ]
    ).drop_duplicates()
    table = with_features(recordings, [WHOLE] * len(recordings), outcomes).sort_values(
        "recording_id", ignore_index=True
    )
    backgrounds = with_features(backgrounds, stretches_of(backgrounds), outcomes).sort_values(
        ["recording_id", "start_seconds", "end_seconds"], ignore_index=True
    )
    soundscapes = soundscapes[np.array([not outcomes[path].reason for path in soundscapes.path], bool)].copy()
    if table.empty:
        raise StageError(
            f"Not one of the {len(recordings)} recordings of {dataset.name} can be used; the first says: "
            f"{skipped.reason.iloc[0] if len(skipped) else 'there is none'}"
        )
    split = settings.split
    deal = _deal(split)
    table["split"] = deal(table)
    soundscapes["split"] = split_soundscapes(soundscapes, split.seed, split.soundscapes_valid)
    backgrounds["split"] = split_backgrounds(backgrounds, table, soundscapes, deal)
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
        "backgrounds": backgrounds[list(BACKGROUND_COLUMNS)],
        "labels": labels,
        "splits": splits,
        "skipped": skipped,
        "removed": removed,
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
        "species_without": {
            part: codes for part, codes in lacking(table, table.split).items() if codes and part not in _unasked(split)
        },
        "recordings_by_split": table.split.value_counts().sort_index().to_dict(),
        "soundscape_rows_by_split": soundscapes.split.value_counts().sort_index().to_dict(),
        "backgrounds": len(backgrounds),
        "background_hours": round(float(backgrounds.seconds.sum()) / 3600, 4),
        "backgrounds_by_split": backgrounds.split.value_counts().sort_index().to_dict(),
        **_removed_counts(notes.removed),
    }
    write_text(place / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")
    _drop_stale(place / "features", {*table.feature, *backgrounds.feature})
    _tell(summary, place)


def _tell(summary: dict[str, Any], place: Path) -> None:
    counts = ", ".join(f"{n} {name}" for name, n in summary["recordings_by_split"].items())
    total = f"{summary['recordings']} recordings of {summary['species']} species, {summary['hours']:.2f} h"
    say(f"          {total} ({counts})")
    if TEST not in {*summary["recordings_by_split"], *summary["soundscape_rows_by_split"]}:
        say("          nothing is held out to test on: quality will not be measured", style="yellow")
    for part, codes in summary["species_without"].items():
        say(f"          no {part} recording of {', '.join(codes)}: too few recordists", style="yellow")
    if summary["recordists_unknown"]:
        unknown = summary["recordists_unknown"]
        say(f"          {unknown} recordings name no recordist: each is split as somebody's only one", style="yellow")
    if summary["backgrounds"]:
        counts = ", ".join(f"{n} {name}" for name, n in summary["backgrounds_by_split"].items())
        total = f"{summary['backgrounds']} stretches without birds, {summary['background_hours']:.2f} h"
        say(f"          {total} ({counts})")
    if summary["removed"]:
        rules = ", ".join(f"{n} by {rule}" for rule, n in summary["removed"].items())
        say(f"          left out: {rules}; listed in {place / 'removed.csv'}", style="yellow")
    if summary["skipped"]:
        say(
            f"          {summary['skipped']} skipped, listed with the reason in {place / 'skipped.csv'}", style="yellow"
        )


def _listed(recording_ids: list[str], reason: str) -> pd.DataFrame:
    return pd.DataFrame({"recording_id": recording_ids, "reason": [reason] * len(recording_ids)})


def _deal(split: Split) -> Callable[[pd.DataFrame], pd.Series]:
    if split.folds is None:
        return functools.partial(split_recordings, seed=split.seed, valid=split.valid, test=split.test)
    return functools.partial(split_folds, seed=split.seed, folds=split.folds, fold=split.fold, valid=split.valid)


def _unasked(split: Split) -> set[str]:
    """Parts that are empty because they were not asked for."""
    unasked = {VALID} if split.valid == 0 else set()
    return unasked | {TEST} if split.folds is None and split.test == 0 else unasked


def _removed_counts(removed: dict[str, dict[str, int]]) -> dict[str, Any]:
    """How many recordings each rule left out: in all, and of each species; ``removed`` is that of Notes."""
    by_species: dict[str, dict[str, int]] = {}
    for rule, counts in removed.items():
        for code, n in counts.items():
            by_species.setdefault(code, {})[rule] = n
    return {
        "removed": {rule: sum(counts.values()) for rule, counts in removed.items()},
        "removed_by_species": by_species,
    }


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
    for path in place.rglob("*"):
        if path.is_file() and path.relative_to(place.parent).as_posix() not in used:
            path.unlink()


def run(settings: Settings) -> None:
    """The stage: :func:`prepare` unless its result is up to date."""
    run_stage(PREPARE, settings, prepare)


main = stage_main(run)

if __name__ == "__main__":
    main()
