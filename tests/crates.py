"""Examples in Rust, built for the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.wheels import ROOT

_KEPT = ROOT / "build" / "examples"  # crates take minutes to compile
_SECONDS = 2400


def unavailable(tool: str, reason: str) -> None:
    """Skips with the reason, or fails where LABOUS_REQUIRE_<tool>=1 asks for it."""
    if os.environ.get(f"LABOUS_REQUIRE_{tool}") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def program(source: Path, name: str) -> Path:
    """The program of a crate, built without a network once its crates are here.

    It is built in a copy, for cargo writes its lock file beside the manifest; what is compiled is kept, and shared by
    all examples.

    Args:
        source: the crate's folder.
        name: of its package.
    """
    if shutil.which("cargo") is None:
        unavailable("RUST", f"{name} is not tested: cargo is not installed")
    copy = shutil.copytree(
        source, _KEPT / name, ignore=shutil.ignore_patterns("Cargo.lock", "target"), dirs_exist_ok=True
    )

    def cargo(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["cargo", *words, "--quiet"],
            cwd=copy,
            env={**os.environ, "CARGO_TARGET_DIR": str(_KEPT / "target")},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    done = cargo("fetch")
    if done.returncode != 0:
        told = done.stderr.rpartition("error: ")[2].partition("\n")[0]
        unavailable("RUST", f"{name} is not tested: cargo cannot get the crates: {told}")
    done = cargo("build", "--offline")
    assert done.returncode == 0, done.stderr
    return _KEPT / "target" / "debug" / name
