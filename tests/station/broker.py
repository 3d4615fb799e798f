"""A real mosquitto for tests, and a client of it that hears everything."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from tests.station.deliveries import wait_until
from tests.station.needs import need

PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Broker:
    """A mosquitto that can be started, killed and listened to."""

    def __init__(self, folder: Path, lines: tuple[str, ...] = ("allow_anonymous true",)) -> None:
        need(PROGRAM, "the program mosquitto", "MQTT")
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            "\n".join((f"listener {self.port} 127.0.0.1", "log_type none", "user root", *lines)) + "\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([str(PROGRAM), "-c", str(self._config)], stderr=subprocess.DEVNULL)

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        wait_until(listens)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Listener:
    """What a broker gives to those who ask for everything."""

    def __init__(self, port: int) -> None:
        import paho.mqtt.client

        self.messages: list[tuple[str, bytes, bool]] = []
        ready = threading.Event()
        self._client = paho.mqtt.client.Client(paho.mqtt.client.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = lambda _c, _d, m: self.messages.append((m.topic, bytes(m.payload), m.retain))
        self._client.reconnect_delay_set(0.05, 0.05)  # type: ignore[arg-type]
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(10)

    def of(self, beginning: str) -> list[tuple[str, bytes, bool]]:
        return [message for message in list(self.messages) if message[0].startswith(beginning)]

    def ids(self, station: str = "garden.1") -> list[str]:
        return [json.loads(payload)["id"] for _, payload, _ in self.of(f"labous/{station}/detections/")]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
