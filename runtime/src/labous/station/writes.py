"""Writes that cannot be made now: kept in memory, in their order and within bounds, and tried again."""

from __future__ import annotations

import collections
import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from labous.errors import NodeError
from labous.nodes import Context
from labous.station.log import Seldom

_TELL_SECONDS = 600.0
_RETRY_SECONDS = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_WHOLE_DISK = (*_FULL, errno.EIO, errno.EROFS)  # no file can be written; of other errors, others can

_logger = logging.getLogger("labous")


class _Write(NamedTuple):
    key: str
    size: int
    make: Callable[[], None]


class Writes:
    """What a sink has still to write.

    A disk that is full or broken holds up all; where only one file cannot be written, its writes step aside, and the
    others go on.

    Args:
        context: of the node.
        node: its type, which names its counters: ``sink_errors_total{node="csv"}``, ``lost_writes_total{node="csv"}``.
        limit: bytes that may wait in memory; above, the oldest are lost, counted and told, and those that
            stepped aside before all others.
    """

    def __init__(self, context: Context, node: str, limit: int) -> None:
        self._context, self._node, self._limit = context, node, limit
        self._waiting: collections.deque[_Write] = collections.deque()
        self._aside: dict[str, collections.deque[_Write]] = {}  # none of them empty
        self._bytes = 0
        self._not_before = self._not_aside_before = 0.0  # on the monotonic clock
        self._seldom = Seldom(_logger, _TELL_SECONDS)

    def put(self, key: str, size: int, make: Callable[[], None]) -> None:
        """Write now, or as soon as that can be.

        Args:
            key: the file: writes of one key are made in their order.
            size: bytes that it keeps in memory until then.
            make: does it, and may be called again where it raises OSError.
        """
        self._aside.get(key, self._waiting).append(_Write(key, size, make))
        self._bytes += size
        self.settle()
        while self._bytes > self._limit:
            self._drop()

    def settle(self) -> None:
        """Try again what waits, if it is time."""
        if self._waiting and time.monotonic() >= self._not_before:
            self._try()
        if self._aside and time.monotonic() >= self._not_aside_before:
            self._try_aside()

    def finish(self) -> None:
        """Wait until all is written but what stepped aside, which is tried once.

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
        self._try_aside()

    def close(self) -> None:
        """Try a last time; what still cannot be written is lost, counted and told."""
        self._try()
        self._try_aside()
        while self._waiting or self._aside:
            self._drop()

    def _try(self) -> None:
        while self._waiting:
            error = self._make_first(self._waiting)
            if error is None:
                continue
            if error.errno in _WHOLE_DISK:
                self._not_before = time.monotonic() + _RETRY_SECONDS
                self._seldom.warning(
                    "write", "%s cannot write (%s); %d writes wait.", self._node, error.strerror, len(self._waiting)
                )
                return
            key = self._waiting[0].key
            self._aside[key] = collections.deque(one for one in self._waiting if one.key == key)
            self._waiting = collections.deque(one for one in self._waiting if one.key != key)
            self._not_aside_before = time.monotonic() + _RETRY_SECONDS
            self._tell(key, error)

    def _try_aside(self) -> None:
        self._not_aside_before = time.monotonic() + _RETRY_SECONDS
        for key, waiting in list(self._aside.items()):
            while waiting:
                error = self._make_first(waiting)
                if error is not None:
                    self._tell(key, error)
                    break
            else:
                del self._aside[key]

    def _make_first(self, waiting: collections.deque[_Write]) -> OSError | None:
        try:
            waiting[0].make()
        except OSError as error:
            self._context.counters.add(f'sink_errors_total{{node="{self._node}"}}')
            return error
        self._bytes -= waiting.popleft().size
        return None

    def _tell(self, key: str, error: OSError) -> None:
        self._seldom.warning(
            f"write {key}", "%s cannot write %s (%s); that waits, and others go on.", self._node, key, error.strerror
        )

    def _drop(self) -> None:
        """Lose one write; rather one of a file that cannot be written than those of all others."""
        key = next(iter(self._aside), None)
        waiting = self._waiting if key is None else self._aside[key]
        self._bytes -= waiting.popleft().size
        if key is not None and not waiting:
            del self._aside[key]
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
