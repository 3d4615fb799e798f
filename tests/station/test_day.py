"""A day of sound, as fast as it goes: nothing grows, and every window is accounted for."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from labous.station import status
from tests.counts import Counted
from tests.runtime import audio
from tests.runtime.bundles import FRONTEND
from tests.station import pipelines
from tests.station.broker import Broker, Listener
from tests.station.deliveries import HURRY, wait_until
from tests.station.growth import Growth, Sample
from tests.station.pipelines import MIDDLE, node
from tests.station.receiver import Fate, receiving
from tests.station.test_privacy import speech

pytestmark = pytest.mark.slow

RATE, WINDOW = FRONTEND.sample_rate, FRONTEND.window_seconds
HOURS = 24
FIRST = 20  # s that are waited for, so that every node has had something
PART = 600  # s; six of them are an hour's recording
TALK = range(100, 105)  # the seconds of each with a voice
CLIPS_MEGABYTES = 15
FAILURES = {
    "refused": Fate(reset=True),
    "hung": Fate(hangs=True, keeps=False),
    "hung with them": Fate(hangs=True, keeps=True),
    "answered half": Fate(cut=20, keeps=False),
    "500 with them": Fate(status=500, keeps=True),
    "429": Fate(status=429, headers=(("Retry-After", "0"),)),
}


@contextlib.contextmanager
def station(path: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[bytes]]]:
    """A run in the background, and, once it has ended, what it said."""
    command = [sys.executable, "-m", "labous", "run", str(path)]
    said: list[bytes] = []
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=pipelines.environment())
    assert process.stdin is not None and process.stderr is not None
    listener = threading.Thread(target=lambda: said.append(process.stderr.read()))  # type: ignore[union-attr]
    listener.start()
    try:
        yield process, said
    finally:
        process.kill()
        process.wait()
        listener.join()
        process.stderr.close()


def cpu_seconds() -> float:
    """Of all that this process started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def lines(folder: Path, suffix: str) -> list[str]:
    return [line for file in sorted(folder.glob(f"*.{suffix}")) for line in file.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("live", ["no", "yes"])
def test_24_hours_through_a_pipe(live: str, bundle_path: Path, counted: Counted) -> None:
    """What is not live waits until it is taken; what is goes on, and what cannot be taken in time is dropped."""
    folder, before = bundle_path.parent, cpu_seconds()
    source = node("stdin", sample_rate=RATE, live=f'"{live}"')
    path = pipelines.write(folder, source, MIDDLE, "interval = 60\n", node("jsonl", path='"out"'))
    # ten minutes, six times an hour, each hour a little louder than the one before
    sound = (audio.noise(PART, RATE)[:, 0] * 16_000).astype("<i2")
    samples, fed = [], HOURS * 3600 + FIRST
    with station(path) as (process, said):
        assert process.stdin is not None
        # live sound goes by faster than the first observation comes, and that brings memory of its own
        process.stdin.write(sound[: FIRST * RATE].tobytes())
        process.stdin.flush()
        wait_until(lambda: any((folder / "out").glob("*.jsonl")), 60)
        for hour in range(HOURS):
            hourly = (sound * (1 + hour / HOURS)).astype("<i2").tobytes()
            for part in range(3600 // PART):
                process.stdin.write(hourly)
                # the pipe and the source's buffer hold seconds; but for those, so much has now gone through
                samples.append(Sample.of(process.pid, hour + (part + 1) * PART / 3600))
        process.stdin.close()
        assert process.wait(120) == 0
    report = status.read(folder / "state").report
    counters, growth = report["counters"], Growth(samples, HOURS)
    heard, dropped = counters["audio_seconds_total"], counters.get("audio_dropped_seconds_total", 0)
    events = len(lines(folder / "out", "jsonl"))
    counted(
        f"{HOURS} h through a pipe, {'live' if live == 'yes' else 'waiting'}",
        f"{counters['windows_total']:,.0f} windows of {heard:,.0f} s and {dropped:,.0f} s dropped of "
        f"{fed:,} s; {events:,} observations; {growth}; {cpu_seconds() - before:.0f} s of CPU",
    )
    assert heard + dropped == pytest.approx(fed)
    assert (dropped > 0) == (live == "yes")
    assert counters["windows_total"] == pytest.approx(heard / WINDOW) or live == "yes"
    assert events == counters["observations_total"] > 0
    assert len(json.dumps(report)) < 10_000
    assert b"Traceback" not in said[0]
    growth.check()


def recorded(folder: Path) -> Path:
    """A day of recordings of 48 kHz, which are one file by 24 names; a voice speaks now and then."""
    folder.mkdir()
    sound = audio.noise(PART, 48_000)[:, 0]
    talk = slice(48_000 * TALK.start, 48_000 * TALK.stop)
    sound[talk] = 0.05 * sound[talk] + speech(len(TALK), 48_000)
    first = folder / "20260501_000000.flac"
    with soundfile.SoundFile(first, "w", 48_000, 1, "PCM_16") as file:
        for _ in range(3600 // PART):
            file.write(sound)
    for hour in range(1, HOURS):
        os.link(first, folder / f"20260501_{hour:02}0000.flac")
    return folder


def whole_pipeline(folder: Path, url: str, broker: int) -> Path:
    """A pipeline file with one of everything."""
    keys = HURRY | {"finish_seconds": 30.0, "timeout_seconds": 0.3}
    told = {name: json.dumps(value) for name, value in keys.items()}
    return pipelines.write(
        folder,
        node("folder", path='"in"'),
        node("wasm") + node("tflite") + node("privacy") + node("confirm", threshold=0.1, interval=600),
        node("clips", path='"clips"', megabytes=CLIPS_MEGABYTES),
        "".join(node(kind, path='"out"') for kind in ("raven", "jsonl", "csv")),
        node("http", url=json.dumps(url), **told),
        node("mqtt", host='"127.0.0.1"', port=broker, **told),
        station=pipelines.STATION + "status_seconds = 1\n",
    )


def watched(process: subprocess.Popen[bytes], state: Path, clips: Path) -> tuple[list[Sample], float]:
    """Samples of a station until it ends, and the most that its clips took, MB."""
    samples, most = [], 0.0
    while process.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError):  # it has only begun, or just ended
            told = json.loads((state / "status.json").read_text("utf-8"))["counters"]
            samples.append(Sample.of(process.pid, told["windows_total"] * WINDOW / 3600))
        sizes = []
        for file in clips.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # evicted at this moment
                sizes.append(file.stat().st_size * (file.suffix in (".flac", ".png")))
        most = max(most, sum(sizes) / 1e6)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.25)
    # what the last report before the end stands beside may be of a station that closes already
    last = max((sample.hours for sample in samples if sample.hours < HOURS), default=0.0)
    return [sample for sample in samples if sample.hours < last], most


def test_24_hours_through_everything(bundle_path: Path, counted: Counted) -> None:
    folder, before = bundle_path.parent, cpu_seconds()
    rng, fates = random.Random(1), Counter[str]()
    recorded(folder / "in")
    broker = Broker(folder)

    def fate() -> Fate:
        name = "taken" if rng.random() < 0.6 else rng.choice(list(FAILURES))
        fates[name] += 1
        return FAILURES.get(name, Fate())

    broker.start()
    try:
        listener = Listener(broker.port)
        with receiving(fate) as receiver:
            path = whole_pipeline(folder, receiver.url, broker.port)
            with station(path) as (process, said):
                samples, most = watched(process, folder / "state", folder / "clips")
            assert process.returncode == 0, said[0].decode()
        report: dict[str, Any] = status.read(folder / "state").report
        counters, growth = report["counters"], Growth(samples, HOURS)
        table = [json.loads(line) for line in lines(folder / "out", "jsonl")]
        ids = {row["id"] for row in table}
        wait_until(lambda: set(listener.ids("labous")) >= ids)
        listener.close()
    finally:
        broker.kill()
    windows, reported = counters["windows_total"], counters["observations_total"]
    private = counters["private_windows_total"]
    saved, evicted = counters["clips_total"], counters.get("clips_evicted_total", 0)
    kept = {file.stem for file in (folder / "clips").rglob("*.flac")}
    counted(
        f"{HOURS} h through one of everything",
        f"{windows:,.0f} windows, {private:,.0f} of them withheld with voices; {reported:,.0f} observations in 3 "
        f"tables; {len(receiver.kept):,} arrived by HTTP ({receiver.repeats} repeats dropped by id; "
        + ", ".join(f"{count} {name}" for name, count in sorted(fates.items()))
        + f"), {len(set(listener.ids('labous'))):,} by MQTT, 0 queued; {saved:,.0f} clips, {evicted:,.0f} evicted, "
        f"at most {most:.1f} of {CLIPS_MEGABYTES} MB; {growth}; {cpu_seconds() - before:.0f} s of CPU",
    )
    assert windows == HOURS * 3600 / WINDOW and counters["files_total"] == HOURS
    assert private == HOURS * (3600 // PART) * (len(TALK) + 2), "those with a voice, and those that touch them"
    spoken = range(TALK.start - 1, TALK.stop + 1)
    assert not [row for row in table if row["start"] % PART in spoken]
    assert len(table) == len(ids) == reported > 4 * HOURS
    assert sum(line.count("\t") > 0 for line in lines(folder / "out", "txt")) >= reported
    assert len(lines(folder / "out", "csv")) >= reported
    assert receiver.kept.keys() == ids == set(listener.ids("labous"))
    assert counters['queue_events{node="http"}'] == counters['queue_events{node="mqtt"}'] == 0
    assert not [name for name in counters if name.startswith(("lost_", "dropped_", "damaged_")) and counters[name]]
    assert sum(fates[name] for name in FAILURES) > 10
    assert saved == reported and len(kept) == saved - evicted and evicted > 0
    assert most <= CLIPS_MEGABYTES
    assert counters["clips_bytes"] == sum(file.stat().st_size for file in (folder / "clips").rglob("*.*"))
    assert len(json.dumps(report)) < 10_000
    assert b"Traceback" not in said[0]
    growth.check()
