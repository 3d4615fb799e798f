"""Nodes for Labous: a source of tones, a loudness, and trouble of all sorts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from labous.errors import NodeError
from labous.nodes import Context, EndOfStream, Record
from labous.options import option


@dataclasses.dataclass(frozen=True)
class Tones:
    """A tone, window after window, for ever or for as many as are wanted."""

    source: ClassVar[bool] = True

    output: str = option("column for the samples", "audio", least=1)
    windows: int = option("how many; 0 for no end", 0, minimum=0)
    pause: float = option("between windows, s", 0.0, minimum=0)
    obeys: bool = option("whether it ends when it is told to", True)

    def open(self, context: Context) -> TonesSource:
        """The source."""
        return TonesSource(self, context)


class TonesSource:
    """See Tones."""

    def __init__(self, options: Tones, context: Context) -> None:
        self._options, self._context = options, context
        self._frontend = context.bundle.frontend

    def records(self) -> Iterator[Record | EndOfStream]:
        """Windows that do not overlap."""
        size, stopping, number = self._frontend.window_samples, self._context.stopping, 0
        tone = np.sin(np.arange(size, dtype=np.float32) * 0.2)
        while number < (self._options.windows or number + 1) and not (self._options.obeys and stopping.is_set()):
            start = number * size
            yield Record("tones", start, start + size, size, None, {self._options.output: tone})
            number += 1
            if self._options.obeys:
                stopping.wait(self._options.pause)
            else:
                time.sleep(self._options.pause)
        yield EndOfStream("tones")

    def close(self) -> None:
        """Nothing is held."""


@dataclasses.dataclass(frozen=True)
class Loudness:
    """The loudness of each window, in decibels."""

    input: str = option("column that it reads", "audio", least=1)
    output: str = option("column that it writes", "loudness", least=1)

    def open(self, context: Context) -> LoudnessNode:
        """The node."""
        return LoudnessNode(self)


class LoudnessNode:
    """See Loudness."""

    def __init__(self, options: Loudness) -> None:
        self._options = options

    def process(self, record: Record) -> Iterator[Record]:
        """With the loudness."""
        record.columns[self._options.output] = loudness(record.columns[self._options.input])
        yield record

    def end(self, stream: str) -> tuple[Record, ...]:
        """Nothing is held back."""
        return ()

    def close(self) -> None:
        """Nothing is held."""


@dataclasses.dataclass(frozen=True)
class Trouble:
    """A node that fails as it is told."""

    what: str = option("what it does", "raise", choices=("raise", "refuse", "hang", "open", "close"))
    after: int = option("how many windows go well", 0, minimum=0)

    def open(self, context: Context) -> TroubleNode:
        """The node, or not."""
        if self.what == "open":
            raise ZeroDivisionError("no open")
        return TroubleNode(self, context)


class TroubleNode:
    """See Trouble."""

    def __init__(self, options: Trouble, context: Context) -> None:
        self._options, self._context, self._windows = options, context, 0

    def process(self, record: Record) -> Iterator[Record]:
        """As it came, until trouble begins."""
        self._windows += 1
        if self._windows > self._options.after:
            if self._options.what == "raise":
                raise KeyError("oh \x1b[31mno")
            if self._options.what == "refuse":
                raise NodeError("trouble: it refuses; buy another.")
            while self._options.what == "hang":
                time.sleep(0.05)
        self._context.counters.set("troubled_windows", self._windows)
        yield record

    def end(self, stream: str) -> tuple[Record, ...]:
        """Nothing is held back."""
        return ()

    def close(self) -> None:
        """Perhaps."""
        if self._options.what == "close":
            raise RuntimeError("no close")


def loudness(samples: np.ndarray) -> float:
    """Of samples, in decibels."""
    return float(10 * np.log10(np.mean(np.square(samples)) + 1e-12))
