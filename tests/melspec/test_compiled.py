"""Compiled modules in their folder: found again, never believed when damaged or another's, never in the way."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import wasmtime
from front_ends import PLAIN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wat import functions

from labous.mel import MelSpectrogram, WasmEngine, abi, compiled
from labous.mel.wasm import packaged_module

SAMPLES = np.random.default_rng(6).standard_normal(8000).astype(np.float32)
POSIX = os.name == "posix"


class Compiler(wasmtime.Module):
    """Counts what is compiled, and keeps what is deserialized."""

    compiled = 0
    loaded: list[bytes] = []  # noqa: RUF012

    def __init__(self, engine: wasmtime.Engine, module: bytes) -> None:
        type(self).compiled += 1
        super().__init__(engine, module)

    @classmethod
    def deserialize(cls, engine: wasmtime.Engine, encoded: bytes | bytearray) -> wasmtime.Module:
        cls.loaded.append(bytes(encoded))
        return super().deserialize(engine, encoded)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, not made yet."""
    path = tmp_path / "some" / "labous"
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(path))
    monkeypatch.setattr(wasmtime, "Module", Compiler)
    yield path
    compiled._machine_code.cache_clear()


def compilations(expected: np.ndarray | None = None, **options: float) -> int:
    """How many times a fresh process would compile to compute a spectrogram, which must be right."""
    compiled._machine_code.cache_clear()
    Compiler.compiled, Compiler.loaded = 0, []
    power = MelSpectrogram(PLAIN, WasmEngine(packaged_module(), **options)).power(SAMPLES)
    assert expected is None or np.array_equal(power, expected)
    return Compiler.compiled


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def entry(folder: Path) -> Path:
    """The only file of the folder, written by a first use."""
    assert compilations() == 1
    (path,) = folder.iterdir()
    assert compilations() == 0
    return path


@pytest.fixture(scope="module")
def power() -> np.ndarray:
    return MelSpectrogram(PLAIN).power(SAMPLES)


def test_compiled_once_and_then_found(folder: Path, power: np.ndarray) -> None:
    before = os.umask(0)
    try:
        assert compilations(power) == 1
    finally:
        os.umask(before)
    (path,) = folder.iterdir()
    if POSIX:
        assert (mode(folder), mode(path)) == (0o700, 0o600), "whatever the umask"
    written = path.read_bytes(), path.stat().st_mtime_ns
    for _ in range(3):
        assert compilations(power) == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == written
    assert compilations(power, time_limit=30.0) == 1, "epochs are other code"
    assert compilations(power, time_limit=30.0) == compilations(power) == 0
    assert len(list(folder.iterdir())) == 2


