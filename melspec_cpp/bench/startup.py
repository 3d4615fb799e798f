"""Part startup: how soon the wasm can be used, in fresh processes, compiled anew and from the precompiled cache.

Run as a script with a front end as JSON, this file is such a process: it makes one engine and prints what it took.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_RUNTIME = Path(__file__).resolve().parent.parent.parent / "runtime" / "src"

STEPS = {
    "import_ms": "import",
    "engine_ms": "WasmEngine()",
    "plan_ms": "plan for A",
    "window_ms": "first window",
}
"""What a start is made of, and its heading in the table."""


def measure(starts: int) -> dict[str, Any]:
    """Times of fresh processes, those without and those with a filled cache taking turns.

    Args:
        starts: processes of each kind.

    Returns:
        ``module_bytes``, ``module_imports``; ``cached``: whether the engine left a file in its cache at all;
        ``cold`` and ``warm``: for each step its least and median time in ms.
    """
    import wasmtime
    from candidates import PACKAGED_MODULE, SETTINGS, frontend_of

    frontend = json.dumps(frontend_of(*SETTINGS["A"]).to_dict())
    found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as warm:
        _start(frontend, Path(warm))  # fills the cache
        cached = any(path.is_file() for path in Path(warm).rglob("*"))
        for _ in range(starts):
            with tempfile.TemporaryDirectory() as cold:
                found["cold"].append(_start(frontend, Path(cold)))
            found["warm"].append(_start(frontend, Path(warm)))
    content = PACKAGED_MODULE.read_bytes()
    return {
        "module_bytes": len(content),
        "module_imports": len(wasmtime.Module(wasmtime.Engine(), content).imports),
        "cached": cached,
        **{
            kind: {
                step: {
                    "min": round(min(start[step] for start in all_starts), 3),
                    "median": round(statistics.median(start[step] for start in all_starts), 3),
                }
                for step in STEPS
            }
            for kind, all_starts in found.items()
        },
    }


def table(result: dict[str, Any]) -> str:
    """The steps of a start, cold and warm, as aligned text."""
    lines = [
        f"melspec.wasm: {result['module_bytes']} bytes, {result['module_imports']} imports",
        f"{'':<22}" + "".join(f"{heading:>22}" for heading in STEPS.values()),
        f"{'fresh process':<22}" + f"{'min ms':>11}{'median':>11}" * len(STEPS),
    ]
    for kind, name in (("cold", "compiled"), ("warm", "from the cache")):
        lines.append(
            f"{name:<22}" + "".join(f"{result[kind][s]['min']:>11.2f}{result[kind][s]['median']:>11.2f}" for s in STEPS)
        )
    if not result["cached"]:
        lines.append("No file was left in LABOUS_CACHE_DIR: what is called from the cache was compiled, too.")
    return "\n".join(lines)


def _start(frontend: str, cache: Path) -> dict[str, float]:
    environment = {**os.environ, "LABOUS_CACHE_DIR": str(cache), "PYTHONPATH": str(_RUNTIME)}
    command = [sys.executable, str(Path(__file__).resolve()), frontend]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _here(frontend: dict[str, object]) -> dict[str, float]:
    """The steps of a start in this process, in ms."""
    marks = [time.perf_counter()]
    import numpy as np
    import wasmtime  # noqa: F401  (WasmEngine() would, on its own account)

    from labous.frontend import Frontend
    from labous.mel import MelSpectrogram, WasmEngine

    constants = Frontend.from_dict(frontend)
    samples = np.zeros(constants.window_samples, np.float32)
    marks.append(time.perf_counter())
    engine = WasmEngine()
    marks.append(time.perf_counter())
    mel = MelSpectrogram(constants, engine)
    marks.append(time.perf_counter())
    mel.decibels(samples)
    marks.append(time.perf_counter())
    return {step: 1e3 * (end - begin) for step, begin, end in zip(STEPS, marks, marks[1:], strict=False)}


if __name__ == "__main__":
    print(json.dumps(_here(json.loads(sys.argv[1]))))
