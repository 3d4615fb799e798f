"""A receiver of CloudEvents batches that does, connection by connection, what a test says: takes them, or fails."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Fate:
    """What becomes of one connection.

    Attributes:
        status, headers, body: the answer's.
        keeps: whether the events are kept; by default, where the status says so.
        cut: how many bytes of the answer are sent before the connection ends.
        reset: the connection is reset before anything is read.
        hangs: no answer comes, until the client or the test goes away.
        drip: the answer comes a byte at a time, this many seconds apart.
        wrong_certificate: where the receiver speaks TLS, one that nobody vouches for.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    keeps: bool | None = None
    cut: int | None = None
    reset: bool = False
    hangs: bool = False
    drip: float | None = None
    wrong_certificate: bool = False


@dataclasses.dataclass(frozen=True)
class Request:
    """What a client sent."""

    target: str
    headers: dict[str, str]
    events: list[dict[str, Any]]


class Receiver:
    """Its address, what it was sent, and what it has."""

    def __init__(self, fate: Callable[[], Fate], tls: Sequence[ssl.SSLContext] | None) -> None:
        self.fate = fate
        self.requests: list[Request] = []
        self.kept: dict[str, dict[str, Any]] = {}  # by id, so that repeats are dropped
        self.repeats = 0
        self._tls = tls
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://localhost:{self.port}/detections"

    def wait_for(self, condition: Callable[[Receiver], bool], seconds: float = 20) -> None:
        """Wait until something is so after a request; fail if it takes too long."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), seconds), (
                f"not so within {seconds} s: {len(self.requests)} requests, {len(self.kept)} events"
            )

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, self.fate()), daemon=True).start()

    def end(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, connection: socket.socket, fate: Fate) -> None:
        # a client that goes away at any moment is what is being tested
        with contextlib.suppress(OSError, ValueError, EOFError), connection:
            if fate.reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            connection.settimeout(30)
            if self._tls is None:
                self._answer(connection, fate)
            else:
                with self._tls[fate.wrong_certificate].wrap_socket(connection, server_side=True) as encrypted:
                    self._answer(encrypted, fate)

    def _answer(self, connection: socket.socket, fate: Fate) -> None:
        with connection.makefile("rb") as incoming:
            first = incoming.readline().split()
            if len(first) != 3:
                return
            target = first[1].decode()
            headers = {}
            while line := incoming.readline().strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            body = incoming.read(length := int(headers["content-length"]))
        if len(body) < length:
            return
        events = json.loads(gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body)
        with self._changed:
            if fate.keeps if fate.keeps is not None else 200 <= fate.status < 300:
                for event in events:
                    self.repeats += event["id"] in self.kept
                    self.kept[event["id"]] = event
            self.requests.append(Request(target, headers, events))
            self._changed.notify_all()
        if fate.hangs:
            self._over.wait(30)
            return
        lines = [f"HTTP/1.1 {fate.status} So", f"Content-Length: {len(fate.body)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in fate.headers]
        answer = ("\r\n".join(lines) + "\r\n\r\n").encode() + fate.body
        answer = answer[: fate.cut]
        if fate.drip is None:
            connection.sendall(answer)
        else:
            for byte in answer:
                connection.sendall(bytes([byte]))
                if self._over.wait(fate.drip):
                    return


@contextlib.contextmanager
def receiving(fate: Callable[[], Fate] = Fate, tls: Sequence[ssl.SSLContext] | None = None) -> Iterator[Receiver]:
    """A receiver on this machine for as long as the block lasts; ``tls`` are its right and its wrong certificate."""
    receiver = Receiver(fate, tls)
    thread = threading.Thread(target=receiver.accept, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.end()
        thread.join()
