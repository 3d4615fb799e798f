"""What a model ahead of time costs beside LiteRT: ``python -m training.bench.aot BUNDLE …`` prints tables of each.

Of a bundle there are two: of its float32 model, and of the way from samples to logits, where hear.wasm stands beside
the wheel's melspec.wasm and LiteRT. Of a .tflite file there is the first.

Every engine takes the same window in turn, on one thread, so that a busy machine is busy for all of them; compare the
minima. Pin it to a core (``taskset -c 0``). The library is this machine's baseline; on x86-64 there is one for AVX2 and
fused multiply-adds as well, to see what vectors of eight floats are worth.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from labous import Bundle
from training.aot.build import WASM, build_model
from training.aot.hearing import build_hear, float32_model
from training.config import told_in_a_sentence
from training.console import console

Prepared = tuple[Callable[[], object], Callable[[], NDArray[np.float32]]]
"""How to compute once, and how to read the logits of it."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.bench.aot", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", nargs="+", type=Path, help="bundles, or float32 .tflite files")
    parser.add_argument("--rounds", type=int, default=100, help="windows for each engine")
    told = parser.parse_args()
    with told_in_a_sentence():
        for path in told.model:
            if path.is_file() and path.suffix != ".zip":
                console.print(measured(path.read_bytes(), told.rounds, str(path)))
                continue
            bundle = Bundle.read(path, engine="litert")
            console.print(measured(float32_model(bundle), told.rounds, f"{path}: the model"))
            console.print(measured_whole(bundle, told.rounds, f"{path}: samples to logits"))


def measured(tflite: bytes, rounds: int, title: str) -> Table:
    """The table of one model."""
    with tempfile.TemporaryDirectory(prefix="labous-bench-") as folder:
        places = {"LiteRT": Path(folder) / "model.tflite"}
        places["LiteRT"].write_bytes(tflite)
        run, read, mel = _litert(tflite)
        engines: dict[str, Prepared] = {"LiteRT": (run, read)}
        builds: dict[str, tuple[str, str | None, int | None]] = {platform.machine(): (platform.machine(), None, None)}
        if platform.machine() == "x86_64":
            builds["x86_64_v3"] = ("x86_64", "x86_64_v3", 8)
        for name, (target, cpu, lanes) in builds.items():
            places[name] = Path(folder) / f"libmodel-{name}.so"
            build_model(tflite, target, places[name], cpu=cpu, lanes=lanes)
            engines[name] = _library(places[name], mel)
        places["Wasmtime"] = Path(folder) / "model.wasm"
        build_model(tflite, WASM, places["Wasmtime"])
        engines["Wasmtime"] = _module(places["Wasmtime"], mel)
        sizes = {name: place.stat().st_size for name, place in places.items()}
        return _table(engines, sizes, rounds, title)


def measured_whole(bundle: Bundle, rounds: int, title: str) -> Table:
    """The table of a whole bundle: mel and model of one window, in Wasmtime and the wheel's way."""
    samples = np.random.default_rng(0).normal(0, 0.1, bundle.frontend.window_samples).astype(np.float32)
    mel, model = bundle.mel, bundle.model
    logits = np.zeros(len(bundle.labels), np.float32)

    def wheel() -> None:
        logits[:] = model.predict(mel(samples)).ravel()

    engines: dict[str, Prepared] = {"LiteRT, with melspec.wasm": (wheel, lambda: logits)}
    with tempfile.TemporaryDirectory(prefix="labous-bench-") as folder:
        place = Path(folder) / "hear.wasm"
        build_hear(bundle, place)
        sizes = {
            "LiteRT, with melspec.wasm": len(float32_model(bundle)) + len(bundle.files[bundle.manifest.mel.file]),
            "hear.wasm": place.stat().st_size,
        }
        engines["hear.wasm"] = _hear(place, samples)
    return _table(engines, sizes, rounds, title)


