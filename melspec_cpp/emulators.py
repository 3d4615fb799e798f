"""Programs for other machines, run here: natively where this is such a machine, in qemu's user mode elsewhere."""

from __future__ import annotations

import dataclasses
import platform
import shutil
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Emulator:
    """How qemu and Debian call a machine."""

    qemu: str
    libraries: Path
    package: str

    def program(self) -> str | None:
        """qemu's program, by the name of Debian 12 or of its successors."""
        return shutil.which(f"qemu-{self.qemu}-static") or shutil.which(f"qemu-{self.qemu}")


EMULATORS = {
    "x86_64": Emulator("x86_64", Path("/usr/x86_64-linux-gnu"), "libc6-amd64-cross"),
    "aarch64": Emulator("aarch64", Path("/usr/aarch64-linux-gnu"), "libc6-arm64-cross"),
    "armv7l": Emulator("arm", Path("/usr/arm-linux-gnueabihf"), "libc6-armhf-cross"),
    "riscv64": Emulator("riscv64", Path("/usr/riscv64-linux-gnu"), "libc6-riscv64-cross"),
}


def missing(machine: str) -> list[str]:
    """Debian's packages that are needed to run a machine's programs here, and are not installed."""
    if machine == platform.machine():
        return []
    emulator = EMULATORS[machine]
    packages = [] if emulator.program() else ["qemu-user-static"]
    return packages if emulator.libraries.is_dir() else [*packages, emulator.package]


def command(machine: str, program: Path) -> list[str]:
    """What runs a machine's program here, where nothing is missing."""
    if machine == platform.machine():
        return [str(program)]
    emulator = EMULATORS[machine]
    return [str(emulator.program()), "-L", str(emulator.libraries), str(program)]
