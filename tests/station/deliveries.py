"""What the tests of delivery share: events, options in a hurry, waiting, certificates, full disks."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from labous.detect import Detection, Label
from labous.nodes import Context, Record
from labous.options import parse
from labous.station.counters import Counters
from labous.station.observations import Observation
from labous.station.queue_file import Event
from labous.station.settings import Station
from tests.station.needs import programs

HURRY: dict[str, Any] = {
    "batch_seconds": 0.0,
    "pace_seconds": 0.0,
    "timeout_seconds": 2.0,
    "retry_seconds": 0.02,
    "retry_limit_seconds": 0.1,
    "finish_seconds": 0.0,
}


def event(name: object, size: int = 0) -> Event:
    """An event as observations make them, with a body of at least this size."""
    value = {"specversion": "1.0", "id": str(name), "data": {"padding": "x" * size}}
    return Event(str(name), json.dumps(value).encode())


def options(kind: type[Any], **keys: Any) -> Any:
    """Options of a node in a hurry, by the way of the pipeline file."""
    return parse(kind, HURRY | keys)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for what cannot be waited for otherwise: a number or a file of another thread or process."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.005)


def total(counters: Counters, name: str) -> float:
    """A counter with its labels' values added up."""
    return sum(value for key, value in counters.read().items() if key.partition("{")[0] == name)


def certificates(folder: Path) -> dict[str, Path]:
    """Keys and certificates for localhost, PEM files: ``good`` vouches for itself, and nobody for ``bad``."""
    programs("openssl", untested="TLS")
    made: dict[str, Path] = {}
    for name in ("good", "bad"):
        key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True, capture_output=True,
        )  # fmt: skip
        made |= {f"{name}.key": key, name: certificate}
    return made


def contexts(made: dict[str, Path]) -> list[ssl.SSLContext]:
    """What a server needs of them: the right and the wrong certificate."""
    found = []
    for name in ("good", "bad"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made[name], made[f"{name}.key"])
        found.append(context)
    return found


def fill(folder: Path) -> Path:
    """Fill a file system to the last byte; the file that does."""
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        for size in (65_536, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path


@contextlib.contextmanager
def nobody_answers(port: int = 0) -> Iterator[tuple[str, int]]:
    """An address of this machine where connecting takes for ever, as at one that is gone."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.2", port))
        server.listen(0)
        for _ in range(4):  # which fill what it lets wait
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()


def context(state: Path, **keys: Any) -> Context:
    """What nodes are opened with here: none of these reads the bundle."""
    station = Station(bundle="unread", name="garden.1", latitude=48.4, longitude=-4.5)
    return Context(cast(Any, None), station, state, Counters(), threading.Event(), **keys)


def record(*species: str, at: float = 0.0, label: Label | None = None) -> Record:
    """A window in which these species were confirmed."""
    time = datetime.datetime(2026, 5, 1, 4, 30, tzinfo=datetime.timezone.utc)
    found = []
    for code in species:
        named = label or Label(code, "Erithacus rubecula", "European Robin", "Rougegorge familier")
        detection = Detection("mic", at, at + 5, **dataclasses.asdict(named), score=0.75)
        found.append(Observation.of("garden.1", time, detection, 2, "labous-test 0.1.0"))
    return Record("mic", 0, 160_000, 160_000, time, {"observations": tuple(found)})
