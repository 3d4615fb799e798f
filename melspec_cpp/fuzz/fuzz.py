"""Fuzzes the native mel stage under AddressSanitizer and UBSan: ``python melspec_cpp/fuzz/fuzz.py``.

The calls come from a seed: one seed makes the same ones with every compiler. Each build of BUILDS makes them, and the
results, to the last bit, must be the same. ``--libfuzzer SECONDS`` lets libFuzzer choose the calls instead, led by the
branches that they reach; that needs clang++.

A finding ends with the episode in which it was made; ``melspec_cpp/build/fuzz/<build>/fuzz --seed S --episode E
--trace`` lists its calls.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from melspec_cpp import build

HERE = Path(__file__).resolve().parent
FOLDER = build.BUILD / "fuzz"

CALLS = 1_000_000  # of each build
ENOUGH = 100_000  # calls, to have seen every code
EPISODE_BYTES = 4096  # of libFuzzer's inputs, at most

# fmt: off
FLAGS = (
    "-std=c++17", "-O2", "-g", "-w", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti", "-fno-math-errno",
    "-fno-omit-frame-pointer", "-fsanitize=address,undefined,float-cast-overflow,float-divide-by-zero",
    "-fno-sanitize-recover=all",
)
# fmt: on

DRIVER = sorted(HERE.glob("*.cpp"))
INSTRUMENTED = ("-include", str(HERE / "instrument.h"))  # the mel stage only

# What a vector register holds decides which code is compiled (src/vec.h).
BUILDS = {
    "x86_64": {"lanes1": ("-U__SSE2__",), "lanes2": (), "lanes4": ("-mavx2", "-mfma")},
    "aarch64": {"lanes1": ("-U__aarch64__",), "lanes2": ()},
}


class FuzzError(Exception):
    """Something was found, or the fuzzer cannot be built; the message says what, and what to do."""


class NoSanitizers(FuzzError):
    """No compiler here has the sanitizers."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a build did without a finding."""

    calls: int
    seconds: float
    digest: str  # of all results
    codes: tuple[int, ...]  # how often each error code was seen, by its negative

    @property
    def missing(self) -> list[int]:
        """Error codes that were not seen."""
        return [-code for code, count in enumerate(self.codes) if count == 0]

    def __str__(self) -> str:
        codes = f"never {', '.join(map(str, self.missing))}" if self.missing else f"all {len(self.codes)} codes seen"
        return f"{self.calls} calls in {self.seconds:.1f} s, {codes}, digest {self.digest}"


def find_compiler(candidates: tuple[str, ...] = ("g++", "clang++")) -> str:
    """The first of the candidates that has the sanitizers and their runtimes.

    Raises:
        NoSanitizers: none has.
    """
    reasons = []
    FOLDER.mkdir(parents=True, exist_ok=True)
    probe = FOLDER / f"probe.{os.getpid()}"
    for name in candidates:
        if shutil.which(name) is None:
            reasons.append(f"{name} is not installed")
            continue
        command = [name, *FLAGS, "-x", "c++", "-", "-o", str(probe)]
        made = subprocess.run(command, input="int main() {}", capture_output=True, text=True, check=False)
        works = made.returncode == 0 and subprocess.run([probe], capture_output=True, check=False).returncode == 0
        probe.unlink(missing_ok=True)
        if works:
            return name
        reasons.append(f"{name} has no AddressSanitizer or no UBSan that works")
    raise NoSanitizers(f"The mel stage cannot be fuzzed: {'; '.join(reasons)}. apt-get install g++ helps.")


def builds() -> dict[str, tuple[str, ...]]:
    """The builds that run here, with their flags.

    Raises:
        NoSanitizers: none is known for this machine.
    """
    known = BUILDS.get(platform.machine())
    if known is None:
        raise NoSanitizers(f"The mel stage cannot be fuzzed: melspec_cpp/fuzz knows no build for {platform.machine()}.")
    cpu = Path("/proc/cpuinfo")
    features = set(cpu.read_text().split()) if cpu.exists() else set()
    return {name: flags for name, flags in known.items() if "-mavx2" not in flags or features >= {"avx2", "fma"}}


