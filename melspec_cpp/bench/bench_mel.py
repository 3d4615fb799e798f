"""Speed of the mel stage beside librosa and others: ``python melspec_cpp/bench/bench_mel.py [--part PART]``.

One process, one thread, copies in and out counted, the candidates taking turns, so that what else the machine does hits
all alike. The parts, each with a module of its own here:

========  ==========================================================================================================
speed     5 s at 32 kHz to decibels, by librosa, the builds of the mel stage, and those of kaldi-native-fbank,
          audioflux and essentia that are installed (requirements-peers.lock)
startup   a fresh process until the wasm can be used, compiled anew and from the precompiled cache
streams   windows of 5 s every second, by a stream and computed anew
limit     the wasm's kernel beside what the core could do of its arithmetic, and what the rest of the time goes into
law       BirdNET's front end, 3 s at 48 kHz, by the builds of the mel stage and by numpy
========  ==========================================================================================================

Prints tables and writes bench/mel.json (bench/mel-PART.json for a single part), in which what part speed found lies at
the top: ``ratio_to_librosa.<candidate>.<setting>``, ``ratio_to_librosa_cached…`` and ``ratio_of_medians…``,
``milliseconds.<candidate>.<setting>.{min,median}`` and ``error.<candidate>.<setting>`` (largest relative power error
against librosa in float64, bins above 1e-8 of the peak, over the nine signals of training.signals).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

# Before numpy's libraries start their threads.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[1:1] = [str(ROOT), str(ROOT / "runtime" / "src")]

import law  # noqa: E402
import limit  # noqa: E402
import speed  # noqa: E402
import startup  # noqa: E402
import streams  # noqa: E402
from candidates import PACKAGED_MODULE  # noqa: E402
from peers import PEERS  # noqa: E402

from training.bench.circumstances import circumstances  # noqa: E402

PARTS = {
    "speed": (lambda options: speed.measure(options.rounds), speed.table),
    "startup": (lambda options: startup.measure(options.starts), startup.table),
    "streams": (lambda options: streams.measure(options.rounds), streams.table),
    "limit": (lambda options: limit.measure(options.rounds), limit.table),
    "law": (lambda options: law.measure(options.rounds), law.table),
}
"""Each part's measuring, from the command line's options to what goes into the JSON, and its table."""


def _circumstances() -> dict[str, Any]:
    return {
        **circumstances(("numpy", "scipy", "numba", "librosa", "wasmtime", *PEERS)),
        "wasm_sha256": hashlib.sha256(PACKAGED_MODULE.read_bytes()).hexdigest(),
    }


def main() -> int:
    """Measures, prints and writes; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", choices=list(PARTS), help="only this part (default: all)")
    parser.add_argument("--rounds", type=int, default=40, help="turns per setting, windows per stream (default: 40)")
    parser.add_argument("--starts", type=int, default=10, help="fresh processes of each kind (default: 10)")
    parser.add_argument("--output", type=Path, help="default: bench/mel.json, or bench/mel-PART.json")
    options = parser.parse_args()
    if min(options.rounds, options.starts) < 1:
        parser.error("--rounds and --starts must be at least 1")
    result: dict[str, Any] = {"rounds": options.rounds, "starts": options.starts, **_circumstances()}
    for name in [options.part] if options.part else PARTS:
        measure, table = PARTS[name]
        found = measure(options)
        print(f"{table(found)}\n", flush=True)
        result |= found if name == "speed" else {name: found}
    output = options.output or ROOT / "bench" / (f"mel-{options.part}.json" if options.part else "mel.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_suffix(".tmp")
    beside.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
