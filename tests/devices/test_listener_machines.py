"""The executable on every machine that it is built for gives the wheel's answers, natively or in qemu."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from labous import Bundle
from melspec_cpp import boards
from tests.devices import emulation
from tests.training import listening
from training.aot.hearing import build_listener, link_program
from training.bench.instructions import COUNTED, counts, executed
from training.datasets.demo.recipe import VOICES
from training.datasets.demo.synth import Bird

pytestmark = pytest.mark.slow

DEMO = Path(__file__).resolve().parents[2] / "outputs" / "bundle"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return listening.litert(listening.write_bundle(tmp_path_factory.mktemp("machines") / "bundle"))


def garden(rate: int, seconds: float) -> np.ndarray:
    """float32 [n_samples] of birds of the demo, one after the other, over noise."""
    rng = np.random.default_rng(5)
    samples = 0.003 * rng.standard_normal(round(rate * seconds)).astype(np.float32)
    for number, song in enumerate(VOICES.values()):
        sung = np.asarray(song(Bird(number), rng), np.float32)[: 3 * rate]
        at = min(number * 2 * rate, len(samples) - len(sung))
        samples[at : at + len(sung)] += 0.3 * sung / np.abs(sung).max()
    return samples.clip(-1, 1)


def check(machine: str, program: Path, bundle: Bundle, path: Path, *options: str, **same: float | None) -> int:
    """Compares a file's lines, and those of its bytes through a pipe; how many there are."""
    expected = listening.wheel_lines(bundle, path, **same)
    for given, name in ((b"", str(path)), (path.read_bytes(), "-")):
        done = emulation.run(machine, program, given, *options, name)
        assert done.returncode == 0, done.stderr
        listening.compare(done.stdout.decode().replace('"-"', json.dumps(str(path))), expected)
    return len(expected)


@pytest.mark.parametrize("machine", boards.MACHINES)
def test_machines(machine: str, bundle: Bundle, tmp_path: Path) -> None:
    emulation.require(machine, what="the executable")
    program, path = tmp_path / "labous", tmp_path / "r.wav"
    build_listener(bundle, machine, program)
    formats: Sequence[tuple[str, int]] = (("PCM_16", 1), ("PCM_24", 2), ("PCM_32", 9), ("FLOAT", 3))
    for subtype, channels in formats:
        soundfile.write(path, listening.sound(5 * listening.WINDOW + 700, channels), listening.RATE, subtype=subtype)
        assert check(machine, program, bundle, path) > 5
    assert check(machine, program, bundle, path, "--overlap=0.37", "--min-score=0", overlap=0.37, min_score=0) > 10
    done = emulation.run(machine, program, path.read_bytes()[:-4])
    assert done.returncode == 1 and b"is cut short: it holds 968396 of 968400 bytes of sound" in done.stderr


@pytest.mark.parametrize("machine", boards.MACHINES)
def test_the_demo_bundle_hears_its_birds(machine: str, tmp_path: Path) -> None:
    emulation.require(machine, what="the executable")
    if not DEMO.is_dir():
        pytest.skip("the executable of a real model is not tested: there is no bundle in outputs; run make train")
    bundle = listening.litert(DEMO)
    program, path = tmp_path / "labous", tmp_path / "garden.wav"
    build_listener(bundle, machine, program)
    rate = bundle.frontend.sample_rate
    soundfile.write(path, garden(rate, 31.7), rate, subtype="PCM_16")
    assert check(machine, program, bundle, path) >= 5


@pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
def test_instructions_are_counted(machine: str, bundle: Bundle, tmp_path: Path) -> None:
    """Each further window costs the same to some dozens of instructions, and each further run of the model."""
    emulation.require(machine, what="counting instructions")
    mel, model = counts(machine, bundle)
    program = tmp_path / "counted"
    link_program(bundle, machine, (COUNTED,), program)
    two, four, with_two = executed(machine, program, ("2", "0"), ("4", "0"), ("4", "2"))
    assert abs(four - two - 2 * (mel + model)) < 200 and abs(with_two - four - 2 * model) < 200
    assert mel > 20 * bundle.frontend.window_samples and model > 2 * bundle.frontend.n_mels * bundle.frontend.n_frames
