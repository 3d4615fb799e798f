"""Builds the mel stage: ``python melspec_cpp/build.py [target …]``.

One source, one compiler (ziglang), these targets:

========  ========================  =====================================================================
wasm      melspec.wasm              WebAssembly with SIMD128; what devices run, copied into runtime/src/labous
scalar    melspec-scalar.wasm       WebAssembly 1.0 without SIMD, for engines that have none; the same bits
native    libmelspec.so             this machine, its baseline instruction set, the same bits
fast      libmelspec-fast.so        this machine, multiply-adds fused (x86-64: AVX2 and FMA); other last bits
========  ========================  =====================================================================

A target whose sources, flags and compiler are unchanged (by content, not by time) is left alone. Every file is written
beside its place and renamed into it; the same inputs give the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
PACKAGED = HERE.parent / "runtime" / "src" / "labous" / "melspec.wasm"

# No contraction of a*b+c into one rounding: it would make the builds differ in their last bits.
# fmt: off
COMMON = (
    "-std=c++17", "-O3", "-g0", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti", "-fno-math-errno",
    "-fno-threadsafe-statics", "-fvisibility=hidden", "-fno-sanitize=all", "-Wall", "-Wextra", "-Werror",
)
FREESTANDING = (
    "-target", "wasm32-freestanding", "-nostdlib", "-ffreestanding",
    "-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=65536",
    # Loop strength reduction turns offsets into additions that a WebAssembly engine cannot fold back: 3 % of the time.
    "-mllvm", "-disable-lsr",
)
SHARED = ("-shared", "-fPIC", "-nostdlib++", "-Wl,-s")
# fmt: on
FAST_CPU = "-mcpu=x86_64_v3" if platform.machine().lower() in ("x86_64", "amd64") else "-mcpu=baseline"


class BuildError(Exception):
    """The build cannot be done; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Target:
    """One artefact: its file name in melspec_cpp/build and the flags that make it what it is."""

    file: str
    flags: tuple[str, ...]

    @property
    def path(self) -> Path:
        return BUILD / self.file


TARGETS = {
    "wasm": Target("melspec.wasm", (*FREESTANDING, "-mcpu=mvp+simd128+bulk_memory")),
    "scalar": Target("melspec-scalar.wasm", (*FREESTANDING, "-mcpu=mvp")),
    "native": Target("libmelspec.so", ("-mcpu=baseline", *SHARED)),
    # aarch64 has fused multiply-adds in its baseline
    "fast": Target("libmelspec-fast.so", (FAST_CPU, "-ffp-contract=fast-honor-pragmas", *SHARED)),
}


def sources() -> list[Path]:
    """The C++ files to compile, in a fixed order."""
    return sorted((HERE / "src").glob("*.cpp"))


def fingerprint(target: Target) -> str:
    """Hash of everything that decides a target's bytes: sources, headers, flags, compiler."""
    digest = hashlib.sha256()
    for path in (*sources(), *sorted((HERE / "src").glob("*.h")), *sorted((HERE / "include").glob("*.h"))):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    digest.update("\0".join((*COMMON, *target.flags, importlib.metadata.version("ziglang"))).encode())
    return digest.hexdigest()


def _mark(inputs: str, artefact: Path) -> str:
    """What is noted beside an artefact: what it was made from, and what it is."""
    return f"{inputs} {hashlib.sha256(artefact.read_bytes()).hexdigest()}\n"


def environment() -> dict[str, str]:
    """What the compiler runs in: its caches lie in the build folder."""
    return {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(BUILD / "zig"), "ZIG_LOCAL_CACHE_DIR": str(BUILD / "zig")}


def build(name: str, force: bool = False) -> bool:
    """Builds one of TARGETS where needed; as build_target."""
    return build_target(TARGETS[name], force)


def build_target(target: Target, force: bool = False) -> bool:
    """Builds a target where needed.

    Returns:
        whether anything was compiled.

    Raises:
        BuildError: the compiler is missing or fails.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError("The compiler is missing: install ziglang (it is in requirements.lock; make does it for you).")
    mark, wanted = BUILD / f"{target.file}.fingerprint", fingerprint(target)
    if not force and target.path.exists() and mark.exists() and mark.read_text() == _mark(wanted, target.path):
        return False
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        made = Path(folder) / target.file
        # Paths relative to the folder of this file, so that none of the machine's gets into the bytes.
        files = [str(path.relative_to(HERE)) for path in sources()]
        command = [sys.executable, "-m", "ziglang", "c++", *COMMON, *target.flags, "-Iinclude", "-Isrc", *files]
        command += ["-o", str(made)]
        done = subprocess.run(command, cwd=HERE, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildError(f"Compiling {target.file} failed:\n{done.stderr.strip()}")
        (Path(folder) / "mark").write_text(_mark(wanted, made))
        made.replace(target.path)
        (Path(folder) / "mark").replace(mark)
    return True


def install(module: Path = TARGETS["wasm"].path, place: Path = PACKAGED) -> bool:
    """Copies the module into the runtime's package, unless it is there already; returns whether it copied."""
    content = module.read_bytes()
    if place.exists() and place.read_bytes() == content:
        return False
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(place)
    return True


def main(arguments: list[str] | None = None) -> int:
    """Builds what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", nargs="*", help=f"{', '.join(TARGETS)} (default: all)")
    parser.add_argument("--force", action="store_true", help="compile even what is up to date")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.target) - set(TARGETS))
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    try:
        for name in options.target or TARGETS:
            built = build(name, options.force)
            path = TARGETS[name].path
            print(f"{name:<7} {path.relative_to(HERE.parent)}  {path.stat().st_size} bytes"
                  f"{'' if built else '  (up to date)'}")  # fmt: skip
            if name == "wasm":
                install()
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
