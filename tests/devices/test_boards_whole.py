"""Boards as a whole: the built wheel in Debian for each of them, emulated, from a recording to a server.

What they give is held against this machine's: the mel bit for bit, the logits, the detections. ``make test-devices``
runs it. LABOUS_BUNDLE names a bundle; without it, that of outputs/ is taken, or else the tests' own small one.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from labous.bundle import Bundle
from labous.recordings import read_blocks
from tests.devices import boards, roots
from tests.devices.emulation import REQUIRE_VARIABLE
from tests.runtime import bundles
from tests.station import pipelines
from tests.station.receiver import Receiver, receiving
from tests.wheels import ROOT, build
from training.config import compose

pytestmark = [pytest.mark.slow, pytest.mark.boards]

FLOAT32 = 1e-5
# int8 kernels round each their own way: on x86-64 by itself, XNNPACK's logits and those of TensorFlow Lite's own
# kernels lie up to two steps of the output apart (docs/adr/0010)
INT8_STEPS = 2
INT8_WITHIN_ONE = 0.97  # share of logits
PROBE = Path(__file__).with_name("probe.py")
SECONDS = 30  # of the recording
PYTHON = ("python3", "python3-pip", "libstdc++6")  # the last is in every Raspberry Pi OS
DEBIANS_OWN = (*PYTHON, "python3-numpy", "python3-soundfile")
LIBTENSORFLOW = "libtensorflow-lite2.14.1"
# what labous[litert,audio] needs on aarch64
WHEELS = (
    "ai-edge-litert", "cffi", "flatbuffers", "ml-dtypes", "numpy", "protobuf", "pycparser", "soundfile", "soxr",
    "tqdm", "typing-extensions", "wasmtime",
)  # fmt: skip
# whose locked version is for Python below 3.11, which uv does not mind, but pip does
FREE = ("backports-strenum<1.3",)
TAGS = (*(f"manylinux_2_{minor}_aarch64" for minor in range(28, 16, -1)), "manylinux2014_aarch64")
ARMV7L = ("manylinux_2_34_armv7l", "manylinux2014_armv7l")


@dataclasses.dataclass(frozen=True)
class Board:
    """A row of docs/devices.md.

    Attributes:
        debian: its root file system.
        wheels: of packages that are not Debian's, if any.
        extras: of labous, which name them.
        mel, engine: what ``labous check`` must say of the mel module and of the float32 model.
        int8: whether its engine runs the int8 model.
    """

    debian: roots.Debian
    wheels: roots.Wheels | None
    extras: str
    mel: str
    engine: str
    int8: bool


def _debian(suite: str, architecture: str, machine: str, *packages: str) -> roots.Debian:
    # pointer authentication, which qemu's default processor has, makes Python's start six times slower
    return roots.Debian(suite, architecture, machine, packages, "cortex-a72" if machine == "aarch64" else "")


def _aarch64(python: str) -> roots.Wheels:
    return roots.Wheels(WHEELS, FREE, ROOT / "requirements.lock", python, "aarch64", TAGS)


BOARDS = {
    "arm64-bookworm": Board(
        _debian("bookworm", "arm64", "aarch64", *PYTHON),
        _aarch64("3.11"), "[litert,audio]", "Wasmtime", "LiteRT (litert)", True,
    ),
    "arm64-trixie": Board(
        _debian("trixie", "arm64", "aarch64", *PYTHON),
        _aarch64("3.13"), "[litert,audio]", "Wasmtime", "LiteRT (litert)", True,
    ),
    "armhf-bookworm": Board(
        _debian("bookworm", "armhf", "armv7l", *DEBIANS_OWN),
        None, "", "native/armv7l/libmelspec.so", "(aot)", False,
    ),
    "armhf-bookworm-tflite-runtime": Board(
        _debian("bookworm", "armhf", "armv7l", *DEBIANS_OWN),
        roots.Wheels(("tflite-runtime",), (), ROOT / "requirements-tflite.lock", "3.11", "armv7l", ARMV7L),
        "[tflite]", "native/armv7l/libmelspec.so", "(tflite_runtime)", True,
    ),
    "riscv64-trixie": Board(
        _debian("trixie", "riscv64", "riscv64", *DEBIANS_OWN, "python3-soxr"),
        None, "", "native/riscv64/libmelspec.so", "(aot)", False,
    ),
    "riscv64-forky-libtensorflow": Board(
        _debian("forky", "riscv64", "riscv64", *DEBIANS_OWN, LIBTENSORFLOW),
        None, "", "native/riscv64/libmelspec.so", "(tflite_c)", True,
    ),
}  # fmt: skip


TESTED: set[str] = set()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that is removed at the end: roots are large."""
    folder = tmp_path_factory.mktemp("boards")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def bundle(scratch: Path) -> Path:
    """A bundle with libraries for the boards that need them."""
    given = Path(os.environ.get("LABOUS_BUNDLE") or ROOT / "outputs" / "bundle")
    place = scratch / "bundle"
    if given.is_dir():
        shutil.copytree(given, place)
        shutil.rmtree(place / "native", ignore_errors=True)
    else:
        bundles.write_bundle(place)
    boards.add_libraries(place, "armv7l", "riscv64")
    return place


