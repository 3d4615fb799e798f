"""One command builds everything, the same bytes each time, and only what is not up to date."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from pathlib import Path

import pytest

from melspec_cpp import build


def test_up_to_date_targets_are_left_alone(built: dict, capsys: pytest.CaptureFixture[str]) -> None:
    times = {name: target.path.stat().st_mtime_ns for name, target in built.items()}
    assert build.main([]) == 0
    assert capsys.readouterr().out.count("(up to date)") == len(built)
    assert {name: target.path.stat().st_mtime_ns for name, target in built.items()} == times


def test_other_flags_are_another_fingerprint() -> None:
    target = build.TARGETS["wasm"]
    assert build.fingerprint(target) != build.fingerprint(dataclasses.replace(target, flags=(*target.flags, "-O1")))


def test_packaged_module_is_the_built_one(built: dict, tmp_path: Path) -> None:
    assert build.PACKAGED.read_bytes() == built["wasm"].path.read_bytes()
    place = tmp_path / "melspec.wasm"
    assert build.install(place=place) and not build.install(place=place)
    assert [p.name for p in tmp_path.iterdir()] == ["melspec.wasm"]


def test_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert build.main(["wasm"]) == 1
    said = capsys.readouterr().err
    assert "install ziglang" in said and said.count("\n") == 1


@pytest.mark.slow
def test_same_bytes_twice_and_in_another_folder(built: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, copy = build.BUILD, tmp_path / "elsewhere" / "melspec_cpp"
    for name in ("src", "include"):
        shutil.copytree(build.HERE / name, copy / name)
    monkeypatch.setattr(build, "HERE", copy)
    monkeypatch.setattr(build, "BUILD", copy / "build")
    for name, target in build.TARGETS.items():
        assert build.build(name, force=True)
        assert (copy / "build" / target.file).read_bytes() == (original / target.file).read_bytes()
    (copy / "build" / "melspec.wasm").write_bytes(b"something else")
    assert build.build("wasm") and not build.build("wasm")
    (copy / "src" / "window.cpp").write_text("not C++", encoding="utf-8")
    before = (copy / "build" / "melspec.wasm").read_bytes()
    with pytest.raises(build.BuildError, match="failed"):
        build.build("wasm")
    assert (copy / "build" / "melspec.wasm").read_bytes() == before
