"""The C ABI, called as a stranger would: codes, messages, positions, memory."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from by_hand import CODES, HEADER, create, offsets
from front_ends import PLAIN

from labous.errors import EngineError, FrontendError, SamplesError
from labous.frontend import Frontend
from labous.mel import MelSpectrogram, NativeEngine, Output, WasmEngine, abi

OFFSETS = offsets("melspec_config")
NAN, INF = float("nan"), float("inf")


def packed(**changes: float) -> bytes:
    """The plain front end's bytes with some fields replaced, by their offsets in the header."""
    data = bytearray(abi.pack_config(PLAIN))
    for name, value in changes.items():
        offset, kind = OFFSETS[name]
        struct.pack_into("<d" if kind == "double" else "<i", data, offset, value)
    return bytes(data)


def test_header_and_python_agree() -> None:
    size = 8 * sum(kind == "double" for _, kind in OFFSETS.values())
    size += 4 * sum(kind == "int32_t" for _, kind in OFFSETS.values())
    assert len(OFFSETS) == 21 and size == abi.CONFIG_SIZE == 112
    assert set(re.findall(r"MELSPEC_API\((\w+)\)", HEADER)) == {*abi.FUNCTIONS, *abi.LAW_FUNCTIONS, "name"}
    assert f"#define MELSPEC_ABI_VERSION {abi.ABI_VERSION}\n" in HEADER
    assert {o.name: o.value for o in Output} == {o.name: CODES[f"OUTPUT_{o.name}"] for o in Output}
    assert CODES["ERROR_NOT_FINITE"] == abi.ERROR_NOT_FINITE
    for name, (offset, kind) in OFFSETS.items():
        given = struct.unpack_from("<d" if kind == "double" else "<i", abi.pack_config(PLAIN), offset)[0]
        constants = {**PLAIN.to_dict(), "abi_version": 1, "ref_mode": 0, "has_top_db": 0}
        codes = {"window": 0, "pad_mode": 0, "mel_scale": 0, "mel_norm": 1, "top_db": 0.0}
        assert given == codes.get(name, constants[name]), name


def test_module_needs_nothing_and_is_small(built: dict) -> None:
    import wasmtime

    for name in ("wasm", "scalar"):
        data = built[name].path.read_bytes()
        module = wasmtime.Module(wasmtime.Engine(), data)
        assert not module.imports
        assert {e.name for e in module.exports} == {*abi.FUNCTIONS, *abi.LAW_FUNCTIONS, "memory"}
        assert len(data) <= 30_000


def test_simd_is_used_where_it_should_be(built: dict) -> None:
    import wasmtime

    config = wasmtime.Config()
    config.wasm_relaxed_simd = False
    config.wasm_simd = False
    without_simd = wasmtime.Engine(config)
    wasmtime.Module(without_simd, built["scalar"].path.read_bytes())
    with pytest.raises(wasmtime.WasmtimeError, match="SIMD"):
        wasmtime.Module(without_simd, built["wasm"].path.read_bytes())


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("ABI_VERSION", {"abi_version": 0}),
        ("ABI_VERSION", {"abi_version": 2}),
        ("SAMPLE_RATE", {"sample_rate": 7999}),
        ("SAMPLE_RATE", {"sample_rate": 96001}),
        ("SAMPLE_RATE", {"sample_rate": -1}),
        ("N_FFT", {"n_fft": 128}),
        ("N_FFT", {"n_fft": 8192}),
        ("N_FFT", {"n_fft": 1000}),
        ("N_FFT", {"n_fft": -(2**31)}),
        ("WIN_LENGTH", {"win_length": 0}),
        ("WIN_LENGTH", {"win_length": 1025}),
        ("HOP_LENGTH", {"hop_length": 0}),
        ("WINDOW", {"window": 1}),
        ("PADDING", {"center": 2}),
        ("PADDING", {"pad_mode": 2}),
        ("POWER", {"power": 0}),
        ("POWER", {"power": 3}),
        ("N_MELS", {"n_mels": 0}),
        ("N_MELS", {"n_mels": 257}),
        ("FREQUENCIES", {"f_min": -1.0}),
        ("FREQUENCIES", {"f_min": 15000.0}),
        ("FREQUENCIES", {"f_max": 16000.1}),
        ("FREQUENCIES", {"f_min": NAN}),
        ("FREQUENCIES", {"f_max": INF}),
        ("FREQUENCIES", {"f_min": 9999.9999999999, "f_max": 10000.0}),
        ("MEL_SCALE", {"mel_scale": 2}),
        ("MEL_NORM", {"mel_norm": -1}),
        ("AMIN", {"amin": 0.0}),
        ("AMIN", {"amin": NAN}),
        ("AMIN", {"amin": 1e-200, "power": 1}),
        ("REF", {"ref_mode": 2}),
        ("REF", {"ref": 0.0}),
        ("REF", {"ref": NAN}),
        ("REF", {"ref": 1e200, "power": 1}),
        ("TOP_DB", {"has_top_db": 2}),
        ("TOP_DB", {"has_top_db": 1, "top_db": -1.0}),
        ("TOP_DB", {"has_top_db": 1, "top_db": NAN}),
        ("SCALING", {"db_scale": 0.0}),
        ("SCALING", {"db_offset": INF}),
    ],
)
def test_impossible_constants_are_refused_inside(wasm: WasmEngine, code: str, changes: dict[str, float]) -> None:
    found, plan = create(wasm, packed(**changes), "melspec_create")
    assert (found, plan) == (CODES[f"ERROR_{code}"], 0)
    with pytest.raises((FrontendError, EngineError), match=r"mel stage"):
        wasm.check(found)


