"""Observations to an MQTT broker, from a queue on disk, with Home Assistant's discovery."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import ssl
import threading
import time
import urllib.parse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labous._version import __version__
from labous.errors import NodeError
from labous.nodes import Context
from labous.options import Refused, option, shown
from labous.station.delivery import Queueing, Sink, Unavailable, named, secret, trusted
from labous.station.queue_file import Event

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_TOPIC = r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*"
_IDLE_SECONDS = 0.25
_BUSY_SECONDS = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mqtt(Queueing):
    """Sends observations to an MQTT broker (3.1.1), each a CloudEvent of Darwin Core terms, with QoS 1.

    An observation is on disk before it is sent, and leaves only when the broker has acknowledged it, so that it may
    arrive twice, but not never. It is published to ``TOPIC/STATION/detections/SPECIES``, where SPECIES is the eBird
    code; ``TOPIC/STATION/status`` is retained and says ``online`` or, by the last will as well, ``offline``.
    """

    host: str = option("the broker's name or address", pattern=r"[A-Za-z0-9.:_-]+")
    port: int | None = option("the broker's; 1883, or 8883 with tls, if left out", None, minimum=1, maximum=65535)
    name: str = named("mqtt")
    topic: str = option("what topics begin with: levels of letters, digits, dots, dashes", "labous", pattern=_TOPIC)
    username: str | None = option("for the broker", None, least=1)
    password_file: str | None = option("path of a file that holds the password", None, least=1, names="secret")
    password_env: str | None = option(
        "environment variable that holds the password", None, least=1, names="environment"
    )
    tls: bool = option("whether the connection is encrypted, and the broker's certificate verified", False)
    ca_file: str | None = option(
        "path of the certificates (PEM) that vouch for the broker, instead of the system's",
        None,
        least=1,
        names="reads",
    )
    keepalive_seconds: int = option("after how much silence the broker is asked whether it lives, s", 60, minimum=5)
    discovery: bool = option("whether Home Assistant is told of the station", True)
    discovery_prefix: str = option("what Home Assistant's discovery topics begin with", "homeassistant", pattern=_TOPIC)

    def __post_init__(self) -> None:
        """Check what keys mean together."""
        if self.password_file is not None and self.password_env is not None:
            raise Refused("password_env", "cannot stand beside password_file: the password comes from one of them.")
        for key in ("password_file", "password_env"):
            if getattr(self, key) is not None and self.username is None:
                raise Refused("username", f"is missing: {key} is there.")
        if self.ca_file is not None and not self.tls:
            raise Refused("tls", "must be true where ca_file is given.")

    def untried(self) -> str:
        """Whether there is a broker."""
        return f"whether {shown(self.host)} takes them"

    def check(self, context: Context) -> None:
        """Try all but the broker.

        Raises:
            NodeError: see :meth:`open`.
        """
        self.means(context)

    def means(self, context: Context) -> tuple[Any, ssl.SSLContext | None]:
        """paho.mqtt.client, and what verifies the broker's certificate, if anything.

        Raises:
            NodeError: paho-mqtt is missing, or the password or the certificates cannot be used.
        """
        try:
            import paho.mqtt.client
        except ImportError as error:
            raise NodeError("The node mqtt needs paho-mqtt; install it with pip install 'labous[mqtt]'.") from error
        self.password(context)
        ca_file = None if self.ca_file is None else context.path(self.ca_file)
        return paho.mqtt.client, trusted(ca_file) if self.tls else None

    def password(self, context: Context) -> str | None:
        """What the broker wants to hear, if anything.

        Raises:
            NodeError: it cannot be read.
        """
        file = None if self.password_file is None else context.path(self.password_file)
        return secret(self.name, file, self.password_env, "password")

    def open(self, context: Context) -> Sink:
        """The node; its queue is the file ``NAME.sqlite``.

        Raises:
            NodeError: paho-mqtt is missing, or the password, the certificates or the queue cannot be used.
        """
        return Sink(Publisher(self, context), self, context)


class _Job:
    """A batch on its way, from the thread that sends to the one that speaks with the broker."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.sent: list[Any] | None = None  # of paho.mqtt.client.MQTTMessageInfo
        self.over = threading.Event()
        self.trouble: str | None = None

    def end(self, trouble: str | None = None) -> None:
        self.trouble = trouble
        self.over.set()


