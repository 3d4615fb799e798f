"""status.json, ``labous status``, Prometheus, systemd's watchdog, and the log."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labous.commands import status as command
from labous.errors import PipelineError
from labous.station import log, pipeline_file, prometheus, status
from labous.station.counters import Counters
from labous.station.log import Seldom
from labous.station.process import Systemd
from labous.station.status import Reporter
from tests.station import pipelines
from tests.station.pipelines import node, wait_for


@pytest.fixture
def running(bundle_path: Path, plugin: Path) -> Iterator[tuple[Any, Path]]:
    """A station that runs until it is told to end, and its pipeline file."""
    path = pipelines.write(bundle_path.parent, "status_seconds = 1\n", node("tones", pause=0.01))
    with pipelines.running(path, pipelines.environment(plugin)) as process:
        wait_for(lambda: _windows(path) > 0, process)
        yield process, path


def _windows(path: Path) -> float:
    try:
        report = status.read(path.parent / "state").report
    except PipelineError:
        return 0
    return float(report["counters"].get("windows_total", 0))


def _table(text: str) -> dict[str, str]:
    """Names and values, which begin in one column."""
    lines = text.splitlines()
    at = {re.match(r"  .*?  +", line).end() for line in lines}  # type: ignore[union-attr]
    assert len(at) == 1, lines
    (column,) = at
    return {line[:column].strip(): line[column:] for line in lines}


def test_a_station_that_runs_and_is_killed(running: tuple[Any, Path], plugin: Path) -> None:
    process, path = running
    env = pipelines.environment(plugin)
    first = _windows(path)
    wait_for(lambda: _windows(path) > first, process)
    done = pipelines.run("status", path, env=env)
    table = _table(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert table["station"].startswith("labous, Labous ")
    assert re.fullmatch(r"running for \d+ s", table["state"])
    assert table["process"] == str(process.pid)
    assert re.fullmatch(r"tones at \d+\.0 s", table["last window"])
    assert re.fullmatch(r"\d+ windows, (\d+ min )?\d+ s of sound", table["heard"])
    assert table["dropped"] == "0.0 s of sound"
    assert 10 < float(table["memory"].removesuffix(" MB")) < 500
    assert re.fullmatch(r"\d+\.\d% of one core", table["CPU"])

    process.kill()
    process.wait()
    done = pipelines.run("status", "--state", path.parent / "state", env=env)
    assert done.returncode == 1
    assert _table(done.stdout)["state"] == "gone: its process was killed, or the power failed"

    report = json.loads(pipelines.run("status", "--json", path, env=env).stdout)
    assert report["state"] == "gone"
    assert report["age_seconds"] > 0
    assert report["counters"]["windows_total"] >= first


def test_a_process_with_the_same_number_is_not_taken_for_the_station(running: tuple[Any, Path]) -> None:
    process, path = running
    file = path.parent / "state/status.json"
    assert status.read(file.parent).state == "running"
    process.send_signal(signal.SIGSTOP)
    report = json.loads(file.read_text())
    for changed in ({"process_start": report["process_start"] + 1}, {"boot": "another"}, {"pid": 2**22 + 1}):
        file.write_text(json.dumps(report | changed))
        assert status.read(file.parent).state == "gone", changed
    file.write_text(json.dumps(report | {"written_monotonic": time.monotonic() - 14}))
    assert status.read(file.parent).state == "stale"
    file.write_text(json.dumps(report | {"ended": "as it was told"}))
    assert status.read(file.parent).state == "ended"
    process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3", '{"ended": null}', "[" * 100_000, "\udcff"])
def test_a_damaged_status_is_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "status.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    done = pipelines.run("status", "--state", tmp_path) if content == "{" else None
    if done is not None:
        assert (done.returncode, done.stdout) == (1, "")
        assert "Traceback" not in done.stderr
    with pytest.raises(PipelineError, match=r"status\.json' is damaged; the next run writes it anew\.$"):
        status.read(tmp_path)


def test_a_status_of_another_version_is_a_sentence(running: tuple[Any, Path], tmp_path: Path) -> None:
    report = dict(status.read(running[1].parent / "state").report)
    del report["cpu_share"]
    (tmp_path / "status.json").write_text(json.dumps(report))
    done = pipelines.run("status", "--state", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("labous: This status was written by another version")
    assert json.loads(pipelines.run("status", "--state", tmp_path, "--json").stdout)["station"] == "labous"


def test_no_status_is_a_sentence(tmp_path: Path) -> None:
    path = pipelines.write(tmp_path, 'name = "never"\n', node("stdin"))
    for arguments, told in (
        ([path], f"The station never has left no status in '/run/labous/never' nor '{tmp_path}/state'; has it run?"),
        (["--state", tmp_path], f"'{tmp_path}/status.json' cannot be read ({os.strerror(2)}); has the station run?"),
        ([], "There is no station to tell of; give its pipeline file, or --state DIR."),
    ):  # fmt: skip
        done = pipelines.run("status", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"labous: {told}\n")


def test_what_systemd_keeps_from_other_users_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a service's user is systemd's own, its folders are closed to all but root, and so may not be looked at."""
    service = tmp_path / "private" / "labous"
    service.mkdir(parents=True)
    (service / "status.json").write_text("{}")
    pipeline = pipeline_file.read(pipelines.write(tmp_path, node("stdin")))
    monkeypatch.setattr(pipeline_file, "read", lambda _: pipeline)  # which other users could not, where tests run
    monkeypatch.setattr(status, "service_folder", lambda _: service)
    user = os.geteuid()
    service.parent.chmod(0)
    if user == 0:
        os.seteuid(65534)  # root would be let in
    try:
        assert status.is_in(service) and not status.is_in(Path("/"))
        with pytest.raises(PipelineError, match=r"status\.json' cannot be read \(.*\); a service's status is root's"):
            command.run(argparse.Namespace(state=None, pipeline="", json=False))
    finally:
        os.seteuid(user)
        service.parent.chmod(0o755)


