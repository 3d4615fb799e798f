"""Fixtures of the station's tests: the runtime's own bundle and recording, and a package that adds nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.conftest import _bundle, bundle_path, wav
from tests.station import pipelines

__all__ = ["_bundle", "bundle_path", "wav"]


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a third party's package installed, tests/station/plugin."""
    return pipelines.install_plugin(tmp_path_factory.mktemp("plugin") / "packages")
