"""The three builds, compiled first where the sources have changed since."""

from __future__ import annotations

import pytest

from labous.mel import NativeEngine, WasmEngine
from melspec_cpp import build
from training.features import native_library


@pytest.fixture(scope="session")
def built() -> dict[str, build.Target]:
    """Every target, up to date."""
    for name in build.TARGETS:
        build.build(name)
    build.install()
    return build.TARGETS


@pytest.fixture(scope="session")
def wasm(built: dict[str, build.Target]) -> WasmEngine:
    return WasmEngine(built["wasm"].path.read_bytes())


@pytest.fixture(scope="session")
def scalar(built: dict[str, build.Target]) -> WasmEngine:
    return WasmEngine(built["scalar"].path.read_bytes())


@pytest.fixture(scope="session")
def native(built: dict[str, build.Target]) -> NativeEngine:
    return NativeEngine(built["native"].path)


@pytest.fixture(scope="session")
def fast(built: dict[str, build.Target]) -> NativeEngine:
    """The build with fused multiply-adds, where this machine runs it; else the plain one, as prepare would take."""
    return NativeEngine(native_library())
