"""Counters for Prometheus, over HTTP on this machine's own address alone."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from labous.errors import PipelineError

_NAME = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})?")
_PATIENCE_SECONDS = 2.0  # one slow reader holds up the next for no longer, and the end not at all


def exposition(values: Mapping[str, float]) -> str:
    """Numbers as Prometheus's text format has them, each name with ``labous_`` before it.

    Args:
        values: by names as :class:`labous.station.counters.Counters` has them; what Prometheus could not read is left
            out.
    """
    families: dict[str, list[str]] = {}
    for name, value in values.items():
        parts = _NAME.fullmatch(name)
        if parts is None:
            continue
        lines = families.setdefault(f"labous_{parts[1]}", [])
        lines.append(f"labous_{parts[1]}{parts[2] or ''} {value:.17g}\n")
    return "".join(
        f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n{''.join(lines)}"
        for name, lines in families.items()
    )


@contextlib.contextmanager
def served(port: int, read: Callable[[], Mapping[str, float]]) -> Iterator[int]:
    """Answer ``GET /metrics`` on 127.0.0.1 in a thread of its own while entered; gives the port.

    Raises:
        PipelineError: the port is taken.
    """
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        server_version, sys_version = "labous", ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            body = exposition(read()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Who reads numbers is no news."""

    class Server(http.server.HTTPServer):
        reader: socket.socket | None = None
        ending = False

        def process_request(self, request: Any, client_address: Any) -> None:
            self.reader = request
            limit = threading.Timer(_PATIENCE_SECONDS, self.cut)
            limit.name, limit.daemon = "labous-metrics-limit", True
            limit.start()
            try:
                if self.ending:
                    self.shutdown_request(request)
                else:
                    super().process_request(request, client_address)
            finally:
                limit.cancel()
                self.reader = None

        def cut(self) -> None:
            reader = self.reader
            if reader is not None:
                with contextlib.suppress(OSError):  # it has just gone
                    reader.shutdown(socket.SHUT_RDWR)

        def handle_error(self, *_: object) -> None:
            """A reader that went away is no news either."""

    try:
        server = Server(("127.0.0.1", port), Handler)
    except OSError as error:
        raise PipelineError(
            f"Port {port} for Prometheus cannot be had ({error.strerror}); set another station.metrics_port."
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="labous-metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.ending = True
        server.cut()
        server.shutdown()
        server.server_close()
        thread.join(_PATIENCE_SECONDS)
