"""Batches made ahead of the training step, and how long the step had to wait for them."""

from __future__ import annotations

import concurrent.futures
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_AHEAD = 8


class Feed(Generic[T]):
    """Makes the batches of all epochs in order, in threads, a few ahead: while an epoch is validated, the next begins.

    Args:
        make: (epoch, number) -> batch.
        epochs: to feed, in this order.
        steps: batches of an epoch.
        threads: that make batches side by side.

    Attributes:
        waited: seconds that :meth:`epoch` has kept its caller waiting.
    """

    def __init__(self, make: Callable[[int, int], T], epochs: range, steps: int, threads: int) -> None:
        self._make, self._steps = make, steps
        self._numbers = ((epoch, number) for epoch in epochs for number in range(steps))
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._waiting: deque[concurrent.futures.Future[T]] = deque()
        self.waited = 0.0
        for _ in range(_AHEAD + threads - 1):
            self._ask()

    def epoch(self) -> Iterator[T]:
        """The batches of the next epoch."""
        for _ in range(self._steps):
            before = time.perf_counter()
            batch = self._waiting.popleft().result()
            self.waited += time.perf_counter() - before
            self._ask()
            yield batch

    def close(self) -> None:
        """Let go of batches that nobody wants any more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self) -> None:
        wanted = next(self._numbers, None)
        if wanted is not None:
            self._waiting.append(self._pool.submit(self._make, *wanted))
