"""The section of faults at the end of a run of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = {
    "test_a.py": "def test_kills(counted):\n    counted('500 kills', '9 put, 9 arrived')\n"
    "def test_loses(counted):\n    counted('a very full disk', '1 lost')\n    assert False\n"
    "def test_says_nothing():\n    pass\n"
    "def test_left_out(counted):\n    counted('not', 'run')\n",
    "test_b.py": "import pytest\n"
    "@pytest.mark.parametrize('n', [1, 2, 3, 4])\n@pytest.mark.fault('wasm that lies', 'refused')\n"
    "def test_wasm(n):\n    assert n != 2\n    n != 3 or pytest.skip()\n"
    "def test_long(counted):\n"
    "    counted('clock', 'x' * 60 + ', ' + 'y' * 60)\n    counted('z' * 60, 'z')\n",
}
SAID = """\
kept/test_a.py
  500 kills         9 put, 9 arrived
  a very full disk  FAILED: 1 lost
kept/test_b.py
  clock             {}
                    {}
  wasm that lies    2 × refused
  wasm that lies    FAILED: refused
  {}
                    z"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["0", "2"])
def test_counts_are_told_at_the_end_of_any_run(processes: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for name, text in TESTS.items():
        (kept / name).write_text(text)
    (kept / "conftest.py").write_text(
        "from tests.counts import counted, pytest_configure, pytest_runtest_setup, pytest_terminal_summary\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": "100"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", processes, "-k", "not left_out",
         f"--rootdir={tmp_path}", str(kept)],
        cwd=tmp_path, env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    _, _, after = done.stdout.partition(" faults ")
    wanted = SAID.format("x" * 60 + ",", "y" * 60, "z" * 60).splitlines()
    assert after.splitlines()[1 : 1 + len(wanted)] == wanted
