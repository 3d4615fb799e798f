"""A station as a process: alone in its state directory, ended by signals, watched by systemd."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labous.errors import PipelineError
from labous.station.locks import locked

_logger = logging.getLogger("labous")


@contextlib.contextmanager
def alone_in(state: Path) -> Iterator[None]:
    """Hold a state directory, which is made if it is missing, against any other run.

    Raises:
        PipelineError: another run holds it, or it cannot be written.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = locked(state / "lock", 0o644)
    except BlockingIOError as error:
        raise PipelineError(
            f"Another run has the state directory {str(state)!r}; end it first, or give this station another name "
            "or state."
        ) from error
    except OSError as error:
        raise PipelineError(
            f"The state directory {str(state)!r} cannot be written ({error.strerror}); set station.state, or make it "
            "writable."
        ) from error
    try:
        yield
    finally:
        os.close(lock)


class Signals:
    """While entered, SIGTERM and SIGINT tell the station to end; a second one, or too long an end, ends it at once.

    Args:
        stop: tells it, from another thread.
        seconds: that it may take.

    Attributes:
        first: the number of the first signal that came, or None.
    """

    def __init__(self, stop: Callable[[], None], seconds: float) -> None:
        self._stop, self._seconds = stop, seconds
        self.first: int | None = None

    def __enter__(self) -> Signals:
        # The interpreter writes signals into the socket at once, whatever its main thread is doing, and a thread reads
        # them there: a handler, which runs inside that main thread, could meet a lock that the thread itself holds.
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, _nothing) for number in (signal.SIGTERM, signal.SIGINT)}
        self._thread = threading.Thread(target=self._listen, name="labous-signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._write.close()  # the thread reads the end
        self._thread.join()
        self._read.close()

    def _listen(self) -> None:
        while received := self._receive():
            for number in received:
                if number not in self._handlers:
                    continue
                if self.first is not None:
                    _logger.warning("Ended at once by a second signal.")
                    os._exit(128 + number)
                self.first = number
                _logger.info("%s: the window at hand is finished, then the station ends.", signal.Signals(number).name)
                self._read.settimeout(self._seconds)
                self._stop()

    def _receive(self) -> bytes:
        try:
            return self._read.recv(64)
        except TimeoutError:
            # what sinks have taken is on disk, so nothing is lost that would not be lost in a power cut
            _logger.error("The station did not end within %g s; it is ended.", self._seconds)
            os._exit(1)


def _nothing(number: int, frame: Any) -> None:
    """The thread has it."""


class Systemd:
    """Tells systemd how the service fares; nothing, where it was not started by systemd (sd_notify(3)).

    Attributes:
        watchdog_seconds: after which systemd ends a service that it does not hear from; None if it does not watch.
    """

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", str(os.getpid()))
        watched = self._address and microseconds.isdecimal() and int(microseconds) > 0 and pid == str(os.getpid())
        self.watchdog_seconds = int(microseconds) / 1e6 if watched else None

    def tell(self, message: str) -> None:
        """Send ``READY=1``, ``WATCHDOG=1``, ``STOPPING=1`` or the like."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.settimeout(1)
                connection.sendto(message.encode(), address)
        except OSError as error:
            _logger.warning("systemd cannot be told %s (%s).", message, error.strerror)
