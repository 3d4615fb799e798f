"""Observations to a real web server that fails in every way that it can."""

from __future__ import annotations

import datetime
import email.utils
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from labous.errors import NodeError
from labous.nodes.http import Http
from labous.options import Refused
from labous.station.delivery import Sink
from labous.station.observations import Observation
from tests.counts import Counted
from tests.station.deliveries import (
    certificates,
    context,
    contexts,
    nobody_answers,
    options,
    record,
    total,
    wait_until,
)
from tests.station.receiver import Fate, receiving

TOKEN = "s3cret-token"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return certificates(tmp_path_factory.mktemp("certificates"))


class Station:
    """An http node of a station in tmp_path, and what it counts."""

    def __init__(self, folder: Path, url: str, **keys: Any) -> None:
        self.context = context(folder)
        self.options = options(Http, url=url, **keys)
        self.node: Sink = self.options.open(self.context)

    def hears(self, *species: str, at: float = 0.0) -> list[Observation]:
        heard = record(*species, at=at)
        assert list(self.node.process(heard)) == [heard]
        return list(heard.columns["observations"])

    def count(self, name: str) -> float:
        return total(self.context.counters, name)

    def parked(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in (self.context.state / "http-parked").glob("*.json")]


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    made = []

    def make(url: str, **keys: Any) -> Station:
        made.append(Station(tmp_path / "state", url, **keys))
        return made[-1]

    yield make
    for each in made:
        each.context.stopping.set()
        each.node.close()


def fates(*given: Fate) -> Callable[[], Fate]:
    """Connection by connection; the last for all that follow."""
    left = list(given)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_batches_are_cloudevents_of_darwin_core(station: Callable[..., Station]) -> None:
    with receiving() as receiver:
        heard = station(receiver.url).hears("eurrob1", "comcuc")
        receiver.wait_for(lambda r: len(r.kept) == 2)
    (request,) = receiver.requests
    assert request.target == "/detections"
    assert request.headers["content-type"] == "application/cloudevents-batch+json; charset=utf-8"
    assert request.headers["content-encoding"] == "gzip"
    assert "authorization" not in request.headers
    assert request.headers["user-agent"].startswith("labous/")
    first = request.events[0]
    assert [event["id"] for event in request.events] == [o.id for o in heard]
    assert (first["specversion"], first["time"]) == ("1.0", "2026-05-01T04:30:00.000Z")
    assert first["source"] == "urn:labous:station:garden.1"
    assert first["data"]["scientificName"] == "Erithacus rubecula"
    assert first["data"]["decimalLatitude"] == 48.4


def test_a_window_without_observations_sends_nothing(station: Callable[..., Station]) -> None:
    with receiving() as receiver:
        here = station(receiver.url, gzip=False)
        here.hears()
        here.hears("eurrob1")
        receiver.wait_for(lambda r: len(r.kept) == 1)
        wait_until(lambda: here.count("queue_events") == 0)
    assert len(receiver.requests) == 1
    assert "content-encoding" not in receiver.requests[0].headers


LATER = [
    Fate(status=500), Fate(status=502), Fate(status=503, headers=(("Retry-After", "0"),)), Fate(status=408),
    Fate(status=425), Fate(status=429), Fate(status=301, headers=(("Location", "/there"),)), Fate(status=304),
    Fate(reset=True), Fate(cut=0), Fate(cut=9), Fate(cut=30), Fate(body=b"x" * 100, cut=120),
    Fate(status=200, headers=(("Transfer-Encoding", "chunked"),), body=b"zz\r\n"), Fate(status=999),
]  # fmt: skip


