"""The stages of a run: what each depends on, and whether what it left is still good.

The same table drives ``python -m training.train`` and is held against dvc.yaml by a test.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training import interrupts, occurrence
from training.config import Settings
from training.console import say_stage
from training.errors import StageError
from training.files import code_digest, sha256_of_file, write_text

ROOT = Path(__file__).resolve().parents[1]
_STAMP = "stamp.json"
# what a stage leaves that no later one depends on: the same run would leave it otherwise
_NO_RESULTS = ("checkpoint", "timing.json")


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of the run.

    Attributes:
        name: as dvc.yaml calls it.
        groups: parts of the configuration that decide its result, as ``group`` or ``group.key``.
        code: source files and folders that decide its result, relative to the repository.
        after: stages whose results it reads.
        place: the directory it fills.
    """

    name: str
    groups: tuple[str, ...]
    code: tuple[str, ...]
    after: tuple[str, ...]
    place: Callable[[Settings], Path]


# the module itself as well as its sources: it is the built one that runs
_MEL = ("runtime/src/labous/mel", "runtime/src/labous/melspec.wasm", "melspec_cpp/include", "melspec_cpp/src")
_DEVICE = ("runtime/src/labous", *_MEL[1:])
_MEASURES = (
    "training/metrics.py",
    "training/intervals.py",
    "training/quality.py",
    "training/rows.py",
    "training/scores.py",
)
_GATE = ("training/gate.py", "training/tflite_file.py", "training/engines.py", "training/engine_workers")

PREPARE = Stage(
    "prepare",
    ("dataset", "frontend", "features.backend", "split"),
    (
        "training/prepare.py",
        "training/prepared.py",
        "training/preparation",
        "training/features.py",
        "training/segments.py",
        "training/splits.py",
        "training/datasets",
        "runtime/src/labous/recordings.py",
        "runtime/src/labous/frontend.py",
        "runtime/src/labous/power_law.py",
        *_MEL,
    ),
    (),
    lambda settings: settings.paths.prepared,
)
TEACH = Stage(
    "teach",
    ("frontend", "features.backend", "teacher"),
    (
        "training/teach.py",
        "training/teacher",
        "training/preparation/engines.py",
        "training/augment.py",
        "training/datasets/base.py",
        "training/features.py",
        "training/prepared.py",
        "training/segments.py",
        "runtime/src/labous/recordings.py",
        "runtime/src/labous/frontend.py",
        "runtime/src/labous/power_law.py",
        *_MEL,
    ),
    ("prepare",),
    lambda settings: settings.paths.taught,
)
FIT = Stage(
    "fit",
    ("frontend", "augment", "teacher", "model", "fit"),
    (
        "training/fit.py",
        "training/fitting.py",
        "training/trainee.py",
        "training/optimizers.py",
        "training/strategies.py",
        "training/checkpoints.py",
        "training/feeding.py",
        "training/sampler.py",
        "training/sources.py",
        "training/crops.py",
        "training/augment.py",
        "training/models.py",
        "training/batch_norm.py",
        "training/metrics.py",
        "training/prepared.py",
        "training/teacher",
    ),
    ("prepare", "teach"),
    lambda settings: settings.paths.fit,
)
EXPORT = Stage(
    "export",
    ("frontend", "fit", "export"),
    (
        "training/export.py",
        "training/export_tflite.py",
        "training/crops.py",
        "training/prepared.py",
        *_GATE,
    ),
    ("prepare", "fit"),
    lambda settings: settings.paths.export,
)
VALIDATE = Stage(
    "validate",
    ("frontend", "evaluate"),
    (
        "training/validate.py",
        "training/calibration.py",
        "training/conditions.py",
        "training/evaluate.py",
        "training/features.py",
        "training/engines.py",
        "training/engine_workers",
        "training/prepared.py",
        "training/tables.py",
        *_MEASURES,
        *_DEVICE,
    ),
    ("prepare", "fit", "export"),
    lambda settings: settings.paths.validate,
)
BUNDLE = Stage(
    "bundle",
    ("dataset", "frontend", "evaluate", "export", "bundle"),
    (
        "training/bundle.py",
        "training/golden.py",
        "training/model_card.py",
        "training/metrics.py",
        "training/native.py",
        "training/native_law_trial.c",
        "training/native_trial.c",
        "training/occurrence.py",
        "training/prepared.py",
        "training/results.py",
        "training/tflite_file.py",
        "training/aot",
        "melspec_cpp/boards.py",
        "melspec_cpp/build.py",
        "melspec_cpp/emulators.py",
        "melspec_cpp/wasm2c",
        *_DEVICE,
    ),
    ("prepare", "fit", "export", "validate"),
    lambda settings: settings.bundle.dir,
)
REPORT = Stage(
    "report",
    ("dataset", "frontend", "evaluate"),
    (
        "training/report.py",
        "training/report_examples.py",
        "training/report_figures.py",
        "training/report_page.py",
        "training/results.py",
        "training/engine_workers",
        "training/features.py",
        "training/prepared.py",
        "training/tables.py",
        "training/wheel.py",
        "runtime/pyproject.toml",
        "requirements.lock",
        *_MEASURES,
        *_DEVICE,
    ),
    ("prepare", "fit", "validate", "bundle"),
    lambda settings: settings.paths.report,
)
STAGES = {stage.name: stage for stage in (PREPARE, TEACH, FIT, EXPORT, VALIDATE, BUNDLE, REPORT)}


