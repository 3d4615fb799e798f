"""What preparing recordings costs: CPU and memory as their number and their length grow, and native against librosa.

``python -m training.bench.prepare`` makes ten hours of recordings from the demo generator (a few minutes of distinct
sound, written many times as files of their own), prepares shares of them with ``python -m training.prepare``, each in
a fresh place, prints a table and leaves bench/prepare.json and bench/prepare.png. Linux: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.table import Table

from training.config import compose
from training.console import console, say
from training.datasets.demo import ogg
from training.files import written_beside

ROOT = Path(__file__).resolve().parents[2]
_DISTINCT = ("dataset=demo", "dataset.recordings_per_species=4", "dataset.seconds=[20.0,60.0]")
_SPECIES = 5
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ONE_THREAD = ", one BLAS thread"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[1.25, 2.5, 5.0, 10.0], help="shares to prepare")
    parser.add_argument("--lengths", type=float, nargs="+", default=[0.5, 4.0], help="hours of single long recordings")
    parser.add_argument("--compared", type=float, default=2.5, help="hours to compare the backends on")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--place", type=Path, default=ROOT / "build", help="for the folder bench-prepare")
    told = parser.parse_args()
    # a folder of its own, for what is in it is deleted; absolute, for other processes run there
    place: Path = told.place.resolve() / "bench-prepare"
    files = _made(place / "recordings", max(*told.hours, told.compared))
    native = ("features.backend=native", f"features.workers={told.workers}")
    growth = []
    for hours in told.hours:
        shared, held = _share(files, hours, place / "share")
        growth.append(_prepared(shared, held, place, *native))
    lengths = []
    for hours in told.lengths:
        lengths.append(_prepared(_long(files, hours, place / "long"), hours, place, *native))
    rounds: dict[str, list[float]] = {
        f"{backend}{threads}": [] for threads in ("", _ONE_THREAD) for backend in ("librosa", "native")
    }
    shared, held = _share(files, told.compared, place / "share")
    for _ in range(told.rounds):
        for kind, costs in rounds.items():
            backend = f"features.backend={kind.removesuffix(_ONE_THREAD)}"
            row = _prepared(shared, held, place, backend, native[1], one_thread=kind.endswith(_ONE_THREAD))
            costs.append(row["cpu_seconds"] / held)
    found = _figures(growth, lengths, rounds, told.workers)
    _tell(found)
    (ROOT / "bench").mkdir(exist_ok=True)
    with written_beside(ROOT / "bench" / "prepare.json") as beside:
        beside.write_text(json.dumps(found, indent=1) + "\n")
    with written_beside(ROOT / "bench" / "prepare.png") as beside:
        _plot(found, beside)
    for made in ("share", "long", "prepared"):
        shutil.rmtree(place / made, ignore_errors=True)


def _made(folder: Path, hours: float) -> list[tuple[Path, float]]:
    """Recordings of at least so many hours in all, in folders by label, with the hours of each.

    What was made before is used again. A copy differs from its original in the serial number of its Ogg stream, and so
    in its hash.
    """
    codes = [label.ebird_code for label in compose(["dataset=demo"]).dataset.species()][:_SPECIES]
    root = folder / "distinct"
    dataset = compose([*_DISTINCT, f"dataset.codes=[{','.join(codes)}]", f"dataset.root={root}"]).dataset
    dataset.fetch()
    table = dataset.recordings().sort_values("recording_id")
    turn = table.groupby("primary_label").cumcount()
    table = table.assign(turn=turn).sort_values(["turn", "primary_label"])  # each share has as much of every label
    originals = [
        (str(path), label, soundfile.info(str(path)).duration / 3600)
        for path, label in zip(table.path, table.primary_label, strict=True)
    ]
    files: list[tuple[Path, float]] = []
    while sum(length for _, length in files) < hours:
        path, label, length = originals[len(files) % len(originals)]
        copy = folder / "copies" / label / f"{len(files):05}.ogg"
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            with written_beside(copy) as beside:
                beside.write_bytes(ogg._with_serial(Path(path).read_bytes(), 2 + len(files)))
        files.append((copy, length))
    return files


def _share(files: Sequence[tuple[Path, float]], hours: float, folder: Path) -> tuple[Path, float]:
    """A folder with the first recordings that make so many hours, and their exact length."""
    shutil.rmtree(folder, ignore_errors=True)
    held = 0.0
    for path, length in files:
        if held >= hours:
            break
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(path, folder / path.parent.name / path.name)
        held += length
    return folder, held


def _long(files: Sequence[tuple[Path, float]], hours: float, folder: Path) -> Path:
    """A folder with one recording of so many hours."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "one").mkdir(parents=True)
    parts = [soundfile.read(path, dtype="int16")[0] for path, _ in files[:20]]
    _, rate = soundfile.read(files[0][0], frames=0)
    left = round(hours * 3600 * rate)
    with soundfile.SoundFile(folder / "one" / "long.wav", "w", rate, 1, subtype="PCM_16") as file:
        while left > 0:
            for part in parts:
                file.write(part[:left])
                left -= len(part[:left])
    return folder


