"""Who does the jobs of preparation: processes of this machine, or workers of a Dask cluster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Generic, Protocol, TypeVar

from training.errors import StageError
from training.segments import Job, Outcome

_AHEAD = 4  # jobs a worker that are on their way at once: enough that none waits, few enough to hold

AnyJob = TypeVar("AnyJob")
AnyOutcome = TypeVar("AnyOutcome")


class Engine(Protocol):
    """Something that does jobs."""

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """What became of each job, in any order. Jobs are taken from ``jobs`` a few at a time, as others are done.

        Raises:
            StageError: the workers are gone, or do not see the files.
            OSError: a feature cannot be written.
        """


class LocalEngine(Generic[AnyJob, AnyOutcome]):
    """Processes of this machine; with one worker, this process itself."""

    def __init__(self, work: Callable[[AnyJob], AnyOutcome], workers: int) -> None:
        self._work, self._workers = work, workers

    def run(self, jobs: Iterable[AnyJob]) -> Iterator[AnyOutcome]:
        """As :meth:`Engine.run`."""
        if self._workers == 1:
            yield from map(self._work, jobs)
            return
        waiting = iter(jobs)
        # spawn: forking a process that has started threads (TensorFlow's, BLAS's) can hang
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(self._workers, context, _end_with_the_parent) as pool:
            under_way: set[concurrent.futures.Future[AnyOutcome]] = set()
            try:
                while True:
                    for job in itertools.islice(waiting, _AHEAD * self._workers - len(under_way)):
                        with _interrupts_held():  # a worker starts with them held: Ctrl-C is this process's concern
                            under_way.add(pool.submit(self._work, job))
                    if not under_way:
                        return
                    done, under_way = concurrent.futures.wait(under_way, return_when=concurrent.futures.FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            except BrokenProcessPool as error:
                raise StageError(
                    "A worker process ended before its work was done, perhaps for want of memory; the same command "
                    "continues where this one stopped, with features.workers=1 in the least memory."
                ) from error
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _end_with_the_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C, should it come, comes when the block ends; processes started in the block inherit the mask."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
