"""Modules of strangers: calls that never end, stacks and memories without end, addresses that are not theirs."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wasmtime
from front_ends import PLAIN

from labous.errors import EngineError, LabousError
from labous.mel import MelSpectrogram, MelStream, WasmEngine, abi, compiled
from labous.mel.wasm import packaged_module

FOREVER = "(loop $again (br $again))"
SAMPLES = np.ones(4096, np.float32)
PAGE = 1 << 16


def mel_module(*others: str, memory: str = '(memory (export "memory") 2)', **bodies: str) -> bytes:
    """A module with the ABI of a mel module, whose functions return 0 except those given."""
    bodies = {
        "melspec_abi_version": f"i32.const {abi.ABI_VERSION}",
        "melspec_config_size": f"i32.const {abi.CONFIG_SIZE}",
        "melspec_alloc": "i32.const 1024",
        "melspec_message": "i32.const 0",
        "melspec_bytes": f"i32.const {4 * PLAIN.n_mels * PLAIN.frames_of(SAMPLES.size)}",
        **bodies,
    }
    functions = "".join(
        f'(func (export "{name}") {"(param i32)" * len(kinds)} (result i32) {bodies.get(name, "i32.const 0")})'
        for name, kinds in abi.FUNCTIONS.items()
    )
    return bytes(wasmtime.wat2wasm(f"(module {memory} {functions} {' '.join(others)})"))


def spin(rounds: int) -> str:
    """A loop that ends."""
    return f"""(local $n i64) (local.set $n (i64.const {rounds}))
        (loop $again (local.set $n (i64.sub (local.get $n) (i64.const 1)))
            (br_if $again (i64.ne (local.get $n) (i64.const 0))))
        i32.const 0"""


@pytest.fixture(scope="module")
def rounds_per_second() -> float:
    engine = WasmEngine(mel_module(melspec_window=spin(20_000_000)), time_limit=60.0)
    start = time.perf_counter()
    engine.call("melspec_window", 0, 0, 0)
    return 20_000_000 / (time.perf_counter() - start)


def stopped_after(call: Callable[[], object], words: str) -> float:
    start = time.perf_counter()
    with pytest.raises(EngineError, match=words):
        call()
    return time.perf_counter() - start


@pytest.mark.fault("WebAssembly that loops in a call", "stopped in time")
@pytest.mark.parametrize(
    ("name", "arguments"), [("melspec_run_job", (0,)), ("melspec_create", (0, 0)), ("melspec_free", (0,))]
)
def test_a_call_without_end_is_stopped(name: str, arguments: tuple[int, ...]) -> None:
    engine = WasmEngine(mel_module(**{name: FOREVER + " i32.const 0"}), time_limit=0.2)
    assert engine.stopped == ""
    sentence = rf"spent more than 0\.2 s in {name}: make a new WasmEngine"
    assert 0.2 <= stopped_after(lambda: engine.call(name, *arguments), sentence) < 2
    assert stopped_after(lambda: engine.call("melspec_abi_version"), sentence) < 0.1, "it is not tried again"
    assert name in engine.stopped
    other = WasmEngine(packaged_module())
    assert MelSpectrogram(PLAIN, other).power(SAMPLES).shape == (64, 7), "the process goes on"


@pytest.mark.fault("WebAssembly that loops as it starts", "stopped in time")
def test_a_module_that_never_starts_is_stopped() -> None:
    body = f"(func $start {FOREVER})(start $start)"
    assert stopped_after(lambda: WasmEngine(mel_module(body), time_limit=0.2), "more than 0.2 s in its start") < 2
    module = mel_module(melspec_abi_version=FOREVER + " i32.const 1")
    assert stopped_after(lambda: WasmEngine(module, time_limit=0.2), "0.2 s in melspec_abi_version") < 2


@pytest.mark.fault("WebAssembly that loops below a spectrogram", "stopped in time")
@pytest.mark.parametrize("name", ["melspec_run_job", pytest.param("melspec_create", marks=pytest.mark.slow)])
def test_a_spectrogram_says_what_was_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    bodies = {name: FOREVER + " i32.const 0"}
    engine = WasmEngine(mel_module(**bodies), time_limit=0.2)

    def use() -> None:
        MelSpectrogram(PLAIN, engine).power(SAMPLES)

    assert stopped_after(use, f"0.2 s in {name}") < 2
    gc.collect()
    assert unraisable == [], "there is nothing to free in a stopped engine"


@pytest.mark.slow
def test_calls_in_time_are_left_alone(rounds_per_second: float) -> None:
    engine = WasmEngine(mel_module(melspec_window=spin(int(0.02 * rounds_per_second))), time_limit=0.5)
    start = time.perf_counter()
    while time.perf_counter() - start < 1.2:  # each call has a limit of its own
        assert engine.call("melspec_window", 0, 0, 0) == 0


@pytest.mark.slow
def test_engines_are_stopped_one_by_one(rounds_per_second: float) -> None:
    """A shorter limit is kept while the watchdog sleeps for a longer one, and stops nobody else."""
    patient = WasmEngine(mel_module(melspec_window=spin(int(1.5 * rounds_per_second))), time_limit=50.0)
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(patient.call("melspec_window", 0, 0, 0)))
    hasty = WasmEngine(mel_module(melspec_run_job=FOREVER + " i32.const 0"), time_limit=0.2)
    thread.start()
    time.sleep(0.1)
    assert stopped_after(lambda: hasty.call("melspec_run_job", 0), "0.2 s") < 1.2
    assert thread.is_alive(), "the long call was still running"
    thread.join()
    assert results == [0]


def run(code: str) -> tuple[str, float]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],  # newer Pythons mistrust forks with threads
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parent,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, time.perf_counter() - start


@pytest.mark.slow
def test_nothing_wakes_while_nothing_runs() -> None:
    code = """