@pytest.fixture(scope="module")
def recording(bundle: Path, scratch: Path) -> Path:
    """A demo soundscape, as a board without soundfile and soxr reads it."""
    made_of = {
        "root": scratch / "demo", "recordings_per_species": 1, "recordists_per_species": 1, "soundscape_files": 1,
        "soundscape_seconds": SECONDS,
    }  # fmt: skip
    dataset: Any = compose([f"dataset.{name}={value}" for name, value in made_of.items()]).dataset
    dataset.fetch(progress=False)
    (made,) = (scratch / "demo" / "train_soundscapes").iterdir()
    rate = Bundle.read(bundle).frontend.sample_rate
    samples = np.concatenate(list(read_blocks(made, rate)))
    soundfile.write(scratch / "20260501_041530.wav", samples, rate, "PCM_16")
    return scratch / "20260501_041530.wav"


@pytest.fixture(scope="module")
def wheel(scratch: Path) -> Path:
    return build(scratch / "dist")


def pipeline(folder: Path, recording: str, receiver: Receiver) -> Path:
    """A station that analyzes a recording and delivers what it hears."""
    overlap = 0.4 * Bundle.read(folder / "bundle").frontend.window_seconds
    url = f"http://127.0.0.1:{receiver.port}/detections"  # an unconfigured root knows no localhost
    return pipelines.write(
        folder,
        pipelines.node("file", path=f'"{recording}"', overlap=overlap),
        pipelines.MIDDLE,
        pipelines.node("http", url=f'"{url}"'),
    )


def delivered(receiver: Receiver) -> dict[tuple[str, str], float]:
    """The probability of each detection, by its species and its time."""
    data = [event["data"] for event in receiver.kept.values()]
    return {(told["taxonID"], told["eventDate"]): told["dynamicProperties"]["probability"] for told in data}


@dataclasses.dataclass(frozen=True)
class Expected:
    """What this machine makes of the recording."""

    arrays: dict[str, np.ndarray]
    detections: dict[tuple[str, str], float]
    int8_step: float


