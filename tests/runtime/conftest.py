"""Fixtures of the runtime's tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.runtime import audio, bundles


@pytest.fixture(scope="session")
def _bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write_bundle(tmp_path_factory.mktemp("bundle") / "b")


@pytest.fixture
def bundle_path(_bundle: Path, tmp_path: Path) -> Path:
    """A bundle's directory that the test may damage."""
    return Path(shutil.copytree(_bundle, tmp_path / "bundle"))


@pytest.fixture
def zip_path(bundle_path: Path, tmp_path: Path) -> Path:
    """The same bundle as a .zip."""
    return Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", bundle_path))


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """A recording of 3.5 s in stereo at 44.1 kHz."""
    return audio.write(tmp_path / "garden.wav", audio.noise(3.5, 44_100, channels=2), 44_100)
