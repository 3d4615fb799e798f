"""The runner: what flows where, in which order, and how it ends."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labous import cli
from labous.bundle import Bundle
from labous.errors import EngineError, NodeError, PipelineError
from labous.nodes import Context, EndOfStream, Record
from labous.nodes.files import Folder
from labous.station.capture import Live, LiveOptions
from labous.station.counters import Counters
from labous.station.pipeline_file import Pipeline, Step
from labous.station.runner import Runner, Stopping
from labous.station.settings import Station
from tests.counts import Counted
from tests.few import few
from tests.station import pipelines, sources
from tests.station.deliveries import nobody_answers
from tests.station.pipelines import MIDDLE, SINK, node, wait_for

RATE = 1000
HTTP = node("http", url='"https://127.0.0.1:9/"')
MQTT = node("mqtt", host='"127.0.0.1"', username='"u"')


class Scripted:
    """A source or a node made of functions, as its own options; what happens to it is written down."""

    def __init__(self, name: str, told: list[Any], **does: Callable[..., Any]) -> None:
        self.name, self.told, self.does = name, told, does

    def open(self, context: Context) -> Scripted:
        self.told.append(("open", self.name))
        self.does.get("open", lambda: None)()
        return self

    def records(self) -> Iterable[Any]:
        return self.does["records"]()  # type: ignore[no-any-return]

    def process(self, record: Record) -> Iterable[Record]:
        self.told.append((self.name, record.start))
        return self.does.get("process", lambda record: [record])(record)  # type: ignore[no-any-return]

    def end(self, stream: str) -> Iterable[Record]:
        self.told.append((self.name, "end", stream))
        return self.does.get("end", lambda stream: [])(stream)  # type: ignore[no-any-return]

    def close(self) -> None:
        self.told.append(("close", self.name))
        self.does.get("close", lambda: None)()


def record(start: int, stream: str = "s", fresh: int = 1000) -> Record:
    return Record(stream, start, start + 1000, fresh, None, {"audio": np.zeros(1000, np.float32)})


def runner(*scripts: Scripted) -> tuple[Runner, Counters, Stopping]:
    counters, stopping = Counters(), Stopping()
    bundle: Any = SimpleNamespace(frontend=SimpleNamespace(sample_rate=RATE))
    context = Context(bundle, Station(bundle="b"), Path("state"), counters, stopping)
    steps = tuple(Step(script.name, script, number + 1) for number, script in enumerate(scripts))
    return Runner(Pipeline(Path("/p.toml"), context.station, steps), context, stopping), counters, stopping


def test_records_go_through_one_by_one_and_what_was_held_back_before_the_end_is_done() -> None:
    told: list[Any] = []
    held: list[Record] = []

    def hold(item: Record) -> Iterator[Record]:
        held.append(item)
        if len(held) > 1:
            yield held.pop(0)

    def double(item: Record) -> Iterator[Record]:
        yield item
        yield dataclasses.replace(item, start=item.start + 500)

    running, counters, _ = runner(
        Scripted("src", told, records=lambda: [record(0), record(1000), EndOfStream("s", lambda: told.append("done"))]),
        Scripted("hold", told, process=hold, end=lambda stream: [held.pop()]),
        Scripted("double", told, process=double),
        Scripted("sink", told),
    )
    running.run()
    assert running.close()
    assert told == [
        ("open", "src"), ("open", "hold"), ("open", "double"), ("open", "sink"),
        ("hold", 0), ("hold", 1000), ("double", 0), ("sink", 0), ("sink", 500),
        ("hold", "end", "s"), ("double", 1000), ("sink", 1000), ("sink", 1500),
        ("double", "end", "s"), ("sink", "end", "s"),
        "done",
        ("close", "src"), ("close", "hold"), ("close", "double"), ("close", "sink"),
    ]  # fmt: skip
    assert counters.read() == {"windows_total": 2, "audio_seconds_total": 2.0}
    assert running.last is not None and running.last.start == 1000


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=12),
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
)
def test_every_window_comes_out_once_whatever_nodes_hold_back(items: list[tuple[str, bool]], holds: list[int]) -> None:
    """Nodes that hold back some windows of each stream give all of them, in their order, by the stream's end."""
    told: list[Any] = []
    got: list[tuple[str, int]] = []

    def holding(n: int) -> Scripted:
        held: dict[str, list[Record]] = {}

        def process(item: Record) -> list[Record]:
            held.setdefault(item.stream, []).append(item)
            return [held[item.stream].pop(0)] if len(held[item.stream]) > n else []

        return Scripted("hold", told, process=process, end=lambda stream: held.pop(stream, []))

    def take(item: Record) -> list[Record]:
        got.append((item.stream, item.start))
        return []

    sent = [(stream, number) for number, (stream, _) in enumerate(items)]

    def records() -> Iterator[Any]:
        for number, (stream, ends) in enumerate(items):
            yield record(number, stream)
            if ends:
                yield EndOfStream(stream, lambda s=stream, n=number: check(s, n))
        for stream in "ab":
            yield EndOfStream(stream)

    def check(stream: str, number: int) -> None:
        assert [x for x in got if x[0] == stream] == [x for x in sent[: number + 1] if x[0] == stream]

    running, _, _ = runner(
        Scripted("src", told, records=records), *map(holding, holds), Scripted("s", told, process=take)
    )
    running.run()
    assert sorted(got, key=lambda x: x[1]) == sent
    for stream in "ab":
        assert [x for x in got if x[0] == stream] == [x for x in sent if x[0] == stream]


