"""What the tests of whole pipelines share: files, processes, and a package of a third party."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import labous

PLUGIN = Path(__file__).parent / "plugin"
STATION = '[station]\nbundle = "bundle"\nprecision = "float32"\nstate = "state"\n'
MIDDLE = '[[node]]\ntype = "wasm"\n[[node]]\ntype = "tflite"\n[[node]]\ntype = "confirm"\nthreshold = 0.1\n'
SINK = '[[node]]\ntype = "jsonl"\npath = "out"\n'


def node(kind: str, **keys: Any) -> str:
    """A [[node]]; values as TOML has them."""
    return f'[[node]]\ntype = "{kind}"\n' + "".join(f"{name} = {value}\n" for name, value in keys.items())


def write(folder: Path, *parts: str, station: str = STATION) -> Path:
    """A pipeline file beside a bundle."""
    path = folder / "pipeline.toml"
    path.write_text(station + "".join(parts), encoding="utf-8")
    return path


def install_plugin(target: Path) -> Path:
    """Build the package and install it into a folder for PYTHONPATH, as pip would."""
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    subprocess.run([*command, "--target", str(target), str(PLUGIN)], check=True, timeout=120, env=environment)
    return target


def environment(*above: Path, **more: str) -> dict[str, str]:
    """Of a process that runs this checkout's Labous, with folders of packages before it."""
    paths = [*map(str, above), str(Path(labous.__file__).parents[1])]
    clean = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "JOURNAL_STREAM", "RUNTIME_DIRECTORY")}
    return {**clean, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **more}


def run(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """``labous`` with arguments, to its end."""
    command = [sys.executable, "-m", "labous", *map(str, arguments)]
    return subprocess.run(
        command, env=env or environment(), capture_output=True, text=True, timeout=60, check=False, **options
    )


@contextlib.contextmanager
def running(path: Path, env: dict[str, str] | None = None, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """``labous run`` in the background; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "labous", "run", str(path)],
        env=env or environment(),
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None, seconds: float = 30) -> Any:
    """What a condition gives, once that is true; a process may not end before."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()[1]}")
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.02)
    return found
