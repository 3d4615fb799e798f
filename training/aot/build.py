"""From a .tflite file to a library of each machine, or to a WebAssembly module without imports, by ziglang.

Enters: the bytes of a float32 model. Leaves: a file. The same inputs give the same bytes. The model is compiled to
objects first: hearing.py links the same ones with the mel stage.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from melspec_cpp import boards
from melspec_cpp import build as mel_build
from training.aot.errors import AotError
from training.aot.generate import MODEL_FILE, generate
from training.aot.graph import read_graph
from training.aot.lower import LANES, lower
from training.aot.program import Program
from training.files import written_beside

HERE = Path(__file__).resolve().parent
WASM = "wasm"

# Multiply-adds may be fused where the machine has them: a board without vectors needs half of the instructions then.
# fmt: off
_COMMON = (
    "-std=gnu2x", "-O3", "-g0", "-ffreestanding", "-fno-math-errno", "-ffp-contract=on", "-fvisibility=hidden",
    "-fno-sanitize=all", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables",
    "-Wall", "-Wextra", "-Wvla", "-Werror",
)
_LIBRARY = ("-shared", "-nostdlib", "-Wl,-s", "-Wl,-z,defs")
_MODULE = ("-nostdlib", "-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=65536")
# fmt: on
_WASM_TARGET = ("-target", "wasm32-freestanding", "-mcpu=mvp+simd128+bulk_memory")
# every board that 32-bit Raspberry Pi OS calls armv7l has NEON
_CPUS = {"armv7l": "baseline+neon"}
# RV64GC has no vectors; scalars that pretend to be some spill
_LANES = {"riscv64": 1}


@dataclass(frozen=True)
class Machine:
    """What the model's C is compiled for.

    Attributes:
        flags: of the compiler.
        lanes: floats in a vector.
    """

    flags: tuple[str, ...]
    lanes: int

    @classmethod
    def of(cls, target: str, cpu: str | None = None, lanes: int | None = None) -> Machine:
        """One of melspec_cpp.boards.MACHINES, or WASM.

        Raises:
            AotError: there is no such target.
        """
        if target == WASM:
            flags: tuple[str, ...] = _WASM_TARGET
        elif target in boards.MACHINES:
            chosen = cpu or _CPUS.get(target, "baseline")
            flags = ("-target", boards.MACHINES[target], f"-mcpu={chosen}", "-fPIC")
        else:
            raise AotError(f"There is no target {target!r}; there are {', '.join((*boards.MACHINES, WASM))}.")
        return cls(flags, lanes or _LANES.get(target, LANES))


def build_model(tflite: bytes, target: str, place: Path, *, cpu: str | None = None, lanes: int | None = None) -> None:
    """Write a model for a machine: see ``include/labous_model.h``.

    Args:
        tflite: a float32 file with one input and one output.
        target: one of ``melspec_cpp.boards.MACHINES`` for a shared library, or WASM for a module with SIMD128.
        place: where to write it; nothing half-written is ever there.
        cpu: zig's name of the processor, where not every machine of the kind is meant.
        lanes: floats in a vector, where it is not the machine's usual number; 8 for a processor with AVX2.

    Raises:
        AotError: the model has something that cannot be built, or the compiler is missing or fails.
        TfliteFileError: the bytes are no .tflite file.
    """
    machine = Machine.of(target, cpu, lanes)
    linked = _MODULE if target == WASM else (*_LIBRARY, f"-Wl,-soname={place.name}")
    program = lower(read_graph(tflite), machine.lanes)
    with tempfile.TemporaryDirectory(prefix="labous-aot-") as folder:
        objects = model_objects(program, tflite, machine, Path(folder))
        with written_beside(place) as beside:
            compile_c(Path(folder), objects, (*machine.flags, *linked), beside)


def model_objects(
    program: Program, tflite: bytes, machine: Machine, folder: Path, flags: Sequence[str] = ()
) -> tuple[str, ...]:
    """The model and its operators, compiled: names of files in the folder.

    Args:
        program: of the .tflite file, for vectors as the machine has them.
        flags: more of them for the compiler.

    Raises:
        AotError: the compiler is missing or fails.
    """
    for name, content in generate(program, hashlib.sha256(tflite).hexdigest()).items():
        (folder / name).write_bytes(content)
    given = (*machine.flags, f"-DLABOUS_LANES={machine.lanes}", *flags)
    return tuple(compile_object(folder, source, given) for source in (MODEL_FILE, str(HERE / "kernels.c")))


def compile_object(folder: Path, source: str, flags: Sequence[str]) -> str:
    """Compile one file, which may be named from the folder, to an object in it; its name.

    Raises:
        AotError: the compiler is missing or fails.
    """
    name = f"{Path(source).stem}.o"
    compile_c(folder, (source,), (*flags, "-c"), folder / name)
    return name


def compile_c(folder: Path, sources: Sequence[str], flags: Sequence[str], out: Path) -> None:
    """Run the C compiler in a folder, with this package's headers.

    Raises:
        AotError: it is missing or fails.
    """
    run_compiler(folder, ("cc", *_COMMON, *flags, f"-I{HERE}", f"-I{HERE / 'include'}", *sources), out)


def run_compiler(folder: Path, arguments: Sequence[str], out: Path) -> None:
    """Run ziglang in a folder.

    Raises:
        AotError: it is missing or fails.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise AotError("The compiler is missing: install ziglang.")
    command = [sys.executable, "-m", "ziglang", *arguments, "-o", str(out.resolve())]
    mel_build.BUILD.mkdir(exist_ok=True)
    done = subprocess.run(command, cwd=folder, env=mel_build.environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AotError(f"Compiling {out.name} failed:\n{done.stderr.strip()}")
