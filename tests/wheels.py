"""Building the wheel and installing it into environments of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command: object, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: {done.stdout}\n{done.stderr}")
    assert "Traceback" not in done.stderr
    return done


def uv(*arguments: object, cwd: Path | None = None) -> None:
    run(sys.executable, "-m", "uv", "--quiet", *arguments, cwd=cwd)


def build(dist: Path, sources: Path = ROOT / "runtime") -> Path:
    """Build the wheel into an empty folder."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", dist, cwd=sources)
    (found,) = dist.iterdir()
    return found


def environment(folder: Path, wheel: Path, extras: str, lock: str) -> Path:
    """A new environment with the wheel and its extras, at the versions of a lock file; its Python."""
    uv("venv", "--python", sys.executable, folder)
    python = folder / "bin/python"
    uv("pip", "install", "--python", python, f"{wheel}[{extras}]", "--constraint", ROOT / lock)
    return python
