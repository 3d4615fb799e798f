"""Modules that are no mel module of this ABI are refused before anything in them runs, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime
from wat import functions

from labous.errors import EngineError
from labous.mel import WasmEngine, compiled


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled modules would be kept; not there yet."""
    place = tmp_path / "compiled"
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(place))
    return place


@pytest.mark.parametrize(
    ("wat", "words"),
    [
        (f'{functions()} (memory (export "memory") i64 1)', "memory is not a 32-bit one"),
        (f'{functions()} (global (export "memory") i32 (i32.const 1))', "memory is not a 32-bit one"),
        (
            functions(melspec_free='(func (export "melspec_free") (param i64))') + '(memory (export "memory") 1)',
            "melspec_free is not the function of version 1",
        ),
        (
            functions(melspec_free='(func (export "melspec_free"))') + '(memory (export "memory") 1)',
            "melspec_free is not the function of version 1",
        ),
        (
            functions(
                melspec_run='(func (export "melspec_run") (param i32 i32 i32 i32 i32 i32) (result f64) unreachable)'
            )
            + '(memory (export "memory") 1)',
            "melspec_run is not the function of version 1",
        ),
        (
            functions(melspec_run='(memory (export "melspec_run") 1)') + '(memory (export "memory") 1)',
            "melspec_run is not the function of version 1",
        ),
        (functions(), "lacks memory;"),
        (f'(import "env" "f" (func)) {functions()} (memory (export "memory") 1)', "asks its host for env.f"),
    ],
)
def test_modules_with_another_interface_are_refused_and_not_kept(wat: str, words: str, folder: Path) -> None:
    module = bytes(wasmtime.wat2wasm(f"(module {wat})"))
    for _ in range(2):
        with pytest.raises(EngineError, match=words):
            WasmEngine(module)
    assert not folder.exists()


def test_a_module_too_big_to_compile_is_refused(folder: Path) -> None:
    with pytest.raises(EngineError, match="1048577 bytes"):
        WasmEngine(bytes(compiled.MODULE_LIMIT + 1))
    with pytest.raises(EngineError, match="not valid WebAssembly"):
        WasmEngine(bytes(compiled.MODULE_LIMIT))
    assert not folder.exists()
