"""Part limit: how far the wasm's kernel is from what this core could do, and what the rest of its time goes into.

The limit is the least time in which the core, in the same Wasmtime, does the additions, multiplications, shuffles and
conversions that the algorithm takes, with no load, store or index arithmetic at all and nothing to wait for.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import counted
import numpy as np
from candidates import SETTINGS, frontend_of
from core import LENGTHS, ROUNDS, Loop, Mixture
from operations import Operations, of, stages, total

from labous.frontend import Frontend
from labous.mel import MelSpectrogram, Output, WasmEngine, abi
from labous.mel.wasm import packaged_module

GROUPS = ("transform", "mel product", "decibels and scaling")
"""Stages that can be told apart by what runs take: the transform is all stages before the other two."""

KERNEL = "the kernel"
_PURE = ("additions", "multiplications")
_EXACT = (*_PURE, "divisions", "promotions")  # which the compiler can do in no other way than they are written
_NARROW = 4  # bins in the band of a front end that leaves the mel product next to nothing to do
_NEAR = 4  # hop of a front end whose frames lie in a few thousand samples, each as aligned as a vector of float32


class Run:
    """A plan in an engine, with samples that are there already."""

    def __init__(self, engine: WasmEngine, frontend: Frontend, samples: np.ndarray, output: Output) -> None:
        config = engine.allocate(abi.CONFIG_SIZE + 8)
        packed = np.frombuffer(abi.pack_config(frontend), np.uint8)
        engine.view(config, packed.shape, np.uint8)[:] = packed
        engine.check(engine.call("melspec_create", config, config + abi.CONFIG_SIZE))
        plan = int(engine.view(config + abi.CONFIG_SIZE, (1,), np.uint32)[0])
        size = engine.check(engine.call("melspec_bytes", plan, samples.size))
        into, out = engine.allocate(samples.nbytes), engine.allocate(size)
        engine.view(into, samples.shape, np.float32)[:] = samples
        self._engine, self._arguments = engine, (plan, output, into, samples.size, out, size // 4)
        engine.check(self())

    def __call__(self) -> int:
        return self._engine.call("melspec_run", *self._arguments)

    def empty(self) -> int:
        """A call with as many arguments that comes back at once."""
        plan, output, into, _, out, capacity = self._arguments
        return self._engine.call("melspec_run", plan, output, into, 0, out, capacity)


def measure(rounds: int) -> dict[str, Any]:
    """Operations, limits and times at each setting.

    Args:
        rounds: turns of everything that is timed; the least of each counts.

    Returns:
        by setting: ``frames``; ``operations`` by stage and kind, by formula; ``executed``: the same by kind, counted in
        the module; ``beside``: loads, stores, and integer operations with branches, counted, by group;
        ``per_nanosecond``: how many additions, multiplications, and operations as they are mixed the core does; and in
        ms: ``limit`` by stage, group and of the kernel; ``with_memory``: what a loop takes that does the group's loads
        and stores as well, in the first cache; ``with_integers``: and its integer operations; ``measured``: what the
        parts of the kernel, the kernel, the path from Python and its parts take.
    """
    return {setting: _measure(frontend_of(*sizes), rounds) for setting, sizes in SETTINGS.items()}


def _measure(frontend: Frontend, rounds: int) -> dict[str, Any]:
    mel = MelSpectrogram(frontend)
    n_frames = frontend.frames_of(frontend.window_samples)
    plans = _plans(frontend, n_frames)
    samples = plans["kernel"][1]
    by_stage = stages(frontend, mel.filters(), n_frames)
    executed = {name: counted.executed(packaged_module(), *plan) for name, plan in plans.items()}
    beside = _beside(executed)
    operations = {**by_stage, "transform": total(n for stage, n in by_stage.items() if stage not in GROUPS)}
    operations[KERNEL] = total(by_stage.values())

    mixtures: dict[Any, Mixture] = {
        **{kind: Mixture(Operations(**{kind: 1})) for kind in _PURE},
        **{name: Mixture(of_name) for name, of_name in operations.items()},
        **{("memory", name): Mixture(operations[name], n["loads"], n["stores"]) for name, n in beside.items()},
        **{("integers", name): Mixture(operations[name], **n) for name, n in beside.items()},
    }
    loops = {(name, length): Loop(mixture, length) for name, mixture in mixtures.items() for length in LENGTHS}
    engine = WasmEngine()
    runs = {name: Run(engine, *plan) for name, plan in plans.items()}
    into, out = engine.allocate(samples.nbytes), engine.allocate(4 * frontend.n_mels * n_frames)
    took = _least(
        {
            **{key: loop.run for key, loop in loops.items()},
            "no loop": lambda: loops[KERNEL, LENGTHS[0]].run(1),
            **runs,
            "no run": runs["kernel"].empty,
            "from Python": lambda: mel.decibels(samples),
            "copy in": lambda: np.copyto(engine.view(into, samples.shape, np.float32), samples),
            "copy out": lambda: engine.view(out, (frontend.n_mels, n_frames), np.float32).copy(),
        },
        rounds,
    )
    least = {
        name: min((took[name, n] - took["no loop"]) / (ROUNDS - 1) / loops[name, n].share for n in LENGTHS)
        for name in mixtures
    }
    measured = _parts({name: took[name] - took["no run"] for name in runs})
    path = {name: took[name] for name in ("from Python", "copy in", "copy out")}
    path["calls"] = path["from Python"] - path["copy in"] - path["copy out"] - measured[KERNEL]

    def limit(name: str) -> float:
        return max(least[name], *(getattr(operations[name], kind) * least[kind] for kind in _PURE))

    def rounded(by_name: dict[str, float]) -> dict[str, float]:
        return {name: round(number, 4) for name, number in by_name.items()}

    return {
        "frames": n_frames,
        "operations": {stage: n._asdict() for stage, n in by_stage.items()},
        "executed": of(executed["kernel"])._asdict(),
        "beside": beside,
        "per_nanosecond": rounded(
            {kind: 1e-6 / least[kind] for kind in _PURE} | {"all": 1e-6 * sum(operations[KERNEL]) / least[KERNEL]}
        ),
        "limit": rounded({name: limit(name) for name in operations}),
        "with_memory": rounded({name: max(limit(name), least["memory", name]) for name in beside}),
        "with_integers": rounded({name: max(limit(name), least["integers", name]) for name in beside}),
        "measured": rounded(measured | path),
    }


def _plans(frontend: Frontend, n_frames: int) -> dict[str, tuple[Frontend, np.ndarray, Output]]:
    """Front end, samples and output of each kernel run; all but the last two compute as many frames."""
    f_min, bin_hz = 1000.0, frontend.sample_rate / frontend.n_fft
    narrow = dataclasses.replace(frontend, n_mels=1, f_min=f_min, f_max=f_min + _NARROW * bin_hz)
    far = dataclasses.replace(narrow, center=False)
    near = dataclasses.replace(far, hop_length=_NEAR)
    single = dataclasses.replace(far, hop_length=frontend.window_samples)
    noise = 0.1 * np.random.default_rng(20210601).standard_normal(2 * frontend.window_samples).astype(np.float32)
    window = noise[: frontend.window_samples]

    def enough(of_these: Frontend) -> np.ndarray:
        return noise[: of_these.n_fft + (n_frames - 1) * of_these.hop_length]

    return {
        "kernel": (frontend, window, Output.DECIBELS),
        "power": (frontend, window, Output.POWER),
        "narrow": (narrow, window, Output.POWER),
        "far": (far, enough(far), Output.POWER),
        "near": (near, enough(near), Output.POWER),
        "one": (single, window, Output.POWER),
        "short": (single, noise[: frontend.n_fft], Output.POWER),
    }


def _parts(of_run: Mapping[str, float]) -> dict[str, float]:
    """What the kernel's number (of ms, of instructions) is made of, from those of the runs of _plans."""
    check = of_run["one"] - of_run["short"]
    return {
        "transform": of_run["near"],
        "mel product": of_run["power"] - of_run["narrow"],
        "decibels and scaling": of_run["kernel"] - of_run["power"],
        "padded frames": of_run["narrow"] - of_run["far"],
        "samples beyond the first cache": of_run["far"] - of_run["near"] - check,
        "check for NaN and infinity": check,
        KERNEL: of_run["kernel"],
    }


