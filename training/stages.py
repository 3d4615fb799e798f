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

from training.config import Settings
from training.console import say
from training.errors import StageError
from training.files import sha256_of_file, write_text

ROOT = Path(__file__).resolve().parents[1]
_STAMP = "stamp.json"


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


_DEVICE = ("runtime/src/labous", "melspec_cpp/include", "melspec_cpp/src")

PREPARE = Stage(
    "prepare",
    ("dataset", "frontend", "features.backend", "split"),
    (
        "training/prepare.py",
        "training/prepared.py",
        "training/features.py",
        "training/segments.py",
        "training/splits.py",
        "training/datasets",
        "runtime/src/labous/recordings.py",
        "runtime/src/labous/frontend.py",
    ),
    (),
    lambda settings: settings.paths.prepared,
)
FIT = Stage(
    "fit",
    ("frontend", "augment", "model", "fit"),
    (
        "training/fit.py",
        "training/fitting.py",
        "training/sampler.py",
        "training/augment.py",
        "training/models.py",
        "training/metrics.py",
    ),
    ("prepare",),
    lambda settings: settings.paths.fit,
)
EXPORT = Stage(
    "export",
    ("frontend", "fit", "export"),
    (
        "training/export.py",
        "training/export_tflite.py",
        "training/gate.py",
        "training/tflite_file.py",
        "training/engines.py",
        "training/engine_workers",
    ),
    ("prepare", "fit"),
    lambda settings: settings.paths.export,
)
VALIDATE = Stage(
    "validate",
    ("frontend", "evaluate"),
    (
        "training/validate.py",
        "training/evaluate.py",
        "training/features.py",
        "training/metrics.py",
        "training/engines.py",
        "training/engine_workers",
        "training/report.py",
        *_DEVICE,
    ),
    ("prepare", "fit", "export"),
    lambda settings: settings.paths.validate,
)
BUNDLE = Stage(
    "bundle",
    ("dataset", "frontend", "evaluate", "bundle"),
    ("training/bundle.py", "training/golden.py", "training/model_card.py", *_DEVICE),
    ("prepare", "export", "validate"),
    lambda settings: settings.bundle.dir,
)
STAGES = {stage.name: stage for stage in (PREPARE, FIT, EXPORT, VALIDATE, BUNDLE)}


def run_stage(stage: Stage, settings: Settings, work: Callable[[Settings], None]) -> bool:
    """Do a stage's work unless what it left is up to date; return whether it was done.

    Raises:
        StageError: an earlier stage has not been run with this configuration.
    """
    key = stage_key(stage, settings)
    place = stage.place(settings)
    if not settings.force and _is_up_to_date(place, key):
        say(f"[bold]{stage.name:<9}[/] up to date ({place})")
        return False
    say(f"[bold]{stage.name:<9}[/] …")
    stamp = _stamp_path(place)
    stamp.unlink(missing_ok=True)
    work(settings)
    files = {path.relative_to(place).as_posix(): sha256_of_file(path) for path in _outputs(place)}
    write_text(stamp, json.dumps({"stage": stage.name, "key": key, "files": files}, indent=1, sort_keys=True) + "\n")
    return True


def _stamp_path(place: Path) -> Path:
    # beside the folder, so that a bundle holds nothing but the bundle
    return place.with_name(f".{place.name}.{_STAMP}")


def _outputs(place: Path) -> list[Path]:
    # features are named by the hash of what they come from, so their names in recordings.csv vouch for them
    return sorted(
        path
        for path in place.rglob("*")
        if path.is_file() and not {"features", "checkpoint"} & set(path.relative_to(place).parts[:1])
    )


def _is_up_to_date(place: Path, key: str) -> bool:
    try:
        stamp: dict[str, Any] = json.loads(_stamp_path(place).read_text())
        files = stamp["files"]
        return stamp["key"] == key and all(sha256_of_file(place / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False


def stage_key(stage: Stage, settings: Settings) -> str:
    """Hash of everything that decides a stage's result: its configuration, code, data and what came before."""
    parts: dict[str, Any] = {"groups": {name: _part(settings.groups, name) for name in stage.groups}}
    parts["code"] = {name: code_digest(ROOT / name) for name in stage.code}
    if stage.name == "prepare":
        parts["data"] = settings.dataset.revision()
    parts["after"] = {name: _left_by(STAGES[name], settings) for name in stage.after}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _part(groups: dict[str, Any], name: str) -> Any:
    group, _, key = name.partition(".")
    return groups[group][key] if key else groups[group]


def _left_by(stage: Stage, settings: Settings) -> str:
    place = stage.place(settings)
    try:
        files = json.loads(_stamp_path(place).read_text())["files"]
    except (OSError, ValueError, KeyError):
        raise StageError(
            f"{place} does not hold a finished {stage.name} stage; run python -m training.{stage.name}, or "
            "python -m training.train for the whole path."
        ) from None
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def code_digest(path: Path) -> str:
    """sha256 over a source file, or over every source file of a folder with its name."""
    if path.is_file():
        return sha256_of_file(path)
    if not path.is_dir():
        raise StageError(f"{path} is named in the table of stages and is not there; the checkout is incomplete.")
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.suffix in (".py", ".cpp", ".h") and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(path).as_posix()} {sha256_of_file(file)}\n".encode())
    return digest.hexdigest()
