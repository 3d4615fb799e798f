"""TensorFlow and Keras for tests, imported by the first that uses them: not by each process that collects the tests."""

from __future__ import annotations

import importlib
from typing import Any


class _Lazily:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest asks all that is in a module whether it is a test or a fixture
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)


keras: Any = _Lazily("keras")
tf: Any = _Lazily("tensorflow")
