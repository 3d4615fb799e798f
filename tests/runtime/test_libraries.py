"""Which machine this is, machine code from bytes, and packages that install where they do not work."""

from __future__ import annotations

import platform
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import labous
from labous import cli, libraries, models
from labous.errors import EngineError
from labous.mel import WasmEngine, compiled
from tests.runtime import bundles


@pytest.mark.parametrize(
    ("uname", "largest", "machine"),
    [
        ("x86_64", 2**63, "x86_64"),
        ("AMD64", 2**63, "x86_64"),
        ("arm64", 2**63, "aarch64"),
        ("aarch64", 2**63, "aarch64"),
        ("aarch64", 2**31, "armv7l"),  # 32-bit Raspberry Pi OS on a Pi 4: the kernel has 64 bits
        ("armv7l", 2**31, "armv7l"),
        ("armv8l", 2**31, "armv7l"),
        ("armv6l", 2**31, "armv6l"),
        ("x86_64", 2**31, "i686"),
        ("riscv64", 2**63, "riscv64"),
    ],
)
def test_the_machine_is_that_of_the_programs(
    uname: str, largest: int, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: uname)
    monkeypatch.setattr(sys, "maxsize", largest - 1)
    assert libraries.machine() == machine
    assert libraries.row().startswith("docs/devices.md")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert libraries.board() == ""


def test_the_rows_of_the_page_are_there() -> None:
    page = (Path(__file__).parents[2] / "docs/devices.md").read_text(encoding="utf-8")
    for row in libraries._ROWS.values():
        assert f"| {row}" in page


def test_bytes_that_are_no_library() -> None:
    with pytest.raises(EngineError, match=r"^mine\.so cannot be loaded on this machine .*docs/devices\.md, row"):
        libraries.load(b"no library", "mine.so")


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Installs a package that raises something when it is imported."""

    def install(name: str, error: str) -> None:
        for module in [module for module in sys.modules if module.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        (tmp_path / "packages" / name).mkdir(parents=True)
        (tmp_path / "packages" / name / "__init__.py").write_text(f"raise {error}")
        monkeypatch.syspath_prepend(tmp_path / "packages")

    return install


@pytest.mark.parametrize("error", ["ImportError('no module')", "RuntimeError('unsupported\\nplatform')", "OSError"])
@pytest.mark.parametrize(
    ("machine", "told"), [("x86_64", "pip install wasmtime"), ("riscv64", "docs/devices.md, row 'Debian riscv64'")]
)
def test_a_wasmtime_that_raises_at_import(
    error: str, machine: str, told: str, broken: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("wasmtime", error)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(EngineError, match=f"Wasmtime cannot be imported .*{told}") as caught:
        WasmEngine()
    assert "\n" not in str(caught.value)


def test_a_bundle_without_libraries_says_what_to_export(
    bundle_path: Path, broken: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("wasmtime", "ImportError")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    bundle = labous.Bundle.read(bundle_path)
    with pytest.raises(EngineError, match=r"not made for this machine.*bundle\.targets=\[riscv64\]") as caught:
        _ = bundle.mel
    print(caught.value)
    with pytest.raises(EngineError, match=r"cannot be tried without a bundle: .*row 'Debian riscv64'"):
        cli.importlib.import_module("labous.commands.check").run(types.SimpleNamespace(bundle=None))


def test_what_runs_webassembly_can_be_asked_for(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "library")
    with pytest.raises(EngineError, match="LABOUS_WEBASSEMBLY asks for a library; and the bundle has no library"):
        _ = labous.Bundle.read(bundle_path).mel
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "wasm3")
    with pytest.raises(EngineError, match="LABOUS_WEBASSEMBLY is 'wasm3'; set it to wasmtime or library"):
        _ = labous.Bundle.read(bundle_path).mel
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "wasmtime")
    assert labous.Bundle.read(bundle_path).mel_library is None


def test_an_engine_whose_library_does_not_load_is_passed_over(
    broken: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(models.engine_named("tflite_c").VARIABLE, "/nowhere/libtensorflow-lite.so")
    broken("ai_edge_litert", "OSError('libpywrap.so: wrong ELF class')")
    both = {"tflite": bundles.tflite_model(*bundles.weights(0), 62), "onnx": b""}
    assert models.choose_engine(both) == "onnxruntime"
    broken("onnxruntime", "OSError")
    with pytest.raises(EngineError, match=r"No engine .* works here: litert cannot be used: .* wrong ELF class"):
        models.choose_engine(both)


@pytest.mark.parametrize(
    ("machine", "kinds", "told"),
    [
        ("x86_64", ("tflite", "onnx"), r"pip install 'labous\[litert\]'"),
        (
            "riscv64",
            ("tflite", "onnx"),
            r"bundle\.targets=\[riscv64\] \(an .*\), or run: apt-get install libtensorflow-lite",
        ),
        ("riscv64", ("tflite",), "installed; run: apt-get install libtensorflow-lite"),
        ("armv7l", ("tflite",), r"labous\[tflite\]" if sys.version_info < (3, 12) else "libtensorflow-lite"),
    ],
)
def test_where_no_engine_is_the_machines_own_way_is_told(
    machine: str, kinds: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for name in models.ENGINES:
        monkeypatch.setattr(models.engine_named(name), "is_installed", lambda: False)
    with pytest.raises(EngineError, match=told):
        models.choose_engine(dict.fromkeys(kinds, b""))


def test_a_table_that_lies_beyond_all_numbers_is_no_library() -> None:
    header = bytearray(64)
    header[:5], header[32:40], header[54:58] = b"\x7fELF\x02", b"\xff" * 8, b"\x38\x00\x01\x00"
    with pytest.raises(EngineError, match="it is not a whole library"):
        libraries.load(bytes(header), "stranger.so")
