"""Observations to a web address: CloudEvents in JSON batches, from a queue on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import email.message
import email.utils
import gzip
import html
import http.client
import io
import json
import logging
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Sequence
from typing import Any

from labous._version import __version__
from labous.errors import NodeError
from labous.nodes import Context
from labous.options import Refused, option, shown
from labous.station.delivery import Queueing, Rejected, Sink, Unavailable, named, secret, trusted
from labous.station.queue_file import Event

_LOG = logging.getLogger(__name__)
_MAX_ANSWER = 65_536
_MAX_REDIRECTS = 3
_LATER = (408, 425, 429)
_SAME_AGAIN = (307, 308)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Http(Queueing):
    """Sends observations to a web address, as POST requests with CloudEvents 1.0 batches (JSON) of Darwin Core terms.

    An observation is on disk before it is sent, and leaves only when the receiver answers with 2xx, so that it may
    arrive twice, but not never: receivers drop repeats by ``id``. Batches that the receiver refuses (4xx other than
    408, 425 and 429) are kept as JSON files in ``NAME-parked`` in the station's state directory, ``events`` in them
    being what to send again. Retry-After is heeded; redirects (307, 308) are followed on the same host only.
    """

    url: str = option(
        "http:// or https:// address that takes the events, without a password", pattern=r"https?://[!-~]+"
    )
    name: str = named("http")
    token_file: str | None = option("path of a file that holds the bearer token", None, least=1, names="secret")
    token_env: str | None = option(
        "environment variable that holds the bearer token", None, least=1, names="environment"
    )
    ca_file: str | None = option(
        "path of the certificates (PEM) that vouch for the server, instead of the system's",
        None,
        least=1,
        names="reads",
    )
    gzip: bool = option("whether requests are compressed", True)
    retry_after_seconds: float = option(
        "the longest pause that a receiver's Retry-After may ask for, s", 3600.0, minimum=0, maximum=604_800
    )

    def __post_init__(self) -> None:
        """Check what keys mean together."""
        try:
            address = urllib.parse.urlsplit(self.url)
            usable = bool(address.hostname) and address.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise Refused("url", "is no address: it needs a host, and a port from 1 to 65535 if any.")
        if address.username is not None or address.password is not None:
            raise Refused(
                "url", "holds a user or password; leave them out, and give a token by token_file or token_env."
            )
        if self.token_file is not None and self.token_env is not None:
            raise Refused("token_env", "cannot stand beside token_file: the token comes from one of them.")

    def untried(self) -> str:
        """Whether there is a server."""
        return f"whether {shown(urllib.parse.urlsplit(self.url).netloc)} takes them"

    def open(self, context: Context) -> Sink:
        """The node; its queue is the file ``NAME.sqlite``.

        Raises:
            NodeError: the token, the certificates or the queue cannot be used.
        """
        return Sink(Post(self, context), self, context)


class _Lines(io.BufferedReader):
    """Bytes whose lines are whole: http.client takes a header that breaks off for one that ends."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n"):
            raise http.client.IncompleteRead(line)
        return line


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp = _Lines(self.fp.detach())


