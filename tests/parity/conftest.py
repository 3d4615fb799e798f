"""The mel stage, built first where its sources have changed since."""

from __future__ import annotations

import pytest

from melspec_cpp import build


@pytest.fixture(scope="session", autouse=True)
def mel_stage_built() -> None:
    """melspec.wasm in the runtime's package and the native libraries, up to date."""
    for name in ("wasm", "native", "fast"):
        build.build(name)
    build.install()
