"""Bundle: everything a device needs in one directory, proved by the device's own loader before it takes its place.

``python -m training.bundle`` fills ``bundle.dir``; docs/bundle.md describes the result. ``targets=[riscv64,armv7l]``
adds libraries for boards that no engine is built for, ``targets=[hear,labous-aarch64]`` the bundle as a single file.
"""

from __future__ import annotations

import importlib.resources
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from labous import __version__
from labous.archive import write_checksums
from labous.bundle import Bundle, read_labels
from labous.manifest import LOG_MEL_SCHEMA_VERSION
from labous.mel.abi import ABI_VERSION
from labous.station.occurrence import FILE as OCCURRENCE
from melspec_cpp.boards import MACHINES
from training import native, occurrence
from training.aot.hearing import WHOLE, build_whole
from training.config import Settings, stage_main
from training.console import say
from training.errors import StageError
from training.files import directory_swapped_in, sha256_of_file
from training.golden import golden_file
from training.metrics import NAMES
from training.model_card import licence_line, model_card
from training.prepared import read_prepared
from training.results import read_json, read_per_label
from training.stages import BUNDLE, ROOT, run_stage
from training.tflite_file import read_tflite

_MODELS = {"float32": "model.tflite", "int8": "model_int8.tflite"}


def bundle(settings: Settings) -> None:
    """Assemble the bundle, check it as a device would, then swap it in.

    Raises:
        StageError: an earlier stage left something out, or the finished bundle fails the device's check.
    """
    with directory_swapped_in(settings.bundle.dir) as place:
        _assemble(settings, place)
        write_checksums(place)
        wholes(settings, place)
        check_as_device(place)
    size = sum(path.stat().st_size for path in settings.bundle.dir.rglob("*") if path.is_file())
    say(f"          {settings.bundle.dir}: verified, {size:,} bytes")


def wholes(settings: Settings, place: Path) -> None:
    """Make the bundle into the single files that were asked for, and list them with the others."""
    wanted = [target for target in settings.bundle.targets if target in WHOLE]
    if not wanted:
        return
    made_of = Bundle.read(place)
    (place / "whole").mkdir()
    for target in wanted:
        file = place / "whole" / WHOLE[target]
        build_whole(made_of, target, file)
        say(f"          {file.name}: {file.stat().st_size:,} bytes, sha256 {sha256_of_file(file)}")
    write_checksums(place)


def check_as_device(place: Path) -> None:
    """Run the device's own check: it loads what a device would, and compares the golden windows."""
    told = subprocess.run(
        [sys.executable, "-m", "labous", "check", "--bundle", str(place)], capture_output=True, text=True, check=False
    )
    if told.returncode != 0:
        raise StageError(
            f"The finished bundle fails labous check, and was not kept: {(told.stderr or told.stdout)[-500:]}"
        )


def _assemble(settings: Settings, place: Path) -> None:
    exported, validated, prepared = settings.paths.export, settings.paths.validate, settings.paths.prepared
    models = {name: _read(exported / file) for name, file in _MODELS.items()}
    metrics, summary = read_json(validated / "metrics.json"), read_json(prepared / "summary.json")
    told = settings.evaluate
    golden = golden_file(settings.frontend, models["float32"], models["int8"], told.golden_windows, told.golden_seed)
    (place / "golden").mkdir()
    licences = _licences(settings)
    manifest = _manifest(settings, models, metrics, summary)
    manifest["teacher"] = read_json(settings.paths.fit / "fit.json").get("teacher")
    labels = _read(prepared / "labels.csv")
    weekly, manifest["occurrence"] = _occurrence(settings, labels)
    wasm = importlib.resources.files("labous").joinpath("melspec.wasm").read_bytes()
    manifest["native"] = _native(settings, wasm, models["float32"], golden, place)
    manifest["licence"] = licence_line(licences, manifest["teacher"], manifest["occurrence"])
    contents: dict[str, bytes] = {
        "manifest.json": json_bytes(manifest),
        "metrics.json": json_bytes(metrics),
        "model.onnx": _read(exported / "model.onnx"),
        "melspec.wasm": wasm,
        "labels.csv": labels,
        "golden/golden.npz": golden,
        "MODEL_CARD.md": model_card(
            manifest, metrics, read_per_label(validated / "per_label.csv"), licences, summary["recordists_unknown"]
        ).encode(),
        **{file: models[name] for name, file in _MODELS.items()},
        **weekly,
    }
    for name, content in contents.items():
        (place / name).write_bytes(content)