def _prepared(root: Path, hours: float, place: Path, *overrides: str, one_thread: bool = False) -> dict[str, float]:
    """Prepare a folder from nothing: CPU seconds (starting included) and peak memory in MB.

    ``one_thread``: with BLAS kept to one thread in each process, rather than as many as there are cores.
    """
    shutil.rmtree(place / "prepared", ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    (place / ".prepared.journal.jsonl").unlink(missing_ok=True)
    words = ["dataset=folder", f"dataset.root={root}", f"paths.prepared={place / 'prepared'}", *overrides]
    say(f"{hours:6.2f} h: {' '.join(overrides)} …")
    free = {name: value for name, value in os.environ.items() if name not in _THREADS}
    environment = free | {"PYTHONPATH": str(ROOT)} | (dict.fromkeys(_THREADS, "1") if one_thread else {})
    process = subprocess.Popen(
        [sys.executable, "-m", "training.prepare", *words], cwd=place, env=environment, stdout=subprocess.DEVNULL
    )
    peaks = _Peaks(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    main_kb, worker_kb = peaks.stop()
    if process.returncode:
        sys.exit(f"labous: error: training.prepare ended with {process.returncode}; see what it says above.")
    return {
        "hours": hours,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "main_rss_mb": main_kb / 1024,
        "worker_rss_mb": worker_kb / 1024,
    }


class _Peaks:
    """The peak memory (kB) of a process, and the largest of those that it started.

    The kernel keeps the peak for as long as a process lives: looking now and then misses only what the last moments
    add. Usage as wait4 gives it would not do, as a new process inherits the peak of the one that forked it.
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._peaks, self._stopped = pid, {pid: 0}, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> tuple[int, int]:
        self._stopped.set()
        self._thread.join()
        return self._peaks.pop(self._pid), max(self._peaks.values(), default=0)

    def _watch(self) -> None:
        while not self._stopped.wait(0.1):
            waiting = [self._pid]
            while waiting:
                pid = waiting.pop()
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                    waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                except OSError:
                    continue
                peak = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
                self._peaks[pid] = max(peak, self._peaks.get(pid, 0))


def _figures(
    growth: list[dict[str, float]], lengths: list[dict[str, float]], rounds: dict[str, list[float]], workers: int
) -> dict[str, Any]:
    hours, cost = (np.array([row[name] for row in growth]) for name in ("hours", "cpu_seconds"))
    slope, start = np.polyfit(hours, cost, 1) if len(growth) > 1 else (cost[0] / hours[0], 0.0)
    fit = slope * hours + start
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "workers": workers,
        "growth": growth,
        "cpu_seconds_per_hour": float(slope),
        "cpu_seconds_to_start": float(start),
        "largest_deviation_from_the_line": float(np.abs(cost / fit - 1).max()),
        "lengths": lengths,
        "backends": {
            name: {"cpu_seconds_per_hour": costs, "min": min(costs), "median": statistics.median(costs)}
            for name, costs in rounds.items()
        },
        "librosa_over_native": _ratio(rounds["librosa"], rounds["native"]),
        "librosa_over_native_one_thread": _ratio(rounds[f"librosa{_ONE_THREAD}"], rounds[f"native{_ONE_THREAD}"]),
    }


def _ratio(librosa: list[float], native: list[float]) -> dict[str, float]:
    return {
        "min": min(librosa) / min(native),
        "median": statistics.median(librosa) / statistics.median(native),
    }


def _tell(found: dict[str, Any]) -> None:
    for title, rows in (
        ("many recordings, native", found["growth"]),
        ("one recording, native", found["lengths"]),
    ):
        table = Table(title=title, title_justify="left")
        for column in ("hours", "CPU s", "CPU s an hour", "peak MB, main", "peak MB, worker"):
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(
                f"{row['hours']:.2f}",
                f"{row['cpu_seconds']:.1f}",
                f"{row['cpu_seconds'] / row['hours']:.1f}",
                f"{row['main_rss_mb']:.0f}",
                f"{row['worker_rss_mb']:.0f}",
            )
        console.print(table)
    line = f"{found['cpu_seconds_per_hour']:.2f} CPU s an hour and {found['cpu_seconds_to_start']:.1f} s to start"
    say(f"a line of {line} is at most {100 * found['largest_deviation_from_the_line']:.1f} % off")
    table = Table(title="hours prepared per CPU-hour", title_justify="left")
    for column in ("backend", "best", "median"):
        table.add_column(column, justify="left" if column == "backend" else "right")
    for name, row in found["backends"].items():
        table.add_row(name, f"{3600 / row['min']:.0f}", f"{3600 / row['median']:.0f}")
    for threads, name in (("", "librosa_over_native"), (_ONE_THREAD, "librosa_over_native_one_thread")):
        table.add_row(f"native to librosa{threads}", *(f"{found[name][kind]:.2f}" for kind in ("min", "median")))
    console.print(table)


def _plot(found: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    cost, memory = figure.subplots(1, 2)
    growth, lengths = found["growth"], found["lengths"]
    hours = [row["hours"] for row in growth]
    cost.plot(hours, [row["cpu_seconds"] for row in growth], "o", label="measured")
    ends = np.array([0.0, max(hours)])
    line = found["cpu_seconds_per_hour"] * ends + found["cpu_seconds_to_start"]
    cost.plot(ends, line, "-", color="0.6", zorder=0, label=f"{found['cpu_seconds_per_hour']:.1f} s an hour")
    cost.set(xlabel="hours of audio", ylabel="CPU seconds", xlim=(0, None), ylim=(0, None), title="Cost")
    cost.legend(frameon=False)
    memory.plot(hours, [row["worker_rss_mb"] for row in growth], "o-", label="largest worker, many recordings")
    memory.plot(hours, [row["main_rss_mb"] for row in growth], "s-", label="main process, many recordings")
    one = [row["hours"] for row in lengths]
    memory.plot(one, [row["worker_rss_mb"] for row in lengths], "^--", label="largest worker, one recording")
    top = 1.1 * max(row["worker_rss_mb"] for row in [*growth, *lengths])
    memory.set(xlabel="hours of audio", ylabel="peak memory, MB", xlim=(0, None), ylim=(0, top), title="Memory")
    memory.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
