"""A local web server for the tests of downloads: what it is asked is kept, and what it answers a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    """What a client asked for."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What it gets: all of `body`, or `cut` bytes of it before the connection is closed."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass
class Server:
    """Its address, and the requests so far."""

    url: str
    requests: list[Request] = field(default_factory=list)

    def asked(self, method: str, beginning: str) -> list[Request]:
        return [request for request in self.requests if request.method == method and request.path.startswith(beginning)]


def file_answer(request: Request, data: bytes, etag: str, cut: int | None = None) -> Answer:
    """A file as storage servers send it: in ranges where they are asked for, and the file is still the same."""
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Last-Modified": "Thu, 01 Apr 2021 12:00:00 GMT"}
    wanted = request.headers.get("range", "")
    if wanted and request.headers.get("if-range", etag) == etag:
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            return Answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return Answer(206, data[start:], headers, cut)
    return Answer(200, data, headers, cut)


@contextmanager
def serving(answer: Callable[[Request], Answer]) -> Iterator[Server]:
    """A server on this machine for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {key.lower(): value for key, value in self.headers.items()}
            request = Request(self.command, parts.path, query, headers, body)
            server.requests.append(request)
            said = answer(request)
            self.send_response(said.status)
            for key, value in {"Content-Length": str(len(said.body)), **said.headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(said.body if said.cut is None else said.body[: said.cut])
            self.close_connection = True

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Server(f"http://127.0.0.1:{http.server_address[1]}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
