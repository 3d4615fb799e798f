"""Microphones: a sound system of the tests' own, and a real one with a virtual sound card."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from labous import cli, recordings
from labous.errors import NodeError
from labous.nodes import EndOfStream, Record
from labous.nodes import microphone as module
from labous.nodes.microphone import Device, Microphone, find
from labous.options import parse
from labous.station import buffer, capture
from labous.station.capture import Live
from labous.station.counters import Counters
from tests.counts import Counted
from tests.runtime import audio
from tests.station import pipelines
from tests.station.needs import programs
from tests.station.sources import RATE, SIZE, context, split

RECONNECTS = 'reconnects_total{node="microphone"}'


class PortAudioError(Exception):
    """As sounddevice's."""


class Sound:
    """A sound system in sounddevice's stead: devices come and go, and give sound when the test says so."""

    PortAudioError = PortAudioError

    def __init__(self) -> None:
        self.plugged = ["Built-in Audio: Analog (hw:0,0)", "USB Microphone: Audio (hw:1,0)"]
        self.least_channels = 1
        self.default = types.SimpleNamespace(device=(0, -1))
        self.streams: list[Any] = []
        self.opened = threading.Condition()
        self.asked: dict[str, Any] = {}
        self.broken = self._begun = False
        self._known: list[str] = []
        self._initialize()

    def _initialize(self) -> None:
        if self.broken:
            raise PortAudioError("Error initializing PortAudio")
        self._known, self._begun = list(self.plugged), True

    def _terminate(self) -> None:
        if not self._begun:
            raise PortAudioError("Error terminating PortAudio")
        self._known, self._begun = [], False

    def query_hostapis(self) -> Any:
        return ({"name": "ALSA", "default_input_device": 0},)

    def query_devices(self) -> Any:
        made = [
            {"index": n, "name": name, "hostapi": 0, "max_input_channels": 2, "default_samplerate": 44_100.0}
            for n, name in enumerate(self._known)
        ]
        return [*made, {**(made or [{}])[0], "index": len(made), "name": "Loudspeaker", "max_input_channels": 0}]

    def check_input_settings(self, device: int, channels: int, dtype: str, samplerate: int) -> None:
        if channels < self.least_channels:
            raise PortAudioError("Invalid number of channels")

    def InputStream(self, **asked: Any) -> Any:
        if self._known[asked["device"]] not in self.plugged:
            raise PortAudioError("Device unavailable \x1b[31m")
        stream = types.SimpleNamespace(asked=asked, close=lambda: None)

        def start() -> None:
            with self.opened:
                self.streams.append(stream)
                self.opened.notify_all()

        stream.start = start
        return stream

    def give(self, stream: Any, samples: np.ndarray, lost: bool = False) -> None:
        """The device has captured so much, float32 [n, channels]."""
        status = types.SimpleNamespace(input_overflow=lost)
        stream.asked["callback"](samples, len(samples), None, status)

    def stream(self, number: int) -> Any:
        """The stream that was started as that, once it was."""
        with self.opened:
            assert self.opened.wait_for(lambda: len(self.streams) > number, 10)
            return self.streams[number]


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> Sound:
    made = Sound()
    monkeypatch.setitem(sys.modules, "sounddevice", made)  # type: ignore[arg-type]
    monkeypatch.setattr(capture.random, "uniform", lambda low, high: 0.1)
    monkeypatch.setattr(buffer, "_SETTLED_SECONDS", 0.0)
    return made


@contextlib.contextmanager
def listening(tmp_path: Path, **options: Any) -> Iterator[tuple[Live, Iterator[Record | EndOfStream], Counters]]:
    station = context(tmp_path)
    source = parse(Microphone, options).open(station)
    try:
        yield source, source.records(), station.counters
    finally:
        source.close()


def window(number: int, channels: int = 1) -> np.ndarray:
    return np.full((SIZE, channels), number, np.float32) + np.linspace(0, 0.1, channels, dtype=np.float32)


def test_it_listens_at_the_devices_own_rate(sound: Sound, tmp_path: Path) -> None:
    with listening(tmp_path, device="usb") as (_, taken, counters):
        stream = sound.stream(0)
        samples = audio.noise(1.5, 44_100)
        sound.give(stream, samples)
        record = next(taken)
    assert isinstance(record, Record)
    assert (record.stream, record.start, record.columns["audio"].shape) == ("usb", 0, (SIZE,))
    assert record.time is not None
    asked = stream.asked
    assert (asked["device"], asked["samplerate"], asked["channels"]) == (1, 44_100, 1)
    assert counters.read().get(RECONNECTS) is None