import time, threading, test_runaway as t
def watchdogs():
    return sum(thread.name == "labous-watchdog" for thread in threading.enumerate())
t.WasmEngine().call("melspec_abi_version")
counts = [watchdogs()]
engine = t.WasmEngine(t.mel_module(), time_limit=0.3)
for again in range(2):
    for _ in range(100):
        engine.call("melspec_abi_version")
    counts.append(watchdogs())
    time.sleep(0.8)
    counts.append(watchdogs())
print(counts)
"""
    assert run(code)[0] == "[0, 1, 0, 1, 0]\n", "none for our own module, one for a hundred calls, none when idle"


@pytest.mark.slow
def test_the_watchdog_keeps_no_process_alive() -> None:
    code = "import test_runaway as t; e = t.WasmEngine(t.mel_module(), time_limit=50.0); print(e.memory_bytes)"
    out, seconds = run(code)
    assert out == f"{2 * PAGE}\n" and seconds < 15


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_is_watched_too() -> None:
    code = """
import os, sys, test_runaway as t
engine = t.WasmEngine(t.mel_module(melspec_run_job=t.FOREVER + " i32.const 0"), time_limit=0.5)
engine.call("melspec_abi_version")
assert any(x.name == "labous-watchdog" for x in t.threading.enumerate())
if (child := os.fork()) == 0:
    try:
        engine.call("melspec_run_job", 0)
    except t.EngineError:
        os._exit(7)
    os._exit(8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code)[0] == "7\n"


@pytest.mark.fault("WebAssembly that recurs", "an error each time")
@pytest.mark.parametrize("time_limit", [30.0, math.inf])
def test_an_endless_recursion_is_an_error(time_limit: float) -> None:
    recursion = "(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (i32.const 1)))"
    module = mel_module(recursion, melspec_run_job="(call $deeper (i32.const 0))")
    engine = WasmEngine(module, time_limit=time_limit)
    for _ in range(3):
        with pytest.raises(EngineError, match=r"trapped in melspec_run_job: .*stack exhausted"):
            engine.call("melspec_run_job", 0)
    errors: list[BaseException] = []

    def in_a_thread() -> None:
        try:
            engine.call("melspec_run_job", 0)
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=in_a_thread)  # whose stack is smaller
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert engine.call("melspec_abi_version") == abi.ABI_VERSION


@pytest.mark.fault("WebAssembly that grows", "held at its limit")
def test_memory_without_end_is_refused() -> None:
    grow = """(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        (memory.fill (i32.const 0) (i32.const 1) (i32.mul (memory.size) (i32.const 65536))) memory.size"""
    engine = WasmEngine(mel_module(melspec_run_job=grow), memory_limit=8 << 20, time_limit=20.0)
    pages = engine.call("melspec_run_job", 0)
    assert pages * PAGE == engine.memory_bytes and (7 << 20) < engine.memory_bytes <= 8 << 20
    unchecked = """(loop $again (drop (memory.grow (i32.const 1)))
        (i32.store (i32.sub (i32.mul (i32.add (memory.size) (i32.const 1)) (i32.const 65536)) (i32.const 4))
            (i32.const 1)) (br $again)) i32.const 0"""
    engine = WasmEngine(mel_module(melspec_run_job=unchecked), memory_limit=8 << 20, time_limit=20.0)
    with pytest.raises(EngineError, match=r"trapped in melspec_run_job: .*out of bounds"):
        engine.call("melspec_run_job", 0)
    assert engine.memory_bytes <= 8 << 20


@pytest.mark.fault("WebAssembly that begins too large", "refused")
@pytest.mark.parametrize(
    ("others", "memory"),
    [
        ((), '(memory (export "memory") 1000)'),
        (("(memory 100)",) * 9, '(memory (export "memory") 2)'),
        (("(table 50000000 funcref)",), '(memory (export "memory") 2)'),
        (("(table 50000 funcref)",) * 9, '(memory (export "memory") 2)'),
    ],
)
def test_too_much_of_anything_is_refused_at_the_start(others: tuple[str, ...], memory: str) -> None:
    with pytest.raises(EngineError, match=r"failed in its start: .*(limit|too high)"):
        WasmEngine(mel_module(*others, memory=memory), memory_limit=8 << 20)


