"""A day of sound, as fast as it goes: nothing grows, and every window is accounted for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from labous.station import status
from tests.runtime import audio
from tests.runtime.bundles import FRONTEND
from tests.station import pipelines
from tests.station.pipelines import MIDDLE, node

RATE = FRONTEND.sample_rate
WARM_HOURS = 2


@pytest.mark.slow
def test_24_hours_of_sound_grow_neither_memory_nor_descriptors_and_lose_no_window(bundle_path: Path) -> None:
    folder, hours = bundle_path.parent, 24
    sinks = node("jsonl", path='"out"') + node("csv", path='"out"') + node("raven", path='"out"')
    path = pipelines.write(folder, node("stdin", sample_rate=RATE), MIDDLE, "interval = 60\n", sinks)
    # ten minutes, six times an hour, each hour a little louder than the one before
    sound = (audio.noise(600, RATE)[:, 0] * 16_000).astype("<i2")
    command = [sys.executable, "-m", "labous", "run", str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=pipelines.environment())
    said: list[bytes] = []
    assert process.stdin is not None and process.stderr is not None
    listener = threading.Thread(target=lambda: said.append(process.stderr.read()))  # type: ignore[union-attr]
    listener.start()
    resident, descriptors = [], []
    try:
        for hour in range(hours):
            hourly = (sound * (1 + hour / hours)).astype("<i2").tobytes()
            for _ in range(6):
                process.stdin.write(hourly)
            # the pipe and the source's buffer hold seconds, so an hour has now gone through but for those
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            descriptors.append(len(list(Path(f"/proc/{process.pid}/fd").iterdir())))
        process.stdin.close()
        assert process.wait(120) == 0
    finally:
        process.kill()
        listener.join()
        process.stderr.close()
    report = status.read(folder / "state").report
    counters = report["counters"]
    warm = resident[WARM_HOURS:]
    drift = (max(warm) - warm[0]) / warm[0]
    events = sum(len(file.read_text("utf-8").splitlines()) for file in (folder / "out").glob("*.jsonl"))
    print(
        f"{hours} h: {counters['windows_total']:.0f} windows, {events} observations, RSS {warm[0]:.1f} MB after "
        f"{WARM_HOURS} h and at most {max(warm):.1f} MB ({drift:+.2%}), descriptors {min(descriptors)} to "
        f"{max(descriptors)}, {report['uptime_seconds']:.0f} s"
    )
    assert counters["windows_total"] == hours * 3600 / FRONTEND.window_seconds
    assert counters["audio_seconds_total"] == pytest.approx(hours * 3600)
    assert counters.get("audio_dropped_seconds_total", 0) == 0
    assert events == counters["observations_total"] > hours
    assert len(json.dumps(report)) < 10_000
    assert drift < 0.02
    assert len(set(descriptors[WARM_HOURS:])) == 1
    assert b"Traceback" not in said[0]
