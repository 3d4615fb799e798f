"""Streams through ffmpeg: real ones, and a program in its stead that fails in every way."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labous.errors import NodeError
from labous.nodes import EndOfStream, Record
from labous.nodes.ffmpeg import Ffmpeg, without_secrets
from labous.options import Refused, parse
from labous.station import buffer, capture
from tests.counts import Counted
from tests.runtime import audio
from tests.station.needs import programs
from tests.station.sources import RATE, SIZE, check_as_analyzed, context, split

RECONNECTS = 'reconnects_total{node="ffmpeg"}'
SECRETS = ("hunter2", "hunter%32", "s3cret")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits before a stream is opened anew are a tenth, and the first window comes at once."""
    monkeypatch.setattr(buffer, "_SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(capture.random, "uniform", lambda low, high: 0.1)


def program(folder: Path, script: str) -> str:
    """A shell script in ffmpeg's stead."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\ncd '{folder}'\n{script}\n")
    path.chmod(0o755)
    return str(path)


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """An ffmpeg that sends."""
    process = subprocess.Popen(["ffmpeg", "-nostdin", "-loglevel", "error", *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_files_windows_are_those_of_analyze(suffix: str, tmp_path: Path) -> None:
    programs("ffmpeg", untested="the node ffmpeg")
    path = audio.write(tmp_path / f"a.{suffix}", audio.noise(4.3, 44_100, 2), 44_100)
    station = context(tmp_path)
    records, ends = split(parse(Ffmpeg, {"url": path.name, "overlap": 0.25}).open(station).records())
    check_as_analyzed(records, path, 0.25)
    assert [end.stream for end in ends] == [path.name]
    assert station.counters.read() == {}


def test_what_soundfile_cannot_read(tmp_path: Path) -> None:
    """A video's sound, compressed."""
    programs("ffmpeg", untested="the node ffmpeg")
    path = audio.write(tmp_path / "a.wav", audio.noise(3.0, 48_000), 48_000)
    film = tmp_path / "film.mkv"
    with serving("-f", "lavfi", "-i", "color=s=16x16:d=3", "-i", str(path), "-c:a", "aac", str(film)) as process:
        assert process.wait(60) == 0
    records, _ = split(parse(Ffmpeg, {"url": "film.mkv"}).open(context(tmp_path)).records())
    assert len(records) == 3
    loudness = [float(np.abs(r.columns["audio"]).mean()) for r in records]
    assert min(loudness) > 0.005


@pytest.mark.parametrize("name", ["gone.wav", "text.wav", "mute.mkv"])
def test_a_file_that_cannot_be_read_ends_the_run(name: str, tmp_path: Path) -> None:
    programs("ffmpeg", untested="the node ffmpeg")
    (tmp_path / "text.wav").write_text("no sound")
    if name == "mute.mkv":
        with serving("-f", "lavfi", "-i", "color=s=16x16:d=1", str(tmp_path / name)) as process:
            assert process.wait(60) == 0
    with pytest.raises(NodeError, match=rf"'{name}' cannot be read: ffmpeg ended with \d+ \(.+\)") as caught:
        split(Ffmpeg(url=name).open(context(tmp_path)).records())
    assert "\n" not in str(caught.value)


def test_ffmpeg_must_be_installed(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=r"'ffmpeg-9' is not installed; install the system's package ffmpeg"):
        Ffmpeg(url="rtsp://garden/1", program="ffmpeg-9").open(context(tmp_path))


@pytest.mark.slow
def test_a_stream_over_http_that_breaks_off_is_opened_again(tmp_path: Path, counted: Counted) -> None:
    """The sender is killed twice; windows before and after each gap are whole."""
    programs("ffmpeg", untested="the node ffmpeg")
    path = audio.write(tmp_path / "a.wav", audio.noise(60.0, RATE), RATE)
    port = free_port()
    station = context(tmp_path)
    send = ("-re", "-i", str(path), "-f", "wav", "-listen", "1", f"http://127.0.0.1:{port}/garden")
    options: dict[str, object] = {
        "url": f"http://user:hunter2@127.0.0.1:{port}/garden?key=s3cret",
        "retry_seconds": 2,
        "overlap": 0.5,
    }
    options["input_options"] = ["-probesize", "32768", "-analyzeduration", "0"]  # it would listen for 5 s first
    source = parse(Ffmpeg, options).open(station)
    taken = source.records()
    records: list[Record] = []
    for _ in range(3):
        with serving(*send):
            for one in taken:
                assert isinstance(one, Record)
                records.append(one)
                if one.fresh == SIZE:  # the first of a connection
                    break
    station.stopping.set()
    _, ends = split(taken)
    source.close()
    assert not source._thread.is_alive()
    assert {r.stream for r in records} == {f"http://127.0.0.1:{port}"} == {end.stream for end in ends}
    assert all(after.start >= before.start + after.fresh for before, after in itertools.pairwise(records))
    assert len(records) > 3, "the end of what was heard before a break is given"
    times = [r.time for r in records]
    assert None not in times and times == sorted(times)  # type: ignore[type-var]
    assert station.counters.read()[RECONNECTS] >= 2
    counted("a stream that breaks off", f"{station.counters.read()[RECONNECTS]:g} reconnects, {len(records)} windows")


@pytest.mark.slow
def test_rtsp(tmp_path: Path) -> None:
    """A camera's protocol: another ffmpeg sends to ours, which listens as an RTSP server does."""
    programs("ffmpeg", untested="the node ffmpeg")
    path = audio.write(tmp_path / "a.wav", audio.noise(20.0, 48_000), 48_000)
    url = f"rtsp://127.0.0.1:{free_port()}/garden"
    station = context(tmp_path)
    options = {"url": url, "input_options": ["-rtsp_flags", "listen"]}
    source = parse(Ffmpeg, options).open(station)
    taken = source.records()
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():  # until ours listens
            with serving(
                "-re", "-i", str(path), "-c:a", "pcm_s16be", "-f", "rtsp", "-rtsp_transport", "tcp", url
            ) as one:
                while not stop.wait(0.05) and one.poll() is None:
                    pass

    sender = threading.Thread(target=send)
    sender.start()
    try:
        records = [next(taken) for _ in range(2)]
    finally:
        stop.set()
        station.stopping.set()
        sender.join(5)
        split(taken)
        source.close()
    now = source._buffer._clock.now()
    for record in records:
        assert isinstance(record, Record)
        assert record.stream == url.removesuffix("/garden")
        assert np.abs(record.columns["audio"]).mean() > 0.005
        assert now is not None and record.time is not None
        assert datetime.timedelta(0) < now - record.time < datetime.timedelta(seconds=30)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", "it ended"),
        (
            "echo 'rtsp://u:hunter2@camera/1?k=s3cret: 401 \033[31m k=s3cret' >&2; exit 8",
            r"ended with 8 \(rtsp://camera: 401 ",
        ),
        ("echo 'cannot open http://other/live/s3cret/a.ts?hunter2, nor hunter2' >&2; exit 1", r"http://other, nor …\)"),
        ("kill -9 $$", r"ended with -9"),
        ("yes nonsense | head -c 199998 >&2; cat a.wav; exit 1", r"ended with 1 \(nonsense\)"),
        ("head -c 30 a.wav", "it ended"),
        ("cat silence.wav; exec sleep 30", "no sound has come for 1 s"),
        ("trap '' TERM; cat a.wav; sleep 30 & wait; wait", "no sound has come for 1 s"),
        ("printf 'RIFF____WAVEdata____'; exec sleep 30", "no format"),
    ],
)
def test_whatever_happens_to_ffmpeg_it_is_run_again(
    script: str, reason: str, tmp_path: Path, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    audio.write(tmp_path / "a.wav", audio.noise(1.0, RATE), RATE)
    (tmp_path / "silence.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:44])
    first = "mkdir once 2>/dev/null || { mkdir again; cat a.wav; while sleep 0.2; do head -c 9 /dev/zero; done; }"
    station = context(tmp_path)
    options = {"url": "rtsp://u:hunter2@camera/1?k=s3cret", "stall_seconds": 1, "retry_seconds": 1}
    source = parse(Ffmpeg, {**options, "program": program(tmp_path, f"{first}\n{script}")}).open(station)
    began = time.monotonic()
    for one in source.records():
        assert isinstance(one, (Record, EndOfStream))
        if (tmp_path / "again").exists():
            break
    took = time.monotonic() - began
    station.stopping.set()
    source.close()
    assert not source._thread.is_alive()
    assert took < 6
    (message,) = {record.getMessage() for record in caplog.records}
    assert message.isprintable() and "No sound from rtsp://camera: " in message
    assert re.search(reason, message), message
    assert not any(secret in caplog.text for secret in SECRETS)
    assert station.counters.read()[RECONNECTS] == 1


def test_nothing_is_left_behind(tmp_path: Path, quick: None, counted: Counted) -> None:
    """After a hundred lives of ffmpeg, no process, thread or descriptor is."""
    audio.write(tmp_path / "a.wav", audio.noise(0.5, RATE), RATE)
    script = "echo $$ >> pids; cat a.wav"
    station = context(tmp_path)
    source = parse(Ffmpeg, {"url": "rtsp://camera/1", "program": program(tmp_path, script)}).open(station)
    threads = threading.active_count()
    before = len(list(Path("/proc/self/fd").iterdir()))
    count = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture.random, "uniform", lambda low, high: 0.0)
        for one in source.records():
            count += isinstance(one, Record)
            if count == 100:
                station.stopping.set()
    source.close()
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) >= 100
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    counted(f"{len(pids)} deaths of ffmpeg", f"{count} windows; no process, thread or descriptor is left")


