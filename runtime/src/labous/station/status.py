"""How a station fares: status.json, written by the run itself, and what readers make of it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labous._version import __version__
from labous.errors import LabousError, PipelineError
from labous.formats import replacing
from labous.nodes import Record
from labous.station.counters import Counters
from labous.station.log import Seldom
from labous.station.observations import timestamp
from labous.station.pipeline_file import Pipeline
from labous.station.process import Systemd
from labous.station.runner import Runner

FILE = "status.json"
THERMAL = Path("/sys/class/thermal")

_TELL_SECONDS = 600.0
_LATE = 3  # times status_seconds without news: the process lives and its status does not
_LATE_SECONDS = 10.0  # and so much more, as a busy board is late
_PLAUSIBLE_CELSIUS = (-40.0, 150.0)

_logger = logging.getLogger("labous")


class Reporter:
    """While entered, a thread writes status.json now and then, and tells systemd that the pipeline is not stuck.

    At the end it is written once more, with how the run ended.
    """

    def __init__(self, pipeline: Pipeline, counters: Counters, runner: Runner, systemd: Systemd, folder: Path) -> None:
        self._pipeline, self._counters, self._runner, self._systemd = pipeline, counters, runner, systemd
        self._path = folder / FILE
        self._every = pipeline.station.status_seconds
        self._started, self._began = time.time(), time.monotonic()
        self._cpu = _Share()
        self._seldom = Seldom(_logger, _TELL_SECONDS)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="labous-status", daemon=True)

    def __enter__(self) -> Reporter:
        self._write(None)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def ended(self, how: str) -> None:
        """Write the last status; the thread has ended."""
        self._write(how)

    def numbers(self) -> Mapping[str, float]:
        """The counters, and what the process itself takes, for Prometheus."""
        found = {**self._counters.read(), "cpu_seconds_total": time.process_time(), "start_time_seconds": self._started}
        for name, value in (("resident_memory_bytes", resident_bytes()), ("temperature_celsius", temperature())):
            if value is not None:
                found[name] = value
        return found

    def _run(self) -> None:
        watchdog = self._systemd.watchdog_seconds
        due = time.monotonic() + self._every
        while True:
            pause = max(0.0, due - time.monotonic())
            if self._ending.wait(pause if watchdog is None else min(pause, watchdog / 3)):
                return
            if watchdog is not None and self._runner.stuck_seconds() < watchdog:
                self._systemd.tell("WATCHDOG=1")
            if time.monotonic() >= due:
                due = time.monotonic() + self._every
                self._write(None)

    def _write(self, ended: str | None) -> None:
        try:
            with replacing(self._path) as out:
                json.dump(self._report(ended), out, indent=1)
                out.write("\n")
        except LabousError as error:
            self._counters.add("status_errors_total")
            self._seldom.warning("status", "%s", error)

    def _report(self, ended: str | None) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.timezone.utc)
        return {
            "version": __version__,
            "station": self._pipeline.station.name,
            "pipeline": str(self._pipeline.path),
            "pid": os.getpid(),
            "process_start": _process_start(os.getpid()),
            "boot": _boot(),
            "started": timestamp(datetime.datetime.fromtimestamp(self._started, datetime.timezone.utc)),
            "uptime_seconds": round(time.monotonic() - self._began, 3),
            "written": timestamp(now),
            "written_monotonic": time.monotonic(),
            "status_seconds": self._every,
            "ended": ended,
            "last_window": _window(self._runner.last, self._runner.sample_rate),
            "cpu_share": self._cpu.since_last(),
            "resident_memory_bytes": resident_bytes(),
            "temperature_celsius": temperature(),
            "counters": dict(self._counters.read()),
        }


class _Share:
    """The share of one core that this process takes."""

    def __init__(self) -> None:
        self._last = time.monotonic(), time.process_time()

    def since_last(self) -> float:
        """Since it was last asked, 0 … the number of cores."""
        before, self._last = self._last, (time.monotonic(), time.process_time())
        elapsed = self._last[0] - before[0]
        return round((self._last[1] - before[1]) / elapsed, 4) if elapsed > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class Status:
    """What a status.json said.

    Attributes:
        report: all of it.
        state: "running"; "ended", by itself or as it was told; "gone", killed or with the machine's power; "stale",
            the process is there and has not written for long.
        age: since it was written, s.
    """

    report: Mapping[str, Any]
    state: str
    age: float


def is_in(folder: Path) -> bool:
    """Whether a station has left a status in a folder; True where this user may not know, so that reading it tells."""
    try:
        (folder / FILE).stat()
    except PermissionError:  # systemd keeps the folders of a user that it makes from all others
        return True
    except OSError:
        return False
    return True


def read(folder: Path) -> Status:
    """The status of the station that writes into a folder.

    Raises:
        PipelineError: there is none, or it is damaged.
    """
    path = folder / FILE
    try:
        report = json.loads(path.read_text("utf-8"))
        age = _age(report)
        return Status(report, _state(report, age), age)
    except PermissionError as error:
        raise PipelineError(
            f"{str(path)!r} cannot be read ({error.strerror}); a service's status is root's to read: use sudo."
        ) from error
    except OSError as error:
        raise PipelineError(f"{str(path)!r} cannot be read ({error.strerror}); has the station run?") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PipelineError(f"{str(path)!r} is damaged; the next run writes it anew.") from error


def service_folder(station: str) -> Path:
    """Where a station that runs as a service writes its status."""
    return Path("/run/labous") / station


def folder_of(pipeline: Pipeline) -> Path:
    """Where a run writes its status: into memory where systemd gives such a folder, to spare the disk."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(given) if given else pipeline.state


def resident_bytes() -> int | None:
    """Memory that this process holds now; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def temperature(folder: Path = THERMAL) -> float | None:
    """Of the hottest part of the board that tells, °C."""
    found = []
    for zone in folder.glob("thermal_zone*/temp"):
        with contextlib.suppress(OSError, ValueError):  # some zones exist and cannot be read
            found.append(int(zone.read_text("ascii")) / 1000)
    lowest, highest = _PLAUSIBLE_CELSIUS
    return max((value for value in found if lowest <= value <= highest), default=None)


def _window(record: Record | None, rate: int) -> dict[str, Any] | None:
    if record is None:
        return None
    time_ = None if record.time is None else timestamp(record.time)
    return {"stream": record.stream, "start_seconds": round(record.start / rate, 6), "time": time_}


def _age(report: Mapping[str, Any]) -> float:
    if _boot() is not None and report["boot"] == _boot():
        return time.monotonic() - float(report["written_monotonic"])
    written = datetime.datetime.fromisoformat(report["written"].replace("Z", "+00:00"))
    return (datetime.datetime.now(datetime.timezone.utc) - written).total_seconds()


def _state(report: Mapping[str, Any], age: float) -> str:
    if report["ended"] is not None:
        return "ended"
    pid = int(report["pid"])
    if report["boot"] != _boot() or not _exists(pid) or report["process_start"] != _process_start(pid):
        return "gone"
    late = _LATE * float(report["status_seconds"]) + _LATE_SECONDS
    return "stale" if age > late else "running"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _process_start(pid: int) -> int | None:
    """When a process began, in the system's own ticks, so that another with its number is not taken for it."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None
