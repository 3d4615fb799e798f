"""A progress bar on stderr, drawn only where someone can see it."""

from __future__ import annotations

import sys
import time

_WIDTH = 30


class Progress:
    """Counts what is done of a known total. Draws nothing unless stderr is a terminal.

    Args:
        total: how many there are.
        unit: what is counted, in the plural.
        wanted: False keeps it silent.
    """

    def __init__(self, total: int, unit: str, wanted: bool = True) -> None:
        self._total = total
        self._unit = unit
        self._done = 0
        self._shown = wanted and sys.stderr.isatty()
        self._started = time.monotonic()
        self._draw()

    def advance(self) -> None:
        """One more is done."""
        self._done += 1
        self._draw()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.clear()
        print(line, file=sys.stderr)
        self._draw()

    def clear(self) -> None:
        """Take the bar away, before something else is printed."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _draw(self) -> None:
        if not self._shown:
            return
        filled = _WIDTH * self._done // self._total
        bar = "#" * filled + "." * (_WIDTH - filled)
        elapsed = time.monotonic() - self._started
        left = f", {elapsed / self._done * (self._total - self._done):.0f} s left" if self._done else ""
        sys.stderr.write(f"\r\x1b[K[{bar}] {self._done}/{self._total} {self._unit}{left}")
        sys.stderr.flush()
