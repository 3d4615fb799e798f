"""The whole of a station as a process: killed, stopped, doubled, and held against ``labous analyze``."""

from __future__ import annotations

import dataclasses
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labous.bundle import Bundle
from labous.detect import Confirmation
from tests.counts import Counted
from tests.runtime import audio, bundles
from tests.runtime.bundles import FRONTEND, LABELS
from tests.station import pipelines
from tests.station.deliveries import HURRY
from tests.station.pipelines import node, wait_for
from tests.station.receiver import Fate, receiving

pytestmark = pytest.mark.slow

RATE = FRONTEND.sample_rate
SECONDS = 20  # of each recording, so as many windows
RULE = Confirmation(hits=3, windows=4)
INTERVAL = 90.0  # s: from one recording to the next, too
MIDDLE = '[[node]]\ntype = "wasm"\n[[node]]\ntype = "tflite"\n'
FATES = {
    "refused": Fate(reset=True),
    "hung": Fate(hangs=True, keeps=False),
    "hung with them": Fate(hangs=True, keeps=True),
    "answered half": Fate(cut=20, keeps=False),
    "answered half, with them": Fate(cut=60, body=b"x" * 100, keeps=True),
    "500": Fate(status=500),
    "500 with them": Fate(status=500, keeps=True),
    "429": Fate(status=429, headers=(("Retry-After", "0"),)),
}

Events = dict[str, dict[str, Any]]  # by id


def listening_bundle(folder: Path) -> Path:
    """A bundle that smooths, wants three of four windows, and hears each species in about half of them."""
    path = bundles.write_bundle(folder / "bundle")
    logits = Bundle.read(path, "float32").predict(audio.noise(SECONDS, RATE), RATE).logits
    values = bundles.manifest()
    values["detection"] |= {
        "thresholds": {code: 0.45 + n / 40 for n, (code, *_) in enumerate(LABELS)},
        "calibration": {
            code: {"scale": 1.0, "offset": -float(np.median(logits[:, n]))} for n, (code, *_) in enumerate(LABELS)
        },
        "smoothing": {"neighbor_weight": 0.2},
        "confirmation": dataclasses.asdict(RULE),
    }
    bundles.write_manifest(path, values)
    return path


def recorded(folder: Path, n: int) -> Path:
    """A folder of recordings, with their times in their names."""
    there = folder / "in"
    there.mkdir()
    for i in range(n):
        name = f"20260501_{4 + i // 60:02}{i % 60:02}00.wav"
        audio.write(there / name, audio.noise(SECONDS, RATE, seed=i), RATE)
    return there


def station(
    folder: Path,
    bundle: Path,
    source: str,
    url: str,
    precision: str = "float32",
    interval: float = INTERVAL,
    **keys: Any,
) -> Path:
    """A pipeline file in a folder of its own, with the state and the table beside it."""
    folder.mkdir(exist_ok=True)
    keys = HURRY | {"timeout_seconds": 0.2, "batch_events": 50, "finish_seconds": 10.0, "url": url} | keys
    head = f'[station]\nbundle = "{bundle}"\nprecision = "{precision}"\nstate = "state"\n'
    told = {name: json.dumps(value) for name, value in keys.items()}
    return pipelines.write(
        folder, source, MIDDLE, node("confirm", interval=interval), node("jsonl", path='"out"'), node("http", **told),
        station=head,
    )  # fmt: skip


def report(path: Path) -> dict[str, Any]:
    """What status.json says."""
    return json.loads((path.parent / "state/status.json").read_text("utf-8"))  # type: ignore[no-any-return]


def rows(path: Path) -> list[dict[str, Any]]:
    """What jsonl wrote: every line is whole."""
    files = sorted((path.parent / "out").glob("*"))
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def of_table(table: list[dict[str, Any]]) -> Events:
    """A table's rows by id; one that was written again is the same."""
    found: Events = {}
    for row in table:
        assert found.setdefault(row["id"], row) == row
    return found


def to_the_end(path: Path) -> int:
    """Run until the folder is done and the queue empty; how often that took."""
    for n in range(1, 11):
        done = pipelines.run("run", path)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        if report(path)["counters"]['queue_events{node="http"}'] == 0:
            return n
    raise AssertionError("the queue does not get empty")


