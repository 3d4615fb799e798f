"""``labous check``: does this device give the bundle's own results, and how fast?"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import labous
from labous import libraries
from labous.archive import ZIP_ERRORS
from labous.bundle import Bundle
from labous.errors import BundleError, EngineError
from labous.mel.compiled import WASMTIME_MACHINES, import_wasmtime
from labous.models import ENGINES, Model, choose_engine, engine_named, hindrance
from labous.selftest import mel_difference

_PACKAGES = ("numpy", "wasmtime", "ai-edge-litert", "tflite-runtime", "soundfile", "soxr")
_MEL_TOLERANCE = 1e-6  # relative, of the self-test: some float32 steps
_TIMED_SECONDS = 60.0  # of audio


def run(arguments: argparse.Namespace) -> int:
    """Print what was compared and measured; 1 where something differs."""
    if arguments.bundle is None:
        print(_versions())
        _need_wasmtime()
        difference = mel_difference()
        good = difference <= _MEL_TOLERANCE
        print(_comparison("mel module", difference, _MEL_TOLERANCE, "relative, built-in signal"))
        print(_verdict(good, "The mel module is right on this device; give --bundle to check a model too."))
        return 0 if good else 1
    bundle = Bundle.read(arguments.bundle, engine=arguments.engine)
    bundle.announce()
    golden = _golden(bundle)
    print(_versions())
    print(f"{'mel module':<14} {_mel(bundle)}")
    models = dict(_models(bundle, arguments.engine))
    samples = golden["samples"].astype(np.float32) / np.float32(32768)
    mels = [bundle.mel(samples[0])]
    next(iter(models.values())).predict(mels[0])
    # the command line noted when it began; the interpreter's own start cannot be seen from here
    start_up = time.perf_counter() - arguments.began
    mels += [bundle.mel(window) for window in samples[1:]]
    good = True
    for name, difference, allowed in _differences(bundle, golden, mels, models):
        good &= difference <= allowed
        print(_comparison(name, difference, allowed, f"{len(samples)} windows"))
    cpu = _cpu(bundle, samples, mels, models)
    print(f"{'start-up':<14} {start_up:.2f} s from the command's first line to the first result")
    print(f"{'CPU':<14} {', '.join(f'{name} {seconds:.1f} s' for name, seconds in cpu.items())} per hour of audio")
    print(f"{'peak memory':<14} {_peak_memory()}")
    print(_verdict(good, f"This device gives the results of {bundle.manifest.name} {bundle.manifest.version}."))
    return 0 if good else 1


def _versions() -> str:
    found = [f"labous {labous.__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return f"{', '.join(found)} on {platform.system()} {platform.machine()}"


def _need_wasmtime() -> None:
    """Refuse to go on where only a bundle has what runs the mel module.

    Raises:
        EngineError: with the reason.
    """
    if libraries.machine() in WASMTIME_MACHINES:
        return
    try:
        import_wasmtime()
    except EngineError as error:
        raise EngineError(
            f"The mel module cannot be tried without a bundle: {error} A bundle that was exported with "
            f"bundle.targets=[{libraries.machine()}], or imported with targets=[{libraries.machine()}], has what is "
            "needed; give it with --bundle."
        ) from error


def _mel(bundle: Bundle) -> str:
    """What runs the mel module, and why."""
    library = bundle.mel_library
    return "Wasmtime" if library is None else f"{library[0]} in its place: {library[1]}"


def _models(bundle: Bundle, asked: str | None) -> Iterator[tuple[str, Model]]:
    """The models that this device can run, by their precision, each after the reasons for its engine are printed.

    Raises:
        EngineError: it can run none, or an engine refuses its file.
    """
    refused: list[EngineError] = []
    for precision in bundle.manifest.models:
        kinds = bundle.model_files(precision)
        try:
            chosen = choose_engine(kinds, asked)
        except EngineError as error:
            refused.append(error)
            print(f"{precision + ' model':<14} not run: {error}")
            continue
        why = "as asked" if asked else f"the first that can of {', '.join(ENGINES)}"
        print(f"{precision + ' model':<14} {engine_named(chosen).TITLE} ({chosen}), {why}")
        for name in () if asked else ENGINES[: ENGINES.index(chosen)]:
            print(f"{'':<14} not {name}: it {hindrance(name, kinds)}")
        yield precision, bundle.with_precision(precision).model
    if len(refused) == len(bundle.manifest.models):
        raise refused[0]


def _golden(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """The golden arrays, their shapes and dtypes checked against the front end and the labels."""
    name, frontend, n_labels = bundle.manifest.golden.file, bundle.frontend, len(bundle.labels)
    shapes: dict[str, tuple[type, tuple[int, ...]]] = {
        "samples": (np.int16, (frontend.window_samples,)),
        "mel": (np.float32, frontend.mel_shape),
        **{f"logits_{precision}": (np.float32, (n_labels,)) for precision in bundle.manifest.models},
    }
    try:
        with np.load(io.BytesIO(bundle.files[name]), allow_pickle=False) as archive:
            golden = {key: archive[key] for key in shapes}
    except (KeyError, MemoryError, *ZIP_ERRORS) as error:
        raise BundleError(f"{name} cannot be read ({error}); export the bundle again.") from error
    n = len(golden["samples"]) if golden["samples"].ndim else 0
    for key, (dtype, shape) in shapes.items():
        if n == 0 or golden[key].shape != (n, *shape) or golden[key].dtype != dtype:
            raise BundleError(
                f"{name}: {key} is {golden[key].dtype} {list(golden[key].shape)} and must be "
                f"{np.dtype(dtype)} [n, {', '.join(map(str, shape))}] for one n; export the bundle again."
            )
    return golden


def _differences(
    bundle: Bundle, golden: dict[str, NDArray[Any]], mels: Sequence[NDArray[np.float32]], models: Mapping[str, Model]
) -> Iterator[tuple[str, float, float]]:
    """Name, largest absolute difference, and what is allowed, for the mel module and each model."""
    yield "mel module", _largest(mels, golden["mel"]), _tolerance(bundle, "mel")
    for precision, model in models.items():
        logits = [model.predict(mel) for mel in mels]
        yield f"{precision} model", _largest(logits, golden[f"logits_{precision}"]), _tolerance(bundle, precision)


def _largest(here: Sequence[NDArray[np.float32]], there: NDArray[Any]) -> float:
    """NaN where either holds one, which no tolerance allows."""
    return float(np.abs(np.stack(here).astype(np.float64) - there).max())


def _tolerance(bundle: Bundle, name: str) -> float:
    try:
        return bundle.manifest.golden.tolerance[name]
    except KeyError:
        raise BundleError(f"manifest.json: golden.tolerance.{name} is missing; the bundle is incomplete.") from None


def _cpu(
    bundle: Bundle,
    samples: NDArray[np.float32],
    mels: Sequence[NDArray[np.float32]],
    models: Mapping[str, Model],
) -> dict[str, float]:
    """CPU seconds per hour of audio of the mel stage and each model, decoding and resampling left out."""
    stages = {"mel": (bundle.mel, samples)} | {name: (model.predict, mels) for name, model in models.items()}
    n = max(1, round(_TIMED_SECONDS / bundle.frontend.window_seconds))
    spent = {}
    for name, (stage, inputs) in stages.items():
        began = time.process_time()
        for i in range(n):
            stage(inputs[i % len(inputs)])
        spent[name] = (time.process_time() - began) * 3600 / (n * bundle.frontend.window_seconds)
    return spent


def _peak_memory() -> str:
    # getrusage counts what the process had that started this one
    with contextlib.suppress(OSError, StopIteration, ValueError):
        status = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
        return f"{int(next(line.split()[1] for line in status if line.startswith('VmHWM'))) / 2**10:.0f} MiB"
    try:
        import resource
    except ImportError:  # Windows
        return "not known on this system"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak / (2**20 if sys.platform == 'darwin' else 2**10):.0f} MiB"


def _comparison(name: str, difference: float, allowed: float, over: str) -> str:
    verdict = "ok" if difference <= allowed else "WRONG"
    return f"{name:<14} {verdict:<6} largest difference {difference:.2g}, allowed {allowed:g} ({over})"


def _verdict(good: bool, sentence: str) -> str:
    return (
        sentence if good else "This device does NOT give the expected results; do not use it before that is understood."
    )
