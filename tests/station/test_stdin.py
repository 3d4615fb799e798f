"""PCM on standard input: from files, from programs, and from whatever is no sound."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from labous.errors import NodeError
from labous.nodes import EndOfStream
from labous.nodes.stdin import Stdin
from labous.options import parse
from labous.station.capture import Live
from labous.station.counters import Counters
from tests.runtime import audio
from tests.station.needs import programs
from tests.station.sources import RATE, SIZE, check_as_analyzed, context, split

RAW = {"u8": "PCM_U8", "s16le": "PCM_16", "s24le": "PCM_24", "s32le": "PCM_32", "f32le": "FLOAT"}


@contextlib.contextmanager
def source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fd: int, **options: object
) -> Iterator[tuple[Live, Counters, threading.Event]]:
    """The node, reading from a descriptor as standard input."""
    station = context(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", types.SimpleNamespace(fileno=lambda: fd))
        made = parse(Stdin, options).open(station)
    try:
        yield made, station.counters, station.stopping
    finally:
        made.close()


@contextlib.contextmanager
def piped(*command: str) -> Iterator[int]:
    """The reading end of a pipe that a program writes to."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process.stdout.fileno()
    finally:
        process.stdout.close()
        process.kill()
        process.wait()


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("format", RAW)
def test_every_format_gives_the_windows_of_the_file(
    format: str, header: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = audio.noise(3.3, 22_050, 2)
    path = audio.write(tmp_path / "a.wav", samples, 22_050, RAW[format])
    options: dict[str, object] = {"overlap": 0.5}
    given = path
    if not header:
        given = tmp_path / "a.raw"
        stored, _ = soundfile.read(path, dtype="float32" if format == "f32le" else "int32", always_2d=True)
        if format == "u8":
            given.write_bytes((stored // 2**24 + 128).astype(np.uint8).tobytes())
        elif format == "s24le":
            given.write_bytes(stored.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes())
        else:
            wide = stored // 2**16 if format == "s16le" else stored
            given.write_bytes(wide.astype({"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}[format]).tobytes())
        options |= {"format": format, "sample_rate": 22_050, "channels": 2}
    with piped("cat", str(given)) as fd, source(monkeypatch, tmp_path, fd, **options) as (made, counters, _):
        records, ends = split(made.records())
    check_as_analyzed(records, path, 0.5)
    assert [end.stream for end in ends] == ["stdin"]
    assert {r.time for r in records} == {None}, "a file piped in is not of now"
    assert counters.read() == {}


def test_a_redirected_file_is_never_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = audio.write(tmp_path / "a.wav", audio.noise(100.0, 8_000), 8_000)
    with path.open("rb") as file:
        options = {"live": "yes", "buffer_seconds": 2.0, "name": "tape \x1b[2J"}
        with source(monkeypatch, tmp_path, file.fileno(), **options) as (made, counters, _):
            records, ends = split(made.records())
    check_as_analyzed(records, path)
    assert (counters.read(), ends[0].stream) == ({}, "tape \\x1b[2J")


def test_what_follows_the_sound_in_a_wav_file_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = audio.write(tmp_path / "a.wav", audio.noise(2.0, RATE), RATE)
    with path.open("ab") as file:
        file.write(b"LIST\0\0\1\0" + bytes(range(256)) * 256)
    with piped("cat", str(path)) as fd, source(monkeypatch, tmp_path, fd) as (made, _, _):
        records, _ends = split(made.records())
    assert [(r.start, r.end) for r in records] == [(0, SIZE), (SIZE, 2 * SIZE)]


def test_live_sound_has_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with source(monkeypatch, tmp_path, read, live="yes", sample_rate=RATE) as (made, _, _):
        os.write(write, bytes(2 * SIZE))
        taken = made.records()
        record = next(taken)
        now = made._buffer._clock.now()
        assert not isinstance(record, EndOfStream)
        assert record.time is not None and now is not None
        # all of it arrived at once, so that by its length it began a second before
        assert 1.0 <= (now - record.time).total_seconds() < 3.0
        os.close(write)
        assert [type(one) for one in taken] == [EndOfStream]
    os.close(read)


def test_a_station_that_stops_leaves_a_silent_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with source(monkeypatch, tmp_path, read, sample_rate=RATE, live="yes") as (made, counters, stopping):
        timer = threading.Timer(0.3, stopping.set)
        timer.start()
        os.write(write, bytes(SIZE))  # half a window
        records, ends = split(made.records())
        assert (records, len(ends)) == ([], 1)
        assert counters.read() == {"audio_dropped_seconds_total": pytest.approx(0.5)}
        made.close()
        assert not made._thread.is_alive()
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("kind", ["closed", "terminal", "none"])
def test_standard_input_must_be_a_pipe(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "terminal":
        controller, fd = pty.openpty()
    else:
        fd, controller = os.pipe()
        if kind == "closed":
            os.close(fd)
    monkeypatch.setattr(sys, "stdin", None if kind == "none" else types.SimpleNamespace(fileno=lambda: fd))
    with pytest.raises(NodeError, match=r"pipe sound into it"):
        Stdin().open(context(tmp_path))
    os.close(controller)
    if kind != "closed":
        os.close(fd)


def test_a_header_that_cannot_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = audio.noise(1.0, 8_000)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 8_000, format="WAV", subtype="ULAW")
    with (
        piped("cat", str(path)) as fd,
        source(monkeypatch, tmp_path, fd) as (made, _, _),
        pytest.raises(NodeError, match=r"8 bits, format 7; send PCM"),
    ):
        split(made.records())


def test_a_program_that_cannot_seek_pipes_a_wav_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs("ffmpeg", untested="what ffmpeg pipes")
    path = audio.write(tmp_path / "a.wav", audio.noise(4.0, 44_100), 44_100)
    command = ("ffmpeg", "-nostdin", "-loglevel", "error", "-i", str(path), "-f", "wav", "-")
    with piped(*command) as fd, source(monkeypatch, tmp_path, fd) as (made, _, _):
        records, _ends = split(made.records())
    check_as_analyzed(records, path)
