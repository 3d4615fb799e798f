"""What has been captured and waits for the pipeline, in bounded memory, and when it was captured."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import threading
import time
from collections.abc import Callable

import numpy as np

from labous.recordings import Samples

_SLICE_SECONDS = 0.25  # the least that is worth waking up for
_SPAN_SECONDS = 10.0  # of the times of arrival, of which the earliest is kept …
_SPANS = 6  # … for so many spans: a card's drift is seen within a minute, a hiccup shorter than that is not
_SETTLED_SECONDS = 1.0  # what was waiting in a stream has then come, so that the first window's time is right
_JUDGED_SECONDS = 3.0
_UNSET_BEFORE = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)  # a clock that shows less was never set


class Clock:
    """The device's two clocks; tests have one of their own."""

    def monotonic(self) -> float:
        """Seconds that nobody sets."""
        return time.monotonic()

    def now(self) -> datetime.datetime | None:
        """The time of day in UTC, as far as it is known; it may jump."""
        try:
            found = datetime.datetime.fromtimestamp(time.time(), datetime.timezone.utc)
        except (OverflowError, ValueError, OSError):
            return None
        return found if found >= _UNSET_BEFORE else None


class Capture:
    """When the samples of one uninterrupted capture were captured, by the monotonic clock.

    A sample cannot arrive before it was captured, and of many some arrive almost at once: so the earliest arrival, for
    its place in the stream, tells when the capture began. It is that of the last minute, so that a sound card whose
    rate is not quite what it says is followed.

    Attributes:
        rate: of the samples, Hz.
        began: when the capture was begun, by the monotonic clock.
        samples: how many have come.
    """

    def __init__(self, rate: int, began: float) -> None:
        self.rate = rate
        self.began = began
        self.samples = 0
        self._earliest: collections.deque[tuple[int, float]] = collections.deque()

    def arrived(self, n: int, now: float) -> None:
        """The next n samples are there."""
        self.samples += n
        span, first = int(now // _SPAN_SECONDS), now - self.samples / self.rate
        if self._earliest and self._earliest[-1][0] == span:
            self._earliest[-1] = span, min(first, self._earliest[-1][1])
        else:
            self._earliest.append((span, first))
        while self._earliest[0][0] <= span - _SPANS:
            self._earliest.popleft()

    def when(self, sample: float) -> float:
        """When a sample was captured."""
        return min(first for _, first in self._earliest) + sample / self.rate


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Sound of a capture, mono float32 [n], from its sample ``start`` on."""

    capture: Capture
    start: int
    samples: Samples

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.capture.rate


class Buffer:
    """What has been captured and not yet been taken. One thread puts, another takes.

    Args:
        seconds: how much it holds.
        live: whether the sound goes on while nobody listens, so that the oldest must go when the buffer is full;
            otherwise whoever puts more waits. None: live, unless it comes faster than sound does.
        dropped: called with the seconds of sound that had to go.

    Attributes:
        received: seconds of sound that have ever been put.
        error: what ended it, if anything did.
    """

    def __init__(
        self,
        seconds: float,
        live: bool | None,
        stopping: threading.Event,
        dropped: Callable[[float], None],
        clock: Clock,
    ) -> None:
        self.received = 0.0
        self.error: BaseException | None = None
        self._capacity, self._live, self._stopping = seconds, live, stopping
        self._dropped, self._clock = dropped, clock
        self._changed = threading.Condition()
        self._blocks: collections.deque[Block] = collections.deque()
        self._held = 0.0  # s
        self._first: float | None = None  # when sound first came
        self._capture = Capture(1, clock.monotonic())
        self._ended = False

    def begin(self, rate: int) -> None:
        """What comes from here on does not follow what came before, and has this rate, Hz."""
        with self._changed:
            self._capture = Capture(rate, self._clock.monotonic())
            self._changed.notify_all()

    def put(self, samples: Samples) -> None:
        """Take what has just been captured, mono float32 [n]; :meth:`begin` comes first."""
        lost = 0.0
        with self._changed:
            block, now = Block(self._capture, self._capture.samples, samples), self._clock.monotonic()
            block.capture.arrived(len(samples), now)
            self._first = now if self._first is None else self._first
            self.received += block.seconds
            self._judge()
            while self._blocks and self._held + block.seconds > self._capacity and not self._stopping.is_set():
                if self._live:
                    lost += self._make_room(block.seconds)
                else:
                    self._changed.wait(_SLICE_SECONDS)
                    self._judge()
            self._blocks.append(block)
            self._held += block.seconds
            self._changed.notify_all()
        if lost:
            self._dropped(lost)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will come."""
        with self._changed:
            self._ended, self.error = True, error
            self._judge()
            self._changed.notify_all()

    def take(self) -> Block | None:
        """The oldest sound, some tenths of a second of it; None at the end, and when the station is stopping."""
        with self._changed:
            while not self._ready() and not self._stopping.is_set():
                self._changed.wait(_SLICE_SECONDS)
                self._judge()
            if self._stopping.is_set() or not self._blocks:
                return None
            blocks = [self._pop()]
            while self._blocks and follows(blocks[-1], self._blocks[0]) and _seconds(blocks) < _SLICE_SECONDS:
                blocks.append(self._pop())
            self._changed.notify_all()
        samples = blocks[0].samples if len(blocks) == 1 else np.concatenate([block.samples for block in blocks])
        return Block(blocks[0].capture, blocks[0].start, samples)

    def when(self, capture: Capture, sample: float) -> datetime.datetime | None:
        """When a sample was captured, in UTC, as the clock has it now; None where the sound waits or the clock errs."""
        with self._changed:
            ago = self._clock.monotonic() - capture.when(sample)
        now = self._clock.now()
        return None if now is None or not self._live else now - datetime.timedelta(seconds=ago)

    def give_up(self) -> float:
        """Forget what is held; how much that was, s."""
        with self._changed:
            lost = self._held
            self._blocks.clear()
            self._held = 0.0
            self._changed.notify_all()
            return lost

    def _ready(self) -> bool:
        if self._ended:
            return True
        if self._live is None or not self._blocks:
            return False
        capture = self._blocks[0].capture
        if capture is not self._capture:
            return True
        settled = not self._live or self._clock.monotonic() - capture.began >= _SETTLED_SECONDS
        return settled and self._held >= _SLICE_SECONDS

    def _judge(self) -> None:
        """Find out whether the sound is live: whether, once it comes, it comes as fast as time goes by."""
        if self._live is not None or (self._first is None and not self._ended):
            return
        now = self._clock.monotonic()
        elapsed = now - (now if self._first is None else self._first)
        # what a pipe had collected before this began comes at once; no more than so much of it is likely
        enough = min(_JUDGED_SECONDS, self._capacity / 2)
        if self.received > 1.5 * elapsed + (0.5 if self._ended else enough):
            self._live = False
        elif self._ended or elapsed >= enough:
            self._live = True

    def _make_room(self, seconds: float) -> float:
        # Half of it, not only what is needed: a pipeline that is a little too slow then hears long stretches, in which
        # it can confirm species, and not single windows with a gap after each.
        lost, kept = 0.0, min(self._capacity / 2, self._capacity - seconds)
        while self._blocks and self._held > kept:
            lost += self._pop().seconds
        return lost

    def _pop(self) -> Block:
        block = self._blocks.popleft()
        self._held = self._held - block.seconds if self._blocks else 0.0
        return block


def follows(block: Block, after: Block) -> bool:
    """Whether there is no gap between two."""
    return after.capture is block.capture and after.start == block.start + len(block.samples)


def _seconds(blocks: list[Block]) -> float:
    return sum(block.seconds for block in blocks)
