"""A power-law bundle on a board without Wasmtime: its mel library, to the bit, and its model by another engine."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labous
from labous import cli
from labous.archive import write_checksums
from labous.errors import BundleError
from labous.mel import MelSpectrogram, WasmEngine, compiled
from melspec_cpp import boards as machines
from melspec_cpp import emulators
from tests.runtime import audio, law_bundles
from training import native
from training.errors import StageError

HERE = platform.machine()
SHIFTED = dataclasses.replace(law_bundles.FRONTEND, shifts=(0, 11, 29))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        HERE not in machines.MACHINES or sys.platform != "linux", reason="no libraries are built for it"
    ),
]


def write(place: Path, machine: str = HERE) -> Path:
    law_bundles.write_bundle(place, SHIFTED)
    told = {machine: native.build_mel(machine, (place / "melspec.wasm").read_bytes(), place)}
    rewrite(place, native=told)
    return place


def rewrite(place: Path, **changes: Any) -> None:
    manifest = place / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    write_checksums(place)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("native") / "bundle")


@pytest.fixture
def without_wasmtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "hindrance", lambda: "Wasmtime is not here")


@pytest.mark.usefixtures("without_wasmtime")
def test_the_library_stands_for_the_module_and_an_engine_runs_the_model(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = labous.load(place)
    assert bundle.mel_library is not None and bundle.mel_library[0].endswith(native.MEL)
    sound = audio.noise(3.0, 48_000)[:, 0]
    assert bundle.mel(sound).tobytes() == MelSpectrogram(SHIFTED, WasmEngine())(sound).tobytes()
    # a clip's picture, by the library's first mode
    assert bundle.decibels(audio.noise(5.0, 48_000)[:, 0]).shape[0] == SHIFTED.n_mels
    assert cli.main(["check", "--bundle", str(place)]) == 0
    assert "in its place" in capsys.readouterr().out


def test_a_library_of_another_module_is_refused(place: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "bundle")
    made = json.loads((other / "manifest.json").read_text())["native"]
    made[HERE]["mel"]["source"] = "0" * 64
    rewrite(other, native=made)
    with pytest.raises(BundleError, match=r"libmelspec\.so was not made from its melspec\.wasm"):
        labous.load(other)


def golden(place: Path) -> bytes:
    return (place / "golden/golden.npz").read_bytes()


def test_the_trial_compares_every_bit(place: Path, tmp_path: Path) -> None:
    assert "mel the same bits on 3 golden windows" in native.attempt_mel(HERE, place, SHIFTED, golden(place))
    with np.load(place / "golden/golden.npz") as archive:
        arrays = dict(archive)
    arrays["mel"][-1, -1, -1, -1, -1] = np.nextafter(arrays["mel"][-1, -1, -1, -1, -1], np.float32(1))
    np.savez(tmp_path / "golden.npz", **arrays)
    with pytest.raises(StageError, match=r"gives another mel than melspec\.wasm"):
        native.attempt_mel(HERE, place, SHIFTED, (tmp_path / "golden.npz").read_bytes())


@pytest.mark.parametrize("machine", [machine for machine in machines.MACHINES if machine != HERE])
def test_other_machines_give_the_same_bits(machine: str, tmp_path: Path) -> None:
    if packages := emulators.missing(machine):
        pytest.skip(f"this machine cannot run it: apt-get install {' '.join(packages)}")
    made = write(tmp_path / "bundle", machine)
    assert "mel the same bits" in native.attempt_mel(machine, made, SHIFTED, golden(made))