def test_everything_that_is_delivered_dropped_or_hot_is_in_the_table(tmp_path: Path) -> None:
    counters = {
        "windows_total": 7200, "audio_seconds_total": 36_000.0, "audio_dropped_seconds_total": 12.34,
        "observations_total": 41, 'queue_events{node="http"}': 3, 'queue_bytes{node="http"}': 2100,
        'delivered_events_total{node="http"}': 38, 'last_delivery_time_seconds{node="http"}': time.time() - 65,
        'parked_batches{node="http"}': 1, 'lost_events_total{node="mqtt",reason="full"}': 2,
        'lost_events_total{node="mqtt",reason="memory"}': 3, 'sink_errors_total{node="csv"}': 5,
    }  # fmt: skip
    report = {
        "version": "1.0", "station": "garden", "pipeline": "/etc/p.toml", "pid": 1, "process_start": None, "boot": None,
        "uptime_seconds": 36_010.0, "written": "2026-05-01T04:15:30.000Z", "written_monotonic": 0.0,
        "status_seconds": 60, "ended": "by an error: \x1b[31m", "cpu_share": 0.034, "resident_memory_bytes": 91_000_000,
        "temperature_celsius": 51.5, "counters": counters,
        "last_window": {"stream": "rtsp://cam\x1b", "start_seconds": 5.0, "time": "2026-05-01T04:15:25.000Z"},
    }  # fmt: skip
    (tmp_path / "status.json").write_text(json.dumps(report))
    done = pipelines.run("status", "--state", tmp_path)
    table = _table(done.stdout)
    assert table.pop("told").endswith(" ago")
    assert re.fullmatch(
        r"3 events wait, 2100 bytes, 38 delivered, the last 1 min [5-9] s ago, 1 parked", table.pop("http")
    )
    assert table == {
        "station": "garden, Labous 1.0", "pipeline": "/etc/p.toml", "state": r"ended by an error: \x1b[31m",
        "process": "1", "last window": r"rtsp://cam\x1b at 5.0 s, captured 2026-05-01T04:15:25.000Z",
        "heard": "7200 windows, 10 h 0 min of sound", "dropped": "12.3 s of sound", "observations": "41",
        "mqtt": "5 lost", "CPU": "3.4% of one core", "memory": "91.0 MB", "temperature": "51.5 °C",
        'sink_errors_total{node="csv"}': "5",
    }  # fmt: skip


def test_the_hottest_zone_that_can_be_is_told(tmp_path: Path) -> None:
    assert status.temperature(tmp_path) is None
    for number, content in enumerate(["48312\n", "51500\n", "-274000\n", "nonsense", "900000\n"]):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "temp").write_text(content)
    (tmp_path / "thermal_zone9").mkdir()
    assert status.temperature(tmp_path) == 51.5


# The reporter


