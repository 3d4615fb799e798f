"""Sources whose sound does not wait: a thread captures it, and the pipeline takes it when it can.

Where the pipeline cannot keep up, the oldest sound goes, so that what is analyzed is news. Windows never lie across a
gap.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import random
import threading
from collections.abc import Callable, Iterator

from labous import recordings
from labous.errors import NodeError
from labous.nodes import Context, EndOfStream, Record
from labous.options import option
from labous.recordings import Samples
from labous.station.buffer import Block, Buffer, Capture, Clock, follows
from labous.station.cutting import SourceOptions, cut
from labous.station.log import Seldom

LIVE = {"auto": None, "yes": True, "no": False}
"""What an option may say of whether sound goes on while nobody listens; None: to be found out."""

_TOLD_SECONDS = 600.0

_logger = logging.getLogger("labous")


class _Lost(Exception):
    """The sound goes on later: what came between is gone."""


class _Stopping(Exception):
    """The station is stopping."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiveOptions(SourceOptions):
    """What can be said of every source that captures."""

    buffer_seconds: float = option(
        "of sound that may wait for the pipeline, s; when it is full, the older half is dropped and counted",
        30.0,
        above=0,
        maximum=3600,
    )
    name: str | None = option("what the stream is called, instead of where it comes from", None, least=1)


class Live:
    """A source of captured sound.

    Args:
        kind: of the node, for the thread's name.
        stream: the stream's name.
        live: as for :class:`Buffer`.
        capture: what the thread runs: begins captures of the buffer and puts samples into it until the station is
            stopping, or nothing more can come.

    Raises:
        NodeError: the buffer does not hold two windows.
    """

    def __init__(
        self,
        context: Context,
        kind: str,
        options: LiveOptions,
        stream: str,
        live: bool | None,
        capture: Callable[[Buffer], None],
        clock: Clock | None = None,
    ) -> None:
        self._context, self._options, self._stream, self._capture = context, options, stream, capture
        self._frontend = context.bundle.frontend
        recordings.check_overlap(options.overlap, self._frontend)
        least = 2 * self._frontend.window_seconds
        if options.buffer_seconds < least:
            raise NodeError(
                f"A buffer of {options.buffer_seconds:g} s does not hold two windows; set buffer_seconds to "
                f"{least:g} or more."
            )
        self._seldom = Seldom(_logger, _TOLD_SECONDS)
        clock = Clock() if clock is None else clock
        self._buffer = Buffer(options.buffer_seconds, live, context.stopping, self._drop, clock)
        self._thread = threading.Thread(target=self._run, name=f"labous-{kind}", daemon=True)
        self._next: Block | None = None

    def records(self) -> Iterator[Record | EndOfStream]:
        """Begin to capture; windows as they become whole. See :class:`labous.nodes.Source`."""
        self._thread.start()
        return self._records()

    def _records(self) -> Iterator[Record | EndOfStream]:
        first: Capture | None = None
        end = -1  # of the last window
        try:
            while (block := self._next or self._buffer.take()) is not None:
                first = first or block.capture
                for record in self._stretch(block, first, end + 1):
                    end = record.end
                    yield record
        finally:
            self._count_lost(self._buffer.give_up())
        yield EndOfStream(self._stream)
        if self._buffer.error is not None:
            raise self._buffer.error

    def close(self) -> None:
        """Wait for the thread, which ends by itself when the station is stopping."""
        self._context.stopping.set()
        if self._thread.ident is not None:
            self._thread.join(2)

    def _stretch(self, block: Block, first: Capture, least: int) -> Iterator[Record]:
        """The windows of sound that has no gap, beginning with a block; the first not before the sample ``least``.

        Sound that comes in a burst reaches further than the time that has gone by. So that it does not seem to go on
        with what comes after a gap, one sample at least is left between them.
        """
        capture, rate, wanted = block.capture, block.capture.rate, self._frontend.sample_rate
        seconds = capture.began - first.began + block.start / rate
        origin = max(least, round(seconds * wanted))
        end = origin
        blocks = recordings.resampled(self._samples(block), rate, wanted)

        def when(sample: int) -> datetime.datetime | None:
            return self._buffer.when(capture, block.start + sample * rate / wanted)

        try:
            for record in cut(self._stream, blocks, self._frontend, self._options, when, origin):
                if self._context.stopping.is_set():
                    raise _Stopping
                end = record.end
                self._listen_for_silence(record)
                yield record
        except (_Lost, _Stopping):
            # no time for a window that has most of its sound from the one before, as at the end of a recording
            self._count_lost(self._taken / rate - (end - origin) / wanted)

    def _samples(self, block: Block | None) -> Iterator[Samples]:
        """The block's and what follows it without a gap; the first that does not is left in ``_next``."""
        self._taken = 0
        self._next = None
        while block is not None:
            self._taken += len(block.samples)
            yield block.samples
            after = self._buffer.take()
            if after is None and self._context.stopping.is_set():
                raise _Stopping
            if after is not None and not follows(block, after):
                self._next = after
                if after.capture is block.capture:
                    raise _Lost
                return
            block = after

    def _run(self) -> None:
        try:
            self._capture(self._buffer)
        except BaseException as error:  # records() raises it: in a thread it would go unseen
            self._buffer.end(error)
        else:
            self._buffer.end()

    def _listen_for_silence(self, record: Record) -> None:
        samples = record.columns[self._options.output]
        if samples.min() == samples.max():
            self._context.counters.add("silent_windows_total")
            self._seldom.warning("silent", "Nothing at all is heard from %s; check the microphone.", self._stream)

    def _drop(self, seconds: float) -> None:
        self._count_lost(seconds)
        self._seldom.warning(
            "dropped",
            "The pipeline cannot keep up: %.1f s of sound from %s were dropped; audio_dropped_seconds_total has all. "
            "Less overlap makes less work.",
            seconds,
            self._stream,
        )

    def _count_lost(self, seconds: float) -> None:
        if seconds > 0:
            self._context.counters.add("audio_dropped_seconds_total", seconds)


def again_and_again(
    context: Context, kind: str, attempt: Callable[[], None], buffer: Buffer, longest: float, what: str
) -> None:
    """Capture until the station is stopping, beginning anew whenever it ends, with ever longer waits.

    Args:
        kind: of the node, for the counter ``reconnects_total``.
        attempt: captures; returns or raises NodeError where it cannot go on.
        longest: the longest wait, s.
        what: the device or address, for people.
    """
    seldom = Seldom(_logger, _TOLD_SECONDS)
    wait, received = 0.5, 0.0
    while not context.stopping.is_set():
        reason = "it ended"
        try:
            attempt()
        except NodeError as error:
            reason = str(error).rstrip(".")
        if context.stopping.is_set():
            return
        wait = 1.0 if buffer.received > received else min(2 * wait, longest)
        received = buffer.received
        seldom.warning("capture", "No sound from %s: %s; trying again, at most %g s apart.", what, reason, longest)
        context.counters.add(f'reconnects_total{{node="{kind}"}}')
        context.stopping.wait(wait * random.uniform(0.5, 1))  # many stations do not come back at once
