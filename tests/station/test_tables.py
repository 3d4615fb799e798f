"""jsonl, csv, raven and audacity: whole lines whatever happens, and files that do not grow without bound."""

from __future__ import annotations

import csv
import datetime
import errno
import functools
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labous.detect import Detection
from labous.errors import NodeError
from labous.nodes import Context, NodeOptions, Record
from labous.nodes.tables import Audacity, Csv, JsonLines, Raven
from labous.station.files import append_lines, safe_name
from labous.station.observations import Observation
from labous.station.writes import Writes
from tests.counts import Counted
from tests.station import middle
from tests.station.middle import SIZE
from tests.station.needs import small_disk

HOSTILE = 'x\t"y"\n\x1b[31m,\r;\u2028../../etc/passwd'
DAY = datetime.timedelta(days=1)


@pytest.fixture
def context(bundle_path: Path, tmp_path: Path) -> Context:
    return middle.context(bundle_path, tmp_path)


def seen(n: int, *labels: int, stream: str = "garden.wav", after: datetime.timedelta | None = None) -> Record:
    """The n-th window, with an observation of each label."""
    record = middle.at(n * SIZE, stream=stream)
    if after is not None and record.time is not None:
        record.time += after
    record.columns["observations"] = tuple(middle.observation(record, label) for label in labels)
    return record


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def test_jsonl_and_csv_say_the_same_and_give_records_on(context: Context, tmp_path: Path) -> None:
    records = [seen(0, 3), seen(1), seen(2, 1, 0)]
    nodes = [JsonLines(path="out").open(context), Csv(path="out").open(context)]
    assert middle.through(nodes, records, "garden.wav") == records
    assert names(tmp_path / "out") == ["detections-2026-05-01.csv", "detections-2026-05-01.jsonl"]
    told = [json.loads(line) for line in (tmp_path / "out/detections-2026-05-01.jsonl").read_text().splitlines()]
    observations = [one for record in records for one in record.columns["observations"]]
    assert [row["id"] for row in told] == [one.id for one in observations]
    assert told[0] == {
        "id": observations[0].id, "time": "2026-05-01T04:15:30.000Z", "recording": "garden.wav", "start": 0.0,
        "end": 1.0, "ebird_code": "hergul", "scientific_name": "Larus argentatus",
        "common_name": "European Herring Gull", "french_name": "Goéland argenté", "score": 0.75, "windows": 1,
        "identified_by": "test 1",
    }  # fmt: skip
    table = rows(tmp_path / "out/detections-2026-05-01.csv")
    assert [{key: str(value) for key, value in row.items()} for row in told] == table


def test_by_default_they_are_in_the_state_directory_named_by_day(context: Context) -> None:
    node = JsonLines().open(context)
    undated = seen(3, 0)
    undated.time = None
    undated.columns["observations"] = (middle.observation(undated),)
    middle.through([node], [seen(0, 0), seen(1, 0, after=DAY), seen(2, 0, after=30 * DAY), undated], "garden.wav")
    today = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}"
    days = ["2026-05-01", "2026-05-02", "2026-05-31", today]
    assert names(context.state / "tables") == sorted(f"detections-{day}.jsonl" for day in days)


@pytest.mark.parametrize("rotate", ["day", "size"])
def test_files_grow_neither_alone_nor_together_without_bound(rotate: str, context: Context, counted: Counted) -> None:
    options = JsonLines(rotate=rotate, megabytes=0.001, keep=4, prefix="birds")
    folder = context.state / "tables"
    folder.mkdir()
    others = ("birds.txt", "birds.0.jsonl", "detections-2026-05-01.jsonl", "birdsong.jsonl")
    for other in others:
        (folder / other).write_text("not ours")
    for run in range(3):  # restarts go on with the newest part
        node = options.open(context)
        for n in range(20):
            middle.through([node], [seen(20 * run + n, 0)])
        node.close()
    left = set(folder.iterdir()) - {folder / other for other in others}
    found = sorted(left, key=lambda path: int(path.name.split(".")[1]))
    stem = "birds" if rotate == "size" else "birds-2026-05-01"
    assert len(found) == 4
    assert all(0 < path.stat().st_size <= 1000 for path in found)
    numbers = [int(path.name.removeprefix(f"{stem}.").removesuffix(".jsonl")) for path in found]
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    starts = [json.loads(line)["start"] for path in found for line in path.read_text().splitlines()]
    assert starts == [float(n) for n in range(60 - len(starts), 60)]
    counted(f"60 rows, a new file by {rotate}", f"{numbers[-1]} files, {len(found)} kept")


