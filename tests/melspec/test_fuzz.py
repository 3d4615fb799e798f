"""A million calls of the native mel stage under AddressSanitizer and UBSan, and whether mistakes would be found."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from melspec_cpp.fuzz import fuzz
from tests.counts import Counted

REQUIRE_VARIABLE = "LABOUS_REQUIRE_SANITIZERS"
CALLS = 1_000_000  # of all builds together

# What is done wrong on purpose (fuzz.cpp), and what must be said of it.
MISTAKES = {
    "short": "heap-buffer-overflow",
    "zone": "use-after-poison",
    "overflow": "signed integer overflow",
    "leak": "detected memory leaks",
    "bits": "FAILED: a window of a stream is not what a run gives",
    "written": "FAILED: something was written on an error",
    "code": "FAILED: the code is not one of those that the arguments deserve",
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The fuzzer of each build; without sanitizers its tests are skipped, or fail where they are required."""
    try:
        return fuzz.compile_all(fuzz.find_compiler(), fuzz.builds(), tmp_path_factory.mktemp("fuzz"))
    except fuzz.NoSanitizers as error:
        if os.environ.get(REQUIRE_VARIABLE) == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.mark.slow
def test_a_million_calls(programs: dict[str, Path], counted: Counted) -> None:
    calls = -(-CALLS // len(programs))
    outcomes = {name: fuzz.run(program, "--calls", str(calls)) for name, program in programs.items()}
    for name, outcome in outcomes.items():
        counted(f"random calls of the build {name}", str(outcome))
    assert sum(outcome.calls for outcome in outcomes.values()) >= CALLS
    assert [(name, outcome.missing) for name, outcome in outcomes.items() if outcome.missing] == []
    assert len({outcome.digest for outcome in outcomes.values()}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(mistake: str, programs: dict[str, Path]) -> None:
    with pytest.raises(fuzz.FuzzError) as found:
        fuzz.run(programs["lanes2"], "--calls", "5000", "--plant", mistake)
    assert MISTAKES[mistake] in str(found.value)
    assert "of --seed 1 --episode" in str(found.value)


@pytest.mark.slow
def test_an_episode_can_be_repeated(programs: dict[str, Path]) -> None:
    command = [str(programs["lanes2"]), "--seed", "7", "--episode", "3", "--trace"]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))
    assert first.stderr.count("melspec_") > 1000
    digests = [done.stdout.partition('"digest"')[2] for done in (first, second)]
    assert digests[0] and digests[0] == digests[1]


def test_no_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert fuzz.main([]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "g++ is not installed; clang++ is not installed" in said


def test_machines_without_a_build_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz.platform, "machine", lambda: "abacus")
    with pytest.raises(fuzz.NoSanitizers, match="no build for abacus"):
        fuzz.builds()