class Post:
    """Sends batches by HTTP.

    Raises:
        NodeError: the token or the certificates cannot be read.
    """

    def __init__(self, options: Http, context: Context) -> None:
        self._options = options
        self._token_file = None if options.token_file is None else context.path(options.token_file)
        self._tls = trusted(None if options.ca_file is None else context.path(options.ca_file))
        self._socket: socket.socket | None = None
        self._ends_at = 0.0  # monotonic, s
        self._cut = self._late = False
        self._hidden: tuple[str, ...] = ()  # what no sentence may have in it
        address = urllib.parse.urlsplit(options.url)
        token = secret(options.name, self._token_file, options.token_env, "token")
        if token is not None and address.scheme == "http" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
            _LOG.warning("Node %s: the token crosses the network readable; use https.", options.name)

    def send(self, events: Sequence[Event]) -> None:
        """Post a batch; the whole of it may take ``timeout_seconds``.

        Raises:
            Unavailable: it has not been acknowledged.
            Rejected: it has been refused for good.
        """
        timer = threading.Timer(self._options.timeout_seconds, self._expire)
        timer.name, timer.daemon = f"labous-{self._options.name}-timeout", True
        self._cut = self._late = False
        self._ends_at = time.monotonic() + self._options.timeout_seconds
        timer.start()
        try:
            body = b"[%b]" % b",".join(event.body for event in events)
            self._follow(gzip.compress(body, 6, mtime=0) if self._options.gzip else body)
        except (OSError, http.client.HTTPException, ValueError, NodeError) as error:
            # ValueError: an address that a redirect gives; NodeError: the token's file is gone
            told = f"no answer within {self._options.timeout_seconds:g} s" if self._late else self._told(error)
            raise Unavailable(f"{self._host()} cannot be reached ({told})") from error
        finally:
            timer.cancel()

    def abort(self) -> None:
        """End the connection that is open, or being made."""
        self._cut = True
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):  # it has just been closed
                # not SSLSocket's own, which would take the TLS state away under the thread that reads
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def close(self) -> None:
        """Nothing: each request has a connection of its own."""

    def _expire(self) -> None:
        self._late = True
        self.abort()

    def _follow(self, body: bytes) -> None:
        url = self._options.url
        for _ in range(_MAX_REDIRECTS + 1):
            status, headers, said = self._request(url, body)
            if 200 <= status < 300:
                return
            if status in _SAME_AGAIN and "Location" in headers:
                there = urllib.parse.urljoin(url, headers["Location"])
                if not _same_host(url, there):
                    other = self._shown(urllib.parse.urlsplit(there).netloc)
                    raise Unavailable(f"{self._host()} redirects to another host, {other}, which gets nothing")
                url = there
                continue
            told = f"{self._host()} answers {status}{said and ' '}{said}"
            if 400 <= status < 500 and status not in _LATER:
                raise Rejected(told)
            raise Unavailable(told, _retry_after(headers, self._options.retry_after_seconds))
        raise Unavailable(f"{self._host()} redirects in a circle")

    def _request(self, url: str, body: bytes) -> tuple[int, email.message.Message, str]:
        """The answer's status, its headers, and for a sentence the beginning of what it says."""
        options = self._options
        address = urllib.parse.urlsplit(url)
        connection = (
            http.client.HTTPSConnection(address.hostname or "", address.port, context=self._tls)
            if address.scheme == "https"
            else http.client.HTTPConnection(address.hostname or "", address.port)
        )
        target = urllib.parse.urlunsplit(("", "", address.path or "/", address.query, ""))
        headers = {
            "Content-Type": "application/cloudevents-batch+json; charset=utf-8",
            "User-Agent": f"labous/{__version__}",
            "Connection": "close",
        }
        if options.gzip:
            headers["Content-Encoding"] = "gzip"
        # each time: it may be renewed while we run
        token = secret(options.name, self._token_file, options.token_env, "token")
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
            self._hidden = _forms(token)
        try:
            connection.response_class = _Answer
            connection.sock = self._connected(connection.host, connection.port, address.scheme == "https")
            connection.request("POST", target, body, headers)
            answer = connection.getresponse()
            tells_its_end = answer.chunked or answer.length is not None
            said = answer.read(_MAX_ANSWER)
            if answer.length and len(said) < _MAX_ANSWER:
                raise http.client.IncompleteRead(said, answer.length)
            if not tells_its_end:  # then it also seems to end where we have ended it
                self._go_on()
            told = "" if answer.status < 400 else self._shown(said.decode("utf-8", "replace"))
            return answer.status, answer.headers, told
        finally:
            self._socket = None
            connection.close()

    def _connected(self, host: str, port: int, encrypted: bool) -> socket.socket:
        """A connection to the first of a host's addresses that takes one; they share the time that is left."""
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        trouble: OSError = TimeoutError("it has no address")
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            self._go_on()
            self._socket = made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(max(0.001, self._ends_at - time.monotonic()) / (len(addresses) - number))
                made.connect(address)
            except OSError as error:
                made.close()
                trouble = error
                continue
            try:
                if encrypted:
                    self._socket = made = self._tls.wrap_socket(
                        made, server_hostname=host, do_handshake_on_connect=False
                    )
                made.settimeout(max(0.001, self._ends_at - time.monotonic()))
                if isinstance(made, ssl.SSLSocket):
                    made.do_handshake()
                self._go_on()
            except BaseException:
                made.close()
                raise
            return made
        raise trouble

    def _go_on(self) -> None:
        """Raise, where the time is up or the station stops: what is sent from then on would be sent in vain."""
        if self._cut:
            raise TimeoutError("the station stops")

    def _shown(self, text: str) -> str:
        """What a stranger says, for a sentence: without the token, which some say again."""
        for form in self._hidden:
            text = text.replace(form, "…")
        return shown(text[:200])

    def _told(self, error: BaseException) -> str:
        """An error for a sentence."""
        if isinstance(error, NodeError):
            return str(error)
        if isinstance(error, http.client.IncompleteRead):
            return "the answer broke off"
        return self._shown(getattr(error, "strerror", None) or str(error) or type(error).__name__)

    def _host(self) -> str:
        """The beginning of the address, for sentences; the rest may hold a key."""
        address = urllib.parse.urlsplit(self._options.url)
        return f"{address.scheme}://{address.netloc}"


def _same_host(url: str, there: str) -> bool:
    """Whether a redirect stays on its host and port, or goes from http to https on the same host."""
    old, new = urllib.parse.urlsplit(url), urllib.parse.urlsplit(there)
    if old.hostname != new.hostname or new.username is not None:
        return False
    if (old.scheme, new.scheme) == ("http", "https"):
        return True
    return old.scheme == new.scheme and _port(old) == _port(new)


def _port(address: urllib.parse.SplitResult) -> int:
    return address.port or (443 if address.scheme == "https" else 80)


def _retry_after(headers: email.message.Message, most: float) -> float:
    """How long the receiver asks to be left alone, s, at most ``most``; 0 if it does not ask."""
    text = str(headers.get("Retry-After", "")).strip()
    if re.fullmatch(r"[0-9]+", text):
        return min(float(text[:9]), most)
    try:
        # against the receiver's own clock where it tells it: ours may be wrong
        now = _date(headers["Date"]) if "Date" in headers else datetime.datetime.now(datetime.timezone.utc)
        return min(max(0.0, (_date(text) - now).total_seconds()), most)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


def _date(text: str) -> datetime.datetime:
    found = email.utils.parsedate_to_datetime(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=datetime.timezone.utc)


def _forms(token: str) -> tuple[str, ...]:
    """A token as a page, a JSON text, an address or Python would repeat it, the longest first."""
    forms = {token, json.dumps(token)[1:-1], ascii(token)[1:-1], urllib.parse.quote(token, safe=""), html.escape(token)}
    return tuple(sorted(forms, key=len, reverse=True))
