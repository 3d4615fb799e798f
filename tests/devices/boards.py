"""The tests' bundle with libraries for boards."""

from __future__ import annotations

import json
from pathlib import Path

from tests.runtime import bundles
from training import native


def write_bundle(place: Path, *machines: str) -> Path:
    """The runtime's test bundle, with libraries for these machines."""
    bundles.write_bundle(place)
    add_libraries(place, *machines)
    return place


def add_libraries(place: Path, *machines: str) -> None:
    """Put libraries for these machines into a bundle."""
    told = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    wasm, tflite = ((place / name).read_bytes() for name in ("melspec.wasm", "model.tflite"))
    told["native"] = {machine: native.build(machine, wasm, tflite, place) for machine in machines}
    bundles.write_manifest(place, told)