def test_every_code_has_a_sentence(wasm: WasmEngine) -> None:
    codes = [value for name, value in CODES.items() if name.startswith("ERROR_")]
    assert sorted(codes) == list(range(min(codes), 0))
    sentences = set()
    for code in (*codes, 0, -999):
        address = wasm.call("melspec_message", code)
        sentences.add(bytes(wasm.view(address, (200,), np.uint8)).partition(b"\0")[0].decode("ascii"))
    assert len(sentences) == len(codes) + 2


def test_bad_pointers_and_sizes(wasm: WasmEngine) -> None:
    code, plan = create(wasm, packed(), "melspec_create")
    assert code == 0
    samples, out = wasm.allocate(4 * 2048), wasm.allocate(4 * 64 * 3)
    wasm.view(samples, (2048,), np.float32)[:] = 0
    room, end = 64 * 3, wasm.memory_bytes
    error = {name.removeprefix("ERROR_"): value for name, value in CODES.items()}

    def run(
        *, plan: int = plan, output: int = 0, samples: int = samples, n: int = 2048, out: int = out, room: int = room
    ) -> int:
        return wasm.call("melspec_run", plan, output, samples, n, out, room)

    assert run() == 3
    for bad in (0, 2, 4, end - 4, samples, -16):
        assert run(plan=bad) == error["PLAN"]
    assert run(output=3) == run(output=-1) == error["OUTPUT"]
    for bad in (0, samples + 2, end - 4 * 2047, out - 4 * 2047, -4):
        assert run(samples=bad) == error["POINTER"]
    for bad in (0, out + 1, end - 4, samples, plan):
        assert run(out=bad) == error["POINTER"]
    assert run(n=-1) == run(n=0) == run(n=1023) == error["N_SAMPLES"]
    assert run(n=2**31 - 1) == error["CAPACITY"]
    assert run(room=room - 1) == run(room=-1) == error["CAPACITY"]
    assert wasm.call("melspec_frames", plan, 1023) == 0
    assert wasm.call("melspec_frames", plan, -5) == error["N_SAMPLES"]
    assert wasm.call("melspec_create", 0, out) == wasm.call("melspec_create", samples, 0) == error["POINTER"]
    assert wasm.call("melspec_create", samples + 4, out) == error["POINTER"]
    assert wasm.call("melspec_filters", plan, out, 100) == error["CAPACITY"]
    assert wasm.call("melspec_window", plan, out + 4, 1024) == error["POINTER"]
    assert wasm.call("melspec_alloc", -1) == 0
    assert run() == 3, "nothing above did harm"
    assert wasm.call("melspec_destroy", plan) == 0
    assert wasm.call("melspec_destroy", plan) == error["PLAN"] == run()
    assert wasm.call("melspec_destroy", 0) == 0
    for address in (samples, out, 0):
        wasm.call("melspec_free", address)


def test_too_long_an_output_is_refused(wasm: WasmEngine) -> None:
    code, plan = create(wasm, packed(hop_length=1, center=1), "melspec_create")
    assert code == 0
    assert wasm.call("melspec_frames", plan, 2**31 - 2) == 2**31 - 1
    assert wasm.call("melspec_frames", plan, 2**31 - 1) == CODES["ERROR_TOO_LONG"]
    wasm.call("melspec_destroy", plan)
    code, plan = create(wasm, packed(hop_length=1, n_mels=256), "melspec_create")
    assert code == 0
    assert wasm.call("melspec_bytes", plan, 2**21 + 1023 - 1) == (2**21 - 1) * 1024
    assert wasm.call("melspec_bytes", plan, 2**21 + 1023) == CODES["ERROR_TOO_LONG"]
    wasm.call("melspec_destroy", plan)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("position", [0, 4095, 4096, 20_001, 31_999])
@pytest.mark.parametrize("engine", ["wasm", "scalar", "native"])
def test_a_bad_sample_is_told_by_its_position(
    request: pytest.FixtureRequest, engine: str, position: int, bad: float
) -> None:
    mel = MelSpectrogram(PLAIN, request.getfixturevalue(engine))
    samples = np.ones(32_000, np.float32)
    samples[position] = bad
    samples[-1] = bad
    with pytest.raises(SamplesError, match=rf"Sample {position} \(at {position / 32000:.3f} s\)"):
        mel(samples)
    assert np.isfinite(mel(np.ones(32_000, np.float32))).all(), "the plan is as good as before"


