"""Parameters of a test of which the fast set needs only some."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def few(values: Iterable[Any], fast: int) -> list[Any]:
    """The same parameters, a tuple for several names; a test with one behind the first ``fast`` is slow."""
    told = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*value, marks=[pytest.mark.slow] * (n >= fast)) for n, value in enumerate(told)]
