"""Teach: let a teacher listen to mixtures of the recordings, once, and keep what it says.

``python -m training.teach teacher=birdnet`` fills ``paths.taught``; with ``teacher=none``, the default, there is
nothing to do. What is there already is not heard again, whatever the split.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from training.config import Settings, stage_main
from training.console import progress, say
from training.datasets.base import Species
from training.files import write_text
from training.preparation.engines import LocalEngine
from training.prepared import read_backgrounds, read_prepared
from training.stages import TEACH, run_stage
from training.teacher import birdnet
from training.teacher.listening import Listening, Sounds, spans
from training.teacher.opinions import Hearing
from training.teacher.settings import BirdNetTeacher


def teach(settings: Settings) -> None:
    """Fill ``paths.taught``.

    Raises:
        TeacherError: the teacher is not there, or does not know a species.
    """
    told, place = settings.teacher, settings.paths.taught
    if not isinstance(told, BirdNetTeacher):
        write_text(place / "taught.json", json.dumps({"teacher": None}) + "\n")
        return
    say(f"          {birdnet.NAME} ({birdnet.LICENCE}) teaches. {birdnet.CONSEQUENCE}", style="yellow")
    work = listening(settings)
    birdnet.BirdNet(told.path, work.species)  # what is wrong with the teacher is told before work begins
    numbers = range(-(-told.mixtures // told.mixtures_per_file))
    _do(work, numbers, settings, "teacher", "file")
    _remove_others(work.words_place)
    record: dict[str, Any] = {
        "teacher": {"name": birdnet.NAME, "licence": birdnet.LICENCE, "consequence": birdnet.CONSEQUENCE},
        "mixtures": len(numbers) * told.mixtures_per_file,
        "words": [work.words(n).relative_to(place).as_posix() for n in numbers],
        "labels": [bird.ebird_code for bird in work.species],
        "parts": spans(told.windows, settings.frontend.window_seconds),
        "mels": [work.mels(n).relative_to(place).as_posix() for n in numbers],
    }
    if told.chooses_windows:
        hearing = Hearing(work.sounds.revision, work.species, told.path, told.opinion_hop_seconds, place)
        _do(hearing, [(name, path) for name, path, *_ in work.sounds.recordings], settings, "opinions", "recording")
        _remove_others(hearing.directory)
        record["opinions"] = {
            "directory": hearing.directory.relative_to(place).as_posix(),
            "window_seconds": birdnet.WINDOW_SECONDS,
            "hop_seconds": told.opinion_hop_seconds,
        }
    else:
        shutil.rmtree(place / "opinions", ignore_errors=True)
    write_text(place / "taught.json", json.dumps(record, indent=1) + "\n")
    say(f"          {record['mixtures']} mixtures heard ({place})")


def _do(work: Callable[[Any], Any], jobs: Sequence[Any], settings: Settings, title: str, unit: str) -> None:
    engine = LocalEngine(work, settings.features.workers)
    for _ in progress(engine.run(jobs), title, total=len(jobs), unit=unit):
        pass


def _remove_others(directory: Path) -> None:
    """What is left of another teacher, or of what it was once to listen to."""
    for old in directory.parent.iterdir():
        if old != directory:
            shutil.rmtree(old)


def listening(settings: Settings) -> Listening:
    """What a teacher is to listen to, for one and the same configuration always the same."""
    told, prepared = settings.teacher, settings.paths.prepared
    assert isinstance(told, BirdNetTeacher)
    recordings, _, labels = read_prepared(prepared, settings.dataset.root)
    backgrounds = read_backgrounds(prepared, settings.dataset.root)
    if told.draw_from == "train":
        recordings, backgrounds = (table[table.split == "train"] for table in (recordings, backgrounds))
    summary = json.loads((prepared / "summary.json").read_text())
    sounds = Sounds.of(recordings, backgrounds, summary["revision"])
    return Listening(
        sounds, species_of(labels), settings.frontend, settings.features.backend, told, settings.paths.taught
    )


def species_of(labels: pd.DataFrame) -> tuple[Species, ...]:
    """The labels as prepare wrote them, in the order of the logits."""
    return tuple(Species(*(str(row[f.name]) for f in dataclasses.fields(Species))) for row in labels.to_dict("records"))


def run(settings: Settings) -> None:
    """The stage: :func:`teach` unless its result is up to date."""
    run_stage(TEACH, settings, teach)


main = stage_main(run)

if __name__ == "__main__":
    main()
