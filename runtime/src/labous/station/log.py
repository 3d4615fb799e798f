"""The station's log: lines on stderr, where the same trouble is told once and not every second."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from labous.formats import printable

_KEYS = 1000
_SEVERITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))


class Seldom:
    """Tells each kind of trouble at most once in some time, and how often it was silent in between. For any thread.

    Args:
        logger: where it is told.
        seconds: from one line to the next of the same key.
        clock: monotonic, s.
    """

    def __init__(self, logger: logging.Logger, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger, self._seconds, self._clock = logger, seconds, clock
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, int]] = {}  # when it was told, and how often it was not told since

    def warning(self, key: str, message: str, *arguments: object) -> None:
        """Tell a trouble, unless one of the same key was told a short while ago.

        Args:
            key: what counts as the same trouble.
            message, arguments: as logging takes them.
        """
        now = self._clock()
        with self._lock:
            when, silent = self._told.get(key, (-float("inf"), 0))
            if now - when < self._seconds:
                self._told[key] = when, silent + 1
                return
            if len(self._told) >= _KEYS:  # keys may be made of strangers' text
                self._told.clear()
            self._told[key] = now, 0
        if silent:
            message = f"{message} (And {silent} times since this was last told.)"
        self._logger.warning(message, *arguments)


class _Printable(logging.Formatter):
    """Lines whose text, a stranger's perhaps, cannot steer a terminal; a traceback keeps its lines."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(printable(line) for line in super().format(record).split("\n"))


class _ForJournal(_Printable):
    """With each line's severity before it, as sd-daemon(3) has it; the journal knows the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        severity = next(number for level, number in _SEVERITIES if record.levelno >= level)
        return "\n".join(f"<{severity}>{line}" for line in super().format(record).split("\n"))


def to_stderr(level: int = logging.INFO) -> None:
    """Send the log "labous" to stderr; what stderr does not take is lost without a word."""
    handler = logging.StreamHandler()
    journal = "JOURNAL_STREAM" in os.environ
    handler.setFormatter(_ForJournal("%(message)s") if journal else _Printable("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("labous")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    logging.raiseExceptions = False
