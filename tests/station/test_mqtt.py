"""Observations to a real mosquitto: QoS 1 across its deaths, topics from hostile labels, last will, TLS, discovery."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labous.detect import Label
from labous.errors import NodeError
from labous.nodes import Context
from labous.nodes.mqtt import Mqtt
from labous.options import Refused
from labous.station.delivery import Sink
from tests.counts import Counted
from tests.station.broker import Broker, Listener
from tests.station.deliveries import certificates, context, options, record, total, wait_until
from tests.station.needs import programs


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    made = Listener(broker.port)
    yield made
    made.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[..., tuple[Sink, Context]]]:
    made: list[tuple[Sink, Context]] = []

    def make(port: int, host: str = "127.0.0.1", **keys: Any) -> tuple[Sink, Context]:
        here = context(tmp_path / "state")
        made.append((options(Mqtt, host=host, port=port, **keys).open(here), here))
        return made[-1]

    yield make
    for sink, here in made:
        here.stopping.set()
        sink.close()


def hear(sink: Sink, *species: str, at: float = 0.0, label: Label | None = None) -> list[str]:
    heard = record(*species, at=at, label=label)
    assert list(sink.process(heard)) == [heard]
    return [o.id for o in heard.columns["observations"]]


def test_each_observation_is_a_message_of_its_species(
    node: Callable[..., tuple[Sink, Context]], broker: Broker, listener: Listener
) -> None:
    sink, here = node(broker.port)
    ids = hear(sink, "eurrob1", "comcuc")
    wait_until(lambda: total(here.counters, "delivered_events_total") == 2)
    wait_until(lambda: sorted(listener.ids()) == sorted(ids))
    found = {topic: json.loads(payload) for topic, payload, _ in listener.of("labous/garden.1/detections/")}
    assert sorted(found) == ["labous/garden.1/detections/comcuc", "labous/garden.1/detections/eurrob1"]
    assert found["labous/garden.1/detections/eurrob1"]["data"]["scientificName"] == "Erithacus rubecula"
    wait_until(lambda: total(here.counters, "queue_events") == 0)  # counted a moment after the delivery


HOSTILE = ["a/b/c", "#", "+", "$SYS/x", "x\x00y", "\x1b[2J", "é" * 300, "..", "\n", "", "\ud800", "a" * 70_000]


def test_hostile_labels_stay_in_their_level(
    node: Callable[..., tuple[Sink, Context]], broker: Broker, listener: Listener, counted: Counted
) -> None:
    sink, here = node(broker.port, queue_bytes=10_000_000)
    for n, code in enumerate(HOSTILE):
        hear(sink, code, at=float(n), label=Label(code, code, code, code))
    wait_until(lambda: len(listener.of("labous/garden.1/detections/")) == len(HOSTILE))
    for topic, payload, _ in listener.of("labous/garden.1/detections/"):
        level = topic.removeprefix("labous/garden.1/detections/")
        assert 0 < len(level) <= 600 and level.isascii() and level.isprintable()
        assert not set(level) & set("/+# ")
        assert all(32 <= byte < 127 for byte in payload)
    assert len({topic for topic, *_ in listener.messages if "/detections/" in topic}) == len(HOSTILE)
    assert {topic.split("/")[0] for topic, *_ in listener.messages} == {"labous", "homeassistant"}
    assert total(here.counters, "sink_errors_total") == 0
    counted(f"{len(HOSTILE)} hostile labels to MQTT", f"{len(HOSTILE)} messages, each below its own topic")


def test_home_assistant_is_told(node: Callable[..., tuple[Sink, Context]], broker: Broker, listener: Listener) -> None:
    node(broker.port)
    wait_until(lambda: len(listener.of("homeassistant/")) == 1 and len(listener.of("labous/")) == 1)
    late = Listener(broker.port)  # retained: whoever comes later is told too
    wait_until(lambda: len(late.messages) == 2)
    late.close()
    told = {topic: (payload, retained) for topic, payload, retained in late.messages}
    assert told["labous/garden.1/status"] == (b"online", True)
    payload, retained = told["homeassistant/sensor/labous_garden_2E1/last_bird/config"]
    value = json.loads(payload)
    assert retained
    assert value["state_topic"] == value["json_attributes_topic"] == "labous/garden.1/detections/+"
    assert value["availability_topic"] == "labous/garden.1/status"
    assert value["unique_id"] == "labous_garden.1_last_bird"
    assert value["device"]["identifiers"] == ["labous_garden.1"]


def test_discovery_can_be_left_out(
    node: Callable[..., tuple[Sink, Context]], broker: Broker, listener: Listener
) -> None:
    sink, _ = node(broker.port, discovery=False, topic="wood/birds")
    ids = hear(sink, "eurrob1")
    wait_until(lambda: len(listener.of("wood/birds/garden.1/detections/eurrob1")) == len(ids))
    assert listener.of("homeassistant/") == []


def test_a_station_that_ends_says_so(
    node: Callable[..., tuple[Sink, Context]], broker: Broker, listener: Listener
) -> None:
    sink, here = node(broker.port)
    wait_until(lambda: len(listener.of("labous/garden.1/status")) == 1)
    here.stopping.set()
    started = time.monotonic()
    sink.close()
    assert time.monotonic() - started < 2
    wait_until(lambda: len(listener.of("labous/garden.1/status")) == 2)
    assert [payload for _, payload, _ in listener.of("labous/garden.1/status")] == [b"online", b"offline"]
    assert not [t for t in threading.enumerate() if t.name.startswith("labous-mqtt")]


@pytest.mark.slow
def test_of_a_station_that_is_killed_the_last_will_says_so(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from labous.nodes.mqtt import Mqtt\n"
        "from tests.station.deliveries import context, options\n"
        "options(Mqtt, host='127.0.0.1', port=int(sys.argv[1])).open(context(pathlib.Path(sys.argv[2])))\n"
        "time.sleep(60)"
    )
    station = subprocess.Popen(
        [sys.executable, "-c", code, str(broker.port), str(tmp_path / "state")], cwd=Path(__file__).parents[2]
    )
    try:
        wait_until(lambda: len(listener.of("labous/garden.1/status")) == 1)
    finally:
        station.kill()
        station.wait()
    wait_until(lambda: len(listener.of("labous/garden.1/status")) == 2)
    assert [payload for _, payload, _ in listener.of("labous/garden.1/status")] == [b"online", b"offline"]


@pytest.mark.parametrize("deaths", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_broker_that_dies_again_and_again_gets_everything(
    deaths: int,
    node: Callable[..., tuple[Sink, Context]],
    broker: Broker,
    listener: Listener,
    counted: Counted,
) -> None:
    sink, here = node(broker.port, batch_events=20)
    ids: list[str] = []
    for n in range(25 * deaths):
        ids += hear(sink, "eurrob1", "comcuc", at=float(n))
        if n % 25 == 20:
            broker.kill()
        if n % 25 == 24:
            broker.start()
    wait_until(lambda: total(here.counters, "queue_events") == 0, 60)
    assert total(here.counters, "delivered_events_total") == 50 * deaths == len(set(ids))
    assert total(here.counters, "lost_events_total") == 0
    # the listener was away as often as the broker: what it was given is no more than some, and nothing else
    received = listener.ids()
    assert set(received) <= set(ids)
    counted(
        f"{deaths} deaths of a broker",
        f"{len(ids):,} observations, all acknowledged, 0 lost; {total(here.counters, 'sink_errors_total'):.0f} batches "
        "tried again",
    )


def test_what_is_put_while_the_broker_is_away_arrives_once_it_is_there(
    node: Callable[..., tuple[Sink, Context]], tmp_path: Path
) -> None:
    broker = Broker(tmp_path)
    sink, here = node(broker.port)
    ids = [name for n in range(100) for name in hear(sink, "eurrob1", at=float(n))]
    wait_until(lambda: total(here.counters, "sink_errors_total") >= 3)
    assert total(here.counters, "queue_events") == 100
    broker.start()
    try:
        listener = Listener(broker.port)
        wait_until(lambda: total(here.counters, "queue_events") == 0)
        assert total(here.counters, "delivered_events_total") == 100 == len(set(ids))
        listener.close()
    finally:
        broker.kill()


def test_a_broker_that_hangs_is_given_up_in_time(node: Callable[..., tuple[Sink, Context]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink, here = node(silent.getsockname()[1], timeout_seconds=0.3)
        hear(sink, "eurrob1")
        wait_until(lambda: total(here.counters, "sink_errors_total") >= 2)
        assert total(here.counters, "queue_events") == 1
        here.stopping.set()
        started = time.monotonic()
        sink.close()
        assert time.monotonic() - started < 2.6


def test_a_server_that_speaks_something_else_is_survived(node: Callable[..., tuple[Sink, Context]]) -> None:
    over = threading.Event()

    def babble(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for n in range(1000):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(
                        [b"SSH-2.0-x\r\n", b"\x20\x02\x00\x00\x40\xff\xff\xff\xff\x7f", b"\xff" * 50][n % 3]
                    )
                    over.wait(0.05)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=babble, args=(server,), daemon=True).start()
        sink, here = node(server.getsockname()[1], timeout_seconds=0.5)
        hear(sink, "eurrob1")
        wait_until(lambda: total(here.counters, "sink_errors_total") >= 6)
        assert total(here.counters, "queue_events") == 1
        over.set()


def test_tls_and_a_password(
    node: Callable[..., tuple[Sink, Context]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = certificates(tmp_path)
    programs("mosquitto_passwd", untested="passwords of MQTT")
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(tmp_path / "users"), "me", "p4ssword"], check=True)
    broker = Broker(
        tmp_path,
        ("allow_anonymous false", f"password_file {tmp_path / 'users'}", f"certfile {made['good']}",
         f"keyfile {made['good.key']}"),
    )  # fmt: skip
    (tmp_path / "right").write_text("p4ssword\n")
    (tmp_path / "wrong").write_text("guess")
    broker.start()
    common = {"host": "localhost", "tls": True, "username": "me", "timeout_seconds": 1.0}
    good, right = {"ca_file": str(made["good"])}, {"password_file": str(tmp_path / "right")}
    try:
        refused = [
            node(broker.port, name="stranger", **common, **right),
            node(broker.port, name="bad", ca_file=str(made["bad"]), **common, **right),
            node(broker.port, name="guess", password_file=str(tmp_path / "wrong"), **common, **good),
            node(broker.port, name="plain", **(common | {"tls": False}), **right),
        ]
        accepted, here = node(broker.port, name="mqtt", **common, **good, **right)
        for sink, _ in [*refused, (accepted, here)]:
            hear(sink, "eurrob1")
        wait_until(lambda: total(here.counters, "delivered_events_total") == 1)
        for _, there in refused:
            wait_until(lambda there=there: total(there.counters, "sink_errors_total") >= 2)  # type: ignore[misc]
            assert total(there.counters, "delivered_events_total") == 0
            assert total(there.counters, "queue_events") == 1
    finally:
        broker.kill()
    assert "p4ssword" not in caplog.text and "guess'" not in caplog.text


def test_without_paho_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(NodeError, match=r"pip install 'labous\[mqtt\]'"):
        options(Mqtt, host="localhost").open(context(tmp_path))


@pytest.mark.parametrize(
    "keys, key",
    [
        ({}, "host"),
        ({"host": "a b"}, "host"),
        ({"host": "h", "topic": "a/#"}, "topic"),
        ({"host": "h", "topic": "/a"}, "topic"),
        ({"host": "h", "password_file": "f"}, "username"),
        ({"host": "h", "username": "u", "password_file": "f", "password_env": "E"}, "password_env"),
        ({"host": "h", "ca_file": "f"}, "tls"),
        ({"host": "h", "port": 0}, "port"),
    ],
)
def test_options_that_cannot_be_are_refused(keys: dict[str, Any], key: str) -> None:
    with pytest.raises(Refused) as caught:
        options(Mqtt, **keys)
    assert caught.value.key == key