def _native(settings: Settings, wasm: bytes, tflite: bytes, golden: bytes, place: Path) -> dict[str, Any] | None:
    """What the manifest tells of the libraries that were made for boards, each tried; nothing if none is asked for."""
    told = {}
    for machine in (target for target in settings.bundle.targets if target in MACHINES):
        told[machine] = native.build(machine, wasm, tflite, place)
        tolerance = settings.evaluate.golden_float32_tolerance
        say(f"          {native.attempt(machine, place, settings.frontend, golden, tolerance)}")
    return told or None


def _occurrence(settings: Settings, labels: bytes) -> tuple[dict[str, bytes], dict[str, Any] | None]:
    """The table of weekly occurrence by its name, and what the manifest tells of it; nothing if not asked for."""
    given, least = settings.bundle.occurrence, settings.bundle.least_checklists
    if not given:
        return {}, None
    content, told = occurrence.table(given, read_labels(labels, "labels.csv", "prepare the data again"), least)
    for source in told:
        say(f"          {source.sentence()}")
    return {OCCURRENCE: content}, {"least_checklists": least, "sources": [source.to_dict() for source in told]}


def _licences(settings: Settings) -> pd.Series:
    """How many recordings were trained on under each licence."""
    recordings, _, _ = read_prepared(settings.paths.prepared, settings.dataset.root)
    return recordings[recordings.split == "train"].license.value_counts().sort_index()


def _manifest(settings: Settings, models: dict[str, bytes], metrics: Any, summary: Any) -> dict[str, Any]:
    told = settings.evaluate
    return {
        "schema_version": LOG_MEL_SCHEMA_VERSION,
        "name": settings.bundle.name or f"labous-{summary['dataset']}",
        "version": settings.bundle.version,
        "min_runtime": __version__,
        "dataset": {
            "name": summary["dataset"],
            "synthetic": summary["synthetic"],
            "revision": summary["revision"],
            "recordings": summary["recordings"],
            "hours": summary["hours"],
        },
        "frontend": settings.frontend.to_dict(),
        "mel": {"file": "melspec.wasm", "abi_version": ABI_VERSION},
        "labels": "labels.csv",
        "models": {name: model_entry(file, models[name]) for name, file in _MODELS.items()},
        "onnx": {"file": "model.onnx", "opset": settings.export.onnx_opset},
        "golden": {
            "file": "golden/golden.npz",
            "tolerance": {
                "mel": told.golden_mel_tolerance,
                "float32": told.golden_float32_tolerance,
                "int8": told.golden_int8_steps * _output_step(models["int8"]),
            },
        },
        "detection": read_json(settings.paths.validate / "detection.json"),
        "metrics": {engine: {name: metrics[engine][name] for name in NAMES} for engine in ("keras", "float32", "int8")},
        "revision": {"code": code_revision(), "data": summary["revision"]},
    }


def model_entry(file: str, data: bytes) -> dict[str, Any]:
    contents = read_tflite(data)
    (given,), (result,) = contents.inputs, contents.outputs
    return {
        "file": file,
        "input": {"name": given.name, "shape": list(given.shape), "dtype": given.dtype},
        "output": {"name": result.name, "shape": list(result.shape), "dtype": result.dtype},
        "activation": "sigmoid",
        "ops": contents.op_counts(),
        "parameters": contents.parameters,
        "macs": contents.macs,
        "bytes": contents.bytes,
    }


def _output_step(int8: bytes) -> float:
    """What one step of the int8 logits is worth, before the file makes them float again."""
    return read_tflite(int8).operators[-1].inputs[0].scales[0]


def code_revision() -> str:
    """The git commit of this checkout, with "-dirty" where tracked files differ from it; "unknown" outside git."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StageError(f"{path} is not there; run python -m training.train, which makes it.") from None


def run(settings: Settings) -> None:
    """The stage: :func:`bundle` unless its result is up to date."""
    run_stage(BUNDLE, settings, bundle)


main = stage_main(run)

if __name__ == "__main__":
    main()
