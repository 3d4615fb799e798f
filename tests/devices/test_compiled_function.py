"""A stranger's module without Wasmtime: as machine code that melspec_cpp/boards.py made, within the same bounds."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np
import pytest
import wasmtime

from labous import libraries
from labous.errors import NodeError
from labous.mel import compiled
from labous.nodes import Context
from labous.nodes.wasm import Wasm
from melspec_cpp import boards
from tests.runtime import bundles
from tests.station import middle
from tests.station.test_wasm_node import MODULE

HERE = platform.machine()
FAULTS = {
    1: "trapped in labous_run: Unreachable",
    3: "refused a window with the code -7",
    4: "says that it gave 9 values where 8 have room",
    5: "trapped in labous_run: Unreachable",  # its memory does not grow for ever
}
ALLOC = '(func (export "labous_alloc") (param i32) (result i32) {})'
COUNT = "(i32.sub (i32.const 0) (memory.size))"
RUN = '(func (export "labous_run") (param i32 i32 i32 i32) (result i32) {})'
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(HERE not in boards.MACHINES or sys.platform != "linux", reason="no libraries are built for it"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def context(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "library")
    return middle.context(bundle, tmp_path)


def made(folder: Path, text: str = MODULE) -> str:
    """A module and its library beside it, by the command."""
    (folder / "stranger.wasm").write_bytes(wasmtime.wat2wasm(text))
    assert boards.main(["--module", str(folder / "stranger.wasm"), HERE]) == 0
    return "stranger.wasm"


def test_it_gives_what_wasmtime_gives(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = made(tmp_path)
    here = Wasm(module=name, output="doubled").open(context)
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "wasmtime")
    there = Wasm(module=name, output="doubled").open(context)
    for n in (8, 100_000, 8):  # its memory grows, and begins anew
        values = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        (record,) = middle.through([here], [middle.at(0, audio=values)])
        (wanted,) = middle.through([there], [middle.at(0, audio=values)])
        assert record.columns["doubled"].tobytes() == wanted.columns["doubled"].tobytes() == (2 * values).tobytes()


def test_a_module_that_fails_goes_on_with_the_next_window(context: Context, tmp_path: Path) -> None:
    options = {"module": made(tmp_path), "memory_megabytes": 4.0}
    stopping, dropping = (Wasm(on_error=how, **options).open(context) for how in ("stop", "drop"))
    good = np.arange(10, 18, dtype=np.float32)
    for first, fault in FAULTS.items():
        bad = np.full(8, first, np.float32)
        with pytest.raises(NodeError, match=fault):
            middle.through([stopping], [middle.at(0, audio=bad)])
        records = middle.through([dropping], [middle.at(n, audio=bad if n == 1 else good) for n in range(3)])
        assert [r.start for r in records] == [0, 2]
        np.testing.assert_array_equal(records[1].columns["mel"], 2 * good)
    assert context.counters.read()['dropped_windows_total{node="wasm"}'] == len(FAULTS)


def test_its_memory_grows_as_far_as_it_may(context: Context, tmp_path: Path) -> None:
    grow = "(loop $more (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))"
    text = f'(module (memory (export "memory") 1) {ALLOC.format("i32.const 8")} {RUN.format(grow + COUNT)})'
    node = Wasm(module=made(tmp_path, text), memory_megabytes=4.0).open(context)
    with pytest.raises(NodeError, match="refused a window with the code -61"):  # pages of 65,536 bytes
        middle.through([node], [middle.at(0, audio=np.zeros(8, np.float32))])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (MODULE.replace("labous_run", "other"), "exports no function labous_run of 4 i32"),
        (f'(module (memory (export "memory") 10000) {ALLOC.format("i32.const 8")} {RUN.format("i32.const 8")})',
         "cannot be begun: its memory or a table begins with more than it may have"),
        (f'(module (memory (export "memory") 1) (table 100000 funcref) {ALLOC.format("i32.const 8")}'
         f' {RUN.format("i32.const 8")})', "its memory or a table begins with more"),
        (f'(module (memory (export "memory") 1) {ALLOC.format("i32.const 8")} {RUN.format("i32.const 8")}'
         " (func $s unreachable) (start $s))", "trapped in its start: Unreachable"),
        (f'(module (memory (export "memory") 1) {ALLOC.format("i32.const 8")} {RUN.format("i32.const 8")}'
         ' (func (export "_initialize") unreachable))', "trapped in its start: Unreachable"),
    ],
)  # fmt: skip
def test_what_cannot_be_begun(text: str, told: str, context: Context, tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=told) as caught:
        Wasm(module=made(tmp_path, text)).open(context)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("alloc", "run", "told"),
    [
        ("i32.const 65530", "i32.const 8", "points outside its own memory"),
        ("i32.const -16", "i32.const 8", "points outside its own memory"),
        ("i32.const 0", "i32.const 8", "has no room for 32 bytes"),
        ("unreachable", "i32.const 8", "trapped in labous_alloc: Unreachable"),
        ("i32.const 8", "(i32.load (i32.const -4))", "trapped in labous_run: Out-of-bounds access"),
    ],
)
def test_it_stays_within_its_memory(alloc: str, run: str, told: str, context: Context, tmp_path: Path) -> None:
    name = made(tmp_path, f'(module (memory (export "memory") 1) {ALLOC.format(alloc)} {RUN.format(run)})')
    with pytest.raises(NodeError, match=told):
        middle.through([Wasm(module=name).open(context)], [middle.at(0, audio=np.zeros(8, np.float32))])


def test_the_library_must_be_there_and_of_this_module(context: Context, tmp_path: Path) -> None:
    name = made(tmp_path)
    library = tmp_path / f"stranger-{HERE}.so"
    content = library.read_bytes()
    (tmp_path / name).write_bytes(wasmtime.wat2wasm(MODULE.replace("f32.const 2", "f32.const 3")))
    with pytest.raises(NodeError, match=r"was made from another \.wasm file; make it again"):
        Wasm(module=name).open(context)
    for length in (0, 3, 50, 100, 1000, len(content) // 2):  # a copy that was cut short must not end the station
        library.write_bytes(content[:length])
        with pytest.raises(NodeError, match=r"cannot be loaded on this machine \(it is not a whole library"):
            Wasm(module=name).open(context)
    library.write_bytes(bytes(len(content)))
    with pytest.raises(NodeError, match="cannot be loaded on this machine"):
        Wasm(module=name).open(context)
    library.unlink()
    with pytest.raises(NodeError, match=rf"no stranger-{HERE}\.so: make it with .*boards\.py --module {name} {HERE}"):
        Wasm(module=name).open(context)
    assert libraries.machine() == HERE


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '(module (import "wasi" "fd_write" (func)) (memory (export "memory") 1))',
            "asks its host for 'wasi' 'fd_write'",
        ),
        ("(module)", "exports no 32-bit memory"),
        ('(module (memory (export "memory") 1))', "is no module for a wasm node"),
        (f'(module (memory (export "memory") 1) {ALLOC.format("i32.const 8")})', "is no module for a wasm node"),
    ],
)
def test_the_command_refuses_what_is_no_such_module(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.wasm").write_bytes(wasmtime.wat2wasm(text))
    assert boards.main(["--module", str(tmp_path / "x.wasm"), "--out", str(tmp_path / "out"), HERE]) == 1
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "x.wasm").write_text("no module")
    assert boards.main(["--module", str(tmp_path / "x.wasm"), HERE]) == 1
    assert boards.main(["--module", str(tmp_path / "y.wasm"), HERE]) == 1
    assert "cannot be read" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        boards.main(["--out", str(tmp_path)])


def test_the_same_bytes_for_each_machine_again(tmp_path: Path) -> None:
    (tmp_path / "m.wasm").write_bytes(wasmtime.wat2wasm(MODULE))
    for folder in ("a", "b"):
        assert boards.main(["--module", str(tmp_path / "m.wasm"), "--out", str(tmp_path / folder)]) == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(f"m-{machine}.so" for machine in boards.MACHINES)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_would_overrun_the_stack_is_not_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """wasm2c bounds how deep calls nest, not what each takes."""
    count = 3000
    locals_ = " ".join("(local i64)" for _ in range(count))
    sums = " ".join(f"(local.set {i + 1} (i64.load offset={8 * i} (local.get 0)))" for i in range(count))
    uses = " ".join(f"(i64.store offset={8 * i} (local.get 0) (local.get {i + 1}))" for i in range(count))
    text = f"""(module (memory (export "memory") 1) {ALLOC.format("i32.const 8")}
      (func $deep (param i32) {locals_} {sums} (call $deep (local.get 0)) {uses})
      {RUN.format("(call $deep (i32.const 8)) i32.const 8")})"""
    (tmp_path / "deep.wasm").write_bytes(wasmtime.wat2wasm(text))
    assert boards.main(["--module", str(tmp_path / "deep.wasm"), HERE]) == 1
    assert "deep.wasm has a function that takes more than 8192 bytes of the stack" in capsys.readouterr().err
    assert not (tmp_path / f"deep-{HERE}.so").exists()


def test_calls_without_end_trap(context: Context, tmp_path: Path) -> None:
    text = f"""(module (memory (export "memory") 1) {ALLOC.format("i32.const 8")}
      (func $deep (param i32) (call $deep (local.get 0)) (i32.store (local.get 0) (i32.const 1)))
      {RUN.format("(call $deep (i32.const 8)) i32.const 8")})"""
    name = made(tmp_path, text)
    node = Wasm(module=name).open(context)
    with pytest.raises(NodeError, match="trapped in labous_run: Call stack exhausted"):
        middle.through([node], [middle.at(0, audio=np.zeros(8, np.float32))])