@pytest.fixture(scope="module")
def expected(bundle: Path, recording: Path, scratch: Path) -> Expected:
    folder = scratch / "here"
    folder.mkdir()
    (folder / "bundle").symlink_to(bundle)
    out = folder / "out.npz"
    done = subprocess.run(
        [sys.executable, PROBE, bundle, recording, out, "float32", "int8"],
        env=pipelines.environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with receiving() as receiver:
        ran = pipelines.run("run", pipeline(folder, str(recording), receiver))
        assert ran.returncode == 0, ran.stderr
        found = delivered(receiver)
    assert found, "nothing to compare: the bundle hears nothing in the recording"
    with np.load(out) as arrays:
        step = Bundle.read(bundle).manifest.golden.tolerance["int8"] / compose().evaluate.golden_int8_steps
        return Expected(dict(arrays), found, step)


def not_tested(told: str) -> None:
    """Say so, loudly where it was asked for."""
    if os.environ.get(REQUIRE_VARIABLE) == "1":
        pytest.fail(told)
    pytest.skip(told)


@pytest.mark.parametrize("name", BOARDS)
def test_a_board(name: str, bundle: Path, recording: Path, wheel: Path, expected: Expected, scratch: Path) -> None:
    board = BOARDS[name]
    if lacks := roots.missing(board.debian.machine):
        not_tested(f"{name} is not tested: it needs {', '.join(lacks)}")
    try:
        roots.kept(board.debian)
    except roots.UnavailableError as error:
        pytest.skip(f"{name} is not tested: {error}")
    TESTED.add(name)
    began = time.monotonic()
    with roots.root(board.debian, scratch) as root:
        install(root, board, wheel)
        installed = time.monotonic()
        found = heard(root, bundle, recording, "float32", *(("int8",) if board.int8 else ()))
        assert found["mel"].tobytes() == expected.arrays["mel"].tobytes()
        float32 = float(np.abs(found["logits_float32"] - expected.arrays["logits_float32"]).max())
        assert float32 <= FLOAT32
        checked(root, board)
        with receiving() as receiver:
            path = pipeline(root.place / "tmp/work", f"/tmp/work/{recording.name}", receiver)
            python(root, "-m", "labous", "run", f"/tmp/work/{path.name}", network=True)
            detections = delivered(receiver)
        assert detections.keys() == expected.detections.keys()
        assert max(abs(detections[key] - expected.detections[key]) for key in detections) < FLOAT32
    steps = steps_apart(found["logits_int8"], expected) if board.int8 else []
    print(
        f"\n{name}: mel of {len(found['mel'])} windows the same bits; float32 logits within {float32:.1g}; "
        + (f"int8 logits 0, 1, … steps apart: {steps}; " if board.int8 else "")
        + f"the same {len(detections)} detections; {installed - began:.0f} s to install, "
        f"{time.monotonic() - installed:.0f} s for the rest"
    )
    # last, so that the rest has been seen
    if board.int8:
        assert len(steps) <= 1 + INT8_STEPS and sum(steps[:2]) >= INT8_WITHIN_ONE * sum(steps), steps


def test_enough_boards_were_tested() -> None:
    """Every engine on every machine: a mirror out of order is no fault of ours, but not a proof either."""
    kept = sum(file.lstat().st_size for file in roots.cache().rglob("*") if not file.is_dir())
    print(f"\n{len(TESTED)} of {len(BOARDS)} boards; what is kept of them takes {kept / 1e6:.0f} MB")
    ways = {(board.debian.machine, board.engine) for board in BOARDS.values()}
    if {(BOARDS[name].debian.machine, BOARDS[name].engine) for name in TESTED} != ways:
        not_tested(f"Of the boards only {', '.join(sorted(TESTED)) or 'none'} were tested.")


def steps_apart(found: np.ndarray, expected: Expected) -> list[int]:
    """How many logits lie 0, 1, … steps beside this machine's."""
    steps = np.abs(found.astype(np.float64) - expected.arrays["logits_int8"]) / expected.int8_step
    return np.bincount(np.rint(steps).astype(int).ravel()).tolist()


def heard(root: roots.Root, bundle: Path, recording: Path, *precisions: str) -> dict[str, np.ndarray]:
    """What a root's labous makes of the recording: probe.py's arrays."""
    work = root.place / "tmp/work"
    work.mkdir()
    shutil.copytree(bundle, work / "bundle")
    for file in (recording, PROBE):
        shutil.copy(file, work)
    python(
        root, "/tmp/work/probe.py", "/tmp/work/bundle", f"/tmp/work/{recording.name}", "/tmp/work/o.npz", *precisions
    )
    with np.load(work / "o.npz") as arrays:
        return dict(arrays)


def python(root: roots.Root, *arguments: str, network: bool = False) -> str:
    done = root.run("/usr/bin/python3", *arguments, network=network)
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


def install(root: roots.Root, board: Board, wheel: Path) -> None:
    """Install the wheel from a folder, with no network: what it needs comes from there, or is Debian's."""
    place = root.place / "tmp/wheels"
    if board.wheels is None:
        place.mkdir()
    else:
        shutil.copytree(board.wheels.folder(), place)
    shutil.copy(wheel, place)
    options = ("--no-index", "--no-compile", "--break-system-packages", "--root-user-action=ignore", "--quiet")
    python(root, "-m", "pip", "install", *options, "--find-links=/tmp/wheels", f"labous{board.extras}")


def checked(root: roots.Root, board: Board) -> None:
    """``labous check`` says what it must, with a bundle and without."""
    said = python(root, "-m", "labous", "check", "--bundle", "/tmp/work/bundle")
    print(said)
    lines = said.splitlines()
    assert any(line.startswith("mel module ") and board.mel in line for line in lines)
    assert any(line.startswith("float32 model ") and board.engine in line for line in lines)
    assert any(line.startswith("mel module     ok     largest difference 0,") for line in lines)
    assert any(line.startswith("int8 model ") and " ok " in line for line in lines) == board.int8
    assert f"on Linux {board.debian.machine}" in said
    if board.mel != "Wasmtime":
        done = root.run("/usr/bin/python3", "-m", "labous", "check")
        assert done.returncode == 1 and "cannot be tried without a bundle" in done.stderr, done.stderr