@pytest.mark.fault("WebAssembly that lies", "refused with a sentence")
@pytest.mark.parametrize(
    ("bodies", "words"),
    [
        ({"melspec_alloc": "i32.const -4"}, "outside its own memory"),
        ({"melspec_alloc": f"i32.const {2 * PAGE - 8}"}, "outside its own memory"),
        ({"melspec_run_job": "i32.const 0x7fffffff"}, "number of frames"),
        ({"melspec_run_job": "i32.const -1"}, "code -1"),
        ({"melspec_run_job": "i32.const -1", "melspec_message": "i32.const -1"}, "outside its own memory"),
        ({"melspec_create": "i32.const -1", "melspec_message": f"i32.const {2 * PAGE - 199}"}, "outside its own"),
        ({"melspec_run_job": f"i32.const {abi.ERROR_NOT_FINITE}", "melspec_bad_sample": "i32.const 4096"}, "code -24"),
        ({"melspec_run_job": f"i32.const {abi.ERROR_NOT_FINITE}", "melspec_bad_sample": "i32.const -1"}, "code -24"),
        ({"melspec_bytes": "i32.const -1"}, "code -1"),
        ({"melspec_bytes": "i32.const 0"}, "makes 0 bytes of 4096 samples"),
        ({"melspec_bytes": "i32.const 0x7fffffff"}, "makes 2147483647 bytes"),
        ({"melspec_alloc": "i32.const 0"}, "no room"),
    ],
)
def test_a_module_that_lies_is_refused(bodies: dict[str, str], words: str) -> None:
    engine = WasmEngine(mel_module(**bodies))
    with pytest.raises(LabousError, match=words):
        MelSpectrogram(PLAIN, engine).power(SAMPLES)


def _left(n_samples: int) -> str:
    """Writes the n_samples of a melspec_chunk."""
    return f"(i32.store offset=8 (local.get 0) (i32.const {n_samples})) "


@pytest.mark.fault("streams of WebAssembly that lie", "refused with a sentence")
@pytest.mark.parametrize(
    ("bodies", "words"),
    [
        ({"melspec_stream_run": "i32.const 0"}, "takes other samples"),
        ({"melspec_stream_run": f"i32.const {PLAIN.n_frames}"}, "takes other samples"),  # a window of nothing, for ever
        ({"melspec_stream_run": _left(40_000) + "i32.const 0"}, "takes other samples"),
        ({"melspec_stream_run": _left(-1) + "i32.const 0"}, "takes other samples"),
        (
            {"melspec_stream_run": _left(0) + "i32.const 62", "melspec_stream_window": "i32.const -4"},
            "outside its own memory",
        ),
        ({"melspec_stream_run": _left(0) + "i32.const 1"}, "takes other samples or gives other frames"),
        ({"melspec_stream_run": f"i32.const {abi.ERROR_NOT_FINITE}"}, "Sample 0"),
        (
            {
                "melspec_stream_run": f"i32.const {abi.ERROR_NOT_FINITE}",
                "melspec_stream_bad_sample": "i32.const 32000",
            },
            "code -24",
        ),
    ],
)
def test_a_stream_that_lies_comes_to_an_end(bodies: dict[str, str], words: str) -> None:
    stream = MelStream(PLAIN, 16_000, WasmEngine(mel_module(**bodies, memory='(memory (export "memory") 9)')))
    with pytest.raises(LabousError, match=words):
        stream.push(np.resize(SAMPLES, PLAIN.window_samples))


@pytest.mark.fault("WebAssembly whose message is no text", "an error")
def test_bytes_that_are_no_text_are_no_crash() -> None:
    engine = WasmEngine(mel_module('(data (i32.const 0) "\\ff\\fe\\1b\\80")', melspec_run_job="i32.const -1"))
    with pytest.raises(EngineError, match="code -1"):
        MelSpectrogram(PLAIN, engine).power(SAMPLES)


def test_who_is_limited(built: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    load = compiled.load

    def recording(module: bytes, interruptible: bool) -> tuple[object, object]:
        asked.append(interruptible)
        return load(module, interruptible)

    monkeypatch.setattr(compiled, "load", recording)
    ours, other = built["wasm"].path.read_bytes(), built["scalar"].path.read_bytes()
    for module, limit, expected in (
        (None, None, False),
        (ours, None, False),
        (bytearray(ours), None, False),
        (other, None, True),
        (other, math.inf, False),
        (ours, 5.0, True),
        (None, 5.0, True),
        (None, 1e300, False),  # longer than a thread can wait
    ):
        asked.clear()
        WasmEngine(module, time_limit=limit)
        assert asked == [expected], (module is None, limit)
    for impossible in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="time_limit"):
            WasmEngine(time_limit=impossible)


def test_a_limit_changes_no_bit() -> None:
    samples = np.random.default_rng(5).standard_normal(32_000).astype(np.float32)
    limited = MelSpectrogram(PLAIN, WasmEngine(time_limit=30.0))
    assert np.array_equal(limited(samples), MelSpectrogram(PLAIN)(samples))
