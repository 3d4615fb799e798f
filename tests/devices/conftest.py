"""The questions, melspec.wasm's answers to them, and programs that ask other builds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from labous.mel import WasmEngine
from melspec_cpp import boards, build
from tests.devices import emulation, vectors

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def asked() -> list[vectors.Case]:
    return vectors.cases()


@pytest.fixture(scope="session")
def expected(asked: list[vectors.Case]) -> list[list[vectors.Part]]:
    """What melspec.wasm answers: SIMD128, in Wasmtime."""
    build.build("wasm")
    engine = WasmEngine(build.TARGETS["wasm"].path.read_bytes())
    return [vectors.answer(engine, case) for case in asked]


@pytest.fixture(scope="session")
def library() -> Callable[[str, str], Path]:
    """The mel stage for a machine, from a target of build.py; the test is skipped where it cannot be run."""
    made = functools.cache(boards.library)

    def of(machine: str, target: str) -> Path:
        emulation.require(machine, target)
        return made(machine, target)

    return of


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str, Path], Path]:
    """Compiles a program of this folder for a machine, with a library of the mel stage."""

    def compiled(name: str, machine: str, library: Path) -> Path:
        made = tmp_path / name
        boards.compile_c(machine, HERE / f"{name}.c", library, f"-Wl,-rpath,{library.parent}", out=made)
        return made

    return compiled
