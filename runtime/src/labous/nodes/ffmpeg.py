"""Anything that ffmpeg reads: network cameras, radio streams, files."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import urllib.parse

from labous.errors import NodeError
from labous.formats import printable
from labous.nodes import Context
from labous.options import Refused, option
from labous.station import pipe
from labous.station.buffer import Buffer
from labous.station.capture import LIVE, Live, LiveOptions, again_and_again

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^/?#]*)@)?"
    r"(?P<host>(?:\[[^\]/?#]*\]|[^:/?#@\[\]]*)(?P<port>:\d*)?)(?P<path>/[^?#]*)?(?P<rest>[?#].*)?",
    re.DOTALL,
)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]*[^\s'\".,:;)]")  # in what ffmpeg says
_SHORTHAND = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:.*[/?@]", re.DOTALL)  # which ffmpeg takes for an address as well
_SHORTEST_SECRET = 4  # of a value in a path or query: shorter ones are in many words
_RTSP = ("-rtsp_transport", "tcp")  # over UDP, most networks lose packets, and ffmpeg goes on without them
_PARTING_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ffmpeg(LiveOptions):
    """Sound from anything that the program ffmpeg reads: an RTSP camera, a web radio, a file.

    A stream that breaks off or falls silent is opened again, with ever longer waits. The stream's name is the scheme,
    host and port of its address, as cameras have passwords in any other part; ``name`` says more. Neither log nor
    detections have those other parts. But the whole address stands in the list of processes, where other users of the
    device can read it.
    """

    url: str = option("address, or path relative to the pipeline file, that ffmpeg reads", least=1)
    input_options: tuple[str, ...] = option("ffmpeg's options for it; RTSP goes over TCP if there are none", ())
    live: str = option(
        "whether the sound goes on while nobody listens; auto: where the address has a scheme other than file",
        "auto",
        choices=tuple(LIVE),
    )
    stall_seconds: float = option("without sound, after which a stream is opened anew, s", 15.0, minimum=1)
    retry_seconds: float = option("the longest wait before a stream is opened anew, s", 60.0, minimum=1)
    program: str = option("ffmpeg's name or path", "ffmpeg", least=1)

    def __post_init__(self) -> None:
        """Refuse an address in which a password might not be known for one: with a bare / or ? or # in it."""
        if "://" not in self.url:
            if _SHORTHAND.match(self.url):
                raise Refused("url", "is neither an address nor a path; write SCHEME://… or, for a file, ./…")
            return
        parts = _URL.fullmatch(self.url)
        if parts is None or "@" in (parts["path"] or "") + (parts["rest"] or ""):
            raise Refused(
                "url",
                "is not an address; write /, ?, # and @ in a password as %2F, %3F, %23 and %40, and @ anywhere behind "
                "the host as %40.",
            )

    def untried(self) -> str:
        """Whether there is sound."""
        return "whether its address gives sound"

    def open(self, context: Context) -> Live:
        """The source.

        Raises:
            NodeError: ffmpeg is not installed.
        """
        program = shutil.which(self.program)
        if program is None:
            raise NodeError(
                f"The program {self.program!r} is not installed; install the system's package ffmpeg, or set program."
            )
        stream = printable(self.name or without_secrets(self.url))
        live = LIVE[self.live]
        if live is None:
            live = "://" in self.url and not self.url.lower().startswith("file:")

        def capture(buffer: Buffer) -> None:
            def attempt() -> None:
                self._listen(program, context, buffer)

            if live:
                again_and_again(context, "ffmpeg", attempt, buffer, self.retry_seconds, stream)
            else:
                try:
                    attempt()
                except NodeError as error:
                    raise NodeError(f"{stream!r} cannot be read: {error}.") from error

        return Live(context, "ffmpeg", self, stream, live, capture)

    def _listen(self, program: str, context: Context, buffer: Buffer) -> None:
        """Run ffmpeg once, until it ends, stalls, or the station is stopping."""
        options = self.input_options
        if not options and self.url.lower().startswith(("rtsp://", "rtsps://")):
            options = _RTSP
        arguments = [
            program, "-nostdin", "-hide_banner", "-loglevel", "error", *options, "-i", self._input(context),
            "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "-",
        ]  # fmt: skip
        said = bytearray()
        try:
            # a session of its own, so that Ctrl-C ends the station, and the station ffmpeg
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise NodeError(f"{program!r} cannot be run: {error.strerror}") from error
        assert process.stdout is not None and process.stderr is not None
        ended = False
        try:
            decoder = pipe.Pcm("f32le", 0, 0)  # the header says which
            pieces = pipe.read(
                process.stdout.fileno(), context.stopping, self.stall_seconds, (process.stderr.fileno(), said)
            )
            for number, samples in enumerate(decoder.decode(pieces)):
                if number == 0:
                    buffer.begin(decoder.sample_rate)
                buffer.put(samples)
            ended = not context.stopping.is_set()
        finally:
            code = _end(process, said, ended)
        if ended and code:
            lines = printable(self._without_secrets_in(said.decode(errors="replace")).strip().rpartition("\n")[2])
            raise NodeError(f"ffmpeg ended with {code}" + (f" ({lines})" if lines else ""))

    def _input(self, context: Context) -> str:
        path = context.path(self.url)
        return str(path.absolute()) if "://" not in self.url and path.exists() else self.url

    def _without_secrets_in(self, text: str) -> str:
        """What ffmpeg says, which often has the address in it, or another that a server told it, or parts of them."""
        text = _ADDRESS.sub(lambda found: without_secrets(found[0]), text.replace(self.url, without_secrets(self.url)))
        for secret in sorted(_secrets(self.url), key=len, reverse=True):
            text = text.replace(secret, "…")
        return text


def without_secrets(url: str) -> str:
    """An address's scheme, host and port; a path, or the address of a file of this device, as it is."""
    parts = _URL.fullmatch(url)
    if parts is None:
        return url if "://" not in url else url.partition("://")[0] + "://…"
    path = parts["path"] or "" if parts["scheme"].lower() == "file" else ""
    return f"{parts['scheme']}://{parts['host']}{path}"


def _secrets(url: str) -> set[str]:
    """What may be secret in an address, as it is written there and as it is meant."""
    parts = _URL.fullmatch(url)
    if parts is None or parts["scheme"].lower() == "file":
        return set()
    user, path, rest = (parts[name] or "" for name in ("user", "path", "rest"))
    found = {user, user.partition(":")[2]}
    behind = {path[1:], rest[1:], path[1:] + rest, *re.split("[=&?#/;]", path + rest)}
    found |= {secret for secret in behind if len(secret) >= _SHORTEST_SECRET}
    return {form for secret in found for form in (secret, urllib.parse.unquote(secret)) if form}


def _end(process: subprocess.Popen[bytes], said: bytearray, ended: bool) -> int:
    """Let ffmpeg go, with what it said at last; its exit code."""
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with contextlib.suppress(ProcessLookupError):
        if not ended:
            os.killpg(process.pid, signal.SIGTERM)  # so that it says goodbye to a camera, which may count its listeners
        try:
            process.wait(_PARTING_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    os.set_blocking(process.stderr.fileno(), False)
    said += (process.stderr.read() or b"")[-4096:]
    process.stderr.close()
    return code
