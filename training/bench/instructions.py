"""How many instructions a window takes on each machine: ``python -m training.bench.instructions BUNDLE`` prints tables.

Time in an emulator says nothing about a board, but what runs there is the code of the executable ``labous-<machine>``.
qemu's user mode writes down each block of instructions that it translates, and each time that it enters one
(``-d in_asm,exec,nochain``); their sum is right to some dozens, for a few blocks are told twice. x86-64's string
instructions count once however long they repeat. Start-up is in all runs and is subtracted. The mel stage is the
bundle's; the model is the bundle's, and those of conf/model with as many labels and random weights.

The last columns are no measurement but an estimate: what a window would take at the clock of a board that finished half
an instruction per cycle. No such board has been measured.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from labous import Bundle
from melspec_cpp import boards, emulators
from training.aot.hearing import link_program
from training.config import compose, told_in_a_sentence
from training.console import console
from training.errors import StageError

COUNTED = Path(__file__).with_name("counted.c")
"""A program that hears as often as it is told."""

# by machine: a board, its clock in Hz
_BOARDS = {
    "aarch64": (("Pi Zero 2", 1.0e9), ("Pi 4", 1.5e9)),
    "armv7l": (("Pi Zero 2", 1.0e9), ("Pi 4", 1.5e9)),
    "riscv64": (("VisionFive 2", 1.5e9),),
}
_PER_CYCLE = 0.5
_INSTRUCTION = re.compile(rb"0x([0-9a-f]+): ")
# the rest of a long one, without a mnemonic
_MORE_BYTES = re.compile(rb"0x[0-9a-f]+:(?:\s+[0-9a-f]{2})+\s*")


def main() -> None:
    """The command line."""
    description = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m training.bench.instructions", description=description)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--sizes", nargs="*", default=["tiny", "small", "medium"], help="of conf/model (%(default)s)")
    parser.add_argument("--machines", nargs="*", default=list(boards.MACHINES), choices=list(boards.MACHINES))
    told = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with told_in_a_sentence():
        bundle = Bundle.read(told.bundle)
        models = {"the bundle's": bundle, **{size: sized(bundle, size) for size in told.sizes}}
        for machine in told.machines:
            console.print(measured(machine, models))


def sized(bundle: Bundle, size: str) -> Bundle:
    """The bundle with a model of conf/model in place of its own."""
    from training.export_tflite import export_float32

    frontend = bundle.frontend
    model = compose([f"model={size}"]).model.build((frontend.n_mels, frontend.n_frames, 1), len(bundle.labels))
    name = bundle.manifest.models["float32"].file
    return Bundle(bundle.path, {**bundle.files, name: export_float32(model)}, "float32", None)


def measured(machine: str, models: dict[str, Bundle]) -> Table:
    """The table of one machine."""
    found = _BOARDS.get(machine, ())
    estimates = [f"estimate: {board}, ms" for board, _ in found]
    table = Table("model", "mel, million", "model, million", "window, million", *estimates, title=machine)
    for name, bundle in models.items():
        mel, model = counts(machine, bundle)
        total = mel + model
        times = [f"{1e3 * total / (clock * _PER_CYCLE):.0f}" for _, clock in found]
        table.add_row(name, *(f"{count / 1e6:.1f}" for count in (mel, model, total)), *times)
    return table


def counts(machine: str, bundle: Bundle) -> tuple[int, int]:
    """Instructions of one window: of the mel stage and of the model.

    Raises:
        StageError: qemu is missing, or writes what is not understood.
    """
    with tempfile.TemporaryDirectory(prefix="labous-count-") as folder:
        program = Path(folder) / "counted"
        link_program(bundle, machine, (COUNTED,), program)
        once, twice, and_model = executed(machine, program, ("1", "0"), ("2", "0"), ("1", "1"))
    return twice - once - (and_model - once), and_model - once


def executed(machine: str, program: Path, *runs: Sequence[str]) -> tuple[int, ...]:
    """Instructions that a program executes, by its arguments.

    Raises:
        StageError: as counts.
    """
    qemu = emulators.EMULATORS[machine].program()
    if qemu is None:
        raise StageError(f"Instructions of {machine} cannot be counted: run apt-get install qemu-user-static.")
    found = []
    for arguments in runs:
        command = [qemu, "-d", "in_asm,exec,nochain", str(program), *arguments]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            found.append(total(process.stderr))
        if process.returncode != 0:
            raise StageError(f"{program.name} for {machine} ended with {process.returncode}; build it again.")
    return tuple(found)


def total(log: Iterable[bytes]) -> int:
    """Instructions in qemu's log: the length of each block, as often as it is entered.

    Raises:
        StageError: a block is entered of which the log does not tell.
    """
    lengths: dict[int, int] = {}
    by_text: dict[bytes, int] = {}  # the same, by the address as it is written where a block is entered
    start, executed = None, 0
    for line in log:
        if line.startswith(b"Trace "):
            address = line.split(b"/", 2)[1]
            length = by_text.get(address)
            if length is None:
                length = by_text[address] = lengths.get(int(address, 16), 0)
                if length == 0:
                    raise StageError(
                        f"qemu enters {address.decode()} and has not said what is there; try another qemu."
                    )
            executed += length
        elif line.startswith(b"IN:"):
            start = None
            by_text.clear()
        elif (found := _INSTRUCTION.match(line)) and not _MORE_BYTES.fullmatch(line):
            if start is None:
                start = int(found[1], 16)
                lengths[start] = 0
            lengths[start] += 1
    return executed


if __name__ == "__main__":
    main()
