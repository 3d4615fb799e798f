"""Preparation on a Dask cluster, for where one machine is not enough.

Workers run in a checkout of the same version, and see the recordings and ``paths.prepared`` under the paths that this
process sees them under: they write the features themselves, only outcomes travel.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import platform
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.config import Dask
from training.errors import ConfigError, StageError
from training.files import write_text
from training.segments import Extraction, Job, Outcome, feature_code

if TYPE_CHECKING:
    from distributed import Client

_AHEAD = 4  # jobs a thread that are on their way at once
_LIBRARIES = ("librosa", "numpy", "soundfile", "soxr")  # whose versions may decide a feature's last bit
_START = "start workers in a checkout of this version, with its environment: python -m distributed.cli.dask_worker"


class DaskEngine:
    """The workers of a scheduler.

    Raises:
        ConfigError: no scheduler is named.
    """

    def __init__(self, work: Extraction, told: Dask) -> None:
        if told.scheduler is None:
            raise ConfigError(
                "features.engine is dask, and dask.scheduler is not given; add dask.scheduler=tcp://HOST:8786 "
                "(python -m distributed.cli.dask_scheduler starts one)."
            )
        self._work, self._scheduler, self._timeout = work, told.scheduler, told.timeout

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """As :meth:`training.preparation.engines.Engine.run`."""
        from distributed import Client, as_completed
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        try:
            client = Client(self._scheduler, timeout=self._timeout, set_as_default=False)
        except (OSError, ValueError, ImportError) as error:
            raise StageError(
                f"The Dask scheduler at {self._scheduler} cannot be reached within {self._timeout:g} s; check "
                "dask.scheduler (tcp://HOST:PORT) and that it runs."
            ) from error
        ours, sign = introduction(self._work.backend), self._work.place / "features" / f".{uuid.uuid4().hex}"
        with client, _there(sign):
            self._wait_for_a_worker(client)
            self._check_imports(client)
            threads = sum(client.nthreads().values())
            waiting = iter(jobs)

            def submitted(most: int) -> list[Any]:
                return [client.submit(do, self._work, job, ours, sign, pure=False) for job in islice(waiting, most)]

            try:
                under_way = as_completed(submitted(_AHEAD * threads), loop=client.loop)
                for future in under_way:
                    outcome: Outcome = future.result()
                    under_way.update(submitted(1))
                    yield outcome
            except (KilledWorker, FutureCancelledError) as error:
                raise StageError(
                    f"The Dask cluster at {self._scheduler} lost its scheduler, or a worker again and again, perhaps "
                    "for want of memory; the same command continues where this one stopped."
                ) from error

    def _wait_for_a_worker(self, client: Client) -> None:
        try:
            client.wait_for_workers(1, timeout=self._timeout)
        except TimeoutError as error:
            raise StageError(
                f"The Dask scheduler at {self._scheduler} has no workers after {self._timeout:g} s; {_START} "
                f"{self._scheduler}."
            ) from error

    def _check_imports(self, client: Client) -> None:
        """Ask for this module by name: where it is missing, a job would not even arrive."""
        answers: dict[str, Any] = client.run(importlib.import_module, __name__, on_error="return")
        try:
            client.run_on_scheduler(importlib.import_module, __name__)
        except Exception as error:
            answers[f"scheduler at {self._scheduler}"] = error
        for who, answer in answers.items():
            if isinstance(answer, BaseException):
                raise StageError(
                    f"The Dask process {who} cannot run this code ({answer}); start the scheduler in a checkout of "
                    f"this version, and {_START} {self._scheduler}."
                ) from answer


@contextlib.contextmanager
def _there(sign: Path) -> Iterator[None]:
    """A file by which workers know that they see this file system."""
    write_text(sign, "")
    try:
        yield
    finally:
        sign.unlink(missing_ok=True)


def do(work: Extraction, job: Job, ours: dict[str, str], sign: Path) -> Outcome:
    """A job on a worker; each job is checked, as workers may join at any time.

    Raises:
        StageError: the worker is of another version, or does not see the files.
        OSError: a feature cannot be written.
    """
    mine = introduction(work.backend)
    other = next((what for what in ours if mine.get(what) != ours[what]), None)
    if other is not None:
        raise StageError(
            f"A Dask worker on {platform.node()} has {other} {mine.get(other)}, and the process that asked it "
            f"{ours[other]}; {_START}."
        )
    if not sign.exists():
        raise StageError(
            f"A Dask worker on {platform.node()} does not see {work.place}: every worker must see the recordings and "
            "paths.prepared under the same paths, on a file system that they share."
        )
    return work(job)


@functools.cache
def introduction(backend: str) -> dict[str, str]:
    """What decides a feature's last bit: the versions of the code and of libraries, by name."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"code of version": feature_code(backend)[:12], **versions}
