"""Who imports TensorFlow, which takes seconds."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "tensorflow: imports TensorFlow, or most of its file does")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What imports it first: of processes that share the tests from both ends, only one has to."""
    items.sort(key=lambda item: item.get_closest_marker("tensorflow") is None)
