"""wasm: the bundle's front end window by window, and strangers' modules within their bounds."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
import wasmtime

from labous.errors import EngineError, NodeError
from labous.nodes import Context
from labous.nodes.wasm import Wasm
from tests.counts import Counted
from tests.runtime import audio
from tests.station import middle
from tests.station.middle import RATE, SIZE

# doubles each value; other inputs make it misbehave, by their first value
MODULE = """
(module
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 16))
  (func (export "labous_alloc") (param $bytes i32) (result i32) (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (local.get $at) (local.get $bytes)))
    (block $enough
      (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $enough (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1)
        (i32.div_u (local.get $bytes) (i32.const 65536))))))
      (return (i32.const 0)))
    (local.get $at))
  (func (export "labous_run") (param $in i32) (param $n i32) (param $out i32) (param $room i32) (result i32)
    (local $i i32) (local $first f32)
    (local.set $first (f32.load (local.get $in)))
    (if (f32.eq (local.get $first) (f32.const 1)) (then unreachable))
    (if (f32.eq (local.get $first) (f32.const 2)) (then (loop $for_ever (br $for_ever))))
    (if (f32.eq (local.get $first) (f32.const 3)) (then (return (i32.const -7))))
    (if (f32.eq (local.get $first) (f32.const 4)) (then (return (i32.add (local.get $room) (i32.const 1)))))
    (if (f32.eq (local.get $first) (f32.const 5))
      (then (loop $more (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 16)))) unreachable)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (f32.store (i32.add (local.get $out) (i32.shl (local.get $i) (i32.const 2)))
        (f32.mul (f32.const 2) (f32.load (i32.add (local.get $in) (i32.shl (local.get $i) (i32.const 2))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (local.get $n)))
"""
FAULTS = {
    1: "trapped in labous_run",
    2: "spent (more than 0.2 s|its fuel)",
    3: "refused a window with the code -7",
    4: "says that it gave 9 values where 8 have room",
    5: "trapped in labous_run",
}


@pytest.fixture
def context(bundle_path: Path, tmp_path: Path) -> Context:
    return middle.context(bundle_path, tmp_path)


def module(folder: Path, text: str = MODULE) -> str:
    (folder / "stranger.wasm").write_bytes(wasmtime.wat2wasm(text))
    return "stranger.wasm"


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75, 0.123])
def test_the_mel_of_each_window_is_that_of_the_window_alone(overlap: float, context: Context, tmp_path: Path) -> None:
    node = Wasm().open(context)
    counted = 0
    for n, seconds in enumerate((5.3, 0.4, 3.0, 1.2)):
        path = audio.write(tmp_path / f"{n}.wav", audio.noise(seconds, RATE, seed=n), RATE)
        for record in middle.through([node], middle.of_file(path, overlap)):
            np.testing.assert_array_equal(record.columns["mel"], context.bundle.mel(record.columns["audio"]))
            counted += 1
        assert not list(node.end(str(path)))
    node.close()
    assert counted >= 10


def test_windows_that_went_missing_before_it_change_nothing(context: Context, tmp_path: Path) -> None:
    path = audio.write(tmp_path / "a.wav", audio.noise(30, RATE), RATE)
    node = Wasm().open(context)
    dice = random.Random(0)
    kept = [record for record in middle.of_file(path, 0.75) if dice.random() < 0.8]
    for record in middle.through([node], kept):
        np.testing.assert_array_equal(record.columns["mel"], context.bundle.mel(record.columns["audio"]))


def test_overlapping_windows_compute_only_what_is_new(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labous.mel import MelSpectrogram, MelStream

    path = audio.write(tmp_path / "a.wav", audio.noise(10, RATE), RATE)
    node, records = Wasm().open(context), list(middle.of_file(path, 0.75))
    given: list[int] = []
    push, whole = MelStream.push, MelSpectrogram.__call__
    monkeypatch.setattr(MelStream, "push", lambda self, x: given.append(len(x)) or push(self, x))
    monkeypatch.setattr(MelSpectrogram, "__call__", lambda self, x: given.append(len(x)) or whole(self, x))
    middle.through([node], records)
    # the first ones, until it is seen that all are alike, are computed whole
    assert sum(given) <= 10 * RATE + 4 * SIZE


def test_what_is_no_sound_ends_the_run_or_the_window(context: Context) -> None:
    bad = np.full(SIZE, np.nan, np.float32)
    with pytest.raises(NodeError, match=r"wasm: Sample 0 .* nan"):
        middle.through([Wasm().open(context)], [middle.at(0, audio=bad)])
    good = audio.noise(1, RATE)[:, 0]
    node = Wasm(on_error="drop").open(context)
    records = [middle.at(n * SIZE, audio=bad if n == 1 else good) for n in range(3)]
    assert [r.start for r in middle.through([node], records)] == [0, 2 * SIZE]
    assert context.counters.read()['dropped_windows_total{node="wasm"}'] == 1


def test_a_strangers_function(context: Context, tmp_path: Path) -> None:
    options = Wasm(module=module(tmp_path), input="audio", output="doubled", shape=(2, 4))
    node = options.open(context)
    values = np.arange(10, 18, dtype=np.float32)
    (record,) = middle.through([node], [middle.at(0, audio=values)])
    np.testing.assert_array_equal(record.columns["doubled"], 2 * values.reshape(2, 4))
    flat = Wasm(module="stranger.wasm", output="doubled").open(context)
    for n in (8, 100_000, 8):  # its memory grows, and begins anew
        values = np.arange(10, 10 + n, dtype=np.float32)
        (record,) = middle.through([flat], [middle.at(0, audio=values)])
        np.testing.assert_array_equal(record.columns["doubled"], 2 * values)


@pytest.mark.parametrize("fuel", [0, 1_000_000])
def test_a_module_that_fails_is_stopped_and_goes_on_with_the_next_window(
    fuel: int, context: Context, tmp_path: Path, counted: Counted
) -> None:
    options = {"module": module(tmp_path), "seconds": 0.2, "fuel": fuel, "memory_megabytes": 4.0}
    stopping, dropping = (Wasm(on_error=how, **options).open(context) for how in ("stop", "drop"))
    good, longest = np.arange(10, 18, dtype=np.float32), 0.0
    for first, fault in FAULTS.items():
        bad = np.full(8, first, np.float32)
        begun = time.monotonic()
        with pytest.raises(NodeError, match=fault):
            middle.through([stopping], [middle.at(0, audio=bad)])
        longest = max(longest, time.monotonic() - begun)
        assert longest < 2, first
        records = middle.through([dropping], [middle.at(n, audio=bad if n == 1 else good) for n in range(3)])
        assert [r.start for r in records] == [0, 2]
        np.testing.assert_array_equal(records[1].columns["mel"], 2 * good)
    assert context.counters.read()['dropped_windows_total{node="wasm"}'] == len(FAULTS)
    counted(
        f"{len(FAULTS)} faults of a module, {'with' if fuel else 'without'} fuel",
        f"each stopped after {longest:.2f} s at most; the next window is heard",
    )


def test_the_result_must_have_the_shape(context: Context, tmp_path: Path) -> None:
    node = Wasm(module=module(tmp_path), shape=(3, 4)).open(context)
    with pytest.raises(NodeError, match="gave 8 values and shape asks for 12"):
        middle.through([node], [middle.at(0, audio=np.zeros(8, np.float32))])


@pytest.mark.fault("modules that are none", "refused at once")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("(module)", "exports no 32-bit memory"),
        ('(module (memory (export "memory") i64 1))', "exports no 32-bit memory"),
        ('(module (memory (export "memory") 1))', "exports no function labous_alloc"),
        ('(module (import "wasi" "\\1b[31mfd_write" (func)) (memory (export "memory") 1))', r"\.\\x1b\[31mfd_write"),
        ('(module (memory (export "memory") 1) (func (export "labous_alloc") (param i32) (result i32) i32.const 8)'
         ' (func (export "labous_run") (param i32) (result i32) i32.const 8))', "no function labous_run of 4 i32"),
        ('(module (memory (export "memory") 1) (func (export "labous_alloc") (param i32) (result i32) i32.const 8)'
         ' (func (export "labous_run") (param i32 i32 i32 i32) (result i32) i32.const 8)'
         " (func $s (loop $l (br $l))) (start $s))", "spent more than 0.2 s in its start"),
        ('(module (memory (export "memory") 10000) (func (export "labous_alloc") (param i32) (result i32) i32.const 8)'
         ' (func (export "labous_run") (param i32 i32 i32 i32) (result i32) i32.const 8))', "memory"),
    ],
)  # fmt: skip
def test_what_is_no_such_module_is_refused_at_once(text: str, told: str, context: Context, tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=told) as caught:
        Wasm(module=module(tmp_path, text), seconds=0.2, fuel=0).open(context)
    assert str(caught.value).isprintable()


def test_an_address_outside_the_memory_is_refused(context: Context, tmp_path: Path) -> None:
    text = (
        '(module (memory (export "memory") 1) (func (export "labous_alloc") (param i32) (result i32) i32.const 65530)'
        ' (func (export "labous_run") (param i32 i32 i32 i32) (result i32) i32.const 8))'
    )
    with pytest.raises(NodeError, match="points outside its own memory"):
        middle.through(
            [Wasm(module=module(tmp_path, text)).open(context)], [middle.at(0, audio=np.zeros(8, np.float32))]
        )


def test_files_that_are_no_modules(context: Context, tmp_path: Path) -> None:
    (tmp_path / "long.wasm").write_bytes(bytes(2 << 20))
    (tmp_path / "text.wasm").write_text("\x1b[31mnothing")
    for name, told in (("missing.wasm", "No such file"), ("long.wasm", "is the most"), ("text.wasm", "not valid")):
        with pytest.raises(NodeError, match=told) as caught:
            Wasm(module=name).open(context)
        assert str(caught.value).isprintable()
    with pytest.raises(NodeError, match="shape is for a module of your own"):
        Wasm(shape=(1,)).open(context)


def test_without_wasmtime_the_error_says_what_to_install(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "wasmtime", None)
    with pytest.raises((NodeError, EngineError), match="pip install wasmtime"):
        Wasm(module=name).open(context)
