"""``labous status``: how a station fares, from what it writes about itself."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labous.columns import aligned
from labous.errors import LabousError
from labous.formats import printable
from labous.station import pipeline_file, status
from labous.station.pipeline_file import Pipeline
from labous.station.status import Status

_TOLD = ("windows_total", "audio_seconds_total", "audio_dropped_seconds_total", "observations_total")
_DELIVERY = (
    ("queue_events", "{:.0f} events wait"),
    ("queue_bytes", "{:.0f} bytes"),
    ("delivered_events_total", "{:.0f} delivered"),
    ("last_delivery_time_seconds", "the last {} ago"),
    ("parked_batches", "{:.0f} parked"),
    ("lost_events_total", "{:.0f} lost"),
)
_NODE = re.compile(r'node="([^"]*)"')


def run(arguments: argparse.Namespace) -> int:
    """Print a station's status; 1 where it does not run."""
    found = _found(arguments)
    if arguments.json:
        print(json.dumps({**found.report, "state": found.state, "age_seconds": round(found.age, 3)}, indent=2))
        return _code(found)
    try:
        lines = _lines(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LabousError("This status was written by another version of Labous; --json prints it as it is.") from error
    for line in lines:
        print(printable(line))
    return _code(found)


def _code(found: Status) -> int:
    return 0 if found.state == "running" else 1


def _found(arguments: argparse.Namespace) -> Status:
    if arguments.state is not None:
        return status.read(Path(arguments.state))
    if arguments.pipeline is None:
        raise LabousError("There is no station to tell of; give its pipeline file, or --state DIR.")
    return _newest(pipeline_file.read(arguments.pipeline))


def _newest(pipeline: Pipeline) -> Status:
    """The status of whichever run of a station wrote last: as a service, or a user's own."""
    folders = [status.service_folder(pipeline.station.name), status.folder_of(pipeline)]
    there = [folder for folder in folders if status.is_in(folder)]
    if not there:
        where = " nor ".join(repr(str(folder)) for folder in dict.fromkeys(folders))
        raise LabousError(f"The station {pipeline.station.name} has left no status in {where}; has it run?")
    return min((status.read(folder) for folder in there), key=lambda found: found.age)


def _lines(found: Status) -> list[str]:
    report, counters = found.report, dict(found.report["counters"])
    states = {
        "running": f"running for {_duration(report['uptime_seconds'] + found.age)}",
        "stale": "stale: its process is there, but has told nothing for too long; it may hang",
        "gone": "gone: its process was killed, or the power failed",
        "ended": f"ended {report['ended']}",
    }
    memory, celsius = report["resident_memory_bytes"], report["temperature_celsius"]
    windows, heard, dropped, observations = (counters.pop(name, 0) for name in _TOLD)
    pairs = [
        ("station", f"{report['station']}, Labous {report['version']}"),
        ("pipeline", str(report["pipeline"])),
        ("state", states[found.state]),
        ("process", str(report["pid"])),
        ("told", f"{_duration(found.age)} ago"),
        ("last window", _window(report["last_window"])),
        ("heard", f"{windows:.0f} windows, {_duration(heard)} of sound"),
        ("dropped", f"{dropped:.1f} s of sound"),
        ("observations", f"{observations:.0f}"),
        *_deliveries(counters),
        ("CPU", f"{report['cpu_share']:.1%} of one core"),
        ("memory", "unknown" if memory is None else f"{memory / 1e6:.1f} MB"),
        ("temperature", "unknown" if celsius is None else f"{celsius:.1f} °C"),
    ]
    return aligned(pairs + [(name, f"{value:.12g}") for name, value in counters.items()])


def _deliveries(counters: dict[str, float]) -> Iterator[tuple[str, str]]:
    """A line for each node that delivers; its counters are taken away."""
    nodes: dict[str, dict[str, float]] = {}
    for name in list(counters):
        kind, label = name.partition("{")[0], _NODE.search(name)
        if label is not None and kind in dict(_DELIVERY):
            told = nodes.setdefault(label[1], {})
            told[kind] = told.get(kind, 0) + counters.pop(name)  # what is lost is counted by reason
    for node, told in nodes.items():
        if "last_delivery_time_seconds" in told:
            told["last_delivery_time_seconds"] = time.time() - told["last_delivery_time_seconds"]
        parts = [
            text.format(_duration(told[kind]) if "{}" in text else told[kind])
            for kind, text in _DELIVERY
            if kind in told
        ]
        yield node, ", ".join(parts)


def _window(window: Mapping[str, Any] | None) -> str:
    if window is None:
        return "none yet"
    captured = "" if window["time"] is None else f", captured {window['time']}"
    return f"{window['stream']} at {window['start_seconds']:.1f} s{captured}"


def _duration(seconds: float) -> str:
    """Two units at most: 3 d 4 h, 12 min, 5 s."""
    whole = max(0, round(seconds))
    for unit, size, below, small in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small} {below}"
    return f"{whole} s"
