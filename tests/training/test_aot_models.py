"""Whole models ahead of time, on this machine and in Wasmtime, beside LiteRT; tests/devices has the other machines."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import wasmtime
from aot_models import SIZES, TOLERANCE, reference, sized
from export_fixtures import exported
from numpy.typing import NDArray

from training.aot import __main__ as command
from training.aot.build import WASM, build_model
from training.aot.errors import AotError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "outputs" / "bundle"


def native(library: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A library of this machine."""
    loaded = ctypes.CDLL(str(library))
    loaded.labous_model_run.argtypes = [ctypes.c_void_p] * 3

    def run(mel: NDArray[np.float32]) -> NDArray[np.float32]:
        assert mel.size == loaded.labous_model_inputs()
        arena = np.full(loaded.labous_model_arena_bytes(), 0xFF, np.uint8)
        logits = np.full(loaded.labous_model_outputs(), np.nan, np.float32)
        mel = np.ascontiguousarray(mel)
        assert loaded.labous_model_run(mel.ctypes.data, logits.ctypes.data, arena.ctypes.data) == 0
        return logits

    return run


def module(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A WebAssembly module, in Wasmtime; it has no imports, and a host needs nothing but its exports."""
    engine = wasmtime.Engine()
    store, loaded = wasmtime.Store(engine), wasmtime.Module.from_file(engine, str(path))
    assert loaded.imports == []
    exports = wasmtime.Instance(store, loaded, []).exports(store)
    memory = exports["memory"]
    assert isinstance(memory, wasmtime.Memory)

    def call(name: str, *arguments: int) -> int:
        function = exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(store, *arguments)

    arena = call("labous_model_memory")
    mel_at = arena + -(-call("labous_model_arena_bytes") // 64) * 64
    logits_at = mel_at + -(-4 * call("labous_model_inputs") // 64) * 64
    assert arena % 64 == 0
    assert memory.data_len(store) >= logits_at + 4 * call("labous_model_outputs")

    def run(mel: NDArray[np.float32]) -> NDArray[np.float32]:
        memory.write(store, b"\xff" * (logits_at - arena), arena)
        memory.write(store, mel.tobytes(), mel_at)
        assert call("labous_model_run", mel_at, logits_at, arena) == 0
        end = logits_at + 4 * call("labous_model_outputs")
        return np.frombuffer(memory.read(store, logits_at, end), np.float32)

    return run


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("frontend", "n_labels"), [("mel64", 30), ("mel128", 397)])
def test_every_size_of_conf(size: str, frontend: str, n_labels: int, tmp_path: Path) -> None:
    tflite, mels = sized(size, frontend, n_labels)
    expected = reference(tflite, mels)
    assert np.ptp(expected, axis=0).max() > 0.1  # it listens
    for target, load in ((platform.machine(), native), (WASM, module)):
        place = tmp_path / f"model-{target}"
        build_model(tflite, target, place)
        run = load(place)
        np.testing.assert_allclose(np.stack([run(mel) for mel in mels]), expected, rtol=0, atol=TOLERANCE)


def test_the_demo_bundle_on_its_golden_windows(tmp_path: Path) -> None:
    if not DEMO.is_dir():
        pytest.skip("there is no bundle in outputs: run make train")
    tflite, golden = (DEMO / "model.tflite").read_bytes(), np.load(DEMO / "golden" / "golden.npz")
    for target, load in ((platform.machine(), native), (WASM, module)):
        build_model(tflite, target, tmp_path / target)
        run = load(tmp_path / target)
        logits = np.stack([run(mel) for mel in golden["mel"]])
        np.testing.assert_allclose(logits, golden["logits_float32"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("target", command.TARGETS)
def test_nothing_but_the_interface(target: str, tmp_path: Path) -> None:
    """No library needed, no symbol left open, none visible that labous_model.h does not have."""
    place = tmp_path / "libmodel.so"
    build_model(exported().float32, target, place)
    interface = {"abi_version", "arena_bytes", "inputs", "outputs", "run", "source"}
    if target == WASM:
        loaded = wasmtime.Module.from_file(wasmtime.Engine(), str(place))
        assert loaded.imports == []
        assert {export.name for export in loaded.exports} == {
            "memory",
            *(f"labous_model_{name}" for name in (*interface, "memory")),
        }
        return
    told = subprocess.run(["readelf", "-dW", "--dyn-syms", place], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" not in told
    symbols = [
        line.split()[6:8] for line in told.splitlines() if "FUNC" in line or "NOTYPE" in line or "OBJECT" in line
    ]
    assert {symbol[1] for symbol in symbols if len(symbol) == 2} == {f"labous_model_{name}" for name in interface}
    assert not [symbol for symbol in symbols if len(symbol) == 2 and symbol[0] == "UND"]


@pytest.mark.parametrize("target", ["riscv64", WASM])
def test_the_same_bytes_from_a_second_build(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another folder, by a compiler that remembers nothing."""
    build_model(exported().float32, target, tmp_path / "libmodel.so")
    for variable in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "zig"))
    monkeypatch.setattr("melspec_cpp.build.environment", lambda: None)
    build_model(exported().float32, target, tmp_path / "again" / "libmodel.so")
    assert (tmp_path / "zig").is_dir()
    assert (tmp_path / "libmodel.so").read_bytes() == (tmp_path / "again" / "libmodel.so").read_bytes()


def test_threads_with_arenas_of_their_own(tmp_path: Path) -> None:
    build_model(exported().float32, platform.machine(), tmp_path / "libmodel.so")
    run = native(tmp_path / "libmodel.so")
    alone = [run(mel).tobytes() for mel in exported().mels]
    with ThreadPoolExecutor(4) as pool:
        assert [logits.tobytes() for logits in pool.map(run, [*exported().mels] * 20)] == alone * 20


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "model.tflite", tmp_path / "out"
    path.write_bytes(exported().float32)
    assert command.main([str(path), "--out", str(out), "riscv64", "wasm"]) == 0
    assert sorted(file.name for file in out.iterdir()) == ["libmodel-riscv64.so", "model.wasm"]
    path.write_bytes(exported().int8)
    assert command.main([str(path), "--out", str(tmp_path / "none"), "wasm"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("QUANTIZE at operator 0") and said.count("\n") == 1 and not (tmp_path / "none").exists()
    assert command.main([str(tmp_path / "nowhere"), "--out", str(out)]) == 1
    with pytest.raises(SystemExit, match="2"):
        command.main([str(path), "--out", str(out), "z80"])
    assert (
        "no target z80; there are x86_64, aarch64, armv7l, riscv64, wasm, hear, labous-x86_64"
        in capsys.readouterr().err
    )


def test_a_failed_build_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "libmodel.so"
    build_model(exported().float32, "x86_64", place)
    before = place.read_bytes()
    monkeypatch.setattr("training.aot.build._COMMON", ("-no-such-flag",))
    with pytest.raises(AotError, match=r"Compiling model\.o failed"):
        build_model(exported().float32, "x86_64", place)
    assert place.read_bytes() == before and list(tmp_path.iterdir()) == [place]
