"""Fixtures that several rooms share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import wheels
from tests.counts import counted, pytest_configure, pytest_runtest_setup, pytest_terminal_summary

__all__ = ["counted", "pytest_configure", "pytest_runtest_setup", "pytest_terminal_summary"]


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled mel modules go to a folder of this run's, in the processes that tests start as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABOUS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heeded() -> None:
    """Where the tests run in the background of a script, Ctrl-C is ignored, and what they start would inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    return wheels.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a device's environment: the wheel with LiteRT and audio, and nothing of training."""
    return wheels.environment(tmp_path_factory.mktemp("device") / "venv", wheel, "litert,audio", "requirements.lock")


@pytest.fixture(scope="session")
def real_audio() -> Path:
    """The folder of real recordings in BirdCLEF's layout."""
    given = os.environ.get("LABOUS_REAL_AUDIO")
    if given is None:
        pytest.skip("LABOUS_REAL_AUDIO is not set")
    folder = Path(given)
    assert folder.is_dir(), f"LABOUS_REAL_AUDIO is {folder}, which is no folder"
    return folder
