"""Writes that a full disk holds up: kept in memory, in their order and within bounds, and tried again."""

from __future__ import annotations

import collections
import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path

from labous.errors import NodeError
from labous.nodes import Context
from labous.station.log import Seldom

_TELL_SECONDS = 600.0
_RETRY_SECONDS = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)

_logger = logging.getLogger("labous")


class Writes:
    """What a sink has still to write.

    Args:
        context: of the node.
        node: its type, which names its counters: ``sink_errors_total{node="csv"}``, ``lost_writes_total{node="csv"}``.
        limit: bytes that may wait in memory; above, the oldest are lost, counted and told.
    """

    def __init__(self, context: Context, node: str, limit: int) -> None:
        self._context, self._node, self._limit = context, node, limit
        self._waiting: collections.deque[tuple[int, Callable[[], None]]] = collections.deque()
        self._bytes = 0
        self._not_before = 0.0  # on the monotonic clock
        self._seldom = Seldom(_logger, _TELL_SECONDS)

    def put(self, size: int, write: Callable[[], None]) -> None:
        """Write now, or as soon as that can be.

        Args:
            size: bytes that it keeps in memory until then.
            write: does it, and may be called again where it raises OSError.
        """
        self._waiting.append((size, write))
        self._bytes += size
        self.settle()
        while self._bytes > self._limit:
            self._drop()

    def settle(self) -> bool:
        """Try again what waits, if it is time; whether nothing is left."""
        if self._waiting and time.monotonic() >= self._not_before:
            self._try()
        return not self._waiting

    def finish(self) -> None:
        """Wait until all is written.

        Raises:
            NodeError: the station is to stop, and it is not.
        """
        while self._waiting:
            stopping = self._context.stopping.is_set()
            self._try()
            if self._waiting and stopping:
                raise NodeError(
                    f"{len(self._waiting)} writes of the node {self._node} could not be made before the end; free "
                    "space on its disk, and run the station again."
                )
            if self._waiting:
                self._context.stopping.wait(_RETRY_SECONDS)

    def close(self) -> None:
        """Try a last time; what still cannot be written is lost, counted and told."""
        self._try()
        while self._waiting:
            self._drop()

    def _try(self) -> None:
        while self._waiting:
            size, write = self._waiting[0]
            try:
                write()
            except OSError as error:
                self._context.counters.add(f'sink_errors_total{{node="{self._node}"}}')
                self._not_before = time.monotonic() + _RETRY_SECONDS
                self._seldom.warning(
                    "write", "%s cannot write (%s); %d writes wait.", self._node, error.strerror, len(self._waiting)
                )
                return
            self._waiting.popleft()
            self._bytes -= size

    def _drop(self) -> None:
        size, _ = self._waiting.popleft()
        self._bytes -= size
        self._context.counters.add(f'lost_writes_total{{node="{self._node}"}}')
        self._seldom.warning("lost", "%s loses what it could not write.", self._node)


def usable_folder(folder: Path) -> Path:
    """The folder, made if it is missing.

    Raises:
        NodeError: it cannot be made, or nothing can be written into it for another reason than a full disk.
    """
    probe = folder / ".labous-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        if error.errno not in _FULL:
            raise NodeError(
                f"Nothing can be written into {str(folder)!r} ({error.strerror}); name another folder, or make it "
                "writable for the station's user."
            ) from error
    return folder
