"""The wheel itself: built, installed in an environment of its own as on a device, and asked about recordings.

The environment is kept, and made again only when the runtime's sources or the locked versions change.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labous.detect import Predictions
from labous.errors import EngineError
from training.errors import StageError
from training.files import code_digest, sha256_of_file, write_text

_ROOT = Path(__file__).resolve().parents[1]
_WORKER = Path(__file__).with_name("engine_workers") / "installed_wheel.py"
_EXTRAS = "litert,audio"
_LOCK = "requirements.lock"
_STAMP = "labous-wheel.txt"
_TIMEOUT_SECONDS = 3600


class WheelUnavailable(EngineError):
    """The wheel cannot be built or installed on this machine now."""


def build(dist: Path) -> Path:
    """Build the wheel into a folder; its path.

    Raises:
        WheelUnavailable: it cannot be built.
    """
    done = _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)], _ROOT / "runtime")
    if done.returncode != 0:
        raise WheelUnavailable(f"the wheel cannot be built ({_last_line(done)}).")
    (found,) = dist.glob("*.whl")
    return found


def installed(place: Path) -> Path:
    """The Python of an environment at ``place`` with the wheel of this checkout and nothing of training.

    Packages come from uv's cache, which setting this checkout up has filled, or else from the index that uv is
    configured for.

    Raises:
        WheelUnavailable: it cannot be built, or what it needs is neither in the cache nor to be reached.
    """
    place = place.absolute()  # not resolved: an environment's Python is a link, and that it is one makes it one
    python, key = place / "bin" / "python", _key()
    stamp = place / _STAMP
    if python.exists() and stamp.exists() and stamp.read_text() == key:
        return python
    shutil.rmtree(place, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="labous-wheel-") as folder:
        wheel = build(Path(folder))
        for words in (
            ["venv", "--python", sys.executable, str(place)],
            ["pip", "install", "--python", str(python), f"{wheel}[{_EXTRAS}]", "--constraint", str(_ROOT / _LOCK)],
        ):
            done = _run([sys.executable, "-m", "uv", "--quiet", *words], Path(folder))
            if done.returncode != 0:
                shutil.rmtree(place, ignore_errors=True)
                raise WheelUnavailable(f"the wheel cannot be installed ({_last_line(done)}).")
    write_text(stamp, key)
    return python


def hear(
    python: Path, bundle: Path, precision: str, paths: Sequence[str | Path], overlap_seconds: float = 0.0
) -> list[Predictions]:
    """What the installed wheel makes of recordings, each as its ``Bundle.predict`` gives it, without the labels.

    Raises:
        StageError: it fails.
    """
    with tempfile.TemporaryDirectory(prefix="labous-wheel-") as folder:
        asked, told = Path(folder) / "recordings.json", Path(folder) / "heard.npz"
        asked.write_text(json.dumps([str(Path(path).resolve()) for path in paths]), encoding="utf-8")
        words = [str(bundle.resolve()), precision, str(asked), str(told), str(overlap_seconds)]
        done = _run([str(python.absolute()), "-I", str(_WORKER), *words], Path(folder))
        if done.returncode != 0:
            raise StageError(f"The installed wheel cannot use {bundle}: {_last_line(done)}")
        with np.load(told) as found:
            return [
                Predictions(
                    found[f"starts_{i}"], found[f"ends_{i}"], found[f"logits_{i}"], found[f"probabilities_{i}"], ()
                )
                for i in range(len(paths))
            ]


def _key() -> str:
    """Hash of all that decides what is installed."""
    runtime = _ROOT / "runtime"
    parts = {
        "code": code_digest(runtime / "src" / "labous", runtime / "pyproject.toml"),
        "mel": sha256_of_file(runtime / "src" / "labous" / "melspec.wasm"),
        "lock": sha256_of_file(_ROOT / _LOCK),
        "extras": _EXTRAS,
        "python": sys.version,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} did not finish in {_TIMEOUT_SECONDS} s")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip(" ╰─▶│") for line in (done.stderr or done.stdout).splitlines() if line.strip(" ╰─▶│")]
    return lines[-1] if lines else f"exit status {done.returncode}"
