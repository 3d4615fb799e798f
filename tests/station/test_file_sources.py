"""Recordings in files and folders: their windows, their times, and what a folder may hold."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labous.errors import NodeError
from labous.nodes import EndOfStream, Record, files
from labous.nodes.files import File, Folder, FolderSource
from labous.options import Refused, parse
from labous.station import filetime
from labous.station.cutting import SourceOptions
from labous.station.done import _PUT, Done, Version, _write
from tests.counts import Counted
from tests.runtime import audio
from tests.runtime.bundles import FRONTEND
from tests.station import pipelines
from tests.station.sources import RATE, SIZE, check_as_analyzed, context, split

UTC = datetime.timezone.utc


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=UTC)


def write(path: Path, seconds: float = 1.5, seed: int = 0, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return audio.write(path, audio.noise(seconds, rate, seed=seed), rate)


def read_all(tmp_path: Path, **options: object) -> tuple[list[Record], list[EndOfStream]]:
    """What a folder gives in one run, marked as done."""
    records, ends = split(parse(Folder, {"path": "in", **options}).open(context(tmp_path)).records())
    for end in ends:
        end.done()
    return records, ends


def listed(tmp_path: Path) -> list[tuple[str, str | None]]:
    """Names and errors in the list of what is done."""
    with contextlib.closing(sqlite3.connect(tmp_path / "state/folder.sqlite")) as db:
        return [(Path(os.fsdecode(path)).name, error) for path, error in db.execute("SELECT path, error FROM done")]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.73])
def test_a_files_windows_are_those_of_analyze(suffix: str, overlap: float, tmp_path: Path) -> None:
    path = audio.write(tmp_path / f"garden.{suffix}", audio.noise(5.3, 44_100, 2), 44_100)
    source = parse(File, {"path": f"garden.{suffix}", "overlap": overlap, "output": "audio"}).open(context(tmp_path))
    records, ends = split(source.records())
    check_as_analyzed(records, path, overlap)
    assert [end.stream for end in ends] == [str(path)] == list({r.stream for r in records})


def test_a_files_time_goes_on_with_its_windows(tmp_path: Path) -> None:
    write(tmp_path / "20240501_053000.wav", 2.25)
    records, _ = split(File(path="20240501_053000.wav", overlap=0.5).open(context(tmp_path)).records())
    began = at("2024-05-01 05:30:00")
    assert [r.time for r in records] == [began + datetime.timedelta(seconds=s) for s in (0, 0.5, 1.0, 1.25)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20240501_053000.WAV", "2024-05-01 05:30:00"),
        ("20240501_053000T.WAV", "2024-05-01 05:30:00"),
        ("24F31901_20240501_053000.WAV", "2024-05-01 05:30:00"),
        ("SMA00001_20240501_053000_0+1.wav", "2024-05-01 05:30:00"),
        ("20240501T053000+0200_rec.wav", "2024-05-01 03:30:00"),
        ("S1_20240501T053000-0330.flac", "2024-05-01 09:00:00"),
        ("20240501T053000Z.flac", "2024-05-01 05:30:00"),
        ("20240501_053000+02:00.flac", "2024-05-01 03:30:00"),
        ("20240501_053000-1200.flac", "2024-05-01 17:30:00"),
        ("20240501_053000+0545.flac", "2024-04-30 23:45:00"),
        ("20240501_053000+1400.flac", "2024-04-30 15:30:00"),
        ("20240501_053000+1415.flac", "2024-05-01 05:30:00"),
        ("20240501_053000-2501.flac", "2024-05-01 05:30:00"),
        ("20240501_053000-0012.flac", "2024-05-01 05:30:00"),
        ("20240501-053000.mp3", "2024-05-01 05:30:00"),
        ("20240501053000.mp3", "2024-05-01 05:30:00"),
        ("12345678_20240501_053000.wav", "2024-05-01 05:30:00"),
        ("99999999_999999.wav", None),
        ("20240230_053000.wav", None),
        ("120240501_053000.wav", None),
        ("20240501_0530001.wav", None),
        ("20240501_05.wav", None),
        ("00010101_000000+1400.wav", None),
        ("garden.wav", None),
    ],
)
def test_times_in_names(name: str, expected: str | None) -> None:
    assert filetime.in_name(name, UTC) == (None if expected is None else at(expected))


@given(st.text(alphabet="0123456789_-+TZ:٣", max_size=40))
def test_no_name_breaks_it(name: str) -> None:
    time = filetime.in_name(name, UTC)
    assert time is None or time.tzinfo is UTC


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("+02:00", "2024-05-01 03:30:00"), ("-0100", "2024-05-01 06:30:00"), ("Europe/Paris", "2024-05-01 03:30:00")],
)
def test_a_recorders_zone(zone: str, expected: str, tmp_path: Path) -> None:
    write(tmp_path / "20240501_053000.wav")
    records, _ = split(File(path="20240501_053000.wav", time_zone=zone).open(context(tmp_path)).records())
    assert records[0].time == at(expected)


def test_a_number_that_is_no_offset_leaves_the_recorders_zone() -> None:
    for name in ("20240501_053000-2501.wav", "20240501_053000-0012.wav", "20240501_053000.wav"):
        assert filetime.in_name(name, filetime.zone("+02:00")) == at("2024-05-01 03:30:00")


@pytest.mark.parametrize("zone", ["Nowhere/Land", "../../etc/passwd", "+25:00", "+14:15", "+02:10", "+2", "a\0b"])
def test_a_zone_that_is_none(zone: str, tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="no time zone"):
        File(path="a.wav", time_zone=zone).open(context(tmp_path))


def test_which_time_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "20240501_053000.wav", 1.5)
    plain = write(tmp_path / "garden.wav", 1.5)
    for file in (path, plain):
        os.utime(file, (1.7e9, 1.7e9))
    modified = datetime.datetime.fromtimestamp(1.7e9 - 1.5, UTC)
    named = at("2024-05-01 05:30:00")
    found = {}
    for time in ("auto", "name", "modified", "none"):
        for file in (path, plain):
            records, _ = split(parse(File, {"path": file.name, "time": time}).open(context(tmp_path)).records())
            found[time, file] = records[0].time
    assert found == {
        ("auto", path): named, ("auto", plain): modified,
        ("name", path): named, ("name", plain): None,
        ("modified", path): modified, ("modified", plain): modified,
        ("none", path): None, ("none", plain): None,
    }  # fmt: skip
    os.utime(plain, (315532800, 315532800))  # 1980, as a recorder without a clock says
    records, _ = split(File(path="garden.wav").open(context(tmp_path)).records())
    assert records[0].time is None


def test_a_file_that_cannot_be_read_ends_the_run(tmp_path: Path) -> None:
    for path, content in (("gone.wav", None), ("text.wav", b"no sound"), ("empty.wav", b"")):
        if content is not None:
            (tmp_path / path).write_bytes(content)
        with pytest.raises(NodeError, match=path):
            list(File(path=path).open(context(tmp_path)).records())


def test_damage_at_a_files_end_is_told_after_its_windows(tmp_path: Path) -> None:
    audio.write(tmp_path / "silent.wav", np.zeros((2 * RATE, 1), np.float32), RATE)
    given: list[Record | EndOfStream] = []
    with pytest.raises(NodeError, match="silent"):
        for one in File(path="silent.wav").open(context(tmp_path)).records():
            given.append(one)
    assert [type(one) for one in given] == [Record, Record, EndOfStream]


def test_an_overlap_that_cannot_be_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"overlap of 1\.0 s"):
        File(path="a.wav", overlap=1.0).open(context(tmp_path))
    with pytest.raises(Refused):
        parse(File, {"path": "a.wav", "overlap": -1})
    assert SourceOptions.source is True


def test_a_folder_is_read_once_over_restarts(tmp_path: Path) -> None:
    names = ["in/b.wav", "in/a.flac", "in/deep/er/c.wav"]
    for seed, name in enumerate(names):
        write(tmp_path / name, seed=seed)
    write(tmp_path / "in/.hidden.wav")
    (tmp_path / "in/notes.txt").write_text("no sound")
    write(tmp_path / "state/clips/a.wav")
    records, ends = read_all(tmp_path)
    assert [end.stream for end in ends] == [
        str(tmp_path / name) for name in ("in/a.flac", "in/b.wav", "in/deep/er/c.wav")
    ]
    assert len(records) == 2 * 3
    assert read_all(tmp_path) == ([], [])
    assert read_all(tmp_path, path=".") == ([], []), "the station's own clips are none of them"
    write(tmp_path / "in/b.wav", 2.0, seed=9)
    assert [end.stream for end in read_all(tmp_path)[1]] == [str(tmp_path / "in/b.wav")], "another file of that name"


def test_what_was_not_through_is_read_again(tmp_path: Path) -> None:
    for name in ("in/a.wav", "in/b.wav", "in/c.wav"):
        write(tmp_path / name, 3.0)
    station = context(tmp_path)
    taken = Folder(path="in").open(station).records()
    for one in taken:
        if isinstance(one, EndOfStream):
            one.done()
        elif one.stream.endswith("b.wav"):
            station.stopping.set()  # in the middle of the second file
    again, ends = read_all(tmp_path)
    assert [Path(end.stream).name for end in ends] == ["b.wav", "c.wav"]
    assert [r.start for r in again] == 2 * [0, SIZE, 2 * SIZE], "the second one from its beginning"


def hostile_folder(folder: Path) -> None:
    """All that may lie in a folder, and two good recordings, the first and the last by name."""
    write(folder / "a.wav")
    (folder / "b_empty.wav").touch()
    os.mkfifo(folder / "c_pipe.wav")
    (folder / "d_folder.wav").mkdir()
    (folder / "e_gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "f_text.flac").write_text("no sound")
    whole = write(folder / "g_cut.flac", 4.0).read_bytes()
    (folder / "g_cut.flac").write_bytes(whole[: len(whole) // 2])
    audio.write(folder / "h_silent.wav", np.zeros((RATE, 1), np.float32), RATE)
    nan = np.zeros(RATE, np.float32)
    nan[-1] = np.nan
    audio.write(folder / "i_nan.wav", nan, RATE, "FLOAT")
    (folder / "j_zip.ogg").write_bytes(b"PK\3\4" + bytes(100))
    Path(os.fsdecode(os.fsencode(folder) + b"/k_\xff\n\x1b[31m.wav")).write_bytes(b"RIFF")
    with (folder / "l_sparse.wav").open("wb") as file:
        file.truncate(3 * 2**30)
    write(folder / "z.wav")


def test_a_folder_may_hold_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture, counted: Counted) -> None:
    (tmp_path / "in").mkdir()
    hostile_folder(tmp_path / "in")
    station = context(tmp_path)
    records, ends = split(Folder(path="in").open(station).records())
    for end in ends:
        end.done()
    good = [r for r in records if r.stream.endswith(("a.wav", "z.wav"))]
    assert len(good) == 4
    assert all(r.columns["audio"].shape == (SIZE,) and np.isfinite(r.columns["audio"]).all() for r in records)
    refused = sorted(name for name, error in listed(tmp_path) if error is not None)
    assert refused == [
        "b_empty.wav", "c_pipe.wav", "f_text.flac", "g_cut.flac", "h_silent.wav", "i_nan.wav", "j_zip.ogg",
        os.fsdecode(b"k_\xff\n\x1b[31m.wav"), "l_sparse.wav",
    ]  # fmt: skip
    assert station.counters.read() == {"bad_files_total": 9, "files_total": 2}
    assert len(caplog.records) == 9
    assert all(record.getMessage().isprintable() for record in caplog.records), "no name steers a terminal"
    assert all(end.stream.isprintable() for end in ends)
    caplog.clear()
    assert read_all(tmp_path) == ([], []), "nothing is tried again"
    assert caplog.records == []
    counted("a FIFO, an empty file and the like", f"9 of 11 entries refused, each told once; {len(records)} windows")


def test_a_failing_disk_is_not_held_against_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "in/a.wav")
    real = Path.open

    def without_rights(self: Path, *rest: object, **named: object) -> object:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *rest, **named)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", without_rights)
        assert read_all(tmp_path) == ([], [])
    assert len(read_all(tmp_path)[0]) == 2


def test_what_a_failing_disk_holds_is_tried_once_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "in/a.wav")
    station, tried = context(tmp_path), 0

    def failing(*_: object) -> Iterator[np.ndarray]:
        nonlocal tried
        tried += 1
        assert tried == 1
        raise OSError(5, "Input/output error")
        yield

    class Stopping(threading.Event):
        waits = 0

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout == 5.0
            self.waits += 1
            if self.waits == 5:
                self.set()
            return self.is_set()

    monkeypatch.setattr(files.recordings, "read_blocks", failing)
    source = Folder(path="in", watch=True, settle_seconds=0).open(dataclasses.replace(station, stopping=Stopping()))
    assert split(source.records()) == ([], [])
    assert tried == 1 and len(caplog.messages) == 1
    assert listed(tmp_path) == []


@pytest.mark.slow
def test_what_failing_disks_hold_takes_no_memory(tmp_path: Path, counted: Counted) -> None:
    """As in a year of such errors."""
    program = (
        "import pathlib, sys\n"
        "from labous.station.counters import Counters\n"
        "from labous.station.done import Done, Version\n"
        "done = Done(pathlib.Path(sys.argv[1]), Counters())\n"
        "for n in range(int(sys.argv[2])):\n"
        "    version = Version(f'/srv/recorders/garden/{n:06}_20260501_053000.wav', n, n)\n"
        "    done.pass_over(version)\n"
        "    assert done.passes_over(version) and version not in done\n"
        "print(next(int(s.split()[1]) for s in open('/proc/self/status') if s.startswith('VmHWM')) / 1e3)\n"
    )
    peaks = {}
    for count in (1_000, 200_000):
        command = [sys.executable, "-c", program, str(tmp_path / f"{count}.sqlite"), str(count)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        peaks[count] = float(found.stdout)
    counted(
        "200,000 files on a failing disk", f"peak RSS {peaks[200_000]:.1f} MB, with 1,000 of them {peaks[1_000]:.1f} MB"
    )
    assert peaks[200_000] < peaks[1_000] + 5


def dies(tmp_path: Path, name: str, window: int, attempts: int = 3) -> None:
    """A run that is killed while it has that window of that file."""
    child = os.fork()
    if child == 0:
        try:
            for one in Folder(path="in", attempts=attempts).open(context(tmp_path)).records():
                if isinstance(one, EndOfStream):
                    one.done()
                elif one.stream.endswith(name) and one.start == window * SIZE:
                    os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)  # it was not
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("window", [0, 2])
def test_a_file_in_which_runs_die_is_given_up(window: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("in/a.wav", "in/b.wav", "in/c.wav"):
        write(tmp_path / name, 4.0)
    for _ in range(2):
        dies(tmp_path, "b.wav", window)
    write(tmp_path / "in/a2.wav")  # which is read between the attempts
    dies(tmp_path, "b.wav", window)
    station = context(tmp_path)
    records, ends = split(Folder(path="in").open(station).records())
    for end in ends:
        end.done()
    assert {Path(record.stream).name for record in records} == {Path(end.stream).name for end in ends} == {"c.wav"}
    assert station.counters.read() == {"bad_files_total": 1, "files_total": 1}
    (message,) = caplog.messages
    assert f"b.wav' is given up, as 3 runs in a row died at its window {window + 1}; it is left alone" in message
    assert [name for name, error in listed(tmp_path) if error] == ["b.wav"]
    assert read_all(tmp_path) == ([], []), "nor in the next run"
    write(tmp_path / "in/b.wav", 3.0, seed=5)
    assert len(read_all(tmp_path)[0]) == 3, "another file of that name"


def test_runs_that_die_here_and_there_are_held_against_no_file(tmp_path: Path) -> None:
    """As in power cuts, or on a station that is switched off each evening."""
    write(tmp_path / "in/a.wav", 9.0)
    for window in (5, 5, 7, 5, 5, 0, 0, 8, 8):
        dies(tmp_path, "a.wav", window)
    assert len(read_all(tmp_path)[0]) == 9


@pytest.mark.parametrize("how", ["stopped", "closed"])
def test_an_orderly_end_is_held_against_no_file(how: str, tmp_path: Path) -> None:
    """Where the station is told to end, and where a node raises an error."""
    write(tmp_path / "in/a.wav", 4.0)
    for _ in range(4):
        station = context(tmp_path)
        taken = Folder(path="in").open(station).records()
        assert [next(taken).start for _ in range(2)] == [0, SIZE]  # type: ignore[union-attr, call-overload]
        if how == "stopped":
            station.stopping.set()
            assert list(taken) == []
        else:
            taken.close()  # type: ignore[attr-defined]
    assert len(read_all(tmp_path)[0]) == 4


def test_any_number_of_attempts(tmp_path: Path) -> None:
    write(tmp_path / "in/a.wav", 4.0)
    for _ in range(4):
        dies(tmp_path, "a.wav", 1, attempts=0)
    assert len(read_all(tmp_path, attempts=0)[0]) == 4


def test_an_error_that_nobody_expects_is_held_against_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in/a.wav", 4.0)
    with monkeypatch.context() as patch:
        patch.setattr(files.recordings, "read_blocks", lambda *_: 1 // 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                read_all(tmp_path)
    assert read_all(tmp_path) == ([], [])
    assert [name for name, error in listed(tmp_path) if error] == ["a.wav"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"0\n", b"\0" * 5000, b"x\n{}\n", b"0\n[]\n", b"0\n" + b"[" * 9**5, b'1\n{"at": [1], "deaths": []}\n',
     b'1\n{"at": null, "deaths": [[[], 1, 2, 3, 4]]}\n', b'1\n{"at": null, "deaths": [["a", 1]]}\n', b"\xff\n\xff\n"],
)  # fmt: skip
def test_a_damaged_note_of_what_was_read_is_told_and_replaced(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "in/a.wav", 4.0)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/folder.attempts").write_bytes(content)
    dies(tmp_path, "a.wav", 1)
    dies(tmp_path, "a.wav", 1)
    dies(tmp_path, "a.wav", 1)
    assert read_all(tmp_path) == ([], [])
    assert len(caplog.messages) == 1, "that of the child is not seen here"
    (tmp_path / "state/folder.attempts").write_bytes(content)
    write(tmp_path / "in/b.wav", 4.0)
    assert len(read_all(tmp_path)[0]) == 4
    assert len(caplog.messages) == 2 and "folder.attempts, is damaged" in caplog.messages[1]


def test_where_nothing_can_be_noted_files_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "in/a.wav", 4.0)
    (tmp_path / "state/folder.attempts").mkdir(parents=True)
    assert len(read_all(tmp_path)[0]) == 4
    assert [message for message in caplog.messages if "cannot be written" in message] == [caplog.messages[-1]]


def test_a_missing_package_ends_the_run_and_marks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in/a.wav", rate=44_100)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "soxr", None)
        with pytest.raises(NodeError, match=r"labous\[audio\]"):
            read_all(tmp_path)
        patch.setitem(sys.modules, "soundfile", None)
        with pytest.raises(NodeError, match=r"labous\[audio\]"):
            read_all(tmp_path)
    assert len(read_all(tmp_path)[0]) == 2


def test_a_file_that_is_replaced_while_it_is_read(tmp_path: Path) -> None:
    for how in ("rename", "write", "truncate", "remove", "folder"):
        home = tmp_path / how
        home.mkdir()
        path = write(home / "in/a.wav", 20.0)
        other = write(home / "b.wav", 3.0, seed=5)
        taken = iter(Folder(path="in").open(context(home)).records())
        given: list[Record | EndOfStream] = [next(taken), next(taken)]
        if how == "rename":
            other.replace(path)
        elif how == "write":
            path.write_bytes(other.read_bytes())
        elif how == "truncate":
            os.truncate(path, 1000)
        else:
            path.unlink()
            if how == "folder":
                path.mkdir()
        given += taken
        _records, ends = split(given)
        for end in ends:
            end.done()
        assert len(ends) == 1, how
        assert listed(home) == [], "not done"
        again, _ = read_all(home)
        if how in ("rename", "write"):
            check_as_analyzed(again, path)
            assert len(again) == 3
        elif how != "truncate":
            assert again == []
        else:
            assert [name for name, error in listed(home) if error] == ["a.wav"]


class Watch:
    """A watched folder, looked at when the test says so."""

    def __init__(self, folder: Path, settle: float = 10.0) -> None:
        self.now = 0.0
        options = parse(Folder, {"path": "in", "watch": True, "settle_seconds": settle})
        self.source = FolderSource(context(folder), options, lambda: self.now)

    def look(self, seconds: float) -> list[str]:
        """The names of what is still by now."""
        self.now += seconds
        return [Path(version.path).name for version in self.source._ready(self.now)]


def test_a_watched_file_is_left_alone_until_it_is_still(tmp_path: Path) -> None:
    path = write(tmp_path / "in/a.wav")
    watch = Watch(tmp_path)
    assert watch.look(0) == []
    assert watch.look(9) == []
    with path.open("ab") as file:
        file.write(b"more")
    assert watch.look(5) == []
    assert watch.look(9) == []
    os.utime(path, (1, 1))  # the same size: the time alone has changed
    assert watch.look(9) == []
    assert watch.look(9) == []
    assert watch.look(1) == ["a.wav"]


def test_a_file_that_comes_in_parts_is_read_whole(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.wav", 6.0).read_bytes()
    path = tmp_path / "in/a.wav"
    path.parent.mkdir()
    watch = Watch(tmp_path, settle=3.0)
    for end in range(0, len(whole), 20_000):
        with path.open("ab") as file:
            file.write(whole[end : end + 20_000])
        assert watch.look(2.9) == []
    assert watch.look(3) == ["a.wav"]


def test_watching_goes_on_until_the_station_stops(tmp_path: Path) -> None:
    write(tmp_path / "in/a.wav")
    station = context(tmp_path)
    options = Folder(path="in", watch=True, settle_seconds=0.02, poll_seconds=0.01)
    names: list[str] = []
    for one in options.open(station).records():
        if not isinstance(one, EndOfStream):
            continue
        one.done()
        names.append(Path(one.stream).name)
        if len(names) == 1:
            write(tmp_path / "in/b.wav")
        elif len(names) == 2:
            (tmp_path / "in/c.wav").write_text("no sound")
            write(tmp_path / "in/d.wav")
        else:
            station.stopping.set()
    assert names == ["a.wav", "b.wav", "d.wav"]
    assert [name for name, _ in listed(tmp_path)] == ["a.wav", "b.wav", "c.wav", "d.wav"]


def versions() -> Iterator[Version]:
    number = 0
    while True:
        number += 1
        yield Version(f"/sd/{number}.wav", number, 10**18 + number)


def put(done: Done, some: Iterable[Version]) -> None:
    """Mark very many at once."""
    _write(done._db, _PUT, ((os.fsencode(version.path), *version[1:], None) for version in some))


def test_the_list_survives_damage(tmp_path: Path, counted: Counted) -> None:
    path, counters = tmp_path / "folder.sqlite", context(tmp_path).counters
    some = [version for version, _ in zip(versions(), range(500), strict=False)]
    done = Done(path, counters)
    with contextlib.closing(done):
        for version in some[:3]:
            done.mark(version)
        put(done, some)
    whole, harmed, known = path.read_bytes(), 0, 0
    random = np.random.default_rng(0)
    new = Version("/sd/new.wav", 1, 1)
    for number in range(100):
        content = bytearray(whole[: random.integers(1, len(whole))] if number % 2 else whole)
        for _ in range(random.integers(1, 40)):
            content[random.integers(len(content))] = random.integers(256)
        path.write_bytes(content)
        with contextlib.closing(Done(path, counters)) as again:
            found = sum(version in again for version in some)
            again.mark(new)
        with contextlib.closing(Done(path, counters)) as again:
            assert new in again
        harmed += found < len(some)
        known += found
    kept = len(list(tmp_path.glob("folder.sqlite.damaged-*")))
    counted(
        "100 damaged lists of files",
        f"{kept} set aside; {harmed} had lost files, {known / 500:.0f} % of all files are known still",
    )
    assert kept >= 50 and known > 0
    for content in (b"", b"\0" * 5000, b"[" * 5000, b'["/sd/1.wav",1,1,null]\n'):
        path.write_bytes(content)
        with contextlib.closing(Done(path, counters)) as again:
            assert some[0] not in again


def test_a_list_of_another_program_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "folder.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE done (path)")
    with contextlib.closing(Done(path, context(tmp_path).counters)) as done:
        done.mark(Version("/sd/1.wav", 1, 1))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "no such list" in message and "damaged-1" in message
    assert (tmp_path / "folder.sqlite.damaged-1").exists()


def test_a_full_disk_only_delays_the_list(tmp_path: Path) -> None:
    path, counters = tmp_path / "folder.sqlite", context(tmp_path).counters
    one, two, three = (Version(f"/sd/{name * 9000}.wav", 1, 1) for name in "abc")
    with contextlib.closing(Done(path, counters)) as done:
        (pages,) = done._db.execute("PRAGMA page_count").fetchone()
        done._db.execute(f"PRAGMA max_page_count = {pages}")
        done.mark(one)
        done.mark(two)
        assert one in done and two in done, "not read again in this run"
        with contextlib.closing(Done(path, counters)) as other:
            assert one not in other
        done._db.execute("PRAGMA max_page_count = 100000")
        done.mark(three)
    with contextlib.closing(Done(path, counters)) as again:
        assert one in again and two in again and three in again
    assert counters.read() == {'source_errors_total{node="folder"}': 2}


def test_the_list_forgets_what_is_no_more_but_not_a_disk(tmp_path: Path) -> None:
    """While it runs, a little with each look."""
    watch = Watch(tmp_path, settle=0)
    (tmp_path / "in").mkdir()
    gone = [version for version, _ in zip(versions(), range(12_000), strict=False)]
    done = watch.source._done
    put(done, gone)
    assert watch.look(1) == [] and gone[5] in done, "the whole disk may be unplugged"
    write(tmp_path / "in/a.wav")
    there = Version.of(tmp_path / "in/a.wav")
    done.mark(there)
    kept = []
    for _ in range(12):
        assert watch.look(1) == []
        kept.append(sum(version in done for version in gone))
    assert there in done
    assert kept[0] in range(10_900, 11_100), "not all at once"
    assert 9_000 < kept[-1] <= 10_000, "a list of so many is short"


@pytest.mark.slow
def test_a_long_list_and_a_large_folder_take_no_memory(tmp_path: Path, counted: Counted) -> None:
    """20 times as many of both, each in a process of its own."""
    peaks = {}
    for count in (1_000, 20_000):
        peaks[count] = many(tmp_path / str(count), count)[0]
    counted("a folder of 20,000 files", f"peak RSS {peaks[20_000]:.1f} MB, with 1,000 {peaks[1_000]:.1f} MB")
    assert peaks[20_000] < peaks[1_000] + 5


@pytest.mark.slow
def test_half_a_million_files(tmp_path: Path, counted: Counted) -> None:
    few, many_more = many(tmp_path / "few", 1_000), many(tmp_path / "many", 500_000, real=20_000)
    counted(
        "half a million files",
        f"peak RSS {many_more[0]:.1f} MB, with 1,000 {few[0]:.1f} MB; the list has {many_more[3]:.0f} MB on disk, "
        f"opened in {many_more[1]:.2f} s; a look at 20,000 takes {many_more[2]:.2f} s",
    )
    assert many_more[0] < few[0] + 10


def many(home: Path, count: int, real: int | None = None) -> list[float]:
    """Peak MB, s to open, s for a look, and MB of a list of so many; so many files, or fewer, lie in the folder."""
    (home / "in").mkdir(parents=True)
    for number in range(count if real is None else real):
        (home / f"in/{number:06}_20260501_053000.wav").touch()
    program = (
        "import os, pathlib, threading, time, types\n"
        "from labous.frontend import Frontend\n"
        "from labous.nodes import Context\n"
        "from labous.nodes.files import Folder\n"
        "from labous.station.counters import Counters\n"
        "from labous.station.done import _PUT, _write\n"
        "from labous.station.settings import Station\n"
        f"home, count = pathlib.Path({str(home)!r}), {count}\n"
        f"bundle = types.SimpleNamespace(frontend=Frontend(**{dataclasses.asdict(FRONTEND)!r}))\n"
        "station = Station(bundle='b')\n"
        "context = Context(bundle, station, home / 'state', Counters(), threading.Event(), home)\n"
        "(home / 'state').mkdir()\n"
        "source = Folder(path='in').open(context)\n"
        "folder = os.fsencode(home / 'in')\n"
        "rows = ((b'%s/%06d_20260501_053000.wav' % (folder, n), 0, n, None) for n in range(count))\n"
        "_write(source._done._db, _PUT, rows)\n"
        "source.close()\n"
        "began = time.monotonic()\n"
        "source = Folder(path='in').open(context)\n"
        "opened = time.monotonic()\n"
        "assert len(source._ready(0.0)) == 1000\n"
        "looked = time.monotonic()\n"
        "peak = next(int(s.split()[1]) for s in open('/proc/self/status') if s.startswith('VmHWM'))\n"
        "size = os.path.getsize(home / 'state/folder.sqlite')\n"
        "print(peak / 1e3, opened - began, looked - opened, size / 1e6)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    return [float(value) for value in found.stdout.split()]


def test_a_look_ends_when_the_station_does(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2_000):
        (tmp_path / f"in/{number}.wav").touch()
    station, looked = context(tmp_path), 0

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            nonlocal looked
            looked += 1
            self.set()
            return super().wait(timeout)

    source = Folder(path="in", watch=True).open(dataclasses.replace(station, stopping=Stopping()))
    assert list(source.records()) == []
    assert looked <= 2, "once in the look, and once to wait for the next"


def test_more_than_fit_are_read_in_the_order_of_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_AT_ONCE", 3)
    names = [f"in/{folder}{number}.wav" for folder in ("a/", "a-", "b/") for number in range(5)]
    for name in names:
        write(tmp_path / name, 0.3)
    (tmp_path / "in/a-9.wav").write_text("no sound")
    _, ends = read_all(tmp_path)
    wanted = sorted(names, key=lambda name: name.split("/"))
    assert [end.stream for end in ends] == [str(tmp_path / name) for name in wanted]
    shutil.rmtree(tmp_path / "state")
    watch = Watch(tmp_path, settle=10)
    found = [watch.look(0), watch.look(10)]
    while len(found[-1]) == 3:
        for name in found[-1]:
            path = next((tmp_path / "in").rglob(name))
            path.unlink()
        found.append(watch.look(5))
    assert [len(look) for look in found[:3]] == [0, 3, 3], "while some are read, others become still"


def test_sound_that_the_station_saves_is_not_heard_again(tmp_path: Path) -> None:
    write(tmp_path / "in/a.wav")
    write(tmp_path / "in/clips/deep/b.wav")
    write(tmp_path / "in/clips2/c.wav")
    (tmp_path / "link").symlink_to(tmp_path / "in/clips")
    station = context(tmp_path)
    source = Folder(path="in").open(station)
    station.sound_folders.append(tmp_path / "link")  # as a node that is opened after it does
    _, ends = split(source.records())
    assert [Path(end.stream).name for end in ends] == ["a.wav", "c.wav"]
    for folder in (tmp_path / "in", tmp_path):
        station.sound_folders.append(folder)
        with pytest.raises(NodeError, match="heard again"):
            list(source.records())
        station.sound_folders.pop()


@pytest.mark.slow
def test_a_recording_of_3_gb(tmp_path: Path, counted: Counted) -> None:
    """Sparse, with sound at both ends; in a process of its own, whose memory is compared with a short one's."""
    peaks = {}
    for name, size in (("short", 3 * 10**6), ("long", 3 * 2**30)):
        folder = tmp_path / name
        (folder / "in").mkdir(parents=True)
        with (folder / "in/a.wav").open("wb") as file:
            file.write(b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt ")
            file.write(struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16) + b"data" + struct.pack("<I", size))
            file.write(b"\1\2" * 1000)
            file.truncate(size + 44 - 2000)
            file.seek(0, os.SEEK_END)
            file.write(b"\1\2" * 1000)
        program = (
            "import pathlib\n"
            "from labous.nodes.files import Folder\n"
            "from labous.nodes import EndOfStream\n"
            "from tests.station.sources import context\n"
            "n = 0\n"
            f"for one in Folder(path='in').open(context(pathlib.Path({str(folder)!r}))).records():\n"
            "    if isinstance(one, EndOfStream): one.done()\n"
            "    else: n += 1\n"
            "print(n, next(int(s.split()[1]) for s in open('/proc/self/status') if s.startswith('VmHWM')))\n"
        )
        path = os.pathsep.join(sys.path)
        found = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        count, peaks[name] = map(int, found.stdout.split())
        n = size // 2
        assert count == n // SIZE + (n % SIZE >= 512)
        assert [error for _, error in listed(folder)] == [None]
    counted("a recording of 3 GB", f"peak RSS {peaks['long'] / 1024:.1f} MB, of 3 MB {peaks['short'] / 1024:.1f} MB")
    assert peaks["long"] < 1.05 * peaks["short"]


