"""What the tests of faults counted, at the end of every run.

A test says what it did and what came of it with the fixture ``counted``, or with the marker ``fault``, where each test
is one of many of a kind. The lines travel with its report, so those of pytest-xdist's workers arrive too.
tests/conftest.py takes all that is public from here.
"""

from __future__ import annotations

import collections
import textwrap
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest

_PROPERTY = "counted"
_WIDEST = 44  # of what was done; what is longer has its figures on the next line

Counted = Callable[[str, str], None]


@pytest.fixture
def counted(record_property: Callable[[str, object], None]) -> Counted:
    """``counted(what, figures)``: a line of the section "faults"; what was done, and what was counted."""

    def record(what: str, figures: str) -> None:
        assert (what + figures).isprintable()
        record_property(_PROPERTY, [what, figures])

    return record


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "fault(what, outcome): one of a kind of faults, counted at the end of the run if it passes"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("fault"):
        item.user_properties.append((_PROPERTY, list(mark.args)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The section: a paragraph for each file of tests; equal lines are one, and those of failed tests are marked."""
    # beside them are deselected tests, warnings and errors of collecting
    kept = [report for found in terminalreporter.stats.values() for report in found]
    reports = [report for report in kept if isinstance(report, pytest.TestReport)]
    failed = {report.nodeid for report in reports if report.failed}
    skipped = {report.nodeid for report in reports if report.skipped}
    files: dict[str, collections.Counter[tuple[str, str]]] = {}
    for report in reports:
        if report.when != "teardown" or report.nodeid in skipped:  # the last of a test's three: it has all
            continue
        for name, value in report.user_properties:
            if name == _PROPERTY:
                what, figures = value
                mark = "FAILED: " if report.nodeid in failed else ""
                file = "/".join(PurePosixPath(report.nodeid.partition("::")[0]).parts[-2:])
                files.setdefault(file, collections.Counter())[what, mark + figures] += 1
    if not files:
        return
    terminalreporter.section("faults")
    lengths = [len(what) for lines in files.values() for what, _ in lines]
    width = max((length for length in lengths if length <= _WIDEST), default=0) + 4
    for file, lines in sorted(files.items()):
        terminalreporter.write_line(file, bold=True)
        for (what, figures), times in sorted(lines.items(), key=lambda item: item[0][0]):
            told = figures if times == 1 else f"{times} × {figures}"
            for line in _aligned(f"  {what}", told, width, terminalreporter._tw.fullwidth):
                terminalreporter.write_line(line)


def _aligned(what: str, figures: str, width: int, full: int) -> list[str]:
    """Two columns; the second goes on below itself."""
    if len(what) >= width:
        return [what, *_aligned("", figures, width, full)]
    rest = textwrap.wrap(figures, max(40, full - width - 1)) or [""]
    return [line.rstrip() for line in [what.ljust(width) + rest[0], *(" " * width + line for line in rest[1:])]]
