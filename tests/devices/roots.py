"""Root file systems of Debian for other machines, made once and kept, and programs that run in them.

They are extracted and never configured, so nothing is emulated to make them. LABOUS_DEVICES_CACHE names the folder
where they are kept; by default it is below the user's cache folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from melspec_cpp.emulators import EMULATORS

FOLDER_VARIABLE = "LABOUS_DEVICES_CACHE"
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"  # pip loads them whether or not it asks anyone
_SECONDS = 300
# a mirror may be half synchronised under one of a release's names and whole under the other
_ALIASES = ("stable", "testing")


@dataclasses.dataclass(frozen=True)
class Debian:
    """A root file system.

    Attributes:
        suite: Debian's name of the release.
        architecture: Debian's name of the machine.
        machine: as ``uname -m`` says it.
        packages: what is in it, beside what these need.
        processor: that qemu plays, where its own choice will not do.
    """

    suite: str
    architecture: str
    machine: str
    packages: tuple[str, ...]
    processor: str = ""


class UnavailableError(Exception):
    """Debian's mirror does not give what a root file system is made of."""


def missing(machine: str) -> list[str]:
    """What this system lacks to make such a root and to run programs in it, in words."""
    lacks = [] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["root's rights"]
    lacks += [] if shutil.which("mmdebstrap") else ["apt-get install mmdebstrap"]
    if machine != platform.machine() and EMULATORS[machine].program() is None:
        lacks.append("apt-get install qemu-user-static")
    lacks += [] if shutil.which("apt-get") else ["Debian's apt"]
    return lacks


def cache() -> Path:
    """The folder of what is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(base).expanduser() / "labous-devices")


def kept(debian: Debian) -> Path:
    """A root file system, made where it is not kept already; nothing may be changed in it.

    Raises:
        UnavailableError: the mirror does not give it.
    """
    identity = repr(debian)
    place = cache() / f"{debian.suite}-{debian.architecture}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    stamp = place / "stamp"
    if stamp.is_file() and stamp.read_text() == identity:
        return place / "root"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--arch={debian.architecture}"]
    command += [f"--include={','.join(debian.packages)}", '--aptopt=Acquire::Check-Valid-Until "false"']
    mirror = _mirror()
    names = (debian.suite, debian.suite, *(alias for alias in _ALIASES if _codename(mirror, alias) == debian.suite))
    for name in names:
        told = _made([*command, name, str(place / "root"), mirror])
        if told is None:
            break
        shutil.rmtree(place / "root", ignore_errors=True)
    else:
        raise UnavailableError(f"mmdebstrap cannot make {debian.suite} for {debian.architecture}: {told}")
    stamp.write_text(identity)
    return place / "root"


def _made(command: list[str]) -> str | None:
    """Run mmdebstrap; what it said where it failed."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _, said = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # what it has started as well
        process.communicate()
        return f"it took more than {_SECONDS} s"
    return said[-300:] if process.returncode else None


def _mirror() -> str:
    """Debian's mirror that this system's apt is set up with."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout.split()  # fmt: skip
    found = [site for site in told if site.rstrip("/").endswith("/debian")]
    assert found, "apt knows no mirror of Debian"
    return found[0]


def _codename(mirror: str, alias: str) -> str:
    """The release that a mirror has under another name; none where it does not tell."""
    try:
        with urllib.request.urlopen(f"{mirror.rstrip('/')}/dists/{alias}/InRelease", timeout=60) as answer:
            told = answer.read().decode(errors="replace")
    except OSError:
        return ""
    return next((line.split()[1] for line in told.splitlines() if line.startswith("Codename: ")), "")


class Root:
    """A copy of a root file system, to be changed, and a way to run its programs."""

    def __init__(self, debian: Debian, place: Path) -> None:
        self._debian, self.place = debian, place
        program = None if debian.machine == platform.machine() else EMULATORS[debian.machine].program()
        self._emulator = () if program is None else ("/emulator",)
        if program is not None:
            shutil.copy(program, place / "emulator")
        for name in ("lib", "lib64"):  # which a package does when it is configured
            if not (place / name).exists() and (place / "usr" / name).is_dir():
                (place / name).symlink_to(f"usr/{name}")
        for folder in ("root", "tmp", "proc", Path(_CERTIFICATES).parent):
            (place / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("/") / _CERTIFICATES, place / _CERTIFICATES)

    def run(self, *command: str | Path, network: bool = False) -> subprocess.CompletedProcess[str]:
        """A program's end and what it wrote."""
        unshare = ["unshare", "--mount", *([] if network else ["--net"]), "sh", "-c"]
        script = 'mount -t proc proc "$0/proc" && exec "$@"'
        inside = ["/usr/sbin/chroot", str(self.place), *self._emulator, *map(str, command)]
        return subprocess.run(
            [*unshare, script, str(self.place), *inside],
            env=self._environment(), capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        (libraries,) = (self.place / "usr/lib").glob("*-linux-gnu*")
        where = f"/usr/lib/{libraries.name}"
        environment = {
            "PATH": "/usr/bin:/usr/sbin:/bin:/sbin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            # what update-alternatives and ldconfig would have set up
            "LD_LIBRARY_PATH": f"{where}/blas:{where}/lapack",
        }
        return environment | ({"QEMU_CPU": self._debian.processor} if self._emulator and self._debian.processor else {})


@contextlib.contextmanager
def root(debian: Debian, below: Path) -> Iterator[Root]:
    """A copy of a root file system, for as long as the block lasts."""
    original = kept(debian)
    place = Path(tempfile.mkdtemp(dir=below, prefix=f"{debian.suite}-{debian.architecture}-"))
    try:
        # its owners and modes are root's own, and links stay links
        subprocess.run(["cp", "-a", "--reflink=auto", f"{original}/.", str(place)], check=True, timeout=_SECONDS)
        yield Root(debian, place)
    finally:
        shutil.rmtree(place)


@dataclasses.dataclass(frozen=True)
class Wheels:
    """Packages for another machine's Python.

    Attributes:
        packages: at locked versions.
        free: more, as pip's requirements.
        lock: the file that has the versions.
        python: version of the other machine's, "3.11" say.
        machine: as ``uname -m`` says it.
        tags: its platform tags.
    """

    packages: tuple[str, ...]
    free: tuple[str, ...]
    lock: Path
    python: str
    machine: str
    tags: tuple[str, ...]

    def folder(self) -> Path:
        """A folder with the wheels, fetched where they are not kept already."""
        there = {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": self.machine,
        }
        lines = [
            line.rstrip("\\ ") for line in self.lock.read_text(encoding="utf-8").splitlines() if line[:1].isalnum()
        ]
        versions = [
            f"{one.name}{one.specifier}"
            for one in map(Requirement, lines)
            if one.name in self.packages and (one.marker is None or one.marker.evaluate(there))
        ]
        assert len(versions) == len(self.packages), f"{self.lock} has only {versions}"
        versions += self.free
        identity = repr((versions, self.python, self.tags))
        place = cache() / f"wheels-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
        if (place / "stamp").is_file():
            return place
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--dest", str(place), "--python-version", self.python]
        command += [part for tag in self.tags for part in ("--platform", tag)]
        done = subprocess.run([*command, *versions], capture_output=True, text=True, timeout=_SECONDS, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        (place / "stamp").write_text(identity)
        return place
