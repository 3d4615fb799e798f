"""What all sources share: their options, and windows as records."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Generator, Iterable
from typing import ClassVar

from labous import recordings
from labous.nodes import Record
from labous.options import option
from labous.power_law import AnyFrontend
from labous.recordings import Samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What can be said of every source."""

    source: ClassVar[bool] = True

    overlap: float = option("of one window with the next, s; less than a window", 0.0, minimum=0)
    output: str = option("column for the windows' samples", "audio", least=1)


def cut(
    stream: str,
    blocks: Iterable[Samples],
    frontend: AnyFrontend,
    options: SourceOptions,
    time_of: Callable[[int], datetime.datetime | None],
    origin: int = 0,
) -> Generator[Record, None, None]:
    """Cut sound that has no gap into records, as :func:`labous.recordings.windows` cuts it.

    Args:
        stream: their name for where the sound comes from.
        blocks: mono float32 [n] each, at the front end's rate.
        time_of: when a sample was captured, counted from the first of ``blocks``.
        origin: of the first sample, from the stream's beginning.

    Raises:
        LabousError: the overlap is a window or more.
    """
    had = 0  # samples, from the first, that a window has had
    for window in recordings.windows(blocks, frontend, options.overlap):
        fresh = min(window.end - had, frontend.window_samples) if had else frontend.window_samples
        had = window.end
        yield Record(
            stream,
            origin + window.start,
            origin + window.end,
            fresh,
            time_of(window.start),
            {options.output: window.samples},
        )