@pytest.mark.fault("answers that acknowledge nothing", "tried again until one does, nothing lost")
@pytest.mark.parametrize("fate", LATER, ids=lambda fate: f"{fate.status}-{fate.cut}-{fate.reset}")
def test_what_is_no_acknowledgment_is_tried_again(fate: Fate, station: Callable[..., Station]) -> None:
    with receiving(fates(fate, fate, Fate(status=204))) as receiver:
        here = station(receiver.url)
        here.hears("eurrob1")
        receiver.wait_for(lambda r: len(r.kept) == 1 and len(r.requests) >= (1 if fate.reset else 3))
        wait_until(lambda: here.count("queue_events") == 0)
    assert here.count("sink_errors_total") == 2
    assert here.count("delivered_events_total") == 1
    assert here.parked() == []


@pytest.mark.fault("batches that are refused for good", "parked where a person sees them")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_what_is_refused_for_good_is_parked(status: int, station: Callable[..., Station]) -> None:
    said = b"no such \x1b[31mspecies\n"
    with receiving(fates(Fate(status=status, body=said), Fate())) as receiver:
        here = station(receiver.url + "?key=hidden")
        (heard,) = here.hears("eurrob1")
        wait_until(lambda: here.count("parked_batches") == 1)
        here.hears("comcuc")
        receiver.wait_for(lambda r: len(r.kept) == 1)
    (parked,) = here.parked()
    assert [event["id"] for event in parked["events"]] == [heard.id]
    assert f"answers {status} 'no such \\x1b[31mspecies\\n'" in parked["reason"]
    assert "hidden" not in parked["reason"]