def _raises(error: BaseException) -> Callable[..., Any]:
    def raising(*_: Any) -> Any:
        raise error

    return raising


def _raises_late(error: BaseException) -> Callable[..., Any]:
    def raising(*_: Any) -> Iterator[Any]:
        yield record(5)
        raise error

    return raising


@pytest.mark.parametrize("raising", [_raises, _raises_late])
@pytest.mark.parametrize("where", ["records", "process", "end"])
def test_what_a_node_must_not_raise_becomes_a_sentence_that_names_it(
    where: str, raising: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []
    fault = {where: raising(ZeroDivisionError("by \x1b zero"))}
    source: dict[str, Any] = {"records": lambda: iter([record(0), EndOfStream("s")])}
    running, counters, _ = runner(
        Scripted("src", told, **(source | (fault if where == "records" else {}))),
        Scripted("bad", told, **({} if where == "records" else fault)),
        Scripted("sink", told),
    )
    name = "src" if where == "records" else "bad"
    with pytest.raises(NodeError, match=f"^the node {name} failed unexpectedly"):
        running.run()
    assert running.close()
    assert counters.read()[f'node_faults_total{{node="{name}"}}'] == 1
    assert "ZeroDivisionError" in caplog.text and "Traceback" in caplog.text
    assert told[-3:] == [("close", "src"), ("close", "bad"), ("close", "sink")]


def test_an_error_of_a_later_node_is_not_blamed_on_the_one_before_nor_changed() -> None:
    error = EngineError("it is so.")
    running, counters, _ = runner(
        Scripted("src", [], records=lambda: iter([record(0)])),
        Scripted("good", [], process=lambda item: (x for x in [item])),
        Scripted("bad", [], process=_raises(error)),
    )
    with pytest.raises(EngineError) as raised:
        running.run()
    assert raised.value is error
    assert not any(name.startswith("node_faults") for name in counters.read())


def test_done_is_not_called_where_a_node_has_failed_to_end() -> None:
    told: list[Any] = []
    running, _, _ = runner(
        Scripted("src", told, records=lambda: [EndOfStream("s", lambda: told.append("done"))]),
        Scripted("sink", told, end=_raises(NodeError("the disk is full"))),
    )
    with pytest.raises(NodeError):
        running.run()
    assert "done" not in told


def test_a_node_that_cannot_be_opened_is_told_with_its_line_and_the_others_are_closed() -> None:
    told: list[Any] = []
    for error, match in (
        (EngineError("install it."), r"^'/p.toml', line 2: install it\.$"),
        (ValueError("x"), r"^'/p.toml', line 2: the node bad failed unexpectedly \(ValueError: x\)"),
    ):
        told.clear()
        with pytest.raises(PipelineError, match=match):
            runner(Scripted("src", told), Scripted("bad", told, open=_raises(error)), Scripted("sink", told))
        assert told == [("open", "src"), ("open", "bad"), ("close", "src")]


def test_all_nodes_are_closed_though_one_cannot_be(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    running, counters, _ = runner(
        Scripted("src", told, close=_raises(NodeError("half a disk"))),
        Scripted("bad", told, close=_raises(OSError("no"))),
        Scripted("sink", told),
    )
    assert not running.close()
    assert told[3:] == [("close", "src"), ("close", "bad"), ("close", "sink")]
    assert counters.read() == {'node_faults_total{node="bad"}': 1}
    assert "half a disk" in caplog.text
    assert running.close(), "what is closed is not closed again"


def test_all_are_told_to_stop_before_the_first_is_closed() -> None:
    told: list[Any] = []
    scripts = [Scripted(name, told, records=list) for name in ("src", "one", "two", "three")]
    for script in scripts[1:3]:
        script.stop = lambda script=script: told.append(("stop", script.name))  # type: ignore[attr-defined]
    scripts[1].does["close"] = _raises(NodeError("half"))
    running, _, _ = runner(*scripts)
    told.clear()
    assert not running.close()
    assert told == [("stop", "one"), ("stop", "two"), *(("close", script.name) for script in scripts)]


def test_a_source_that_goes_on_is_left_after_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    def endless() -> Iterator[Record]:
        try:
            for number in range(10**9):
                yield record(number)
        finally:
            closed.append(True)

    monkeypatch.setattr("labous.station.runner._FLUSH_SECONDS", 0.05)
    running, counters, stopping = runner(Scripted("src", [], records=endless), Scripted("sink", []))
    threading.Timer(0.05, stopping.set).start()
    running.run()
    assert closed == [True]
    assert counters.read()["windows_total"] > 1


def test_a_pipeline_is_stuck_while_a_node_works_and_not_while_it_waits() -> None:
    seen = []

    def process(item: Record) -> list[Record]:
        time.sleep(0.06)
        seen.append(running.stuck_seconds())
        stopping.wait(0.01)
        seen.append(running.stuck_seconds())
        return []

    running, _, stopping = runner(
        Scripted("src", [], records=lambda: [record(0)]), Scripted("slow", [], process=process)
    )
    assert running.stuck_seconds() == 0
    running.run()
    assert seen[0] >= 0.05
    assert seen[1] < 0.05
    assert running.stuck_seconds() == 0


def test_a_source_that_gives_nothing_is_stuck_unless_it_heeds_the_end() -> None:
    seen = {}

    def records() -> Iterator[Record]:
        yield record(0)
        time.sleep(0.06)
        seen["hangs"] = running.stuck_seconds()
        stopping.is_set()
        seen["asks"] = running.stuck_seconds()
        time.sleep(0.06)
        elsewhere = threading.Thread(target=stopping.is_set)
        elsewhere.start()
        elsewhere.join()
        seen["another thread asks"] = running.stuck_seconds()
        threading.Timer(0.06, lambda: seen.update(waits=running.stuck_seconds())).start()
        stopping.wait(0.12)

    running, _, stopping = runner(Scripted("src", [], records=records), Scripted("sink", []))
    running.run()
    assert seen["hangs"] > 0.05 and seen["another thread asks"] > 0.05
    assert seen["asks"] < 0.05 and seen["waits"] == 0


def test_sources_that_wait_are_alive(tmp_path: Path) -> None:
    """For a microphone, or for a recording, for longer than the watchdog allows."""
    quiet = threading.Event()
    (tmp_path / "sound").mkdir()
    for open_source in (
        lambda context: Live(context, "quiet", LiveOptions(), "quiet", True, lambda buffer: quiet.wait(30) and None),
        lambda context: Folder(path="sound", watch=True, poll_seconds=60).open(context),
    ):
        stopping = Stopping()
        context = dataclasses.replace(sources.context(tmp_path), stopping=stopping)
        source = Scripted("src", [], records=open_source(context).records)
        step = Step("src", source, 1)
        running = Runner(Pipeline(tmp_path / "p.toml", context.station, (step,)), context, stopping)
        seen: list[float] = []

        def look(running: Runner = running, seen: list[float] = seen, stopping: Stopping = stopping) -> None:
            for _ in range(8):
                time.sleep(0.1)
                seen.append(running.stuck_seconds())
            stopping.set()

        looking = threading.Thread(target=look)
        looking.start()
        running.run()
        looking.join()
        assert max(seen) < 0.5, seen
        quiet.set()


# Whole pipelines, as processes


def events(folder: Path) -> list[dict[str, Any]]:
    """What jsonl wrote: every line is whole."""
    lines = [line for path in sorted((folder / "out").iterdir()) for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def test_a_file_goes_through_and_the_run_ends_by_itself(bundle_path: Path, wav: Path) -> None:
    folder = bundle_path.parent
    path = pipelines.write(folder, node("file", path=f'"{wav.name}"'), MIDDLE, SINK)
    done = pipelines.run("run", path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    wanted = [
        (round(d.start, 6), d.ebird_code)
        for d in Bundle.read(bundle_path).analyze(wav, min_score=0.1)
    ]  # fmt: skip
    assert [(e["start"], e["ebird_code"]) for e in map(_told, events(folder))] == wanted
    assert len(wanted) > 3
    status = json.loads((folder / "state/status.json").read_text())
    assert status["ended"] == "as its source ended"
    assert status["counters"]["windows_total"] == 4
    assert status["counters"]["audio_seconds_total"] == pytest.approx(3.5)


def _told(event: dict[str, Any]) -> dict[str, Any]:
    """Start and species, wherever the format has them."""
    if "data" in event:
        properties = event["data"]["dynamicProperties"]
        return {"start": properties["startSeconds"], "ebird_code": event["subject"]}
    return event


@pytest.mark.parametrize(
    ("number", "code"), few([(signal.SIGTERM, 0), (signal.SIGINT, 130)], 1), ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_finishes_the_window_and_flushes(
    bundle_path: Path, plugin: Path, number: signal.Signals, code: int, counted: Counted
) -> None:
    folder = bundle_path.parent
    path = pipelines.write(folder, node("tones", pause=0.02), MIDDLE, node("trouble", after=10**6), SINK)
    with pipelines.running(path, pipelines.environment(plugin)) as process:
        wait_for(lambda: (folder / "out").is_dir() and any(map(os.path.getsize, (folder / "out").iterdir())), process)
        began = time.monotonic()
        process.send_signal(number)
        said = process.communicate(timeout=10)[1]
        took = time.monotonic() - began
    assert process.returncode == code, said
    assert took < 5
    assert "Traceback" not in said
    status = json.loads((folder / "state/status.json").read_text())
    assert status["ended"] == "as it was told"
    # each window shows the same species, so that the sink has as many of each as there were windows
    per_species = dict.fromkeys((e["ebird_code"] for e in map(_told, events(folder))), 0)
    for event in map(_told, events(folder)):
        per_species[event["ebird_code"]] += 1
    windows = status["counters"]["windows_total"]
    assert set(per_species.values()) == {windows}, per_species
    counted(signal.Signals(number).name, f"{windows:.0f} windows, all flushed, ended in {took:.2f} s")


@pytest.mark.slow
def test_hung_sinks_need_the_same_second_to_end(bundle_path: Path, plugin: Path, counted: Counted) -> None:
    """Three that deliver to where nobody answers, and clips that wait for their sound."""
    folder = bundle_path.parent
    with nobody_answers() as (host, port):
        sinks = [
            *(node("http", url=f'"http://{host}:{port}/"', name=f'"h{n}"', batch_seconds=0) for n in range(2)),
            node("mqtt", host=f'"{host}"', port=port, batch_seconds=0),
            node("clips", after=30.0, privacy="false"),
        ]
        path = pipelines.write(folder, "status_seconds = 1\n", node("tones", pause=0.1), MIDDLE, *sinks)
        status = folder / "state/status.json"
        with pipelines.running(path, pipelines.environment(plugin)) as process:
            wait_for(lambda: status.exists() and "observations_total" in status.read_text(), process)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=20)[1]
            took = time.monotonic() - began
    assert process.returncode == 0, said
    assert took < 4
    assert json.loads(status.read_text())["ended"] == "as it was told"
    assert list((folder / "state/clips").rglob("*.flac"))
    counted("three sinks that hang", f"ended in {took:.2f} s")


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_a_hanging_node_ends_within_five_seconds(
    bundle_path: Path, plugin: Path
) -> None:
    folder = bundle_path.parent
    hang = node("trouble", what='"hang"', after=2)
    path = pipelines.write(folder, "status_seconds = 1\n", node("tones"), hang)
    status = folder / "state/status.json"
    took = {}
    for signals in (1, 2):
        status.unlink(missing_ok=True)
        with pipelines.running(path, pipelines.environment(plugin)) as process:
            wait_for(lambda: status.exists() and "troubled_windows" in status.read_text(), process)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            if signals == 2:
                time.sleep(0.2)  # two signals at once would be one
                process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=20)[1]
            took[signals] = time.monotonic() - began
        assert process.returncode == (1 if signals == 1 else 128 + signal.SIGTERM), said
        assert ("did not end within 5 s" in said) == (signals == 1)
    assert 4.5 < took[1] < 7
    assert took[2] < 2


@pytest.mark.parametrize(
    ("what", "told", "log"),
    few(
        [
            ("raise", "labous: the node trouble failed unexpectedly (KeyError: 'oh \\x1b[31mno'); the log has", True),
            ("refuse", "labous: trouble: it refuses; buy another.", False),
            ("open", "line 8: the node trouble failed unexpectedly (ZeroDivisionError: no open); the log has", True),
            ("close", "ERROR The node trouble failed unexpectedly.", True),
        ],
        1,
    ),
)
def test_trouble_ends_the_run_with_a_sentence_and_a_code(
    bundle_path: Path, plugin: Path, what: str, told: str, log: bool
) -> None:
    folder = bundle_path.parent
    trouble = node("trouble", what=f'"{what}"', after=3)
    done = pipelines.run(
        "run", pipelines.write(folder, node("tones", windows=5), trouble), env=pipelines.environment(plugin)
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert ("Traceback" in done.stderr) == log, done.stderr
    assert "\x1b" not in done.stderr
    if what != "open":
        status = json.loads((folder / "state/status.json").read_text())
        assert status["counters"]["windows_total"] == (5 if what == "close" else 3)
        faults = status["counters"].get('node_faults_total{node="trouble"}', 0)
        assert faults == (0 if what == "refuse" else 1)


def test_a_second_run_on_one_state_directory_is_refused(bundle_path: Path, plugin: Path) -> None:
    folder, env = bundle_path.parent, pipelines.environment(plugin)
    path = pipelines.write(folder, node("tones", pause=0.05))
    with pipelines.running(path, env) as process:
        wait_for((folder / "state/status.json").exists, process)
        second = pipelines.run("run", path, env=env)
        assert second.returncode == 1
        assert second.stderr.splitlines()[-1].startswith("labous: Another run has the state directory")
        process.kill()
        process.wait()
        third = node("tones", windows=1)
        assert pipelines.run("run", pipelines.write(folder, third), env=env).returncode == 0


@pytest.mark.parametrize(
    ("station", "told"),
    [
        ('[station]\nbundle = "none"\n', "none"),
        ('[station]\nbundle = "bundle"\nstate = "bundle/manifest.json"\n', "The state directory"),
    ],
)
def test_what_is_missing_is_told_before_anything_runs(
    bundle_path: Path,
    wav: Path,
    station: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(bundle_path.parent / "xdg"))
    path = pipelines.write(bundle_path.parent, node("file", path=f'"{wav.name}"'), MIDDLE, station=station)
    assert cli.main(["run", str(path)]) == 1
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said


def test_check_says_what_would_run_and_leaves_nothing_behind(bundle_path: Path) -> None:
    folder = bundle_path.parent
    path = pipelines.write(folder, node("microphone"), MIDDLE, SINK, node("clips"))
    before = sorted(folder.rglob("*"))
    done = pipelines.run("run", "--check", path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    table = lines[lines.index("") + 1 :][:8]
    assert [line.split()[1] for line in table] == [
        "type", "microphone", "wasm", "tflite", "privacy", "confirm", "jsonl", "clips",
    ]  # fmt: skip
    at = table[0].index("reads")
    assert all(line[at - 2 : at].strip() == "" for line in table), table
    assert [line[at : at + 1] for line in table[2:]] == ["a", "m", "a", "p", "o", "a"]
    assert "inserted, as clips are saved" in table[4]
    assert lines[-1] == "This would run. Not tried: node 1 (microphone): whether it gives sound."
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (["wasm = 3\n", node("stdin")], "line 5: [station]: wasm is not known here"),
        ([node("stdin"), MIDDLE, 'exclude = ["dodo"]\n'], "line 11: confirm: exclude names 'dodo'"),
        ([node("stdin"), node("wasm", module='"none.wasm"')], "line 7: wasm: "),
        ([node("file", path='"none.wav"')], "line 5: file: path is '{}/none.wav', which cannot be read (No such file"),
        ([node("folder", path='"none"')], "line 5: Folder '{}/none' does not exist"),
        ([node("ffmpeg", url='"rtsp://h/1"', program='"no-such-ffmpeg"')], "line 5: The program 'no-such-ffmpeg' is"),
        ([node("stdin"), MIDDLE, node("clips", path='"/proc/none/x"')], "clips: path is '/proc/none/x', which cannot"),
        ([node("stdin"), MIDDLE, node("jsonl", path='"pipeline.toml"')], "jsonl: path is '{}/pipeline.toml', which"),
        ([node("stdin"), MIDDLE, HTTP, "token_file = 'none'\n"], "line 14: The token cannot be read from the file"),
        ([node("stdin"), MIDDLE, HTTP, "ca_file = 'none'\n"], "line 14: The certificates in '{}/none' cannot be used"),
        ([node("stdin"), MIDDLE, MQTT, "password_env = 'NONE'\n"], "line 14: The password in the environment variable"),
    ],
)
def test_check_tells_what_could_not_run(
    bundle_path: Path, parts: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--check", str(pipelines.write(bundle_path.parent, *parts))]) == 1
    out, said = capsys.readouterr()
    assert told.format(bundle_path.parent) in said
    assert "Traceback" not in said
    assert out == ""


@pytest.mark.slow
def test_check_reaches_no_server_and_no_strangers_sink_and_says_so(bundle_path: Path, plugin: Path) -> None:
    folder = bundle_path.parent
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        sinks = [
            node("http", url=f'"http://127.0.0.1:{port}/secret-path"'), node("mqtt", host='"127.0.0.1"', port=port),
            node("trouble", what='"open"'),
        ]  # fmt: skip
        path = pipelines.write(folder, node("stdin"), MIDDLE, *sinks)
        done = pipelines.run("run", "--check", path, env=pipelines.environment(plugin))
        with pytest.raises(BlockingIOError):
            server.accept()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "This would run. Not tried: node 1 (stdin): whether it gives sound; node 5 (http): whether "
        f"'127.0.0.1:{port}' takes them; node 6 (mqtt): whether '127.0.0.1' takes them; node 7 (trouble): all that it "
        "does."
    )


def test_run_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err == "labous: There is no pipeline file; give its path.\n"


@pytest.mark.slow
def test_a_log_that_nobody_reads_any_more_stops_nothing(bundle_path: Path, plugin: Path) -> None:
    folder = bundle_path.parent
    path = pipelines.write(folder, node("tones", windows=3), MIDDLE, SINK)
    read, written = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "labous", "run", str(path)]
    done = subprocess.run(command, stderr=written, env=pipelines.environment(plugin), timeout=60, check=False)
    os.close(written)
    assert done.returncode == 0
    assert events(folder)
