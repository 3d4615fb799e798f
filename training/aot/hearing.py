"""From a bundle to one WebAssembly module that hears, and to a static program for each machine.

Enters: a bundle, proved. Leaves: a file: hear.wasm (``include/labous_hear.h``), or ``labous-<machine>``, whose source
is listener/. The same inputs give the same bytes. The mel stage is compiled with the very flags of its own build: its
bits are melspec.wasm's.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from labous import Bundle, Frontend
from melspec_cpp import boards
from melspec_cpp import build as mel_build
from training.aot.build import HERE, WASM, Machine, compile_object, model_objects, run_compiler
from training.aot.errors import AotError
from training.aot.graph import read_graph
from training.aot.lower import lower
from training.aot.tell import WORDS_FILE, tell
from training.files import written_beside

HEAR = "hear"
LISTENERS = {f"labous-{machine}": machine for machine in boards.MACHINES}
WHOLE = {HEAR: "hear.wasm"} | {name: name for name in LISTENERS}
"""The file of each target that a whole bundle is made into."""

_LISTENER = HERE / "listener"
# hear.wasm exports its own functions alone
_INSIDE = ("-DMELSPEC_API(name)=", "-DLABOUS_MODEL_API(name)=")
# musl: one file for every Linux, whatever its C library
_STATIC = {
    "x86_64": "x86_64-linux-musl",
    "aarch64": "aarch64-linux-musl",
    "armv7l": "arm-linux-musleabihf",
    "riscv64": "riscv64-linux-musl",
}
# probabilities are rounded as numpy rounds them
_PROGRAM = ("-fhosted", "-ffp-contract=off")


def build_whole(bundle: Bundle, target: str, place: Path) -> None:
    """Write one of WHOLE.

    Raises:
        AotError: as build_hear.
        TfliteFileError: as build_hear.
    """
    if target == HEAR:
        build_hear(bundle, place)
    else:
        build_listener(bundle, LISTENERS[target], place)


def check_hearable(bundle: Bundle) -> None:
    """Refuse a bundle that cannot be made into one of WHOLE yet.

    Raises:
        AotError: its front end is not a log-mel spectrogram, or it has labels that are never detected.
    """
    if not isinstance(bundle.frontend, Frontend):
        why = f"a front end of the kind {bundle.frontend.kind}"
    elif bundle.not_birds.any():
        why = "labels that are no birds (detection.not_birds)"
    else:
        return
    raise AotError(
        f"Bundle {str(bundle.path)!r} has {why}, and {HEAR} and the programs labous-<machine> cannot do that yet: run "
        "it with labous."
    )


def float32_model(bundle: Bundle) -> bytes:
    """A bundle's float32 .tflite.

    Raises:
        AotError: it has none.
    """
    if "float32" not in bundle.manifest.models:
        raise AotError(f"Bundle {str(bundle.path)!r} has no float32 model; export it again.")
    return bundle.files[bundle.manifest.models["float32"].file]


def build_hear(bundle: Bundle, place: Path) -> None:
    """Write hear.wasm: a bundle's mel stage and float32 model in one module, without imports, with SIMD128.

    Raises:
        AotError: the model has something that cannot be built, or the compiler is missing or fails.
        TfliteFileError: the bundle's model is no .tflite file.
    """
    with tempfile.TemporaryDirectory(prefix="labous-aot-") as folder:
        objects = _hear_objects(bundle, WASM, Path(folder), _INSIDE)
        _link(Path(folder), objects, (*mel_build.TARGETS["wasm"].flags, *_INSIDE), place)


def build_listener(bundle: Bundle, machine: str, place: Path) -> None:
    """Write the program that hears with a bundle's float32 model: static, for one of melspec_cpp.boards.MACHINES.

    Raises:
        AotError: as build_hear.
        TfliteFileError: as build_hear.
    """
    link_program(bundle, machine, tuple(sorted(_LISTENER.glob("*.c"))), place)


def link_program(bundle: Bundle, machine: str, sources: tuple[Path, ...], place: Path) -> None:
    """Write a static program of some C, with all that labous_hear.h and words.h have of a bundle.

    Raises:
        AotError: as build_hear.
        TfliteFileError: as build_hear.
    """
    with tempfile.TemporaryDirectory(prefix="labous-aot-") as name:
        folder = Path(name)
        objects = _hear_objects(bundle, machine, folder, ())
        flags = (*Machine.of(machine).flags, *_PROGRAM, "-target", _STATIC[machine], f"-I{_LISTENER}")
        mel = f"-I{mel_build.HERE / 'include'}"
        objects += tuple(
            compile_object(folder, str(source.resolve()), (*flags, mel)) for source in (folder / WORDS_FILE, *sources)
        )
        _link(
            folder, objects, ("-target", _STATIC[machine], "-mcpu=baseline", "-static", "-nostdlib++", "-Wl,-s"), place
        )
        place.chmod(0o755)


def _hear_objects(bundle: Bundle, target: str, folder: Path, flags: tuple[str, ...]) -> tuple[str, ...]:
    check_hearable(bundle)
    machine = Machine.of(target)
    tflite = float32_model(bundle)
    program = lower(read_graph(tflite), machine.lanes)
    for name, content in tell(bundle, program).items():
        (folder / name).write_bytes(content)
    given = (*machine.flags, *flags, f"-I{mel_build.HERE / 'include'}", f"-I{folder}")
    return (
        *model_objects(program, tflite, machine, folder, flags),
        compile_object(folder, str(HERE / "hear.c"), given),
    )


def _link(folder: Path, objects: tuple[str, ...], flags: tuple[str, ...], place: Path) -> None:
    """The mel stage is compiled on the way, as melspec_cpp/build.py does it."""
    mel = [os.path.relpath(source, mel_build.HERE) for source in mel_build.sources()]
    files = [*mel, *(str(folder / name) for name in objects)]
    with written_beside(place) as beside:
        run_compiler(mel_build.HERE, ("c++", *mel_build.COMMON, *flags, "-Iinclude", "-Isrc", *files), beside)