@dataclasses.dataclass(frozen=True)
class Garden:
    """Recordings, a bundle, and what one undisturbed run over them gave.

    Attributes:
        n: how many recordings there are.
        events: what the receiver got.
        table: what jsonl wrote.
        startup, work: how long the run took before its first window and after, s.
    """

    bundle: Path
    recordings: Path
    n: int
    events: Events
    table: Events
    startup: float
    work: float

    @property
    def source(self) -> str:
        """The node that reads the folder; kills, many of them before a first window, are held against no recording."""
        return node("folder", path=f'"{self.recordings}"', attempts=0)


def garden(folder: Path, n: int) -> Garden:
    """Make one."""
    bundle, recordings = listening_bundle(folder), recorded(folder, n)
    made = Garden(bundle, recordings, n, {}, {}, 0, 0)
    with receiving() as receiver:
        path = station(folder / "calm", bundle, made.source, receiver.url)
        began = time.monotonic()
        assert to_the_end(path) == 1
        took = time.monotonic() - began
    told, table = report(path), rows(path)
    assert told["counters"]["windows_total"] == n * SECONDS
    assert len(table) == len(receiver.kept) == told["counters"]["observations_total"]
    assert of_table(table).keys() == receiver.kept.keys()
    assert {event["subject"] for event in receiver.kept.values()} == {code for code, *_ in LABELS}
    work = told["uptime_seconds"]
    return dataclasses.replace(
        made, events=dict(receiver.kept), table=of_table(table), startup=took - work, work=work
    )  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Garden:
    """A folder that takes a second or two."""
    return garden(tmp_path_factory.mktemp("small"), 16)


def kill(path: Path, log: Path, while_it_starts: bool, seconds: float) -> bool:
    """Run a station and kill it after some seconds, counted from its start or from its first window; whether it had
    not ended before that."""
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "labous", "run", str(path)], env=pipelines.environment(), stderr=out
        )
        try:
            if not while_it_starts:
                wait_for(lambda: " runs the station " in log.read_text("utf-8") or process.poll() is not None)
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            code = process.wait()
    assert "Traceback" not in log.read_text("utf-8")
    assert code in (0, -signal.SIGKILL), log.read_text("utf-8")
    return code == -signal.SIGKILL


@pytest.mark.parametrize("kills", [3, 30])
def test_what_is_killed_again_and_again_delivers_what_an_undisturbed_run_does(
    kills: int, tmp_path: Path, request: pytest.FixtureRequest, counted: Counted
) -> None:
    calm = request.getfixturevalue("small") if kills < 10 else garden(tmp_path, 8 * kills)
    rng, fates, where = random.Random(kills), Counter[str](), Counter[str]()

    def fate() -> Fate:
        name = "taken" if rng.random() < 0.4 else rng.choice(list(FATES))
        fates[name] += 1
        return FATES.get(name, Fate())

    with receiving(fate) as receiver:
        path = station(tmp_path / "killed", calm.bundle, calm.source, receiver.url)
        for n in range(kills):
            starting = n % 4 == 3
            # all together half of the work at most, so that the last kill still finds some
            seconds = rng.uniform(0, calm.startup if starting else calm.work / kills / 2)
            assert kill(path, tmp_path / "log", starting, seconds), "it has ended by itself"
            written = of_table(rows(path))
            assert written.keys() < calm.table.keys(), "it had nothing left to do"
            where["as it started" if starting else "at work"] += 1
        arrived = len(receiver.kept)
        runs = to_the_end(path)
    got, table = receiver.kept, rows(path)
    missing, beyond = calm.events.keys() - got.keys(), got.keys() - calm.events.keys()
    counted(
        f"{kills} kills of a station",
        ", ".join(f"{count} {name}" for name, count in sorted(where.items()))
        + f": by then {len(written)} of {len(calm.events)} observations were in the table and {arrived} had arrived; "
        f"{runs} more run(s): {len(got)} arrived, {len(missing)} missing, {len(beyond)} that an undisturbed run does "
        f"not give, {receiver.repeats} repeats dropped by id, {len(table) - len(calm.table)} lines of the table "
        f"written again; {sum(fates.values())} connections: "
        + ", ".join(f"{count} {name}" for name, count in sorted(fates.items())),
    )
    assert got == calm.events
    assert of_table(table) == calm.table
    assert written, "the kills came before any work"
    left = [file.name for file in (path.parent / "state").iterdir()]
    assert not [name for name in left if "damaged" in name or name.endswith("-parked")]


