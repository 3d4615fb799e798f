"""The benchmark's limit: its formulas against what the module executes, its loops against what they are to do."""

from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
import pytest
import wasmtime
from front_ends import PLAIN

from labous.mel import MelSpectrogram, Output, WasmEngine
from melspec_cpp import build

sys.path.append(str(build.HERE / "bench"))  # whose modules import each other as a script's

import core
import counted
import limit
import operations

NOISE = np.random.default_rng(20210601).standard_normal(16384).astype(np.float32)
CENTRED = dataclasses.replace(PLAIN, center=True)
SIZES = [(256, 100, 40), (512, 200, 64), (1024, 333, 64), (2048, 512, 128), (2048, 512, 1), (4096, 1000, 100)]


@pytest.mark.parametrize(("n_fft", "hop_length", "n_mels"), SIZES)
def test_formulas_are_what_the_module_executes(
    built: dict, wasm: WasmEngine, n_fft: int, hop_length: int, n_mels: int
) -> None:
    frontend = dataclasses.replace(
        CENTRED, n_fft=n_fft, win_length=n_fft, hop_length=hop_length, n_mels=n_mels, f_min=0.0
    )
    n_frames = frontend.frames_of(NOISE.size)
    by_stage = operations.stages(frontend, MelSpectrogram(frontend, wasm).filters(), n_frames)
    formula = operations.total(by_stage.values())
    executed = operations.of(counted.executed(built["wasm"].path.read_bytes(), frontend, NOISE, Output.SCALED))
    for kind in ("additions", "multiplications", "divisions", "promotions"):
        assert getattr(executed, kind) == getattr(formula, kind), kind
    # The check for NaN masks four samples at once.
    assert executed.integers == formula.integers + NOISE.size // 4
    # That of the reference, once a run, is of single numbers, which have no such instruction.
    assert formula.maxima - 1 <= executed.maxima <= formula.maxima
    # How lanes get into a vector and out of it is the compiler's choice: one at a time, or a constant by a shuffle.
    assert formula.demotions <= executed.demotions <= 2 * formula.demotions
    assert formula.shuffles <= executed.shuffles <= formula.shuffles + 2 * formula.demotions


def test_only_what_is_counted_gets_a_formula() -> None:
    for change in ({"power": 1.0}, {"ref": "max"}, {"top_db": 80.0}):
        with pytest.raises(ValueError, match="counted"):
            operations.stages(dataclasses.replace(PLAIN, **change), np.ones((64, 513)), 10)


def test_a_counting_module_computes_the_same(built: dict, wasm: WasmEngine) -> None:
    engine = WasmEngine(counted.counting(built["wasm"].path.read_bytes()), time_limit=math.inf)
    assert np.array_equal(MelSpectrogram(CENTRED, engine)(NOISE), MelSpectrogram(CENTRED, wasm)(NOISE))


def test_what_cannot_count_is_refused() -> None:
    with pytest.raises(ValueError, match="imports"):
        counted.counting(bytes(wasmtime.wat2wasm('(module (import "a" "b" (func)))')))
    with pytest.raises(ValueError, match="not a WebAssembly module"):
        counted.counting(b"\0elf")
    module = bytes(wasmtime.wat2wasm("(module (func nop))"))
    with pytest.raises(ValueError, match="unknown instruction ff"):
        counted.counting(module.replace(b"\x01\x0b", b"\xff\x0b"))


def _mixtures() -> dict[str, core.Mixture]:
    filters = MelSpectrogram(CENTRED).filters()
    by_stage = operations.stages(CENTRED, filters, 100)
    everything = operations.total(by_stage.values())
    beside = {"loads": sum(everything) // 2, "stores": sum(everything) // 6, "integers": sum(everything) // 2}
    return {
        "multiplications": core.Mixture(operations.Operations(multiplications=1)),
        **{stage: core.Mixture(n) for stage, n in by_stage.items()},
        "all": core.Mixture(everything),
        "beside": core.Mixture(everything, **beside),
        "loads": core.Mixture(by_stage["mel product"], loads=sum(by_stage["mel product"])),
    }


@pytest.mark.parametrize("length", core.LENGTHS)
def test_loops_do_what_they_are_to_do(built: dict, length: int) -> None:
    for name, mixture in _mixtures().items():
        loop = core.Loop(mixture, length)
        instance = counted.Counting(loop.module)
        instance.call("run", 1, 0)
        prologue = instance.executed()
        instance.call("run", 2, 0)
        once = instance.executed() - prologue - prologue  # a second time round
        done, beside = operations.of(once), counted.beside(once)
        assert sum(done) == pytest.approx(core.BODY, abs=4), name
        for kind, count in mixture.operations._asdict().items():
            assert getattr(done, kind) == pytest.approx(count * loop.share, abs=1), (name, kind)
        assert beside["loads"] == pytest.approx(mixture.loads * loop.share, abs=1), name
        assert beside["stores"] == pytest.approx(mixture.stores * loop.share, abs=1), name
        # the loop's own counter and branch
        assert beside["integers"] == pytest.approx(mixture.integers * loop.share + 2, abs=1), name


def test_values_in_loops_stay_moderate(built: dict) -> None:
    """Neither infinite nor subnormal: both take another time on some cores."""
    for name, mixture in _mixtures().items():
        loop = core.Loop(mixture, core.LENGTHS[0])
        loop.run()
        values = np.abs(loop.values())
        assert np.all((values == 0) | ((values > 1e-30) & (values < 1e30))), name


@pytest.mark.slow
def test_the_part_measures_and_prints(built: dict) -> None:
    found = limit.measure(1)
    text = limit.table(found)
    assert text.count("the kernel") == len(found) == 3 and "ANOTHER MODULE" not in text
    for setting in found.values():
        assert 0.2 < setting["limit"]["the kernel"] / setting["measured"]["the kernel"] < 1.1
