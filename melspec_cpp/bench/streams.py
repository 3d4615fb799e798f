"""Part streams: windows of 5 s, one every second: what one costs a stream, and what it costs to compute it anew."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from candidates import frontend_of

from labous.errors import EngineError
from labous.frontend import Frontend
from labous.mel import MelEngine, MelSpectrogram, NativeEngine, WasmEngine
from training.features import EXACT_LIBRARY, conf_frontends

STEP_SECONDS = 1
_ENGINES: dict[str, Callable[[], MelEngine]] = {"wasm": WasmEngine, "native": lambda: NativeEngine(EXACT_LIBRARY)}


def measure(rounds: int) -> dict[str, Any]:
    """Times per window, the stream and the computing anew taking turns over the same signal.

    Args:
        rounds: windows timed for each front end and engine.

    Returns:
        by front end and engine: ``stream`` and ``anew``, ms per window, least and median; ``ratio``, least over least;
        ``ratio_of_medians``; ``absent`` with the reason where there are no streams.

    Raises:
        ValueError: a stream's window is not the same bits as the window computed anew.
    """
    try:
        from labous.mel import MelStream
    except ImportError as error:
        return {"absent": f"not there yet: {error}"}
    found: dict[str, Any] = {}
    for name, frontend in _frontends().items():
        for engine, make in _ENGINES.items():
            try:
                stream, mel = MelStream(frontend, _step(frontend), make()), MelSpectrogram(frontend, make())
            except EngineError as error:
                found.setdefault(name, {})[engine] = {"absent": str(error)}
            else:
                found.setdefault(name, {})[engine] = _compare(stream, mel, frontend, rounds)
    return found


def _frontends() -> dict[str, Frontend]:
    return {
        "2048/320/128 centred": frontend_of(2048, 320, 128),
        "1024/320/64 centred": frontend_of(1024, 320, 64),
        "mel64 (conf)": conf_frontends()["mel64"],
    }


def _step(frontend: Frontend) -> int:
    return STEP_SECONDS * frontend.sample_rate


def _compare(stream: Any, mel: MelSpectrogram, frontend: Frontend, rounds: int) -> dict[str, Any]:
    step, size = _step(frontend), frontend.window_samples
    signal = np.random.default_rng(20210601).standard_normal(size + (rounds + 1) * step).astype(np.float32) * 0.1
    list(stream.push(signal[:size]))  # the first window, which shares nothing
    mel(signal[:size])
    times: dict[str, list[float]] = {"stream": [], "anew": []}
    for start in range(step, (rounds + 2) * step, step):
        began = time.perf_counter()
        windows = list(stream.push(signal[start + size - step : start + size]))
        pushed = time.perf_counter()
        exact = mel(signal[start : start + size])
        computed = time.perf_counter()
        if len(windows) != 1 or not np.array_equal(windows[0], exact):
            raise ValueError(f"The stream's window from sample {start} is not the one that is computed anew.")
        if start > step:  # the first of each is not counted
            times["stream"].append(1e3 * (pushed - began))
            times["anew"].append(1e3 * (computed - pushed))
    medians = {name: statistics.median(t) for name, t in times.items()}
    return {
        **{name: {"min": round(min(t), 4), "median": round(medians[name], 4)} for name, t in times.items()},
        "ratio": round(min(times["anew"]) / min(times["stream"]), 3),
        "ratio_of_medians": round(medians["anew"] / medians["stream"], 3),
    }


def table(result: dict[str, Any]) -> str:
    """The ratios and times as aligned text."""
    if "absent" in result:
        return f"streams: {result['absent']}"
    lines = [
        f"{f'5 s every {STEP_SECONDS} s':<22}{'':<8}{'ratio':>12}{'of medians':>12}"
        f"{'stream min':>12}{'median ms':>12}{'anew min':>12}{'median ms':>12}"
    ]
    for name, by_engine in result.items():
        for engine, found in by_engine.items():
            if "absent" in found:
                lines.append(f"{name:<22}{engine:<8}{found['absent']}")
                continue
            lines.append(
                f"{name:<22}{engine:<8}{found['ratio']:>12.2f}{found['ratio_of_medians']:>12.2f}"
                + "".join(f"{found[way][key]:>12.3f}" for way in ("stream", "anew") for key in ("min", "median"))
            )
    return "\n".join(lines)