def test_nobody_listens(station: Callable[..., Station]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    here = station(f"http://127.0.0.1:{port}/")
    here.hears("eurrob1")
    wait_until(lambda: here.count("sink_errors_total") >= 3)
    assert here.count("queue_events") == 1


def test_a_name_that_is_none(station: Callable[..., Station], caplog: pytest.LogCaptureFixture) -> None:
    here = station(f"http://{'a' * 70}.invalid/")
    here.hears("eurrob1")
    wait_until(lambda: here.count("sink_errors_total") >= 2)
    assert here.count("queue_events") == 1


@pytest.mark.fault("receivers that hang or drip", "given up in time, nothing lost")
@pytest.mark.parametrize("fate", [Fate(hangs=True), Fate(drip=0.05, body=b"x" * 1000), Fate(drip=0.05, cut=15)])
def test_a_receiver_that_hangs_or_drips_is_given_up_in_time(fate: Fate, station: Callable[..., Station]) -> None:
    with receiving(fates(fate, Fate())) as receiver:
        here = station(receiver.url, timeout_seconds=0.5)
        started = time.monotonic()
        here.hears("eurrob1")
        wait_until(lambda: here.count("queue_events") == 0, 5)
        assert time.monotonic() - started >= 0.5
        assert here.count("sink_errors_total") == 1 and receiver.repeats <= 1


def test_addresses_share_the_time(station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the second, which answers, is reached while there is time, and its answer counts."""
    real = socket.getaddrinfo

    def two(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if host != "two.example":
            return real(host, port, *rest, **named)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with receiving() as receiver, nobody_answers(receiver.port):
        here = station(f"http://two.example:{receiver.port}/detections", timeout_seconds=1.0)
        here.hears("eurrob1")
        wait_until(lambda: here.count("delivered_events_total") == 1, 5)
    assert (len(receiver.requests), here.count("sink_errors_total")) == (1, 0)


def test_nothing_is_sent_when_the_time_is_up(station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch) -> None:
    real, late = socket.getaddrinfo, threading.Event()

    def slowly(*given: Any, **named: Any) -> Any:
        if not late.is_set():
            time.sleep(0.3)
            late.set()
        return real(*given, **named)

    with receiving() as receiver:
        here = station(receiver.url, timeout_seconds=0.2)
        monkeypatch.setattr(socket, "getaddrinfo", slowly)
        here.hears("eurrob1")
        wait_until(lambda: here.count("delivered_events_total") == 1)
    assert (len(receiver.requests), here.count("sink_errors_total")) == (1, 1)


def test_an_answer_that_is_whole_counts_though_it_is_late(
    station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time may be up between the answer's last byte and the moment when it has been read."""
    read = http.client.HTTPResponse.read

    def slowly(answer: Any, *given: Any) -> bytes:
        said = read(answer, *given)
        time.sleep(0.4)
        return said

    monkeypatch.setattr(http.client.HTTPResponse, "read", slowly)
    with receiving() as receiver:
        here = station(receiver.url, timeout_seconds=0.3)
        here.hears("eurrob1")
        wait_until(lambda: here.count("delivered_events_total") == 1)
    assert (len(receiver.requests), here.count("sink_errors_total")) == (1, 0)


def test_an_answer_without_a_length_that_we_end_does_not_count(station: Callable[..., Station]) -> None:
    """It looks whole, as it would be where the receiver had ended it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = station(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_seconds=0.5)
        here.hears("eurrob1")
        connection, _ = server.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nso f")
            wait_until(lambda: here.count("sink_errors_total") >= 1)
        assert here.count("queue_events") == 1


def test_a_stop_does_not_wait_for_a_connection(station: Callable[..., Station]) -> None:
    with nobody_answers() as (host, port):
        here = station(f"http://{host}:{port}/", timeout_seconds=60, finish_seconds=60)
        here.hears("eurrob1")
        wait_until(lambda: here.node._delivery._transport._socket is not None)  # type: ignore[attr-defined]
        here.context.stopping.set()
        started = time.monotonic()
        here.node.close()
        assert time.monotonic() - started < 2
        wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("labous-http")], 2)


def test_a_stop_does_not_wait_for_a_receiver_that_hangs(station: Callable[..., Station]) -> None:
    with receiving(lambda: Fate(hangs=True)) as receiver:
        here = station(receiver.url, timeout_seconds=60, finish_seconds=60)
        here.hears("eurrob1")
        receiver.wait_for(lambda r: len(r.requests) == 1)
        here.context.stopping.set()
        started = time.monotonic()
        here.node.close()
        assert time.monotonic() - started < 2
        wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("labous-http")], 2)


def date(seconds: float) -> str:
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return email.utils.format_datetime(when, usegmt=True)


@pytest.mark.fault("Retry-After", "heeded within bounds")
@pytest.mark.parametrize(
    "status, headers, least, most",
    [
        (503, (("Retry-After", "1"),), 0.4, 0.9),
        (429, (("Retry-After", "99999999999999999999"),), 0.4, 0.9),
        # against the receiver's clock, which is ten years ahead, not ours
        (503, (("Date", date(315_360_000)), ("Retry-After", date(315_360_001))), 0.4, 0.9),
        (429, (("Date", date(315_360_000)), ("Retry-After", date(315_360_000))), 0.0, 0.35),
        (429, (("Retry-After", date(7200)),), 0.4, 0.9),
        (429, (("Retry-After", date(-7200)),), 0.0, 0.35),
        (429, (("Retry-After", "soon"),), 0.0, 0.35),
        (429, (("Retry-After", "-5"),), 0.0, 0.35),
        (429, (("Retry-After", "Mon, 99 Foo 99999 99:99:99 GMT"),), 0.0, 0.35),
    ],
)
def test_retry_after_is_heeded_within_bounds(
    status: int, headers: tuple[tuple[str, str], ...], least: float, most: float, station: Callable[..., Station]
) -> None:
    times: list[float] = []

    def fate() -> Fate:
        times.append(time.monotonic())
        return Fate(status=status, headers=headers) if len(times) == 1 else Fate()

    with receiving(fate) as receiver:
        here = station(receiver.url, retry_after_seconds=0.4)
        here.hears("eurrob1")
        receiver.wait_for(lambda r: len(r.kept) == 1)
    assert least <= times[1] - times[0] < most


def test_retry_after_in_seconds_is_heeded_whole(station: Callable[..., Station]) -> None:
    times: list[float] = []

    def fate() -> Fate:
        times.append(time.monotonic())
        return Fate(status=429, headers=(("Retry-After", "1"),)) if len(times) == 1 else Fate()

    with receiving(fate) as receiver:
        station(receiver.url).hears("eurrob1")
        receiver.wait_for(lambda r: len(r.kept) == 1)
    assert 1.0 <= times[1] - times[0] < 2.0


def test_a_redirect_on_the_same_host_is_followed(station: Callable[..., Station]) -> None:
    away = Fate(status=308, headers=(("Location", "/v2/detections?a=1"),))
    with receiving(fates(away, Fate())) as receiver:
        here = station(receiver.url)
        here.hears("eurrob1")
        receiver.wait_for(lambda r: len(r.kept) == 1)
        wait_until(lambda: here.count("queue_events") == 0)
    assert [request.target for request in receiver.requests] == ["/detections", "/v2/detections?a=1"]
    assert here.count("sink_errors_total") == 0


@pytest.mark.fault("a redirect to another host", "gets nothing")
def test_a_redirect_to_another_host_gets_nothing(
    station: Callable[..., Station], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with receiving() as other:
        elsewhere = (other.url, other.url.replace("localhost", "127.0.0.1"), "//evil.example/x", "ftp://localhost/")
        for n, there in enumerate(elsewhere):
            with receiving(lambda there=there: Fate(status=307, headers=(("Location", there),))) as receiver:  # type: ignore[misc]
                here = station(receiver.url, token_file=str(tmp_path / "token"), name=f"http-{n}")
                here.hears("eurrob1")
                wait_until(lambda here=here: here.count("sink_errors_total") >= 2)  # type: ignore[misc]
                assert here.count("queue_events") == 1
    assert other.requests == []
    assert "redirects to another host" in caplog.text
    assert TOKEN not in caplog.text


def test_redirects_in_a_circle_end(station: Callable[..., Station]) -> None:
    with receiving(lambda: Fate(status=307, headers=(("Location", "/detections"),))) as receiver:
        here = station(receiver.url)
        here.hears("eurrob1")
        wait_until(lambda: here.count("sink_errors_total") >= 1)
        assert len(receiver.requests) >= 4
        assert here.count("queue_events") == 1


def test_a_token_comes_from_a_file_that_may_be_renewed(
    station: Callable[..., Station], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with receiving() as receiver:
        here = station(receiver.url, token_file=str(tmp_path / "token"))
        here.hears("eurrob1")
        receiver.wait_for(lambda r: len(r.kept) == 1)
        (tmp_path / "token").unlink()
        here.hears("comcuc")
        wait_until(lambda: here.count("sink_errors_total") >= 1)
        (tmp_path / "token").write_text("renewed")
        receiver.wait_for(lambda r: len(r.kept) == 2)
    sent = [request.headers["authorization"] for request in receiver.requests]
    assert sent == [f"Bearer {TOKEN}", "Bearer renewed"]
    assert TOKEN not in caplog.text and "renewed" not in caplog.text


def test_a_token_comes_from_the_environment(station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABOUS_TEST_TOKEN", TOKEN)
    with receiving() as receiver:
        station(receiver.url, token_env="LABOUS_TEST_TOKEN").hears("eurrob1")
        receiver.wait_for(lambda r: len(r.kept) == 1)
    assert receiver.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "token", [TOKEN, "a\\b'c\"d&<e/f=" + "g" * 8, TOKEN * 4], ids=["plain", "odd", "longer than a sentence shows"]
)
@pytest.mark.parametrize(
    "fate",
    [
        lambda token: Fate(status=401, body=f"Bearer {token} is not known; {token}".encode()),
        lambda token: Fate(status=500, body=b"." * 190 + json.dumps({"said": f"Bearer {token}"}).encode()),
        lambda token: Fate(status=307, headers=(("Location", f"https://{quote(token, safe='')}.example/"),)),
        lambda token: Fate(status=307, headers=(("Location", f"//localhost:{quote(token, safe='')}/"),)),
        lambda token: Fate(status=f"2x{token}", keeps=False),
    ],
    ids=["401", "500", "host", "port", "status"],
)
def test_a_token_that_is_echoed_reaches_no_log_and_no_file(
    fate: Callable[[str], Fate], token: str, station: Callable[..., Station], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    (tmp_path / "token").write_text(token)
    with receiving(lambda: fate(token)) as receiver:
        here = station(receiver.url, token_file=str(tmp_path / "token"))
        here.hears("eurrob1")
        wait_until(lambda: here.count("sink_errors_total") >= 1 or here.count("parked_batches") == 1)
        wait_until(lambda: "Node http" in caplog.text)
    parked = list((tmp_path / "state" / "http-parked").glob("*.json"))
    said = caplog.text + "".join(path.read_text() for path in parked)
    assert receiver.requests and "Node http" in said
    for form in (token, quote(token, safe=""), json.dumps(token)[1:-1], ascii(token)[1:-1]):
        for length in (len(form), 12):
            assert form[:length] not in said
    for path in parked:
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_service_reads_the_copy_that_systemd_makes_of_a_token(
    station: Callable[..., Station], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "http-token").write_text(TOKEN + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "given"))
    with receiving() as receiver:
        station(receiver.url, token_file="/nowhere/token").hears("eurrob1")
        station(receiver.url, name="plain").hears("comcuc")
        receiver.wait_for(lambda r: len(r.kept) == 2)
    sent = {request.events[0]["subject"]: request.headers.get("authorization") for request in receiver.requests}
    assert sent == {"eurrob1": f"Bearer {TOKEN}", "comcuc": None}


@pytest.mark.parametrize("text", ["", "two words", "line\nline", "Größe", "\x1b[31m"])
def test_a_token_that_cannot_be_sent_is_an_error_that_does_not_show_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(NodeError, match="must be one word of ASCII characters") as caught:
        Station(tmp_path / "state", "https://localhost/", token_file=str(tmp_path / "token"))
    assert not text or text not in str(caught.value)


def test_files_that_are_missing_are_told_and_looked_for_beside_the_pipeline_file(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=r"token cannot be read from the file 'nowhere/token': No such file"):
        Station(tmp_path, "https://localhost/", token_file="nowhere/token")
    with pytest.raises(NodeError, match=r"The certificates in 'ca\.pem' cannot be used .*No such file"):
        Station(tmp_path, "https://localhost/", ca_file="ca.pem")
    here = context(tmp_path, folder=tmp_path)
    (tmp_path / "token").write_text(TOKEN)
    node = options(Http, url="https://localhost/", token_file="token").open(here)
    node.close()


def test_a_token_over_a_plain_connection_is_warned_of(
    station: Callable[..., Station], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    station("http://birds.invalid/", token_file=str(tmp_path / "token"))
    assert "crosses the network readable; use https" in caplog.text


@pytest.mark.fault("a wrong certificate", "gets nothing; the right one everything")
def test_tls_is_verified(
    station: Callable[..., Station], made: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    wrong = Fate(wrong_certificate=True)
    with receiving(fates(wrong, wrong, Fate()), contexts(made)) as receiver:
        here = station(receiver.url, ca_file=str(made["good"]))
        here.hears("eurrob1")
        receiver.wait_for(lambda r: len(r.kept) == 1)
    assert len(receiver.requests) == 1, "nothing was sent to the wrong one"
    assert here.count("sink_errors_total") == 2
    assert "certificate verify failed" in caplog.text.lower()


@pytest.mark.fault("a stranger's certificate", "gets nothing")
def test_the_system_s_authorities_do_not_vouch_for_a_stranger(
    station: Callable[..., Station], made: dict[str, Path]
) -> None:
    with receiving(Fate, contexts(made)) as receiver:
        here = station(receiver.url)
        here.hears("eurrob1")
        wait_until(lambda: here.count("sink_errors_total") >= 2)
        assert receiver.requests == [] and here.count("queue_events") == 1


@pytest.mark.fault("a certificate for another host", "gets nothing")
def test_a_certificate_for_another_host_is_refused(station: Callable[..., Station], made: dict[str, Path]) -> None:
    tls = contexts(made)
    with receiving(Fate, tls) as receiver:
        here = station(receiver.url.replace("localhost", "127.0.0.2"), ca_file=str(made["good"]))
        here.hears("eurrob1")
        wait_until(lambda: here.count("sink_errors_total") >= 2)
        assert receiver.requests == []


def test_a_tls_receiver_that_hangs_is_left_when_the_station_stops(
    station: Callable[..., Station], made: dict[str, Path]
) -> None:
    with receiving(lambda: Fate(hangs=True), contexts(made)) as receiver:
        here = station(receiver.url, ca_file=str(made["good"]), timeout_seconds=60)
        here.hears("eurrob1")
        receiver.wait_for(lambda r: len(r.requests) == 1)
        here.context.stopping.set()
        started = time.monotonic()
        here.node.close()
        assert time.monotonic() - started < 2
        wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("labous-http")], 2)


@pytest.mark.slow
def test_comes_back_after_ten_thousand_queued(station: Callable[..., Station], counted: Counted) -> None:
    down = threading.Event()
    down.set()

    def fate() -> Fate:
        return Fate(reset=True) if down.is_set() else Fate()

    with receiving(fate) as receiver:
        here = station(receiver.url, batch_events=500)
        species = [f"sp{n}" for n in range(100)]
        ids = {o.id for n in range(100) for o in here.hears(*species, at=float(n))}
        assert len(ids) == here.count("queue_events") == 10_000
        down.clear()
        (late,) = here.hears("late", at=1000.0)
        at = len(receiver.requests)
        receiver.wait_for(lambda r: len(r.kept) == 10_001, 60)
        wait_until(lambda: here.count("queue_events") == 0)
    assert set(receiver.kept) == {late.id, *ids} and receiver.repeats == 0
    first = next(n for n, request in enumerate(receiver.requests) if late.id in {e["id"] for e in request.events})
    assert first - at <= 2, "one under way when it came, one of the oldest, its own"
    failures = here.count("sink_errors_total")
    counted(
        "back after 10,000 were queued",
        f"{failures:.0f} attempts while it was down; then 10,001 arrived in {len(receiver.requests)} batches, 0 twice, "
        f"0 lost, the newest with batch {first + 1}",
    )
    assert here.count("delivered_events_total") == 10_001 and here.count("lost_events_total") == 0


def test_two_nodes_of_one_kind_need_two_names(station: Callable[..., Station]) -> None:
    with receiving() as one, receiving() as other:
        here = station(one.url)
        with pytest.raises(NodeError, match="give each node of one kind a name of its own"):
            station(other.url)
        there = station(other.url, name="http-other")
        for each in (here, there):
            each.hears("eurrob1")
        one.wait_for(lambda r: len(r.kept) == 1)
        other.wait_for(lambda r: len(r.kept) == 1)
    assert there.context.counters.read()['queue_bytes{node="http-other"}'] is not None


@pytest.mark.parametrize(
    "keys, key",
    [
        ({"url": "ftp://host/"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http:///path"}, "url"),
        ({"url": "http://host:99999/"}, "url"),
        ({"url": "http://[::1/"}, "url"),
        ({"url": "https://user:password@host/"}, "url"),
        ({"url": "https://host/a b"}, "url"),
        ({"url": "https://host/\r\nX: y"}, "url"),
        ({"url": "https://host/", "token_file": "a", "token_env": "B"}, "token_env"),
        ({"url": "https://host/", "name": "../up"}, "name"),
        ({"url": "https://host/", "when_full": "explode"}, "when_full"),
        ({}, "url"),
    ],
)
def test_options_that_cannot_be_are_refused(keys: dict[str, Any], key: str) -> None:
    with pytest.raises(Refused) as caught:
        options(Http, **keys)
    assert caught.value.key == key
    assert "password@" not in str(caught.value)