def compile_all(with_compiler: str, flags: dict[str, tuple[str, ...]], folder: Path = FOLDER) -> dict[str, Path]:
    """Compiles the fuzzer for each build; returns the programs by the builds' names.

    Raises:
        FuzzError: the compiler fails.
    """
    driver = _objects(with_compiler, DRIVER, folder / "driver")
    programs = {}
    for name, extra in flags.items():
        stage = _objects(with_compiler, build.sources(), folder / name, *INSTRUMENTED, *extra)
        programs[name] = _link(with_compiler, driver + stage, folder / name / "fuzz")
    return programs


def _objects(with_compiler: str, sources: list[Path], folder: Path, *flags: str) -> list[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    include = (f"-I{build.HERE / 'include'}", f"-I{build.HERE / 'src'}")
    _execute([with_compiler, *FLAGS, *include, *flags, "-c", *map(str, sources)], folder)
    return sorted(folder.glob("*.o"))


def _link(with_compiler: str, objects: list[Path], program: Path, *flags: str) -> Path:
    _execute([with_compiler, *FLAGS, *flags, *map(str, objects), "-o", str(program)], program.parent)
    return program


def _execute(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FuzzError(f"Compiling the fuzzer failed:\n{done.stderr.strip()}")


def run(program: Path, *options: str) -> Outcome:
    """Runs a fuzzer to its end.

    Raises:
        FuzzError: it found something; the message is what it and the sanitizers wrote.
    """
    command = [str(program), *options]
    done = subprocess.run(command, cwd=program.parent, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode != 0:
        raise FuzzError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.strip()}")
    said = json.loads(done.stdout.splitlines()[-1])
    return Outcome(said["calls"], said["seconds"], said["digest"], tuple(said["codes"]))


def libfuzzer(seconds: int, seed: int) -> Outcome:
    """Lets libFuzzer look for inputs, beginning with those that it kept the last time.

    Raises:
        NoSanitizers: there is no clang++ with libFuzzer.
        FuzzError: it found something; the input is in melspec_cpp/build/fuzz.
    """
    name, corpus = find_compiler(("clang++",)), FOLDER / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    driver = _objects(name, DRIVER, FOLDER / "libfuzzer-driver", "-DMELSPEC_LIBFUZZER")
    stage = _objects(name, build.sources(), FOLDER / "libfuzzer", *INSTRUMENTED, "-fsanitize=fuzzer-no-link")
    program = _link(name, driver + stage, FOLDER / "libfuzzer" / "fuzz", "-fsanitize=fuzzer")
    options = (f"-max_total_time={seconds}", f"-max_len={EPISODE_BYTES}", f"-seed={seed}", "-verbosity=0")
    return run(program, *options, f"-artifact_prefix={FOLDER}/", str(corpus))


def main(arguments: list[str] | None = None) -> int:
    """Does what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=CALLS, help="of each build (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--libfuzzer", type=int, metavar="SECONDS", help="let libFuzzer choose the calls, for so long")
    options = parser.parse_args(arguments)
    try:
        if options.libfuzzer is not None:
            print(f"libfuzzer: {libfuzzer(options.libfuzzer, options.seed)}")
            return 0
        outcomes = {}
        for name, program in compile_all(find_compiler(), builds()).items():
            outcomes[name] = run(program, "--calls", str(options.calls), "--seed", str(options.seed))
            print(f"{name}, seed {options.seed}: {outcomes[name]}", flush=True)
        if len({outcome.digest for outcome in outcomes.values()}) > 1:
            raise FuzzError("The builds' results differ.")
        if options.calls >= ENOUGH and any(outcome.missing for outcome in outcomes.values()):
            raise FuzzError("Some error codes were never seen.")
    except FuzzError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
