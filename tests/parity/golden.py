"""Committed vectors of the mel stage: ``python tests/parity/golden.py check|write``.

golden/inputs.npz holds three clips of 8000 samples at 32 kHz (int16; divided by 32768 they are the samples), and
golden/<front end>.npz, for every front end of conf/frontend, what the mel stage makes of each clip:

    <clip>.power   float32 [n_mels, n_frames]   mel power
    <clip>.scaled  float32 [n_mels, n_frames]   what a model sees

``check`` computes them again, natively and as WebAssembly, which must give the same bits, and with librosa in float64,
which must lie within the bounds of training.parity. ``write`` replaces the files after a deliberate change of a front
end; it refuses what librosa does not confirm. Same inputs, same files, byte for byte.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from labous.frontend import Frontend
from labous.mel import MelSpectrogram, NativeEngine, WasmEngine
from training.features import EXACT_LIBRARY, LibrosaMel, conf_frontends
from training.files import write_bytes
from training.parity import DECIBEL_BOUND, POWER_BOUND, power_error
from training.signals import hard_signals

FOLDER = Path(__file__).resolve().parent / "golden"
CLIPS = ("noise", "mixture", "offset and weak bird")
RATE, LENGTH = 32_000, 8_000

Vectors = dict[str, np.ndarray]


def make_inputs() -> Vectors:
    """The clips, int16 [LENGTH]."""
    signals = hard_signals(RATE, LENGTH)
    return {name: np.round(np.clip(signals[name], -1, 1) * 32767).astype(np.int16) for name in CLIPS}


def compute(mel: MelSpectrogram, inputs: Vectors) -> Vectors:
    """What the mel stage makes of the clips."""
    found = {}
    for name, clip in inputs.items():
        samples = clip.astype(np.float32) / 32768
        found[f"{name}.power"], found[f"{name}.scaled"] = mel.power(samples), mel(samples)
    return found


def against_librosa(frontend: Frontend, inputs: Vectors, vectors: Vectors) -> list[str]:
    """Where vectors are further from librosa in float64 than the bounds, a phrase each."""
    exact, found = LibrosaMel(frontend, np.float64), []
    for name, clip in inputs.items():
        samples = clip.astype(np.float32) / 32768
        error = power_error(vectors[f"{name}.power"], exact.power(samples))
        decibels = float(np.max(np.abs(vectors[f"{name}.scaled"] - exact(samples)))) / abs(frontend.db_scale)
        if not error <= POWER_BOUND:
            found.append(f"{name}: power differs from librosa's by {error:.1e}")
        if not decibels <= DECIBEL_BOUND:
            found.append(f"{name}: decibels differ from librosa's by {decibels:.1e}")
    return found


def load(name: str) -> Vectors:
    """The committed arrays of one file."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def _save(name: str, vectors: Vectors) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **vectors)
    write_bytes(FOLDER / f"{name}.npz", buffer.getvalue())


def check(say: Callable[[str], object] = print) -> int:
    """Compare everything with what is committed; returns the number of complaints."""
    inputs, complaints = load("inputs"), 0
    for name, frontend in conf_frontends().items():
        committed = load(name)
        found = against_librosa(frontend, inputs, committed)
        for build, engine in {"native": NativeEngine(EXACT_LIBRARY), "wasm": WasmEngine()}.items():
            computed = compute(MelSpectrogram(frontend, engine), inputs)
            found += [
                f"{key}: {build} gives other bits"
                for key in sorted(computed.keys() | committed.keys())
                if key not in computed or key not in committed or computed[key].tobytes() != committed[key].tobytes()
            ]
        say(f"{name:<10}{'as committed' if not found else '; '.join(found)}")
        complaints += len(found)
    return complaints


def write(say: Callable[[str], object] = print) -> int:
    """Replace the committed files; returns the number of complaints, and writes nothing where there are any."""
    inputs = make_inputs()
    made, complaints = {}, []
    for name, frontend in conf_frontends().items():
        made[name] = compute(MelSpectrogram(frontend), inputs)
        complaints += [f"{name}, {complaint}" for complaint in against_librosa(frontend, inputs, made[name])]
    for complaint in complaints:
        say(f"Not written: {complaint}.")
    if not complaints:
        for name, vectors in {"inputs": inputs, **made}.items():
            _save(name, vectors)
            say(f"{name:<10}{(FOLDER / f'{name}.npz').stat().st_size:>8} bytes")
    return len(complaints)


def main(arguments: list[str]) -> int:
    """The command line; returns the exit status."""
    if arguments not in (["check"], ["write"]):
        print(__doc__, file=sys.stderr)
        return 2
    return 1 if (check() if arguments == ["check"] else write()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