def test_samples_that_are_none(native: NativeEngine) -> None:
    mel = MelSpectrogram(PLAIN, native)
    for samples, words in (
        (np.zeros((2, 32_000), np.float32), r"shape \[2, 32000\]"),
        (np.zeros(32_000, np.int16), "int16"),
        (np.zeros(1023, np.float32), "1023 samples"),
        (np.zeros(0, np.float32), "0 samples"),
        (np.full(32_000, 1e300), "Sample 0 .* is inf"),
    ):
        with pytest.raises(SamplesError, match=words):
            mel.power(samples)
    strided = np.random.default_rng(0).standard_normal(64_000)[::2]
    assert np.array_equal(mel.power(strided), mel.power(strided.astype(np.float32)))


def test_extreme_levels_stay_finite(native: NativeEngine) -> None:
    mel = MelSpectrogram(PLAIN, native)
    for level in (1e-45, 1e-30, 1e15):
        samples = (level * np.cos(np.arange(4096))).astype(np.float32)
        assert np.isfinite(mel.power(samples)).all()
        assert np.isfinite(mel(samples)).all()
    assert np.isfinite(mel(np.full(4096, 3e38, np.float32) * np.cos(np.arange(4096, dtype=np.float32)))).all()


@pytest.mark.slow
def test_a_thousand_plans_do_not_grow_the_memory(built: dict) -> None:
    engine = WasmEngine(built["wasm"].path.read_bytes())
    samples = np.random.default_rng(3).standard_normal(8000).astype(np.float32)
    others = [Frontend.from_dict({**PLAIN.to_dict(), "n_fft": n, "win_length": n}) for n in (256, 512, 2048, 1024)]

    def use(i: int) -> None:
        mel = MelSpectrogram(others[i % 4], engine)
        mel.power(samples[: 4096 + 13 * (i % 100)])
        if i % 2:  # the rest is left to the collector
            mel.close()

    for i in range(20):
        use(i)
    before = engine.memory_bytes
    for i in range(1000):
        use(i)
    assert engine.memory_bytes == before
    keeper = MelSpectrogram(PLAIN, engine)
    expected = keeper.power(samples)
    for i in range(40):
        use(i)
    assert np.array_equal(keeper.power(samples), expected), "plans share nothing"


def test_memory_is_limited(built: dict) -> None:
    engine = WasmEngine(built["wasm"].path.read_bytes(), memory_limit=4 << 20)
    mel = MelSpectrogram(PLAIN, engine)
    with pytest.raises(EngineError, match="no room"):
        mel.power(np.zeros(2_000_000, np.float32))
    assert mel.power(np.zeros(32_000, np.float32)).shape == (64, 62)
    waiting = MelSpectrogram(Frontend.from_dict({**PLAIN.to_dict(), "hop_length": 16, "top_db": 80.0}), engine)
    with pytest.raises(EngineError, match="out of memory"):
        waiting.decibels(np.zeros(100_000, np.float32))
    assert waiting.decibels(np.zeros(2000, np.float32)).shape == (64, 62)


WAT_FUNCTIONS = "".join(
    f'(func (export "{name}") {"".join("(param i32)" for _ in kinds)} (result i32) i32.const 7)'
    for name, kinds in abi.FUNCTIONS.items()
)


@pytest.mark.fault("modules of another kind", "refused with a sentence")
@pytest.mark.parametrize(
    ("wat", "words"),
    [
        ('(module (import "env" "f" (func)))', r"asks its host for env\.f"),
        ("(module)", "lacks melspec_abi_version, .*memory"),
        (f'(module (memory (export "memory") 1) {WAT_FUNCTIONS})', "version 7 .* knows version 1"),
    ],
)
def test_other_modules_are_refused(wat: str, words: str) -> None:
    import wasmtime

    with pytest.raises(EngineError, match=words):
        WasmEngine(bytes(wasmtime.wat2wasm(wat)))


@pytest.mark.fault("5 damaged modules", "refused with a sentence")
def test_damaged_modules_are_refused(built: dict) -> None:
    data = built["wasm"].path.read_bytes()
    for damaged in (b"", b"\0asm", data[:-100], data[:4000], b"x" * 100):
        with pytest.raises(EngineError, match=r"not valid WebAssembly|lacks"):
            WasmEngine(damaged)


def test_wasmtime_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wasmtime", None)
    with pytest.raises(EngineError, match="pip install wasmtime"):
        WasmEngine()


def test_native_library_missing_or_another(tmp_path: Path) -> None:
    import ctypes.util

    with pytest.raises(EngineError, match=r"melspec_cpp/build\.py"):
        NativeEngine(tmp_path / "libmelspec.so")
    with pytest.raises(EngineError, match="lacks melspec_abi_version"):
        NativeEngine(_path_of_libc(ctypes.util.find_library("c")))


def _path_of_libc(name: str | None) -> str:
    assert name is not None
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(name) or "/libc" in line:
            return line.split()[-1]
    raise AssertionError("no C library in this process")


def test_the_packaged_module_is_the_default(built: dict) -> None:
    samples = np.random.default_rng(4).standard_normal(32_000).astype(np.float32)
    assert np.array_equal(
        MelSpectrogram(PLAIN)(samples), MelSpectrogram(PLAIN, WasmEngine(built["wasm"].path.read_bytes()))(samples)
    )
