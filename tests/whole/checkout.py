"""A copy of the checkout with a small configuration, in which the whole path takes a minute."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

QUICK = """# @package _global_
defaults:
  - override /model: tiny
fit:
  epochs: 3
  steps_per_epoch: 16
  batch_size: 8
  warmup_epochs: 1
export:
  representative_windows: 18
  gate_windows: 8
"""
SMALL = (
    QUICK
    + """dataset:
  codes: [comcuc, cowpig1, gretit1]
  recordings_per_species: 10
  recordists: 8
  recordists_per_species: 5
  soundscape_files: 4
  soundscape_seconds: 20.0
"""
)


class Checkout:
    """A copy of the tracked and new files of this repository, and its commands.

    ``small``: with a small demo as its default experiment.
    """

    first_output: str  # what the main job printed, once it has run

    def __init__(self, place: Path, small: bool = True) -> None:
        self.place = place
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, place / name)
        # what make setup builds, and git does not hold
        shutil.copy(ROOT / "runtime/src/labous/melspec.wasm", place / "runtime/src/labous/melspec.wasm")
        if small:
            self._make_small()
        self._commit()

    def _make_small(self) -> None:
        place = self.place
        (place / "conf/experiment/small.yaml").write_text(SMALL)
        (place / "conf/experiment/quick.yaml").write_text(QUICK)
        config = place / "conf/config.yaml"
        text = config.read_text()
        assert "- experiment: null" in text
        config.write_text(text.replace("- experiment: null", "- experiment: small"))

    def _commit(self) -> None:
        """Make it a repository: DVC and the bundle's revision ask git. The same files give the same commit."""
        someone = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        when = {f"GIT_{who}_DATE": "2021-06-01T05:00:00Z" for who in ("AUTHOR", "COMMITTER")}
        for words in (
            ["init", "-q"],
            ["add", "-A"],
            ["-c", "commit.gpgsign=false", "commit", "-q", "-m", "A copy to test in"],
        ):
            subprocess.run(["git", *words], cwd=self.place, env=self.environment() | someone | when, check=True)

    @classmethod
    def at(cls, place: Path) -> Checkout:
        """One that is there already."""
        checkout = cls.__new__(cls)
        checkout.place = place
        return checkout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start ``python -m WORDS`` in the copy."""
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=self.place,
            env=self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``python -m WORDS`` in the copy to its end."""
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.place,
            env=self.environment(),
            text=True,
            capture_output=True,
            check=False,
        )

    def train(self, *overrides: str) -> str:
        """Run the main job; it must end well."""
        done = self.run("training.train", *overrides)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def bundle(self) -> dict[str, bytes]:
        """Every file of the bundle."""
        place = self.place / "outputs/bundle"
        return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}

    def environment(self) -> dict[str, str]:
        """For commands in the copy."""
        # the engines' own environment lies in the repository, not in the copy
        python = ROOT / ".venv-tflite/bin/python"
        return dict(os.environ) | {"LABOUS_TFLITE_PYTHON": str(python), "DVC_NO_ANALYTICS": "1", "COLUMNS": "100"}