def test_raven_has_a_table_for_each_recording_anew(context: Context, tmp_path: Path) -> None:
    stream = "/srv/birds/garden.wav"
    for _ in range(2):  # as after a power cut before the recording was done
        node = Raven(path="out").open(context)
        middle.through([node], [seen(0, 3, 1, stream=stream), seen(4, 1, stream=stream)], stream)
        middle.through([node], [seen(2, 0, stream="/other/garden.wav")], "/other/garden.wav")
    assert len(names(tmp_path / "out")) == 2
    (path,) = [p for p in (tmp_path / "out").iterdir() if "other" not in p.read_text()]
    assert path.name.startswith("garden.wav-20260501T041530Z-")
    assert path.name.endswith(".selections.txt")
    header, *lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    table = [dict(zip(header, line, strict=True)) for line in lines]
    assert [(row["Selection"], row["Begin Time (s)"], row["Species Code"]) for row in table] == [
        ("1", "0.000", "hergul"), ("2", "0.000", "comcuc"), ("3", "4.000", "comcuc"),
    ]  # fmt: skip
    assert {row["Begin Path"] for row in table} == {stream}


def undated(n: int, *labels: int, sound: str) -> Record:
    """The n-th window of a recording that has no time; what is seen in it has ids that come of its sound."""
    record = middle.at(n * SIZE, stream="stdin")
    record.time = None
    found = []
    for label in labels:
        detection = middle.observation(record, label).detection
        found.append(Observation.of("labous", None, detection, 1, "test 1", f"{sound} {n}"))
    record.columns["observations"] = tuple(found)
    return record


@pytest.mark.parametrize("options", [Raven(path="out"), Audacity(path="out")])
def test_an_undated_recording_has_one_table_however_often_it_is_heard(
    options: NodeOptions, context: Context, tmp_path: Path
) -> None:
    def lines() -> dict[str, list[str]]:
        return {path.name: path.read_text(encoding="utf-8").splitlines() for path in (tmp_path / "out").iterdir()}

    first = [undated(0, 3, 1, sound="one"), undated(1, sound="one"), undated(4, 1, sound="one")]
    other = [undated(n, label, sound="other") for n, label in ((0, 3), (4, 1), (5, 2))]  # another of that name
    middle.through([options.open(context)], first[:1])  # and then it is killed
    cut = lines()
    node = options.open(context)
    middle.through([node], first, "stdin")
    whole = lines()
    assert list(whole) == list(cut)
    (table,) = whole.values()
    assert len(table) == len(set(table)) == 3 + isinstance(options, Raven)
    middle.through([node], other, "stdin")  # in the same run
    both = lines()
    assert len(both) == 2 and both | whole == both
    for again in (first, other):
        middle.through([options.open(context)], again, "stdin")
        assert lines() == both
    assert all(name.startswith("stdin-") for name in both)


def test_audacity_and_a_live_source_that_begins_again(context: Context, tmp_path: Path) -> None:
    node = Audacity(path="out").open(context)
    middle.through([node], [seen(0, 3, stream="mic"), seen(1, 1, stream="mic")], "mic")
    middle.through([node], [seen(0, 0, stream="mic", after=DAY)])
    # the clock is set while it runs: the file stays
    middle.through([node], [seen(5, 2, stream="mic", after=2 * DAY)], "mic")
    first, second = sorted((tmp_path / "out").iterdir())
    assert first.read_text(encoding="utf-8").splitlines() == [
        "0.000000\t1.000000\tEuropean Herring Gull 0.75", "1.000000\t2.000000\tCommon Cuckoo 0.75",
    ]  # fmt: skip
    assert [line.split("\t")[2] for line in second.read_text().splitlines()] == [
        "European Robin 0.75", "Eurasian Wren 0.75",
    ]  # fmt: skip