def _table(engines: dict[str, Prepared], sizes: dict[str, int], rounds: int, title: str) -> Table:
    """The first engine is what the others are compared with."""
    times = _interleaved({name: run for name, (run, _) in engines.items()}, rounds)
    first = next(iter(engines))
    table = Table("engine", "bytes", "min, ms", "median, ms", "× LiteRT's min", "largest difference", title=title)
    for name, (_, logits) in engines.items():
        fastest, usual = 1000 * min(times[name]), 1000 * float(np.median(times[name]))
        ratio = min(times[name]) / min(times[first])
        difference = float(np.abs(logits() - engines[first][1]()).max())
        cells = f"{sizes[name]:,}", f"{fastest:.3f}", f"{usual:.3f}", f"{ratio:.2f}", f"{difference:.2g}"
        table.add_row(name, *cells)
    return table


def _interleaved(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()  # the caches are this engine's again
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return times


def _litert(tflite: bytes) -> tuple[Callable[[], object], Callable[[], NDArray[np.float32]], NDArray[np.float32]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite, num_threads=1)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    mel = np.random.default_rng(0).uniform(-2, 3, source["shape"]).astype(np.float32)
    interpreter.set_tensor(source["index"], mel)
    return interpreter.invoke, lambda: interpreter.get_tensor(sink["index"]).ravel(), mel


def _library(place: Path, mel: NDArray[np.float32]) -> Prepared:
    library = ctypes.CDLL(str(place))
    arena = np.zeros(library.labous_model_arena_bytes() // 4 + 16, np.float32)
    arena = arena[-arena.ctypes.data % 64 // 4 :]
    logits = np.zeros(library.labous_model_outputs(), np.float32)
    call = library.labous_model_run
    call.argtypes = [ctypes.c_void_p] * 3
    addresses = [array.ctypes.data for array in (mel, logits, arena)]

    def run(keep: tuple[NDArray[np.float32], ...] = (mel, arena)) -> int:
        return call(*addresses)

    return run, lambda: logits


def _hear(place: Path, samples: NDArray[np.float32]) -> Prepared:
    import wasmtime

    store = wasmtime.Store()
    exports = wasmtime.Instance(store, wasmtime.Module.from_file(store.engine, str(place)), []).exports(store)
    names = ("", "_open", "_samples", "_logits", "_labels")
    found = {name: f for name in names if isinstance(f := exports[f"labous_hear{name}"], wasmtime.Func)}
    memory = exports["memory"]
    assert isinstance(memory, wasmtime.Memory)
    found["_open"](store)
    at = found["_logits"](store)
    hear, room, end = found[""], found["_samples"](store), at + 4 * found["_labels"](store)
    content = samples.tobytes()

    def run() -> None:
        memory.write(store, content, room)
        hear(store)

    return run, lambda: np.frombuffer(memory.read(store, at, end), np.float32)


def _module(place: Path, mel: NDArray[np.float32]) -> Prepared:
    import wasmtime

    store = wasmtime.Store()
    exports = wasmtime.Instance(store, wasmtime.Module.from_file(store.engine, str(place)), []).exports(store)
    found = {name: exports[f"labous_model_{name}"] for name in ("memory", "arena_bytes", "inputs", "outputs", "run")}
    memory, call = exports["memory"], {name: f for name, f in found.items() if isinstance(f, wasmtime.Func)}
    assert isinstance(memory, wasmtime.Memory)
    arena = call["memory"](store)
    mel_at = arena + -(-call["arena_bytes"](store) // 64) * 64
    logits_at = mel_at + -(-4 * call["inputs"](store) // 64) * 64
    end = logits_at + 4 * call["outputs"](store)
    memory.write(store, mel.tobytes(), mel_at)
    run = call["run"]
    return (
        lambda: run(store, mel_at, logits_at, arena),
        lambda: np.frombuffer(memory.read(store, logits_at, end), np.float32),
    )


if __name__ == "__main__":
    main()