@pytest.mark.parametrize(("least", "channels", "expected"), [(1, None, 1), (2, None, 2), (3, None, 2), (1, 2, 2)])
def test_channels_are_averaged(least: int, channels: int | None, expected: int, sound: Sound, tmp_path: Path) -> None:
    sound.least_channels = least
    options = {"sample_rate": RATE} | ({} if channels is None else {"channels": channels})
    with listening(tmp_path, **options) as (_, taken, _):
        stream = sound.stream(0)
        assert (stream.asked["channels"], stream.asked["samplerate"]) == (expected, RATE)
        sound.give(stream, window(3, expected))
        record = next(taken)
    assert isinstance(record, Record) and record.stream == "microphone"
    np.testing.assert_allclose(record.columns["audio"], 3.05 if expected == 2 else 3.0)


def test_unplugged_and_back_under_another_number(
    sound: Sound, tmp_path: Path, caplog: pytest.LogCaptureFixture, counted: Counted
) -> None:
    with listening(tmp_path, device="USB Micro", sample_rate=RATE, retry_seconds=1) as (_, taken, counters):
        stream = sound.stream(0)
        sound.give(stream, np.concatenate([window(1), window(2)[:700]]))
        records = [next(taken)]
        sound.plugged = ["HDMI"]
        stream.asked["finished_callback"]()
        pipelines.wait_for(lambda: counters.read().get(RECONNECTS, 0) >= 3)
        sound.broken = True
        pipelines.wait_for(lambda: counters.read()[RECONNECTS] >= 6)
        sound.broken = False
        sound.plugged = ["HDMI", "A", "USB Microphone: Audio (hw:2,0)"]
        stream = sound.stream(1)
        assert stream.asked["device"] == 2
        sound.give(stream, window(5))
        records += [next(taken), next(taken)]
    assert all(isinstance(record, Record) for record in records)
    _first, tail, second = records
    assert (tail.start, tail.fresh, second.fresh) == (700, 700, SIZE)  # type: ignore[union-attr]
    assert second.start >= tail.end  # type: ignore[union-attr]
    assert set(second.columns["audio"]) == {5.0}, "no window lies across the gap"  # type: ignore[union-attr]
    assert caplog.text.count("No sound from USB Micro") == 1, "told once"
    counted(
        "unplugged, and back as another", f"{counters.read()[RECONNECTS]:.0f} attempts, told once; no window spans it"
    )