@pytest.mark.parametrize("options", [JsonLines(path="out"), Csv(path="out"), Raven(path="out"), Audacity(path="out")])
def test_strangers_text_breaks_no_line_and_names_no_path(
    options: NodeOptions, context: Context, tmp_path: Path
) -> None:
    record = middle.at(0, stream=HOSTILE)
    detection = Detection(HOSTILE, 0.0, 1.0, HOSTILE, HOSTILE, HOSTILE, HOSTILE, score=0.5)
    record.columns["observations"] = (Observation.of("labous", record.time, detection, 1, HOSTILE),)
    before = set(tmp_path.rglob("*"))
    middle.through([options.open(context)], [record], HOSTILE)
    (path,) = set(tmp_path.rglob("*")) - before - {tmp_path / "out"}
    assert path.parent == tmp_path / "out"
    assert path.name.isascii() and path.name.isprintable()
    text = path.read_text(encoding="utf-8")
    assert {c for c in text if not c.isprintable()} <= {"\n", "\t"}
    assert text.count("\n") == len(text.splitlines()) == (1 if isinstance(options, (JsonLines, Audacity)) else 2)


@given(st.text(), st.text())
def test_safe_names_are_safe_and_tell_texts_apart(one: str, other: str) -> None:
    for text in (one, other):
        name = safe_name(text)
        assert 0 < len(name) < 100
        assert name.isascii() and not name.startswith(".") and not set(name) & set("/\\:\0 ")
    assert (safe_name(one) == safe_name(other)) == (one == other)


def test_half_a_line_of_an_earlier_crash_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for left, expected in (
        (b"", b"h\nx\n"), (b"h\n1\n2", b"h\n1\nx\n"), (b"half a header", b"h\nx\n"), (b"h\n1\n", b"h\n1\nx\n"),
        (b"h\n" + b"y" * 200_000, b"h\nx\n"),
    ):  # fmt: skip
        path.write_bytes(left)
        append_lines(path, b"x\n", b"h\n")
        assert path.read_bytes() == expected


def test_a_folder_that_cannot_be_written_is_refused_at_once(context: Context, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NodeError, match="Nothing can be written into"):
        Csv(path="file/out").open(context)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 64) as disk:
        yield disk


def test_a_full_disk_holds_rows_up_and_loses_none(
    full: Path, context: Context, caplog: pytest.LogCaptureFixture, counted: Counted
) -> None:
    node = Csv(path="disk").open(context)
    ballast = full / "ballast"
    ballast.write_bytes(bytes(40_000))
    written = 0
    for n in range(400):
        middle.through([node], [seen(n, n % 4)])
        (path,) = full.glob("*.csv")
        assert path.read_bytes().endswith(b"\n")  # never half a line
        written = len(rows(path))
    counters = context.counters.read()
    failed = counters['sink_errors_total{node="csv"}']
    counted("disk full under a table, and back", f"{written} of 400 rows fit, {failed:.0f} writes failed, none lost")
    assert 50 < written < 300
    assert failed >= 1
    assert sum("csv cannot write (No space left on device)" in line for line in caplog.messages) == 1
    context.stopping.set()
    with pytest.raises(NodeError, match="could not be made before the end"):
        node.end("garden.wav")  # so that the recording is not marked as done
    context.stopping.clear()
    ballast.unlink()
    (path,) = full.glob("*.csv")
    # 400 rows are more than the disk: what is there is moved away, as a person would
    shutil.move(path, context.folder / "first.csv")
    middle.through([node], [seen(400, 0)], "garden.wav")
    starts = [float(row["start"]) for part in (context.folder / "first.csv", *full.glob("*.csv")) for row in rows(part)]
    assert starts == [float(n) for n in range(401)]
    node.close()
    assert 'lost_writes_total{node="csv"}' not in context.counters.read()