class Publisher:
    """Publishes batches from a thread that keeps the connection, so that the broker knows that the station lives.

    Each connection has a client of its own: one that is kept would send again by itself what is sent again from disk.

    Raises:
        NodeError: paho-mqtt is missing, or the password or the certificates cannot be read.
    """

    def __init__(self, options: Mqtt, context: Context) -> None:
        self._paho, self._tls = options.means(context)
        self._options, self._context = options, context
        self._station = context.station.name
        self._topic = f"{options.topic}/{self._station}"
        self._changed = threading.Condition()
        self._job: _Job | None = None
        self._stop = self._online = False
        self._thread = threading.Thread(target=self._run, name=f"labous-{options.name}-network", daemon=True)
        self._thread.start()

    def send(self, events: Sequence[Event]) -> None:
        """Publish a batch; all acknowledgments may take ``timeout_seconds`` together.

        Raises:
            Unavailable: not all have been acknowledged.
        """
        job = _Job(events)
        with self._changed:
            self._job = job
            self._changed.notify()
        if not job.over.wait(self._options.timeout_seconds):
            job.end(f"no acknowledgment within {self._options.timeout_seconds:g} s")
        if job.trouble is not None:
            raise Unavailable(f"the broker {self._options.host} has not taken them ({job.trouble})")

    def abort(self) -> None:
        """End what is being sent."""
        with self._changed:
            if self._job is not None:
                self._job.end("the station stops")

    def close(self) -> None:
        """Tell that the station goes offline, and disconnect."""
        with self._changed:
            self._stop = True
            self._changed.notify()
        if self._online:  # a thread that still connects has told nobody so, and holds nothing
            self._thread.join(1)

    def _run(self) -> None:
        failures = 0
        while not self._stop:
            client, greeted = self._client()
            try:
                trouble = self._connected(client, greeted)
            except (
                Exception
            ) as error:  # of the network, of paho's reading of what a broker sends, of the password's file
                trouble = shown(str(error) or type(error).__name__)
            failures = 0 if greeted.is_set() else failures + 1
            options = self._options
            pause = random.uniform(
                0, min(options.retry_limit_seconds, options.retry_seconds * 2.0 ** min(failures, 32))
            )
            with self._changed:
                if self._job is not None:
                    self._job.end(trouble)
                    self._job = None
                # a new batch is a reason to try at once; how often there is one, delivery decides
                self._changed.wait_for(lambda: self._stop or self._job is not None, pause)

    def _connected(self, client: Client, greeted: threading.Event) -> str:
        """Connect, and do all there is to do until the connection ends; why it has."""
        options = self._options
        client.connect(options.host, options.port or (8883 if options.tls else 1883), options.keepalive_seconds)
        self._online = True
        try:
            while not self._stop:
                with self._changed:
                    job = self._job
                    if job is not None and job.over.is_set():
                        return "a batch was given up"
                if job is not None and greeted.is_set():
                    if job.sent is None:
                        job.sent = [self._publish(client, event) for event in job.events]
                    if all(info.is_published() for info in job.sent):
                        with self._changed:
                            job.end(job.trouble)
                            self._job = None
                        continue
                code = client.loop(_IDLE_SECONDS if job is None else _BUSY_SECONDS)
                if code != self._paho.MQTT_ERR_SUCCESS:
                    return self._paho.error_string(code)
            self._say_goodbye(client)
            return "the station stops"
        finally:
            with contextlib.suppress(OSError, ValueError):
                client.disconnect()
            self._online = False

    def _publish(self, client: Client, event: Event) -> Any:
        subject = str(json.loads(event.body).get("subject") or "_")
        level = urllib.parse.quote(subject[:100], safe="", errors="replace")  # no / + # nor control characters
        return client.publish(f"{self._topic}/detections/{level}", event.body, qos=1)

    def _say_goodbye(self, client: Client) -> None:
        """The will is only for those who leave without a word."""
        said = client.publish(f"{self._topic}/status", "offline", qos=1, retain=True)
        until = time.monotonic() + 0.5
        while not said.is_published() and time.monotonic() < until:
            if client.loop(_BUSY_SECONDS) != self._paho.MQTT_ERR_SUCCESS:
                return

    def _client(self) -> tuple[Client, threading.Event]:
        """A client, not yet connected; and what is set when the broker has welcomed it."""
        options = self._options
        greeted = threading.Event()
        client = self._paho.Client(
            self._paho.CallbackAPIVersion.VERSION2, f"labous-{self._station}-{options.name}", reconnect_on_failure=False
        )
        client.connect_timeout = min(options.timeout_seconds, 10.0)
        if options.username is not None:
            client.username_pw_set(options.username, options.password(self._context))
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.will_set(f"{self._topic}/status", "offline", qos=1, retain=True)

        def greet(client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if not reason.is_failure:
                client.publish(f"{self._topic}/status", "online", qos=1, retain=True)
                if options.discovery:
                    client.publish(*self._discovery(), qos=1, retain=True)
                greeted.set()

        client.on_connect = greet
        return client, greeted

    def _discovery(self) -> tuple[str, str]:
        """Topic and content of what tells Home Assistant about the station's last bird."""
        identity = f"labous_{self._station}"
        of_a_topic = identity.replace(".", "_2E")  # Home Assistant takes no dots there
        value = {
            "name": "Last bird",
            "unique_id": f"{identity}_last_bird",
            "state_topic": f"{self._topic}/detections/+",
            "value_template": "{{ value_json.data.vernacularName[:255] }}",
            "json_attributes_topic": f"{self._topic}/detections/+",
            "json_attributes_template": "{{ value_json.data | tojson }}",
            "availability_topic": f"{self._topic}/status",
            "force_update": True,
            "icon": "mdi:bird",
            "device": {
                "identifiers": [identity],
                "name": self._station,
                "manufacturer": "Labous",
                "sw_version": __version__,
            },
            "origin": {"name": "labous", "sw_version": __version__},
        }
        return f"{self._options.discovery_prefix}/sensor/{of_a_topic}/last_bird/config", json.dumps(value)
