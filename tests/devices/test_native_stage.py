"""The bundle's stage and its libraries: what may be asked for, what is tried, and what is not kept."""

from __future__ import annotations

import io
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from labous.bundle import Bundle
from melspec_cpp import boards as machines
from melspec_cpp import emulators
from tests.devices import boards
from tests.runtime.bundles import FRONTEND
from training import native
from training.bundle import wholes
from training.config import compose
from training.errors import ConfigError, StageError

HERE = platform.machine()


@pytest.mark.parametrize("key", ["targets", "bundle.targets"])
def test_the_targets_may_be_asked_for_by_either_name(key: str) -> None:
    assert compose([f"{key}=[riscv64,armv7l]"]).bundle.targets == ("armv7l", "riscv64")
    assert compose().bundle.targets == ()
    for wrong in ("[z80]", "riscv64", "[[riscv64]]", "7"):
        with pytest.raises(
            ConfigError, match=r"bundle\.targets is .*; write a list of x86_64, aarch64, armv7l, riscv64"
        ):
            compose([f"{key}={wrong}"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return boards.write_bundle(tmp_path_factory.mktemp("stage") / "bundle", HERE)


def tried(place: Path, golden: bytes, tolerance: float = 1e-4) -> str:
    return native.attempt(HERE, place, FRONTEND, golden, tolerance)


@pytest.mark.slow
@pytest.mark.skipif(HERE not in machines.MACHINES, reason="no libraries are built for it")
def test_libraries_are_tried(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = (place / "golden/golden.npz").read_bytes()
    said = tried(place, golden)
    print(said)
    assert said.startswith(f"{HERE}: libmelspec.so ") and "mel the same bits, logits within" in said
    with np.load(io.BytesIO(golden)) as archive:
        arrays = dict(archive)
    for name, value, told in (("mel", 1e-6, "another mel"), ("logits_float32", 1e-3, "logits that differ by 0.001 ")):
        changed = {**arrays, name: arrays[name] + np.float32(value)}
        np.savez(tmp_path / "golden.npz", **changed)
        with pytest.raises(StageError, match=f"gives {told}.*the bundle was not kept"):
            tried(place, (tmp_path / "golden.npz").read_bytes())
    monkeypatch.setattr(emulators, "missing", lambda machine: ["qemu-user-static"])
    assert "NOT TRIED, as this machine cannot run it: apt-get install qemu-user-static" in tried(place, golden)


@pytest.mark.slow
@pytest.mark.skipif(HERE not in machines.MACHINES, reason="no libraries are built for it")
def test_libraries_that_fail_are_told(place: Path, tmp_path: Path) -> None:
    golden = (place / "golden/golden.npz").read_bytes()
    broken = Path(shutil.copytree(place, tmp_path / "bundle"))
    shutil.copy(broken / f"native/{HERE}/{native.MEL}", broken / f"native/{HERE}/{native.MODEL}")
    with pytest.raises(StageError, match="Compiling trial"):  # functions are missing
        tried(broken, golden)
    tall = Bundle.read(place).frontend
    with pytest.raises(StageError, match=r"fail on the golden windows \(the model's sizes failed\)"):
        with np.load(io.BytesIO(golden)) as archive:
            arrays = dict(archive)
        np.savez(tmp_path / "golden.npz", **{**arrays, "mel": arrays["mel"][:, :, :-1]})
        native.attempt(HERE, place, tall, (tmp_path / "golden.npz").read_bytes(), 1.0)


@pytest.mark.slow
@pytest.mark.skipif(HERE not in machines.MACHINES, reason="no program is built for it")
def test_a_bundle_is_made_into_single_files(place: Path, tmp_path: Path) -> None:
    target = f"labous-{HERE}"
    bundle = Path(shutil.copytree(place, tmp_path / "bundle"))
    wholes(compose([f"targets=[hear,{target},{HERE}]"]), bundle)
    listed = Bundle.read(bundle).files
    assert {name for name in listed if name.startswith("whole/")} == {"whole/hear.wasm", f"whole/{target}"}
    assert listed["whole/hear.wasm"].startswith(b"\0asm")
    done = subprocess.run([bundle / "whole" / target, "--version"], capture_output=True, text=True, check=True)
    manifest = Bundle.read(bundle).manifest
    assert manifest.name in done.stdout and manifest.version in done.stdout
