"""Stops WebAssembly calls that run too long."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any


class OutOfTime(Exception):
    """A call was stopped; its cause is what it raised then."""


class Watchdog:
    """Counts up the epoch of engines whose call is not over in time.

    Its thread sleeps until the earliest time limit, looks whether that call still runs, and ends when none does. So it
    wakes once per time limit, not once per call, and soon there is none when nothing is computed.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a forked process must: it has neither the thread nor the calls, and the lock may be held."""
        self._changed = threading.Condition(threading.Lock())
        self._deadlines: dict[Any, float] = {}  # wasmtime.Engine → time.monotonic()
        self._wakes = math.inf
        self._thread: threading.Thread | None = None

    def call(self, store: Any, engine: Any, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives that runs in a store of an engine, whose only call it is, and has this long.

        Raises:
            OutOfTime: it had to be stopped.
            Exception: what it raises in time.
        """
        in_time = True
        store.set_epoch_deadline(1)
        try:
            try:
                self.start(engine, seconds)
                return function(*arguments)
            finally:
                in_time = self.stop(engine)
        except Exception as error:
            if in_time:
                raise
            raise OutOfTime from error

    def start(self, engine: Any, seconds: float) -> None:
        """The engine begins a call, the only one in it, which has this long."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._deadlines[engine] = deadline
            if self._thread is None:
                self._wakes = deadline
                thread = threading.Thread(target=self._watch, name="labous-watchdog", daemon=True)
                thread.start()
                self._thread = thread
            elif deadline < self._wakes:
                self._wakes = deadline
                self._changed.notify()

    def stop(self, engine: Any) -> bool:
        """The call is over. Whether it was in time: if not, it has been interrupted."""
        with self._changed:
            return self._deadlines.pop(engine, None) is not None

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                if now < self._wakes:
                    self._changed.wait(self._wakes - now)
                    continue
                for engine in [engine for engine, deadline in self._deadlines.items() if deadline <= now]:
                    del self._deadlines[engine]
                    engine.increment_epoch()
                if not self._deadlines:
                    break
                self._wakes = min(self._deadlines.values())
            self._thread = None


watchdog = Watchdog()
"""The process's only one."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watchdog.forget)