def test_stopping_is_prompt_even_if_ffmpeg_is_not(tmp_path: Path) -> None:
    station = context(tmp_path)
    script = "trap '' TERM INT; echo $$ > pid; while :; do sleep 1; done"
    source = parse(Ffmpeg, {"url": "rtsp://camera/1", "program": program(tmp_path, script)}).open(station)

    def stop_when_it_runs() -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        station.stopping.set()

    threading.Thread(target=stop_when_it_runs).start()
    split(source.records())
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 2
    assert not source._thread.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIG_DFL)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("rtsp://camera/1", "rtsp://camera"),
        ("rtsp://u:hunter2@camera:554/1", "rtsp://camera:554"),
        ("rtsp://u:a@b:c@camera/1", "rtsp://camera"),
        ("rtsp://camera:554/user=admin_password=hunter2_channel=1_stream=0.sdp", "rtsp://camera:554"),
        ("rtsp://camera/user=admin&password=hunter2&channel=1", "rtsp://camera"),
        ("http://camera/live.mp3?user=u&pwd=hunter2#s3cret", "http://camera"),
        ("http://camera/hunter2/live.mp3", "http://camera"),
        ("http://camera?pwd=hunter2", "http://camera"),
        ("https://hunter2@[::1]:8443/1", "https://[::1]:8443"),
        ("udp://@239.0.0.1:1234", "udp://239.0.0.1:1234"),
        ("srt://camera:9000?passphrase=hunter2", "srt://camera:9000"),
        ("file:///tmp/a.wav", "file:///tmp/a.wav"),
        ("a b/c?d.wav", "a b/c?d.wav"),
        ("hw:1,0", "hw:1,0"),
    ],
)
def test_names_without_secrets(url: str, name: str) -> None:
    assert parse(Ffmpeg, {"url": url})
    assert without_secrets(url) == name


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://u:hun/ter2@camera/1",
        "rtsp://u:12/3@camera",
        "rtsp://u:hun?ter2@camera/1",
        "rtsp://u:2020#ter2@camera/1",
        "rtsp://u:2020?ter2@camera/1",
        "rtsp://u:p@2020#ter2@camera/1",
        "rtsp://u/hunter2@camera/1",
        "http://camera/live;u:hunter2@x",
    ],
)
def test_an_address_with_a_bare_separator_in_its_password_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="%2F") as caught:
        parse(Ffmpeg, {"url": url})
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["rtsp:u:hunter2@camera/1", "http:camera?token=hunter2", "http:/camera/hunter2"])
def test_an_address_in_shorthand_is_refused(url: str) -> None:
    with pytest.raises(
        Refused, match=r"neither an address nor a path; write SCHEME://… or, for a file, \./…"
    ) as caught:
        parse(Ffmpeg, {"url": url})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://camera/user=admin_password=hunter2&channel=1",
        "http://camera/live?token=hunter2",
        "http://camera/hunter2/live",
        "http://camera/live;hunter2?n=1#hunter2",
        "http://u:hunter2@camera/live",
        "http://camera/live?token=hunter%32",
    ],
)
def test_what_ffmpeg_says_of_an_address_is_without_secrets(url: str) -> None:
    plain = urllib.parse.unquote(url)
    source = parse(Ffmpeg, {"url": url})
    tail = url.partition("camera/")[2]
    for said in (
        f"{url}: 401", f"Error opening input file {plain}.", f"Opening '{url}' for reading", f"/{tail} not found",
        tail, urllib.parse.unquote(tail), f"http://other:80/{tail}, then", f'"{plain}/seg1.ts?{tail}"', "hunter2?",
    ):  # fmt: skip
        told = source._without_secrets_in(said)
        assert not any(secret in told for secret in SECRETS), (said, told)
    assert source._without_secrets_in(f"{url}: 401 Unauthorized") == f"{without_secrets(url)}: 401 Unauthorized"


