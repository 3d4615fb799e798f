"""The same bits everywhere: in WebAssembly with SIMD128 and without, and on every machine, however built."""

from __future__ import annotations

import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from labous.mel import MelSpectrogram, NativeEngine, WasmEngine
from melspec_cpp import boards, build
from tests.devices import emulation, vectors
from training.features import conf_frontends
from training.signals import hard_signals

pytestmark = pytest.mark.slow

Asked = list[vectors.Case]
Expected = list[list[vectors.Part]]


def test_the_vectors_reach_what_machines_may_do_differently(asked: Asked, expected: Expected) -> None:
    """Subnormal numbers in and out, infinity, silence, windows of streams, and refusals."""
    tiny = np.finfo(np.float32).tiny
    assert len(asked) > vectors.GRID_CASES + 9 * 3
    assert len({case.config for case in asked}) > vectors.GRID_CASES / 2
    assert any(0 < np.abs(case.samples).max(initial=0) < tiny for case in asked)
    found: dict[str, list[np.ndarray]] = {}
    for what, values in (part for parts in expected for part in parts):
        assert not np.isnan(values).any()
        found.setdefault(what, []).append(values)
    power = np.concatenate(found["power"])
    assert np.count_nonzero((power > 0) & (power < tiny)) > 100
    assert np.count_nonzero(power == 0) > 1000 and np.isinf(power).any()
    assert len(found["window of the stream"]) > 200
    assert len(found["law"]) > 30 and all(np.isfinite(values).all() for values in found["law"])
    codes = {int(values[0]) for what, given in found.items() if what.startswith("code") for values in given}
    assert {code for code in codes if code < -1} == {-4, -20, -24, -28}  # n_fft, n_samples, not finite, channels


def test_wasm_without_simd(asked: Asked, expected: Expected) -> None:
    build.build("scalar")
    engine = WasmEngine(build.TARGETS["scalar"].path.read_bytes())
    given = b"".join(values.tobytes() for case in asked for _, values in vectors.answer(engine, case))
    assert vectors.differences(asked, expected, given) == []


@pytest.mark.parametrize("target", boards.TARGETS)
@pytest.mark.parametrize("machine", boards.MACHINES)
def test_machines(
    machine: str,
    target: str,
    asked: Asked,
    expected: Expected,
    library: Callable[[str, str], Path],
    program: Callable[[str, str, Path], Path],
) -> None:
    done = emulation.run(machine, program("driver", machine, library(machine, target)), vectors.questions(asked))
    assert (done.returncode, done.stderr) == (0, b"")
    assert vectors.differences(asked, expected, done.stdout) == []


def test_contraction_would_be_seen(asked: Asked, expected: Expected, program: Callable[[str, str, Path], Path]) -> None:
    """With multiply-adds fused, as compilers do unless told otherwise, these vectors show other bits."""
    emulation.require("riscv64", "native")
    flags = ("-target", boards.MACHINES["riscv64"], *build.TARGETS["native"].flags, "-ffp-contract=on")
    fused = build.Target("libmelspec-fused.so", flags)
    build.build_target(fused)
    done = emulation.run("riscv64", program("driver", "riscv64", fused.path), vectors.questions(asked))
    assert done.returncode == 0 and vectors.differences(asked, expected, done.stdout) != []


@pytest.mark.skipif(platform.machine() not in boards.MACHINES, reason=f"nothing is built for {platform.machine()}")
def test_this_machines_own_library(asked: Asked, expected: Expected, program: Callable[[str, str, Path], Path]) -> None:
    """The one that prepares data, which is built with no machine named."""
    build.build("native")
    driver = program("driver", platform.machine(), build.TARGETS["native"].path)
    done = emulation.run(platform.machine(), driver, vectors.questions(asked))
    assert (done.returncode, done.stderr) == (0, b"")
    assert vectors.differences(asked, expected, done.stdout) == []


@pytest.mark.skipif(platform.machine() not in boards.MACHINES, reason=f"nothing is built for {platform.machine()}")
def test_wasm2c_serves_python_and_threads(library: Callable[[str, str], Path]) -> None:
    """Its libraries are like any other libmelspec: every function is there, and plans are independent."""
    engine = NativeEngine(library(platform.machine(), "wasm"))
    frontends = conf_frontends().values()
    signals = hard_signals(32_000, 96_000).values()

    def compute(mel: MelSpectrogram) -> list[bytes]:
        return [mel(samples).tobytes() for samples in signals]

    with ThreadPoolExecutor(len(frontends)) as pool:
        found = list(pool.map(lambda frontend: compute(MelSpectrogram(frontend, engine)), frontends))
    build.build("wasm")
    wasm = WasmEngine(build.TARGETS["wasm"].path.read_bytes())
    assert found == [compute(MelSpectrogram(frontend, wasm)) for frontend in frontends]