def test_what_waits_in_memory_is_bounded_and_in_order(context: Context) -> None:
    done: list[int] = []
    full = True

    def write(n: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(n)

    writes = Writes(context, "csv", 100)
    for n in range(10):
        writes.put(str(n % 2), 30, functools.partial(write, n))
    assert context.counters.read()['lost_writes_total{node="csv"}'] == 7
    full = False
    writes.finish()
    assert done == [7, 8, 9]


def test_a_file_that_cannot_be_written_holds_up_no_other(
    context: Context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "out/detections-2026-05-01.jsonl"
    blocked.mkdir(parents=True)
    node = JsonLines(path="out").open(context)
    middle.through([node], [seen(n, 0, after=n // 2 * DAY) for n in range(8)], "garden.wav")  # its end does not wait
    others = [tmp_path / f"out/detections-2026-05-{day:02}.jsonl" for day in (2, 3, 4)]
    assert [len(path.read_text().splitlines()) for path in others] == [2, 2, 2]
    counters = context.counters.read()
    assert counters['sink_errors_total{node="jsonl"}'] >= 1
    assert 'lost_writes_total{node="jsonl"}' not in counters
    assert sum("cannot write detections-2026-05-01 (Is a directory)" in line for line in caplog.messages) == 1
    blocked.rmdir()
    middle.through([node], [seen(8, 0)], "garden.wav")
    starts = [json.loads(line)["start"] for line in blocked.read_text().splitlines()]
    assert starts == [0.0, 1.0, 8.0]  # in their order


def test_what_steps_aside_is_bounded_and_goes_before_all_others(context: Context) -> None:
    done: list[str] = []

    def write(name: str, error: int) -> None:
        if error:
            raise OSError(error, "no")
        done.append(name)

    writes = Writes(context, "csv", 100)
    for n in range(5):
        writes.put("bad", 30, functools.partial(write, "bad", errno.EACCES))
        writes.put("good", 30, functools.partial(write, f"good {n}", 0))
    assert done == [f"good {n}" for n in range(5)]
    lost = 'lost_writes_total{node="csv"}'
    assert context.counters.read()[lost] == 2
    broken = [errno.EIO]
    writes.put("good", 30, lambda: write("good 5", broken[0] if broken else 0))
    assert context.counters.read()[lost] == 3  # of the bad ones, not that one
    broken.clear()
    writes.finish()
    assert done[-1] == "good 5"
    writes.close()
    assert context.counters.read()[lost] == 5


@pytest.mark.parametrize("reopened", [False, True])
def test_a_clock_that_was_ahead_costs_no_newer_file(reopened: bool, context: Context, tmp_path: Path) -> None:
    options = JsonLines(path="out", keep=3)
    node = options.open(context)
    middle.through([node], [seen(n, 0, after=3650 * DAY + n * DAY) for n in range(3)])
    ahead = time.time() + 3650 * 86_400
    for n, path in enumerate(sorted((tmp_path / "out").iterdir())):
        os.utime(path, (ahead + n, ahead + n))
    for n in range(5):
        if reopened:
            node = options.open(context)
        for _ in range(2):  # begun, and gone on with
            middle.through([node], [seen(n, 0, after=n * DAY)])
    assert names(tmp_path / "out") == [f"detections-2026-05-{day:02}.jsonl" for day in (3, 4, 5)]


def test_what_is_lost_at_the_end_is_counted(full: Path, context: Context, counted: Counted) -> None:
    node = Csv(path="disk").open(context)
    (full / "ballast").write_bytes(bytes(65_536 - 4096))
    (full / "more").touch()
    for n in range(100):
        middle.through([node], [seen(n, 0)])
    (path,) = full.glob("*.csv")
    there = len(rows(path))
    node.close()
    lost = context.counters.read()['lost_writes_total{node="csv"}']
    counted("disk full to the end", f"{there} rows written, {lost:.0f} lost and counted as lost, of 100")
    assert there + lost == 100


_CHILD = """
import sys, pathlib
from labous.station.files import append_lines, write_whole
folder, n = pathlib.Path(sys.argv[1]), int(sys.argv[2])
print("begun", flush=True)
while True:
    append_lines(folder / "rows.jsonl", (str(n).encode() * 3000 + b"\\n") * 3)
    print(n, flush=True)
    write_whole(folder / "whole", str(n).encode() * 9000)
    n += 1
"""


def test_kills_leave_whole_lines_and_whole_files(tmp_path: Path, counted: Counted) -> None:
    dice, safe, kills = random.Random(0), -1, 20
    for _ in range(kills):
        command = [sys.executable, "-c", _CHILD, str(tmp_path), str(safe + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            for _ in range(dice.randrange(1, 4)):
                child.stdout.readline()
            time.sleep(dice.random() / 200)  # somewhere in the middle of a write
            child.send_signal(signal.SIGKILL)
            told = [line for line in child.stdout.read().split("\n") if line]
        append_lines(tmp_path / "rows.jsonl", b"")
        content = (tmp_path / "rows.jsonl").read_text()
        assert content.endswith("\n")
        lines = content.splitlines()
        numbers = [len(line) // 3000 for line in lines]
        assert all(line == line[:digits] * 3000 for line, digits in zip(lines, numbers, strict=True))
        last = int(lines[-1][: numbers[-1]])
        assert last >= (int(told[-1]) if told else safe)
        safe = last
        whole = tmp_path / "whole"
        if whole.exists():
            text = whole.read_text()
            assert text == text[: len(text) // 9000] * 9000
    counted(f"{kills} kills while files are written", f"{safe + 1} batches, no half line and no half file")
    assert safe >= kills