@pytest.mark.parametrize(("precision", "overlap"), [("float32", 0.0), ("int8", 0.4)])
def test_a_file_gives_what_analyze_and_the_bundles_confirmation_say(
    precision: str, overlap: float, small: Garden, tmp_path: Path, counted: Counted
) -> None:
    wav = audio.write(tmp_path / "20260501_053000.wav", audio.noise(30.3, 44_100, channels=2, seed=99), 44_100)
    source = node("file", path=f'"{wav}"', overlap=overlap)
    with receiving() as receiver:
        path = station(tmp_path / "filed", small.bundle, source, receiver.url, precision, interval=0.0)
        to_the_end(path)
    analyzed = pipelines.run(
        "analyze", wav, "--bundle", small.bundle, "--format", "jsonl", "--precision", precision, "--overlap", overlap
    )
    assert analyzed.returncode == 0, analyzed.stderr
    found = [json.loads(line) for line in analyzed.stdout.splitlines()]
    starts = list(Bundle.read(small.bundle, precision).predict(wav, overlap=overlap).starts.round(6))
    codes = [code for code, *_ in LABELS]
    detected = np.zeros((len(starts), len(codes)), np.bool_)
    places = [(starts.index(row["start"]), codes.index(row["ebird_code"])) for row in found]
    for place in places:
        detected[place] = True
    confirmed = RULE.holds(detected) & detected
    wanted = [row for row, place in zip(found, places, strict=True) if confirmed[place]]
    table = rows(path)
    assert [{name: row[name] for name in found[0]} for row in table] == wanted
    assert {row["id"] for row in table} == receiver.kept.keys()
    counted(
        f"a file as analyze has it, {precision}",
        f"{len(starts)} windows, {len(found)} detections, {len(wanted)} of them confirmed",
    )
    assert 10 < len(wanted) < len(found)
    for row in table:
        event = receiver.kept[row["id"]]
        properties = event["data"]["dynamicProperties"]
        assert (event["subject"], properties["startSeconds"]) == (row["ebird_code"], row["start"])
        assert (event["time"], properties["windows"]) == (row["time"], row["windows"])
        begins = detected[: starts.index(row["start"]) + 1, codes.index(row["ebird_code"])]
        assert row["windows"] == begins[-RULE.windows :].sum()


def test_a_run_that_is_told_to_end_says_so_and_the_next_one_has_the_rest(
    small: Garden, tmp_path: Path, counted: Counted
) -> None:
    with receiving() as receiver:
        path = station(tmp_path / "ended", small.bundle, small.source, receiver.url)
        with pipelines.running(path) as process:
            receiver.wait_for(lambda receiver: len(receiver.kept) > 0)
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=10)[1]
            assert process.returncode == 0, said
        told = pipelines.run("status", path)
        windows = report(path)["counters"]["windows_total"]
        assert 0 < windows < small.n * SECONDS
        assert told.returncode == 1
        state = next(line for line in told.stdout.splitlines() if line.split()[0] == "state")
        assert state.split(None, 1)[1] == "ended as it was told"
        assert json.loads(pipelines.run("status", path, "--json").stdout)["state"] == "ended"
        before = set(receiver.kept)
        to_the_end(path)
    counted(
        "SIGTERM, and another run",
        f"ended after {windows:.0f} of {small.n * SECONDS} windows with {len(before)} of {len(small.events)} "
        f"delivered; then {len(receiver.kept)}",
    )
    assert receiver.kept == small.events
    assert of_table(rows(path)) == small.table


def test_a_second_run_is_refused_and_leaves_the_first_alone(small: Garden, tmp_path: Path) -> None:
    sound = (audio.noise(SECONDS, RATE)[:, 0] * 32767).astype("<i2").tobytes()
    with receiving() as receiver:
        path = station(tmp_path / "alone", small.bundle, node("stdin", sample_rate=RATE, live='"no"'), receiver.url)
        with pipelines.running(path, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.buffer.write(sound)  # type: ignore[attr-defined]
            process.stdin.flush()
            receiver.wait_for(lambda receiver: len(receiver.kept) > 0)
            assert pipelines.run("status", path).returncode == 0
            second = pipelines.run("run", path, stdin=subprocess.DEVNULL)
            assert second.returncode == 1
            assert second.stderr.splitlines()[-1] == (
                f"labous: Another run has the state directory '{path.parent}/state'; end it first, or give this "
                "station another name or state."
            )
            assert pipelines.run("status", path).returncode == 0
            process.stdin.buffer.write(sound)  # type: ignore[attr-defined]
            process.stdin.close()
            process.stdin = None
            said = process.communicate(timeout=30)[1]
            assert process.returncode == 0, said
    told = report(path)["counters"]
    assert told["windows_total"] == 2 * SECONDS
    assert told["observations_total"] == len(rows(path)) == len(receiver.kept) > 0