def _beside(executed: Mapping[str, Mapping[tuple[int, ...], int]]) -> dict[str, dict[str, int]]:
    by_run = {name: counted.beside(instructions) for name, instructions in executed.items()}
    parts = {what: _parts({name: n[what] for name, n in by_run.items()}) for what in by_run["kernel"]}
    return {group: {what: int(numbers[group]) for what, numbers in parts.items()} for group in (*GROUPS, KERNEL)}


def _least(timed: Mapping[Any, Callable[[], Any]], rounds: int) -> dict[Any, float]:
    """Least milliseconds of each. They take turns, in another order each round, each twice in a row: the second time it
    finds the caches as it left them itself."""
    order, shuffle = list(timed), random.Random(0).shuffle
    found = dict.fromkeys(order, float("inf"))
    for _ in range(rounds):
        shuffle(order)
        for key in order:
            for _ in range(2):
                start = time.perf_counter()
                timed[key]()
                found[key] = min(found[key], 1e3 * (time.perf_counter() - start))
    return found


def table(result: dict[str, Any]) -> str:
    """For each setting the operations and limits by stage, then what the kernel and the whole path take."""
    return "\n\n".join(_block(setting, found) for setting, found in result.items())


def _block(setting: str, found: dict[str, Any]) -> str:
    n_fft, hop, mels = SETTINGS[setting]
    limit, measured = found["limit"], found["measured"]
    operations = {stage: Operations(**counts) for stage, counts in found["operations"].items()}
    operations[KERNEL] = total(operations.values())

    heading = f"{setting}: {n_fft}/{hop}/{mels}, {found['frames']} frames"
    lines = [_row(heading, "additions", "products", "shuffles", "others", "limit ms")]
    for stage, n in operations.items():
        counts = (n.additions, n.multiplications, n.shuffles)
        millions = (f"{count / 1e6:.3f} M" for count in (*counts, sum(n) - sum(counts)))
        lines.append(_row("all" if stage == KERNEL else stage, *millions, f"{limit[stage]:.3f}"))

    lines += ["", _row("ms", "limit", "+ memory", "+ integers", "measured", "limit is")]
    for name, took in measured.items():
        bounds = [
            f"{found[key][name]:.3f}" if name in found["beside"] else ""
            for key in ("limit", "with_memory", "with_integers")
        ]
        share = limit[KERNEL if name == "from Python" else name] / took if bounds[0] or name == "from Python" else None
        lines.append(_row(name, *bounds, f"{took:.3f}", "" if share is None else f"{share:.0%}"))

    rates = ", ".join(f"{rate:.1f} {kind}" for kind, rate in found["per_nanosecond"].items())
    lines.append(f"The core does in a nanosecond, two lanes at once: {rates} as mixed.")
    for kind in _EXACT:
        if (count := getattr(operations[KERNEL], kind)) != (executed := found["executed"][kind]):
            lines.append(f"THE FORMULAS ARE OF ANOTHER MODULE: {kind}: {count} by formula, {executed} executed.")
    return "\n".join(lines)


def _row(name: str, *columns: str) -> str:
    return (f"{name:<32}" + "".join(f"{column:>12}" for column in columns)).rstrip()