@pytest.mark.slow
def test_a_folder_through_kills(bundle_path: Path, counted: Counted) -> None:
    """The station is killed at random moments: each file is done in the end, and no observation is missing."""
    home = bundle_path.parent
    for number in range(16):
        write(home / f"in/20240501_05{number:02}00.wav", 40.0, seed=number)
    source = pipelines.node("folder", path='"in"', overlap=0.5, attempts=0)  # as these kills are no file's fault
    path = pipelines.write(home, source, pipelines.MIDDLE, pipelines.SINK)
    began = monotonic()
    assert pipelines.run("run", path).returncode == 0
    took = monotonic() - began
    wanted = observed(home)
    shutil.move(home / "out", home / "whole")
    shutil.rmtree(home / "state")
    random, kills = np.random.default_rng(0), 0
    for _ in range(40):
        with pipelines.running(path) as process:
            try:
                assert process.wait(took * random.uniform(0.2, 0.5)) == 0, process.communicate()[1]
                break
            except subprocess.TimeoutExpired:
                kills += 1
    assert pipelines.run("run", path).returncode == 0
    found = observed(home)
    counted(
        f"{kills} kills of a folder's station",
        f"{len(found)} observations, {len(set(found))} different, of {len(wanted)} that there are",
    )
    assert kills >= 3
    assert set(found) == set(wanted) and len(set(wanted)) == len(wanted)
    assert sorted(name for name, _ in listed(home)) == sorted(file.name for file in (home / "in").iterdir())


def observed(home: Path) -> list[str]:
    """The ids of all observations."""
    files = (home / "out").iterdir()
    return [json.loads(line)["id"] for file in files for line in file.read_text().splitlines()]
