"""Speed and error of the mel stage beside librosa: ``python melspec_cpp/bench/bench_mel.py``.

Five seconds at 32 kHz to decibels, copies in and out counted, one thread, the candidates taking turns so that what
else the machine does hits all alike. Ratios are librosa's least time over a build's least time. Prints a table and
writes bench/mel.json: ``ratio_to_librosa.<build>.<setting>``, ``milliseconds.<build>.<setting>.{min,median}`` and
``error.<build>.<setting>`` (largest relative power error against librosa in float64, bins above 1e-8 of the peak).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Before numpy's libraries start their threads.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from labous.frontend import Frontend  # noqa: E402
from labous.mel import MelSpectrogram, NativeEngine, WasmEngine  # noqa: E402
from training.features import NATIVE_LIBRARY, LibrosaMel, librosa_arguments  # noqa: E402
from training.parity import power_error  # noqa: E402

SETTINGS = {"A": (2048, 512, 128), "B": (1024, 320, 64), "C": (2048, 320, 128)}  # n_fft, hop_length, n_mels
SCALAR_MODULE = ROOT / "melspec_cpp" / "build" / "melspec-scalar.wasm"

_BASE = Frontend(
    sample_rate=32000, window_seconds=5.0, n_fft=2048, win_length=2048, hop_length=512, window="hann", center=True,
    pad_mode="constant", power=2.0, n_mels=128, f_min=0.0, f_max=16000.0, mel_scale="slaney", mel_norm="slaney",
    amin=1e-10, ref=1.0, top_db=None, db_offset=0.0, db_scale=1.0,
)  # fmt: skip


def candidates(frontend: Frontend) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What takes part, each from samples to decibels."""
    import librosa

    arguments = librosa_arguments(frontend)
    bank = librosa.filters.mel(**arguments["filters"])
    stft = {key: arguments["melspectrogram"][key]
            for key in ("n_fft", "hop_length", "win_length", "window", "center", "pad_mode")}  # fmt: skip

    def cached(samples: np.ndarray) -> np.ndarray:
        spectrum = np.abs(librosa.stft(samples, **stft)) ** 2
        return librosa.power_to_db(np.einsum("ft,mf->mt", spectrum, bank, optimize=True), **arguments["decibels"])

    return {
        "librosa": LibrosaMel(frontend).decibels,
        "librosa, bank cached": cached,
        "wasm": MelSpectrogram(frontend, WasmEngine()).decibels,
        "wasm scalar": MelSpectrogram(frontend, WasmEngine(SCALAR_MODULE.read_bytes())).decibels,
        "native": MelSpectrogram(frontend, NativeEngine(NATIVE_LIBRARY)).decibels,
    }


def measure(rounds: int) -> dict[str, dict[str, dict[str, object]]]:
    """Times and errors of every candidate at every setting."""
    samples = np.random.default_rng(20210601).standard_normal(_BASE.window_samples).astype(np.float32) * 0.1
    times: dict[str, dict[str, list[float]]] = {}
    errors: dict[str, dict[str, float]] = {}
    for setting, (n_fft, hop, mels) in SETTINGS.items():
        frontend = dataclasses.replace(_BASE, n_fft=n_fft, win_length=n_fft, hop_length=hop, n_mels=mels)
        runners = candidates(frontend)
        exact = LibrosaMel(frontend, np.float64).power(samples)
        for name, mel in (
            ("librosa", LibrosaMel(frontend)),
            ("wasm", MelSpectrogram(frontend, WasmEngine())),
            ("native", MelSpectrogram(frontend, NativeEngine(NATIVE_LIBRARY))),
        ):
            errors.setdefault(name, {})[setting] = power_error(mel.power(samples), exact)
        for run in runners.values():
            run(samples)
        for _ in range(rounds):
            for name, run in runners.items():
                start = time.perf_counter()
                run(samples)
                times.setdefault(name, {}).setdefault(setting, []).append(1e3 * (time.perf_counter() - start))
    return {
        "ratio_to_librosa": {
            name: {s: round(min(times["librosa"][s]) / min(t), 3) for s, t in by_setting.items()}
            for name, by_setting in times.items()
        },
        "milliseconds": {
            name: {s: {"min": round(min(t), 4), "median": round(float(np.median(t)), 4)} for s, t in by_setting.items()}
            for name, by_setting in times.items()
        },
        "error": {name: dict(by_setting) for name, by_setting in errors.items()},
    }


def table(result: dict[str, dict[str, dict[str, object]]]) -> str:
    """The ratios and times as aligned text."""
    lines = [f"{'':<22}" + "".join(f"{s + ' ratio':>10}{'min ms':>9}{'median':>9}" for s in SETTINGS)]
    for name, ratios in result["ratio_to_librosa"].items():
        cells = (f"{ratios[s]:>10.2f}{result['milliseconds'][name][s]['min']:>9.2f}"  # type: ignore[index]
                 f"{result['milliseconds'][name][s]['median']:>9.2f}" for s in SETTINGS)  # type: ignore[index]  # fmt: skip
        lines.append(f"{name:<22}" + "".join(cells))
    return "\n".join(lines)


def main() -> int:
    """Measures, prints and writes; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="turns per setting (default: 40)")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "mel.json")
    options = parser.parse_args()
    result = measure(options.rounds)
    print(table(result))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    beside = options.output.with_suffix(".tmp")
    machine = {"machine": platform.machine(), "python": platform.python_version()}
    beside.write_text(json.dumps({**result, **machine}, indent=2) + "\n", encoding="utf-8")
    beside.replace(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
