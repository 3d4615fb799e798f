"""What the tests of hear.wasm and of the executable share: a bundle with all of scoring, and the wheel's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from labous import Bundle, load
from labous.formats import json_line, rounded
from tests.runtime import audio, bundles

RATE, WINDOW = bundles.FRONTEND.sample_rate, bundles.FRONTEND.window_samples
TOLERANCE = 1e-5
LABELS = (
    'eurrob1,Erithacus rubecula,"European ""Robin""",Rougegorge familier',
    "comcuc,Cuculus canorus,Common Cuckoo??/,Coucou gris",
    "winwre4,Troglodytes troglodytes,Eurasian\\Wren,Troglodyte mignon 1",
    'hergul,Larus argentatus,"Gull, Herring",Goéland argenté 海鸥🐦',
)


def write_bundle(directory: Path, synthetic: bool = False, neighbor_weight: float = 0.2, offset: float = 0.2) -> Path:
    """The runtime's test bundle with smoothing, calibrations and thresholds that differ, and names to escape."""
    bundles.write_bundle(directory)
    header = "ebird_code,scientific_name,common_name,french_name\n"
    (directory / "labels.csv").write_text(header + "".join(f"{row}\n" for row in LABELS), encoding="utf-8")
    manifest = bundles.manifest(synthetic)
    codes = list(manifest["detection"]["thresholds"])
    manifest["detection"] = {
        "thresholds": {code: 0.31 + 0.1 * i for i, code in enumerate(codes)},
        "calibration": {code: {"scale": 0.07 + 0.03 * i, "offset": offset - 0.3 * i} for i, code in enumerate(codes)},
        "smoothing": {"neighbor_weight": neighbor_weight},
        "confirmation": {"hits": 1, "windows": 1},
    }
    bundles.write_manifest(directory, manifest)
    return directory


def litert(directory: Path) -> Bundle:
    """A bundle as the wheel opens it where everything can be installed."""
    return load(directory, engine="litert")


def wheel_lines(bundle: Bundle, path: Path, **options: Any) -> list[str]:
    """What ``labous analyze --format jsonl`` writes of a recording."""
    return [json_line(rounded(detection)) for detection in bundle.analyze(path, **options)]


def compare(written: str, expected: list[str]) -> None:
    """Lines that are the same text, but for scores, which may differ by TOLERANCE."""
    lines = written.splitlines(keepends=True)
    assert len(lines) == len(expected), f"{len(lines)} lines in place of {len(expected)}"
    for line, other in zip(lines, expected, strict=True):
        head, _, score = line.rpartition(' "score": ')
        assert head == other.rpartition(' "score": ')[0]
        assert abs(json.loads(line)["score"] - json.loads(other)["score"]) <= TOLERANCE
        assert score == f"{json.dumps(json.loads(score[:-2]))}}}\n"  # a number as Python writes it


def sound(n_samples: int, channels: int = 1, seed: int = 3) -> np.ndarray:
    """float32 [n_samples, channels] at RATE."""
    return audio.noise(n_samples / RATE, RATE, channels, seed)