def test_compiled_once_in_a_process_without_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, "")
    assert compilations() == 1
    for _ in range(3):
        WasmEngine()
    assert Compiler.compiled == 1
    assert not folder.exists()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "a byte": lambda data: data[:1],
    "half a head": lambda data: data[:30],
    "head only": lambda data: data[:48],
    "half": lambda data: data[: len(data) // 2],
    "all but one": lambda data: data[:-1],
    "one more": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
    "raw wasm": lambda data: packaged_module(),
    "bare code": lambda data: data[48:],
    "text": lambda data: b"no such file\n",
    "twice": lambda data: data + data,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_anew(damage: str, entry: Path, power: np.ndarray) -> None:
    whole = entry.read_bytes()
    entry.write_bytes(DAMAGE[damage](whole))
    assert compilations(power) == 1
    assert set(Compiler.loaded) == {whole[48:]}, "nothing else ever came near Wasmtime"
    assert entry.read_bytes() == whole
    assert compilations(power) == 0
    assert list(entry.parent.iterdir()) == [entry]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found(entry: Path, at: float, bit: int) -> None:
    whole = entry.read_bytes()
    damaged = bytearray(whole)
    damaged[int(at * len(whole))] ^= 1 << bit
    entry.write_bytes(damaged)
    assert compiled._read(entry) is None
    entry.write_bytes(whole)
    assert compiled._read(entry) == whole[48:]


def test_another_entrys_file_is_made_anew(entry: Path, power: np.ndarray) -> None:
    compiled.load(bytes(wasmtime.wat2wasm(f'(module {functions()} (memory (export "memory") 1))')), False)
    (other,) = set(entry.parent.iterdir()) - {entry}
    whole = entry.read_bytes()
    shutil.copy(other, entry)  # intact, and Wasmtime would take it
    assert compilations(power) == 1
    assert entry.read_bytes() == whole


def test_what_wasmtime_refuses_is_made_anew(entry: Path, power: np.ndarray) -> None:
    whole = entry.read_bytes()
    with_epochs = compiled._machine_code(packaged_module(), True)
    for foreign in (with_epochs, packaged_module(), b"\x7fELF", b""):
        compiled._write(entry, foreign)
        assert compilations(power) == 1
        assert entry.read_bytes() == whole


@pytest.mark.skipif(not POSIX, reason="modes and links of POSIX")
class TestWhoseItIs:
    @pytest.mark.parametrize("bad", [0o620, 0o602, 0o666, 0o777])
    def test_a_file_that_others_can_write_to(self, bad: int, entry: Path, power: np.ndarray) -> None:
        entry.chmod(bad)
        assert compilations(power) == 1
        assert mode(entry) == 0o600
        assert compilations(power) == 0

    @pytest.mark.parametrize("bad", [0o770, 0o707, 0o1777])
    def test_a_folder_that_others_can_write_to(self, bad: int, entry: Path, power: np.ndarray) -> None:
        before = entry.read_bytes(), entry.stat().st_mtime_ns
        entry.parent.chmod(bad)
        assert compilations(power) == compilations(power) == 1
        assert (entry.read_bytes(), entry.stat().st_mtime_ns) == before
        assert list(entry.parent.iterdir()) == [entry]

    @pytest.mark.parametrize("good", [0o755, 0o700])
    def test_a_folder_that_others_can_read(self, good: int, entry: Path) -> None:
        entry.parent.chmod(good)
        entry.chmod(0o644)
        assert compilations() == 0

    def test_another_user(self, entry: Path, power: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        assert compilations(power) == compilations(power) == 1
        assert list(entry.parent.iterdir()) == [entry]

    @pytest.mark.skipif(POSIX and os.geteuid() != 0, reason="only root can give a file away")
    @pytest.mark.parametrize("which", ["file", "folder"])
    def test_another_users(self, which: str, entry: Path, power: np.ndarray) -> None:
        os.chown(entry if which == "file" else entry.parent, 12345, -1)
        assert compilations(power) == 1
        assert compilations(power) == (which == "folder"), "a file is replaced, a folder left alone"

    def test_a_link_to_a_file(self, entry: Path, power: np.ndarray) -> None:
        target = entry.rename(entry.parent.parent / "elsewhere")
        entry.symlink_to(target)
        assert compilations(power) == 1
        assert entry.is_file() and not entry.is_symlink()
        target.write_bytes(b"as it was")
        assert compilations(power) == 0, "the link was replaced, not followed"
        assert target.read_bytes() == b"as it was"

    def test_a_link_to_a_folder(self, entry: Path, power: np.ndarray) -> None:
        target = entry.parent.rename(entry.parent.parent / "elsewhere")
        entry.parent.symlink_to(target)
        assert compilations(power) == 1

    def test_a_pipe(self, entry: Path, power: np.ndarray) -> None:
        entry.unlink()
        os.mkfifo(entry, 0o600)
        assert compilations(power) == 1, "and it does not wait for a writer"


def test_a_folder_in_the_way(entry: Path, power: np.ndarray) -> None:
    entry.unlink()
    (entry / "something").mkdir(parents=True)
    assert compilations(power) == compilations(power) == 1
    assert [p.name for p in entry.parent.rglob("*")] == [entry.name, "something"], "nothing is left behind"


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_no_place_to_write(where: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    monkeypatch.setattr(compiled, "folder", lambda: tmp_path / where)
    assert compilations() == compilations() == 1
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_full_disk(folder: Path, power: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        assert compilations(power) == 1
    assert list(folder.iterdir()) == []


def test_the_key_knows_what_matters(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = packaged_module()
    keys = [compiled._key(module, False, b"build"), compiled._key(module, False, b"build")]
    assert len(set(keys)) == 1
    keys.append(compiled._key(module, True, b"build"))
    keys.append(compiled._key(module + b"\0", False, b"build"))
    keys.append(compiled._key(module, False, b"another"))
    for name, value in (("_host", lambda: b"another"), ("__version__", "99.0.0")):
        with monkeypatch.context() as patched:
            patched.setattr(compiled, name, value)
            keys.append(compiled._key(module, False, b"build"))
    with monkeypatch.context() as patched:
        patched.setitem(abi.FUNCTIONS, "melspec_more", "")
        keys.append(compiled._key(module, False, b"build"))
    assert len(set(keys[1:])) == len(keys) - 1


def test_the_host_and_wasmtime_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "linux":
        assert b"flags" in compiled._host() or b"Features" in compiled._host()
    build = compiled._wasmtime_build()
    assert build is not None and len(build) > 4096
    library = tmp_path / "linux-x86_64" / "_libwasmtime.so"
    library.parent.mkdir()
    library.write_bytes(b"some other build")
    monkeypatch.setattr(wasmtime, "__file__", str(tmp_path / "__init__.py"))
    assert compiled._wasmtime_build() == b"16:some other build"
    library.unlink()
    assert compiled._wasmtime_build() is None


def test_an_unknown_build_of_wasmtime_keeps_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_wasmtime_build", lambda: None)
    assert compilations() == compilations() == 1
    assert not folder.exists()


def test_the_platforms_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (compiled.FOLDER_VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/nobody")
    monkeypatch.setattr(sys, "platform", "linux")
    assert compiled.folder() == Path("/home/nobody/.cache/labous")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert compiled.folder() == Path("/home/nobody/.cache/labous")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/tmp/caches")
    assert compiled.folder() == Path("/var/tmp/caches/labous")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert compiled.folder() == Path("/home/nobody/Library/Caches/labous")
    monkeypatch.setattr(sys, "platform", "win32")
    assert compiled.folder() is None
    monkeypatch.setenv("LOCALAPPDATA", "/users/nobody/local")
    assert compiled.folder() == Path("/users/nobody/local/labous")
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, "/elsewhere")
    assert compiled.folder() == Path("/elsewhere")
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, "")
    assert compiled.folder() is None
    monkeypatch.delenv(compiled.FOLDER_VARIABLE)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where nobody's home is known
    for platform in ("linux", "darwin"):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert compiled.folder() is None


def test_the_folder_stays_small_and_others_files_stay(entry: Path) -> None:
    folder = entry.parent
    entry.unlink()
    ours = [folder / f"{i:064x}.cwasm" for i in range(compiled.KEPT + 5)]
    for i, path in enumerate(ours):
        path.write_bytes(b"old")
        os.utime(path, (1_000_000 + i, 1_000_000 + i))
    abandoned, busy = (folder / f"{0:064x}.cwasm.{i:016x}.part" for i in (1, 2))
    abandoned.write_bytes(b"")
    os.utime(abandoned, (1_000_000, 1_000_000))
    busy.write_bytes(b"")
    theirs = [
        folder / name
        for name in ("README", "x.cwasm", f"{255:064X}.cwasm", f"{1:065x}.cwasm", f"{1:064x}.cwasm.bak", "a.part")
    ]
    for path in theirs:
        path.write_bytes(b"")
        os.utime(path, (1, 1))
    theirs.append(folder / f"{2**200:064x}.cwasm")
    theirs[-1].mkdir()
    if POSIX:
        theirs.append(folder / f"{2**201:064x}.cwasm")
        theirs[-1].symlink_to(theirs[0])
    assert compilations() == 1
    assert set(folder.iterdir()) == {entry, busy, *theirs, *ours[-(compiled.KEPT - 1) :]}
    assert compilations() == 0


def test_readers_and_writers_at_once(entry: Path) -> None:
    """Whoever reads sees the whole of an old or a new file, or that it is damaged: never a mixture."""
    code = compiled._read(entry)
    assert code is not None
    versions = [code, bytes(reversed(code)), code[: len(code) // 3]]
    done, seen, wrong = threading.Event(), set(), []

    def write(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            compiled._write(entry, chance.choice(versions))
        done.set()

    def read() -> None:
        while not done.is_set():
            found = compiled._read(entry)
            if found in versions:
                seen.add(len(found))
            else:
                wrong.append(found)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2)] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(seen) == 2
    assert list(entry.parent.iterdir()) == [entry]


PROCESS = f"""
import hashlib, sys
import numpy as np, wasmtime
sys.path.insert(0, {str(Path(__file__).parent)!r})
from front_ends import PLAIN
from labous.mel import MelSpectrogram
samples = np.random.default_rng(6).standard_normal(8000).astype(np.float32)
print("ready", flush=True)
sys.stdin.readline()
print(hashlib.sha256(MelSpectrogram(PLAIN).power(samples).tobytes()).hexdigest())
"""


def processes(folder: Path, count: int, between: Callable[[], None] = lambda: None) -> set[str]:
    """The results of processes that begin at the same moment."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, compiled.FOLDER_VARIABLE: str(folder)},
        )
        for _ in range(count)
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    between()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    results = set()
    for process in started:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, ""), err
        results.add(out)
    return results


@pytest.mark.slow
def test_processes_racing_for_one_file(tmp_path: Path, power: np.ndarray) -> None:
    folder = tmp_path / "labous"
    results = processes(folder, 4)
    (path,) = folder.iterdir()
    whole = path.read_bytes()

    def damage() -> None:
        path.write_bytes(whole[:20_000])

    results |= processes(folder, 3, damage)
    assert path.read_bytes() == whole
    assert list(folder.iterdir()) == [path]
    assert len(results) == 1