def _reporter(folder: Path, systemd: Any, stuck: float = 0.0, every: float = 3600.0) -> tuple[Reporter, Counters]:
    station = SimpleNamespace(name="garden", status_seconds=every)
    pipeline: Any = SimpleNamespace(station=station, path=folder / "p.toml")
    runner: Any = SimpleNamespace(last=None, sample_rate=1000, stuck_seconds=lambda: stuck)
    counters = Counters()
    return Reporter(pipeline, counters, runner, systemd, folder), counters


def test_status_is_written_no_more_often_than_asked_for(tmp_path: Path) -> None:
    reporter, counters = _reporter(tmp_path, SimpleNamespace(watchdog_seconds=None))
    with reporter:
        written = (tmp_path / "status.json").stat().st_mtime_ns
        counters.add("windows_total")
        assert (tmp_path / "status.json").stat().st_mtime_ns == written
    reporter.ended("as it was told")
    report = json.loads((tmp_path / "status.json").read_text())
    assert (report["ended"], report["counters"]) == ("as it was told", {"windows_total": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_a_status_that_cannot_be_written_is_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "file"
    folder.write_text("")
    reporter, counters = _reporter(folder, SimpleNamespace(watchdog_seconds=None))
    with reporter:
        pass
    reporter.ended("as it was told")
    assert counters.read()["status_errors_total"] == 2
    assert len(caplog.records) == 1


@contextlib.contextmanager
def _notified(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "notify"))
        listener.settimeout(10)
        yield listener


def test_systemd_hears_of_start_end_and_life(bundle_path: Path, plugin: Path, tmp_path: Path) -> None:
    path = pipelines.write(bundle_path.parent, node("tones", pause=0.01))
    with _notified(tmp_path) as listener:
        env = pipelines.environment(
            plugin,
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC="300000",
            RUNTIME_DIRECTORY=str(tmp_path / "run"),
        )
        with pipelines.running(path, env) as process:
            heard = [listener.recv(100) for _ in range(3)]
            process.send_signal(signal.SIGTERM)
            while heard[-1] != b"STOPPING=1":
                heard.append(listener.recv(100))
            assert process.wait(10) == 0
    assert heard[:3] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    assert status.read(tmp_path / "run").state == "ended"
    assert not (bundle_path.parent / "state/status.json").exists(), "memory is there to spare the disk"


@pytest.mark.parametrize(("stuck", "alive"), [(0.0, True), (0.29, True), (0.31, False)])
def test_a_pipeline_that_is_stuck_is_not_called_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: float, alive: bool
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    with _notified(tmp_path) as listener:
        with _reporter(tmp_path, Systemd(), stuck, every=0.5)[0]:
            written = (tmp_path / "status.json").stat().st_mtime_ns
            # the second status comes after four times in which life could have been told
            wait_for(lambda: (tmp_path / "status.json").stat().st_mtime_ns != written)
        listener.setblocking(False)
        if alive:
            assert listener.recv(100) == b"WATCHDOG=1"
        else:
            with pytest.raises(BlockingIOError):
                listener.recv(100)


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    assert Systemd().watchdog_seconds is None
    Systemd().tell("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "@labous-nobody")
    assert Systemd().watchdog_seconds == 0.3
    Systemd().tell("READY=1")  # nobody listens
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert Systemd().watchdog_seconds is None


# Prometheus


def test_the_exposition_is_what_prometheus_reads() -> None:
    text = prometheus.exposition({
        'queue_events{node="http"}': 3, 'queue_events{node="mqtt"}': 4, "windows_total": 2**40 + 1, "cpu_share": 0.25,
        "no name": 1, "a\nb": 2,
    })  # fmt: skip
    assert text == (
        '# TYPE labous_queue_events gauge\nlabous_queue_events{node="http"} 3\nlabous_queue_events{node="mqtt"} 4\n'
        "# TYPE labous_windows_total counter\nlabous_windows_total 1099511627777\n"
        "# TYPE labous_cpu_share gauge\nlabous_cpu_share 0.25\n"
    )


def _get(port: int, path: str = "/metrics", host: str = "127.0.0.1") -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_a_reader_that_drips_holds_up_neither_the_next_for_long_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labous.station.prometheus._PATIENCE_SECONDS", 0.5)
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.1):
                connection.send(b"G")

    with contextlib.ExitStack() as stack, prometheus.served(0, lambda: {"windows_total": 1}) as port:
        stack.callback(over.set)
        for _ in range(3):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            threading.Thread(target=drip, args=(connection,), daemon=True).start()
            time.sleep(0.05)
        connection.close()
        began = time.monotonic()
        assert _get(port)[0] == 200
        assert 0.5 < time.monotonic() - began < 3
        stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        time.sleep(0.05)
        monkeypatch.setattr("labous.station.prometheus._PATIENCE_SECONDS", 60)
        stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        time.sleep(0.6)  # the second is being waited for now
        began = time.monotonic()
    assert time.monotonic() - began < 1


def test_metrics_are_served_on_loopback_alone_and_a_slow_reader_keeps_nobody_away(tmp_path: Path) -> None:
    with _free_port() as port:
        pass
    with prometheus.served(port, lambda: {"windows_total": 2}) as served:
        assert served == port
        assert _get(port) == (200, "# TYPE labous_windows_total counter\nlabous_windows_total 2\n")
        assert _get(port, "/other")[0] == 404
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(b"GET /metr")
            assert _get(port)[0] == 200
        with pytest.raises(
            PipelineError, match=rf"Port {port} for Prometheus cannot be had .* another station.metrics_port"
        ):
            prometheus.served(port, dict).__enter__()
        local = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[3] == "0A"]
        assert [address for address in local if address.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
    with pytest.raises(ConnectionRefusedError):
        _get(port)
    assert not [thread for thread in threading.enumerate() if thread.name == "labous-metrics"]


@contextlib.contextmanager
def _free_port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


def test_a_station_serves_its_counters(bundle_path: Path, plugin: Path) -> None:
    with _free_port() as port:
        pass
    path = pipelines.write(bundle_path.parent, f"metrics_port = {port}\n", node("tones", pause=0.01))
    with pipelines.running(path, pipelines.environment(plugin)) as process:
        wait_for((path.parent / "state/status.json").exists, process)

        def answer() -> str:
            with contextlib.suppress(OSError):
                return _get(port)[1]
            return ""

        text = wait_for(lambda: found if "windows_total" in (found := answer()) else "", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    names = {line.split()[0].partition("{")[0] for line in text.splitlines() if not line.startswith("#")}
    assert {"labous_windows_total", "labous_cpu_seconds_total", "labous_resident_memory_bytes"} <= names


# The log


def test_the_same_trouble_is_told_once_in_a_while_with_how_often_it_was_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    seldom = Seldom(logging.getLogger("labous"), 60, lambda: now[0])
    for second in range(0, 121, 10):
        now[0] = float(second)
        seldom.warning("disk", "The disk %s is full.", "a")
        seldom.warning(f"net{second // 70}", "No network.")
    assert [record.getMessage() for record in caplog.records] == [
        "The disk a is full.",
        "No network.",
        "The disk a is full. (And 5 times since this was last told.)",
        "No network. (And 5 times since this was last told.)",
        "No network.",
        "The disk a is full. (And 5 times since this was last told.)",
    ]


def test_keys_of_strangers_do_not_fill_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    seldom = Seldom(logging.getLogger("labous"), 60, lambda: 0.0)
    caplog.set_level(logging.ERROR, "labous")
    for number in range(5000):
        seldom.warning(str(number), "x")
    assert len(seldom._told) <= 1000


@pytest.mark.parametrize("journal", [False, True])
def test_lines_of_the_log_cannot_steer_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, journal: bool
) -> None:
    logger = logging.getLogger("labous")
    kept = logger.handlers[:], logger.level, logger.propagate, logging.raiseExceptions
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if journal:
        monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    try:
        log.to_stderr()
        try:
            raise ValueError("a\x1b[2Jb")
        except ValueError:
            logging.getLogger("labous.child").exception("of \x1b %s", "x\u202e")
        logger.debug("unheard")
    finally:
        logger.handlers[:], logger.level, logger.propagate, logging.raiseExceptions = kept
    lines = capsys.readouterr().err.splitlines()
    assert all(line.isprintable() for line in lines)
    if journal:
        assert lines[0] == r"<3>of \x1b x\u202e"
        assert lines[1] == "<3>Traceback (most recent call last):"
    else:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ERROR of \\x1b x\\u202e", lines[0])
    assert lines[-1].endswith(r"ValueError: a\x1b[2Jb")


def test_temperature_and_memory_of_this_machine_are_plausible() -> None:
    assert status.resident_bytes() is None or 1e6 < status.resident_bytes() < 1e11  # type: ignore[operator]
    found = status.temperature()
    assert found is None or -40 <= found <= 150
    assert Path("/proc/self").is_dir() == (status.resident_bytes() is not None)
