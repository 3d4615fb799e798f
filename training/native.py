"""A bundle's libraries for boards whose engines have no build: its own mel module and model as machine code, tried.

Enters: the bundle's melspec.wasm, model.tflite and golden windows. Leaves: native/<machine>/ and what the manifest
says of it. The same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous.frontend import Frontend
from labous.mel import abi, law
from labous.power_law import PowerLawFrontend
from melspec_cpp import boards, emulators
from melspec_cpp.build import BuildError
from training.aot.build import HERE as AOT
from training.aot.build import build_model
from training.errors import StageError
from training.golden import as_floats

MEL, MODEL = "libmelspec.so", "libmodel.so"

_TRIAL, _LAW_TRIAL = (Path(__file__).with_name(name) for name in ("native_trial.c", "native_law_trial.c"))
_TRIAL_SECONDS = 600


def build(machine: str, wasm: bytes, tflite: bytes, place: Path) -> dict[str, Any]:
    """Write a machine's libraries into a bundle's folder, and give the manifest's entry of them.

    Args:
        machine: one of melspec_cpp.boards.MACHINES.
        wasm: the bundle's mel module.
        tflite: the bundle's float32 model.
        place: the bundle.

    Raises:
        StageError: a compiler is missing or fails.
        AotError: the model has something that cannot be built.
    """
    told = build_mel(machine, wasm, place)
    build_model(tflite, machine, place / "native" / machine / MODEL)
    return told | {"model": {"file": f"native/{machine}/{MODEL}", "source": hashlib.sha256(tflite).hexdigest()}}


def build_mel(machine: str, wasm: bytes, place: Path) -> dict[str, Any]:
    """The same of the mel module alone, for a model that cannot be built: another engine runs that.

    Raises:
        StageError: a compiler is missing or fails.
    """
    folder = place / "native" / machine
    folder.mkdir(parents=True)
    module = folder / "melspec.wasm"
    module.write_bytes(wasm)
    try:
        boards.from_module(module, machine, folder / MEL)
    except BuildError as error:
        raise StageError(str(error)) from error
    finally:
        module.unlink()
    return {"mel": {"file": f"native/{machine}/{MEL}", "source": hashlib.sha256(wasm).hexdigest()}}


def attempt(machine: str, place: Path, frontend: Frontend, golden: bytes, tolerance: float) -> str:
    """Run a machine's libraries on the golden windows, and give the line that tells of it.

    Args:
        machine: whose they are.
        place: the bundle.
        frontend: its front end.
        golden: its golden windows.
        tolerance: that the float32 logits may differ by.

    Raises:
        StageError: they give another mel by so much as a bit, or other logits, or fail.
    """
    sizes = _sizes(machine, place, (MEL, MODEL))
    if why := _untried(machine):
        return f"{machine}: {sizes}; {why}"
    with np.load(io.BytesIO(golden), allow_pickle=False) as archive:
        samples, mel, logits = (archive[name] for name in ("samples", "mel", "logits_float32"))
    found_mel, found_logits = _computed(machine, place / "native" / machine, frontend, samples, mel.shape, logits.shape)
    if found_mel.tobytes() != mel.tobytes():
        raise StageError(f"native/{machine}/{MEL} gives another mel than melspec.wasm; the bundle was not kept.")
    difference = float(np.abs(found_logits.astype(np.float64) - logits).max())
    if not difference <= tolerance:
        raise StageError(
            f"native/{machine}/{MODEL} gives logits that differ by {difference:.2g} from model.tflite, and "
            f"{tolerance:g} is allowed; the bundle was not kept."
        )
    return f"{machine}: {sizes}; mel the same bits, logits within {difference:.1g} on {len(samples)} golden windows"


def attempt_mel(machine: str, place: Path, frontend: PowerLawFrontend, golden: bytes) -> str:
    """Run a machine's mel library alone on the golden windows, and give the line that tells of it.

    Args:
        machine: whose it is.
        place: the bundle.
        frontend: its front end.
        golden: its golden windows, whose mel is melspec.wasm's.

    Raises:
        StageError: it gives another mel by so much as a bit, or fails.
    """
    sizes = _sizes(machine, place, (MEL,))
    if why := _untried(machine):
        return f"{machine}: {sizes}; {why}"
    with np.load(io.BytesIO(golden), allow_pickle=False) as archive:
        samples, mel = archive["samples"], archive["mel"]
    told = [len(samples), samples.shape[1], math.prod(frontend.input_shape), len(frontend.shifts), *frontend.shifts]
    given = np.array(told, np.int32).tobytes() + law.pack_config(frontend) + as_floats(samples).tobytes()
    done = _run(machine, [place / "native" / machine / MEL], _LAW_TRIAL, given, 4 * mel.size)
    if done != mel.tobytes():
        raise StageError(f"native/{machine}/{MEL} gives another mel than melspec.wasm; the bundle was not kept.")
    return f"{machine}: {sizes}; mel the same bits on {len(samples)} golden windows"


def _sizes(machine: str, place: Path, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {(place / 'native' / machine / name).stat().st_size:,} bytes" for name in names)


def _untried(machine: str) -> str:
    """Why a machine's libraries are not run here; empty if they are."""
    packages = emulators.missing(machine)
    if not packages:
        return ""
    return (
        f"NOT TRIED, as this machine cannot run it: apt-get install {' '.join(packages)}, or run labous check on such "
        "a board"
    )


def _computed(
    machine: str,
    folder: Path,
    frontend: Frontend,
    samples: NDArray[np.int16],
    mel_shape: tuple[int, ...],
    logits_shape: tuple[int, ...],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the libraries make of the windows: mel and logits."""
    sizes = np.array([len(samples), samples.shape[1], mel_shape[1] * mel_shape[2], logits_shape[1]], np.int32)
    given = sizes.tobytes() + abi.pack_config(frontend) + as_floats(samples).tobytes()
    n_mel, n_logits = int(np.prod(mel_shape)), int(np.prod(logits_shape))
    output = _run(machine, [folder / MEL, folder / MODEL], _TRIAL, given, 4 * (n_mel + n_logits))
    values = np.frombuffer(output, np.float32)
    return values[:n_mel].reshape(mel_shape), values[n_mel:].reshape(logits_shape)


def _run(machine: str, built: Sequence[Path], source: Path, given: bytes, n_bytes: int) -> bytes:
    """What a program in C that is linked with libraries of a machine writes, as many bytes as it must."""
    with tempfile.TemporaryDirectory(prefix="labous-trial-") as scratch:
        program = Path(scratch) / "trial"
        made = [Path(shutil.copy(library, scratch)) for library in built]  # a path as the linker likes it
        try:
            boards.compile_c(machine, source, *made, f"-I{AOT / 'include'}", f"-Wl,-rpath,{scratch}", out=program)
        except BuildError as error:
            raise StageError(str(error)) from error
        command = emulators.command(machine, program)
        try:
            done = subprocess.run(command, input=given, capture_output=True, timeout=_TRIAL_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise StageError(f"The libraries for {machine} did not end within {_TRIAL_SECONDS} s.") from error
    if done.returncode != 0 or len(done.stdout) != n_bytes:
        told = done.stderr.decode(errors="replace").strip()[-300:]
        raise StageError(f"The libraries for {machine} fail on the golden windows ({told or done.returncode}).")
    return done.stdout