def run_stage(stage: Stage, settings: Settings, work: Callable[[Settings], None]) -> bool:
    """Do a stage's work unless what it left is up to date; return whether it was done.

    Raises:
        StageError: an earlier stage has not been run with this configuration.
    """
    key = stage_key(stage, settings)
    place = stage.place(settings)
    if not settings.force and _is_up_to_date(stage, place, key):
        say_stage(stage.name, f"up to date ({place})")
        return False
    interrupts.heed()
    say_stage(stage.name, "…")
    stamp = _stamp_path(stage, place)
    stamp.unlink(missing_ok=True)
    work(settings)
    interrupts.heed()
    files = {path.relative_to(place).as_posix(): _fingerprint(path, place) for path in _outputs(place)}
    write_text(stamp, json.dumps({"stage": stage.name, "key": key, "files": files}, indent=1, sort_keys=True) + "\n")
    return True


def is_up_to_date(stage: Stage, settings: Settings) -> bool:
    """Whether what a stage left is what it would leave now.

    Raises:
        StageError: an earlier stage has not been run with this configuration.
    """
    return _is_up_to_date(stage, stage.place(settings), stage_key(stage, settings))


def _stamp_path(stage: Stage, place: Path) -> Path:
    # a bundle holds nothing but the bundle; elsewhere the stamp lies with what it vouches for, and travels with it
    return place.with_name(f".{place.name}.{_STAMP}") if stage is BUNDLE else place / _STAMP


def _outputs(place: Path) -> list[Path]:
    return sorted(
        path
        for path in place.rglob("*")
        if path.is_file() and path != place / _STAMP and path.relative_to(place).parts[0] not in _NO_RESULTS
    )


def _fingerprint(path: Path, place: Path) -> str:
    """sha256 of a file; of features and mixtures, many and named by the hash of what they come from, the size."""
    if path.relative_to(place).parts[0] in ("features", "mixtures"):
        return f"{path.stat().st_size} bytes"
    return sha256_of_file(path)


def _is_up_to_date(stage: Stage, place: Path, key: str) -> bool:
    try:
        stamp: dict[str, Any] = json.loads(_stamp_path(stage, place).read_text())
        files: dict[str, str] = stamp["files"]
        return stamp["key"] == key and all(_fingerprint(place / name, place) == f for name, f in files.items())
    except (OSError, ValueError, KeyError):
        return False


def stage_key(stage: Stage, settings: Settings) -> str:
    """Hash of everything that decides a stage's result: its configuration, code, data and what came before."""
    parts: dict[str, Any] = {"groups": {name: _part(settings.groups, name) for name in stage.groups}}
    parts["code"] = {name: code_digest(ROOT / name) for name in stage.code}
    if stage.name == "prepare":
        parts["data"] = settings.dataset.revision()
    if stage is BUNDLE:
        parts["occurrence"] = occurrence.digest(settings.bundle.occurrence)
    parts["after"] = {name: _left_by(STAGES[name], settings) for name in stage.after}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _part(groups: dict[str, Any], name: str) -> Any:
    group, _, key = name.partition(".")
    return groups[group][key] if key else groups[group]


def _left_by(stage: Stage, settings: Settings) -> str:
    place = stage.place(settings)
    try:
        files = json.loads(_stamp_path(stage, place).read_text())["files"]
    except (OSError, ValueError, KeyError):
        raise StageError(
            f"{place} does not hold a finished {stage.name} stage; run python -m training.{stage.name}, or "
            "python -m training.train for the whole path."
        ) from None
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
