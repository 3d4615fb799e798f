"""What tests of the station need of a machine. Where it is missing they are skipped, and say what was not tested; where
LABOUS_REQUIRE_STATION=1 is set, as in CI, they fail."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def need(there: object, missing: str, untested: str) -> None:
    """Skip or fail a test whose means are missing.

    Args:
        there: whether they are not.
        missing: what is: "the program ffmpeg".
        untested: what the test would have shown: "streams over RTSP".
    """
    if there:
        return
    reason = f"not tested: {untested}, for want of {missing}"
    if os.environ.get("LABOUS_REQUIRE_STATION") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def programs(*names: str, untested: str) -> None:
    """The same, of programs."""
    missing = [name for name in names if shutil.which(name) is None]
    need(not missing, f"the program {', '.join(missing)}", untested)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of this size, for as long as the block lasts; only root can mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    need(mounted.returncode == 0, f"a small file system ({mounted.stderr.strip()})", "that a full disk loses nothing")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
