"""The benchmark of an imported BirdNET ends well on a small model; where it has nothing to compare, it says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_birdnet import NOT_BIRDS, write_birdnet

pytestmark = pytest.mark.tensorflow

ROOT = Path(__file__).resolve().parents[2]


def bench(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training.bench.birdnet", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_every_table_is_made_and_the_figures_written(tmp_path: Path) -> None:
    source = write_birdnet(tmp_path / "source")
    (tmp_path / "sound").mkdir()
    rng = np.random.default_rng(3)
    for n in range(3):
        soundfile.write(tmp_path / "sound" / f"{n}.wav", rng.normal(0, 0.1, 30000 + 1000 * n), 24000)
    out = tmp_path / "birdnet.json"
    done = bench(
        f"--source={source}",
        "--species=all",
        f"--recordings={tmp_path / 'sound'}",
        "--rounds=2",
        f"--out={out}",
        f"--set={NOT_BIRDS}",
        "--spans",
        1,
        2,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert figures["max_score_difference"] <= 1e-5
    assert figures["top1_equal"] == 1
    assert figures["bundle_mb"] > 0
    assert figures["cpu_ratio_litert"] > 0
    assert "cpu_ratio_tflite_runtime" in figures
    rows = [(row["shifts"], row["span_ms"]) for row in figures["phase"]]
    assert rows == [(1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 2), (8, 2)]
    engines = {row["engine"]: row for row in figures["engines"]}
    assert engines["onnxruntime"]["bundle"].startswith("ok")
    assert not engines["onnxruntime"]["original"].startswith("ok")


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_nothing_to_compare_is_said_in_a_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    done = bench("--source=nowhere", f"--recordings={tmp_path / place}", f"--out={tmp_path / 'birdnet.json'}")
    assert done.returncode == 1
    assert done.stderr.startswith("labous: error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "birdnet.json").exists()