def test_a_device_that_falls_silent_is_opened_anew(
    sound: Sound, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(tmp_path, sample_rate=RATE, stall_seconds=1) as (_, taken, counters):
        began = time.monotonic()
        sound.give(sound.stream(0), window(1))
        sound.stream(1)
        assert 1 <= time.monotonic() - began < 5
        sound.give(sound.stream(1), window(2))
        assert [set(next(taken).columns["audio"]) for _ in range(2)] == [{1.0}, {2.0}]  # type: ignore[union-attr]
    assert counters.read()[RECONNECTS] == 1
    assert "no sound has come for 1 s" in caplog.text


def test_what_the_sound_system_loses_makes_a_gap(sound: Sound, tmp_path: Path) -> None:
    with listening(tmp_path, sample_rate=RATE) as (_, taken, counters):
        stream = sound.stream(0)
        sound.give(stream, window(1)[: SIZE // 2])
        sound.give(stream, window(2), lost=True)
        records = [next(taken), next(taken)]
    first, second = records
    assert isinstance(first, Record) and isinstance(second, Record)
    assert (first.end, first.fresh, second.fresh) == (SIZE // 2, SIZE, SIZE)
    assert set(second.columns["audio"]) == {2.0}
    assert counters.read()["audio_overruns_total"] == 1


def test_a_sound_system_that_hangs_ends_the_run(sound: Sound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HANGS_AFTER_SECONDS", 0.2)
    over = threading.Event()
    monkeypatch.setattr(sound, "InputStream", lambda **asked: over.wait(20))
    source = Microphone().open(context(tmp_path))
    with pytest.raises(NodeError, match=r"could not be opened within 0.2 s; the sound system hangs"):
        split(source.records())
    over.set()


DEVICES = [
    Device(n, name, "ALSA", 1, 48_000.0, n == 1) for n, name in enumerate(["USB", "USB Mic", "usb mic 2", "HDMI"])
]


@pytest.mark.parametrize(("wanted", "index"), [("USB", 0), ("usb MIC", 1), ("mic 2", 2), ("hd", 3), (None, 1)])
def test_a_device_by_its_name(wanted: str | None, index: int) -> None:
    assert find(DEVICES, wanted).index == index


@pytest.mark.parametrize(
    ("devices", "wanted", "message"),
    [
        (DEVICES, "mic", r"several devices are 'mic'; there are: 'USB Mic', 'usb mic 2'"),
        (DEVICES, "laser", r"no device is 'laser'; there are: 'USB', 'USB Mic', 'usb mic 2', 'HDMI'"),
        ([], None, r"no device is the system's default; there are: none at all"),
    ],
)
def test_a_name_that_does_not_tell(devices: list[Device], wanted: str | None, message: str) -> None:
    with pytest.raises(NodeError, match=message):
        find(devices, wanted)


def test_the_list_of_devices(sound: Sound, capsys: pytest.CaptureFixture[str]) -> None:
    sound.plugged = ["Microphone \x1b[31m", "B"]
    sound._initialize()
    assert cli.main(["devices"]) == 0
    assert capsys.readouterr().out == (
        "name                 through  channels     Hz\n"
        "Microphone \\x1b[31m  ALSA            2  44100  the system's default\n"
        "B                    ALSA            2  44100\n"
    )
    sound.plugged = []
    sound._initialize()
    assert cli.main(["devices"]) == 1
    assert "plug a microphone in" in capsys.readouterr().out


def test_what_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(NodeError, match=r"pip install 'labous\[microphone\]'"):
        Microphone().open(context(tmp_path))
    monkeypatch.delitem(sys.modules, "sounddevice")
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(folder)
    assert cli.main(["devices"]) == 1
    assert "libportaudio2" in capsys.readouterr().err


class Card:
    """PulseAudio with a virtual sound card, which applications see through ALSA."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rate = folder, 48_000
        self.environment = {
            **os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder),
            "PULSE_RUNTIME_PATH": str(folder / "pulse"), "PULSE_SERVER": f"unix:{folder / 'socket'}",
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
        }  # fmt: skip
        (folder / "asound.conf").write_text(
            "pcm.!default {\n type pulse\n}\n"
            "pcm.garden {\n type pulse\n device garden.monitor\n hint { show on\n description Garden }\n}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def plug(self) -> None:
        """Start the sound server with its card."""
        self._process = subprocess.Popen(
            [
                "pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--log-level=error",
                "-L", "module-null-sink sink_name=garden channels=2 rate=" + str(self.rate),
                "-L", f"module-native-protocol-unix auth-anonymous=1 socket={self.folder / 'socket'}",
            ],
            env=self.environment, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        pipelines.wait_for(lambda: self.run("pactl", "info").returncode == 0)

    def unplug(self) -> None:
        """Take the card away."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, env=self.environment, capture_output=True, check=False, timeout=60)


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Card]:
    programs("pulseaudio", "pactl", "paplay", "arecord", untested="microphones on a sound card")
    made = Card(tmp_path)
    yield made
    made.unplug()


LISTEN = """
import pathlib, sys
import numpy as np
from labous.nodes import Record
from labous.nodes.microphone import Microphone
from tests.station.sources import context
station = context(pathlib.Path(sys.argv[1]))
source = Microphone(device="garden", sample_rate=int(sys.argv[2])).open(station)
heard = open(sys.argv[1] + "/heard.raw", "wb", buffering=0)
print("listening", flush=True)
for record in source.records():
    if isinstance(record, Record):
        heard.write(record.columns["audio"][-record.fresh:].tobytes())
        print(record.start, record.end, record.fresh, record.time.timestamp(), flush=True)
"""


@contextlib.contextmanager
def heard(card: Card) -> Iterator[tuple[subprocess.Popen[str], Callable[[], list[list[float]]]]]:
    """A process that listens to the card, and what it tells of its windows so far."""
    out = card.folder / "windows.txt"
    environment = {**card.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    with out.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", LISTEN, str(card.folder), str(card.rate)], env=environment, stdout=file, text=True,
            stderr=(card.folder / "log.txt").open("w"),
        )  # fmt: skip

    def windows() -> list[list[float]]:
        return [list(map(float, line.split())) for line in out.read_text().splitlines()[1:] if line.count(" ") == 3]

    try:
        yield process, windows
    finally:
        process.kill()
        process.wait()


def placed(recording: np.ndarray, found: np.ndarray) -> tuple[int, float]:
    """Where in what was heard the recording begins, and how like it is, 0 … 1."""
    size = 2 ** int(np.ceil(np.log2(len(recording) + len(found))))
    spectrum = np.fft.rfft(found, size) * np.conj(np.fft.rfft(recording, size))
    at = int(np.argmax(np.fft.irfft(spectrum)[: len(found)]))
    part = found[at : at + len(recording)]
    like = float(np.dot(part, recording[: len(part)]) / np.linalg.norm(part) / np.linalg.norm(recording[: len(part)]))
    return at, like


@pytest.mark.slow
@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_a_recording_played_into_a_sound_card(rate: int, card: Card, counted: Counted) -> None:
    """What is heard is the recording, at the time when it was played."""
    card.rate = rate
    card.plug()
    path = audio.write(card.folder / "a.wav", audio.noise(3.0, rate), rate)
    recording = soxr.resample(recordings.read(path, RATE), RATE, 48_000)
    with heard(card) as (process, windows):
        pipelines.wait_for(lambda: len(windows()) >= 1, process)
        began = time.time()
        assert card.run("paplay", str(path)).returncode == 0
        ended = time.time()
        count = len(windows())
        pipelines.wait_for(lambda: len(windows()) >= count + 2, process)
    rows = windows()
    found = np.fromfile(card.folder / "heard.raw", np.float32)[: int(rows[-1][1])]
    at, like = placed(recording, soxr.resample(found, RATE, 48_000))
    played = rows[0][3] + at / 48_000
    counted(
        f"played into a sound card, {rate} Hz",
        f"correlation {like:.6f}; heard {1000 * (played - began):.0f} ms after the player's start",
    )
    assert like > 0.999
    assert began - 0.25 <= played <= ended - 3.0 + 0.25, "beyond what the sound server itself holds back"
    assert [row[0] for row in rows] == [number * SIZE for number in range(len(rows))]


@pytest.mark.slow
def test_a_sound_card_that_is_unplugged_and_comes_back(card: Card, counted: Counted) -> None:
    card.plug()
    with heard(card) as (process, windows):
        pipelines.wait_for(lambda: len(windows()) >= 2, process)
        before = len(windows())
        card.unplug()
        gone = time.time()
        log = card.folder / "log.txt"
        pipelines.wait_for(lambda: "No sound from garden" in log.read_text(), process)
        card.plug()
        back = time.time()
        pipelines.wait_for(lambda: windows() and windows()[-1][3] >= back, process, 60)
    rows = windows()
    after = [row for row in rows if row[3] >= back]
    gap = after[0][0] - [row for row in rows if row[3] < back][-1][1]
    counted(
        "a sound card unplugged, and back",
        f"{before} windows; {back - gone:.1f} s without a card, {gap / RATE:.1f} s without sound; {len(after)} windows",
    )
    assert after[0][2] == SIZE
    assert 0 < gap / RATE < 60


@pytest.mark.slow
def test_the_list_has_the_card(card: Card) -> None:
    card.plug()
    found = card.run(sys.executable, "-m", "labous", "devices")
    assert found.returncode == 0 and b"garden" in found.stdout, found.stderr
    assert found.stderr == b""


def lines(folder: Path) -> list[str]:
    return [line for file in folder.iterdir() for line in file.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raw", "wav"])
def test_arecord_into_a_station(kind: str, card: Card, bundle_path: Path, counted: Counted) -> None:
    """``arecord | labous run`` to observations, while a recording is played; SIGTERM ends it well."""
    card.plug()
    source = pipelines.node("stdin", sample_rate=48_000, overlap=0.5)
    path = pipelines.write(bundle_path.parent, source, pipelines.MIDDLE, pipelines.SINK)
    sound = audio.write(card.folder / "a.wav", audio.noise(4.0, 48_000), 48_000)
    command = ["arecord", "-q", "-D", "garden", "-t", kind, "-f", "S16_LE", "-r", "48000", "-c", "1"]
    with subprocess.Popen(command, env=card.environment, stdout=subprocess.PIPE) as recorder:
        with pipelines.running(path, stdin=recorder.stdout) as station:
            assert card.run("paplay", str(sound)).returncode == 0
            status = path.parent / "state/status.json"
            out = path.parent / "out"
            pipelines.wait_for(lambda: out.exists() and len(lines(out)) >= 9, station)
            station.send_signal(signal.SIGTERM)
            assert station.wait(5) == 0
        recorder.kill()
    told = json.loads(status.read_text())["counters"]
    counted(f"arecord -t {kind} | labous run", f"{told['windows_total']:g} windows, {len(lines(out))} observations")
    assert told["windows_total"] >= 3
    assert all(json.loads(line) for line in lines(out))
