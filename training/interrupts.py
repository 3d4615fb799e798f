"""Ctrl-C is heeded, even where Python drops it.

KeyboardInterrupt that happens to be raised in a finalizer or a weak reference's callback is reported as ignored, with
a traceback, and the program goes on. So it is remembered as well, and raised again at the next step of the work; the
report is left out.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_seen = threading.Event()


def heed() -> None:
    """Raise KeyboardInterrupt if there was one since the work began."""
    if _seen.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Context in which Ctrl-C is remembered for :func:`heed`, where Ctrl-C is heeded at all."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def remember(number: int, frame: FrameType | None) -> None:
        _seen.set()
        signal.default_int_handler(number, frame)

    report = sys.unraisablehook

    def report_others(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            report(dropped)

    signal.signal(signal.SIGINT, remember)
    sys.unraisablehook = report_others
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = report
        _seen.clear()
