"""From the tables of a data set to what became of each of its files, and back into the tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pandas as pd

from training.config import Settings
from training.console import progress
from training.features import mel_spectrogram
from training.preparation.dask_engine import DaskEngine
from training.preparation.engines import Engine, LocalEngine
from training.preparation.journal import Journal
from training.segments import WHOLE, Extraction, Feature, Job, Outcome, Stretch, feature_code


def unusable(outcomes: dict[str, Outcome], *tables: pd.DataFrame) -> pd.DataFrame:
    """recording_id and reason of files, and of stretches, that cannot be used."""
    reasons = [
        (recording_id, reason)
        for table in tables
        for recording_id, path in zip(table.recording_id, table.path, strict=True)
        for reason in [outcomes[path].reason, *(feature.reason for feature in outcomes[path].features)]
        if reason
    ]
    return pd.DataFrame(reasons, columns=["recording_id", "reason"])


def stretches_of(backgrounds: pd.DataFrame) -> list[Stretch]:
    """The part of its file that each row is."""
    return [
        Stretch(float(start), float("inf") if np.isnan(end) else float(end))
        for start, end in zip(backgrounds.start_seconds, backgrounds.end_seconds.astype(float), strict=True)
    ]


def with_features(table: pd.DataFrame, stretches: list[Stretch], outcomes: dict[str, Outcome]) -> pd.DataFrame:
    """The rows that can be used, with the columns feature and seconds."""
    found: list[Feature | None] = [
        next((f for f in outcomes[path].features if f.stretch == stretch and not f.reason), None)
        for path, stretch in zip(table.path, stretches, strict=True)
    ]
    good = table[np.array([feature is not None for feature in found], bool)].copy()
    good["feature"] = [feature.name for feature in found if feature]
    good["seconds"] = np.array([feature.seconds for feature in found if feature], float)
    return good


def find_outcomes(
    settings: Settings, recordings: pd.DataFrame, soundscapes: pd.DataFrame, backgrounds: pd.DataFrame
) -> dict[str, Outcome]:
    """What became of each file, by path: recordings and backgrounds with features, soundscapes read to their end.

    Raises:
        ConfigError: the settings do not say where the cluster is.
        EngineError: the backend of features is not there.
        StageError: the workers are gone, or do not see the files.
    """
    backend, frontend = settings.features.backend, settings.frontend
    mel_spectrogram(frontend, backend)  # what is wrong with the backend is no recording's fault
    place = settings.paths.prepared.resolve()
    (place / "features").mkdir(parents=True, exist_ok=True)
    work = Extraction(frontend, backend, feature_code(backend), place)
    engine: Engine = (
        DaskEngine(work, settings.dask)
        if settings.features.engine == "dask"
        else LocalEngine(work, settings.features.workers)
    )
    wanted: dict[str, set[Stretch]] = defaultdict(set)
    for path in recordings.path:
        wanted[path].add(WHOLE)
    for path in soundscapes.path:
        wanted[path]
    for path, stretch in zip(backgrounds.path, stretches_of(backgrounds), strict=True):
        wanted[path].add(stretch)
    outcomes: dict[str, Outcome] = {}
    with Journal(place.with_name(f".{place.name}.journal.jsonl"), work) as journal:
        for outcome in progress(_found(engine, journal, wanted), "features", total=len(wanted), unit="rec"):
            outcomes[outcome.path] = outcome
        journal.keep_only(wanted)
    return outcomes


def _found(engine: Engine, journal: Journal, wanted: dict[str, set[Stretch]]) -> Iterator[Outcome]:
    """Outcomes that the journal has, and then those that the engine has to find."""
    jobs: list[Job] = []
    for path, stretches in wanted.items():
        known = journal.known(path, tuple(sorted(stretches)))
        if isinstance(known, Outcome):
            yield known
        else:
            jobs.append(known)
    for outcome in engine.run(jobs):
        journal.add(outcome)
        yield outcome
