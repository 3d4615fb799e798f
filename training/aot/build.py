"""From a .tflite file to a library of each machine, or to a WebAssembly module without imports, by ziglang.

Enters: the bytes of a float32 model. Leaves: a file. The same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from melspec_cpp import boards
from melspec_cpp import build as mel_build
from training.aot.errors import AotError
from training.aot.generate import MODEL_FILE, generate
from training.aot.graph import read_graph
from training.aot.lower import LANES, lower
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
_LIBRARY = ("-shared", "-fPIC", "-nostdlib", "-Wl,-s", "-Wl,-z,defs")
_MODULE = (
    "-target", "wasm32-freestanding", "-nostdlib", "-mcpu=mvp+simd128+bulk_memory",
    "-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=65536",
)
# fmt: on
# every board that 32-bit Raspberry Pi OS calls armv7l has NEON
_CPUS = {"armv7l": "baseline+neon"}
# RV64GC has no vectors; scalars that pretend to be some spill
_LANES = {"riscv64": 1}


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
    if target == WASM:
        flags: tuple[str, ...] = _MODULE
    elif target in boards.MACHINES:
        chosen = cpu or _CPUS.get(target, "baseline")
        flags = ("-target", boards.MACHINES[target], f"-mcpu={chosen}", *_LIBRARY, f"-Wl,-soname={place.name}")
    else:
        raise AotError(f"There is no target {target!r}; there are {', '.join((*boards.MACHINES, WASM))}.")
    lanes = lanes or _LANES.get(target, LANES)
    program = lower(read_graph(tflite), lanes)
    with tempfile.TemporaryDirectory(prefix="labous-aot-") as folder:
        for name, content in generate(program, hashlib.sha256(tflite).hexdigest()).items():
            (Path(folder) / name).write_bytes(content)
        with written_beside(place) as beside:
            compile_c(Path(folder), (MODEL_FILE, str(HERE / "kernels.c")), (f"-DLABOUS_LANES={lanes}", *flags), beside)


def compile_c(folder: Path, sources: tuple[str, ...], flags: tuple[str, ...], out: Path) -> None:
    """Run the C compiler in a folder, with this package's headers.

    Raises:
        AotError: it is missing or fails.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise AotError("The compiler is missing: install ziglang.")
    command = [sys.executable, "-m", "ziglang", "cc", *_COMMON, *flags, f"-I{HERE}", f"-I{HERE / 'include'}"]
    command += [*sources, "-o", str(out.resolve())]
    mel_build.BUILD.mkdir(exist_ok=True)
    done = subprocess.run(command, cwd=folder, env=mel_build.environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AotError(f"Compiling {out.name} failed:\n{done.stderr.strip()}")
