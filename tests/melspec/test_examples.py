"""The examples for strangers give, to the last bit, what labous computes from the same module."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from front_ends import PLAIN

from labous.mel import MelSpectrogram, WasmEngine
from melspec_cpp import build
from tests import crates

EXAMPLES = build.HERE / "examples"
SAMPLES = (0.1 * np.random.default_rng(5).standard_normal(32_000)).astype(np.float32)
ALL = ["node", "c", pytest.param("rust", marks=pytest.mark.slow)]


def run(command: Sequence[object], **options: object) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, **{"timeout": 60, **options})


@pytest.fixture(scope="module")
def node(built: dict[str, build.Target]) -> list[object]:
    if shutil.which("node") is None:
        crates.unavailable("NODE", "node is not installed")
    return ["node", EXAMPLES / "node.mjs", built["wasm"].path]


@pytest.fixture(scope="module")
def c(built: dict[str, build.Target], tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    program, folder = tmp_path_factory.mktemp("c") / "mel", built["native"].path.parent
    command = [sys.executable, "-m", "ziglang", "cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    command += ["-O2", "-g0", "-mcpu=baseline", "-fno-sanitize=all"]  # the compiler keeps its own parts for these
    command += ["-I../include", "mel.c", f"-L{folder}", "-lmelspec", f"-Wl,-rpath,{folder}", "-o", str(program)]
    done = run(command, cwd=EXAMPLES, env=build.environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    return [program]


@pytest.fixture(scope="module")
def rust(built: dict[str, build.Target]) -> list[object]:
    return [crates.program(EXAMPLES / "rust", "melspec-example"), built["wasm"].path]


@pytest.mark.parametrize("language", ALL)
def test_the_same_bits(language: str, request: pytest.FixtureRequest, wasm: WasmEngine, tmp_path: Path) -> None:
    given, written = tmp_path / "samples.f32", tmp_path / "out.f32"
    SAMPLES.tofile(given)
    done = run([*request.getfixturevalue(language), given, written])
    assert (done.returncode, done.stdout) == (0, "64 62\n"), done.stderr
    mel = MelSpectrogram(PLAIN, wasm)
    expected = mel(SAMPLES) if language == "rust" else mel.decibels(SAMPLES)
    assert written.read_bytes() == expected.tobytes()


@pytest.mark.parametrize("language", ALL)
def test_a_refusal_is_the_modules_sentence(language: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    given, written = tmp_path / "samples.f32", tmp_path / "out.f32"
    np.where(np.arange(SAMPLES.size) == 7, np.nan, SAMPLES).astype(np.float32).tofile(given)
    done = run([*request.getfixturevalue(language), given, written])
    assert done.returncode != 0 and done.stdout == ""
    assert "a sample is NaN or infinite (-24)" in done.stderr
    assert not written.exists()


@pytest.mark.slow
def test_rust_bounds_the_modules_memory(rust: list[object], tmp_path: Path) -> None:
    given, written = tmp_path / "samples.f32", tmp_path / "out.f32"
    with given.open("wb") as file:
        file.truncate(300 << 20)
    done = run([*rust, given, written])
    assert done.returncode != 0 and f"no room for {300 << 20} bytes" in done.stderr
    assert not written.exists()


@pytest.mark.parametrize("chunk", [77, 441, 400_001])
def test_a_stream_in_node(chunk: int, node: list[object], wasm: WasmEngine, tmp_path: Path) -> None:
    """Windows of 5 s every second over a little more than 12 s; the largest chunk is more than a stream holds."""
    samples = (0.1 * np.random.default_rng(6).standard_normal(12 * 32_000 + 777)).astype(np.float32)
    given, written = tmp_path / "samples.f32", tmp_path / "out.f32"
    samples.tofile(given)
    done = run(["node", EXAMPLES / "node-stream.mjs", node[-1], given, written, chunk])
    assert (done.returncode, done.stdout.split()) == (0, [str(second) for second in range(8)]), done.stderr
    mel = MelSpectrogram(dataclasses.replace(PLAIN, window_seconds=5.0), wasm)
    expected = [mel(samples[32_000 * second :][: 5 * 32_000]) for second in range(8)]
    assert written.read_bytes() == np.stack(expected).tobytes()