def test_what_the_real_ffmpeg_says_is_without_secrets(tmp_path: Path) -> None:
    programs("ffmpeg", untested="the node ffmpeg")
    for url in (
        f"http://u:hunter2@127.0.0.1:{free_port()}/s3cret/live?token=hunter2",
        f"rtsp://127.0.0.1:{free_port()}/user=admin_password=hunter2&channel=1",
    ):
        with pytest.raises(NodeError, match=r"cannot be read: ffmpeg ended with \d+ \(.+\)") as caught:
            split(parse(Ffmpeg, {"url": url, "live": "no"}).open(context(tmp_path)).records())
        assert f"({without_secrets(url)}: Connection refused)" in str(caught.value)


@settings(deadline=None, max_examples=300)
@given(
    password=st.one_of(
        st.text(min_size=4, max_size=12),
        st.text(alphabet="20/?#@:[]%", min_size=1, max_size=6),
    ).map(lambda text: f"{text}hunter2{text}"),
    first=st.sampled_from(["", "20", "20:", "20#", "20/", "20?", "20@"]),
    host=st.sampled_from(["camera", "camera:554"]),
)
def test_no_password_is_in_a_name(password: str, first: str, host: str) -> None:
    url = f"rtsp://u:{first}{password}@{host}/1"
    with contextlib.suppress(Refused):
        parse(Ffmpeg, {"url": url})
        assert "hunter2" not in without_secrets(url)
