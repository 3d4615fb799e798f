"""Runs a pipeline: what the source gives goes through the nodes one by one, depth first."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from labous.errors import LabousError, NodeError, PipelineError
from labous.nodes import Context, EndOfStream, Record
from labous.station.pipeline_file import Pipeline, Step

_FLUSH_SECONDS = 2.5  # for what a source that is told to end still gives; of 5 s, closing the nodes has the rest

_logger = logging.getLogger("labous")


class Stopping(threading.Event):
    """What tells a pipeline to end, and when it did, and when the thread that made it last heeded it.

    Attributes:
        since: monotonic, s; infinity while it is not set.
        heeded: when that thread asked for it or waited on it, monotonic, s; infinity while it waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.since, self.heeded = float("inf"), -float("inf")
        self._thread = threading.get_ident()

    def set(self) -> None:
        """Tell it; the first time counts."""
        self.since = min(self.since, time.monotonic())
        super().set()

    def is_set(self) -> bool:
        """See threading.Event. A pipeline that asks is not stuck."""
        if threading.get_ident() == self._thread:
            self.heeded = time.monotonic()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """See threading.Event. A pipeline that waits here is not stuck."""
        if threading.get_ident() != self._thread:
            return super().wait(timeout)
        self.heeded = float("inf")
        try:
            return super().wait(timeout)
        finally:
            self.heeded = time.monotonic()


@dataclasses.dataclass(frozen=True)
class _Opened:
    step: Step
    node: Any  # a Source or a Node


class Runner:
    """An opened pipeline, for one thread.

    Args:
        pipeline: checked.
        context: of its nodes.
        stopping: the context's.

    Raises:
        PipelineError: a node cannot be opened; those before it are closed again.

    Attributes:
        last: the newest window that has gone through all nodes, if any.
        sample_rate: of its samples, Hz.
    """

    def __init__(self, pipeline: Pipeline, context: Context, stopping: Stopping) -> None:
        self._context, self._stopping = context, stopping
        self.sample_rate = context.bundle.frontend.sample_rate
        self._busy_since: float | None = None
        self._opened: list[_Opened] = []
        self.last: Record | None = None
        try:
            for step in pipeline.steps:
                self._opened.append(_Opened(step, opened(pipeline, step, context)))
        except BaseException:
            self.close()
            raise

    def run(self) -> None:
        """Pull from the source until it ends; when the pipeline is told to end, for a few seconds more.

        Raises:
            NodeError: a node cannot go on. One that raised what it must not is logged with its traceback.
            LabousError: the same, of another kind.
        """
        source = self._opened[0]
        items = self._given(source, source.node.records)
        self._busy_since = time.monotonic()
        try:
            for item in items:
                self._busy_since = time.monotonic()
                if isinstance(item, EndOfStream):
                    self._end(item)
                else:
                    self._take(item)
                self._busy_since = time.monotonic()
                if time.monotonic() > self._stopping.since + _FLUSH_SECONDS:
                    _logger.warning("The source went on when it was told to end; what it still had is left.")
                    return
        finally:
            self._busy_since = None
            items.close()

    def stuck_seconds(self) -> float:
        """How long a node has had the window at hand, or the source none, without heeding the end. Any thread."""
        since = self._busy_since
        return 0.0 if since is None else max(0.0, time.monotonic() - max(since, self._stopping.heeded))

    def close(self) -> bool:
        """Stop and close all nodes, the source first; whether all went well. What did not is in the log."""
        good = True
        stops = [(one, one.node.stop) for one in self._opened if hasattr(one.node, "stop")]
        for one, call in [*stops, *((one, one.node.close) for one in self._opened)]:
            try:
                call()
            except LabousError as error:
                good = False
                _logger.error("%s", error)
            except Exception as error:
                good = False
                _fault(self._context, one.step, error)
        self._opened.clear()
        return good

    def _take(self, record: Record) -> None:
        self._push(1, (record,))
        self._context.counters.add("windows_total")
        heard = min(record.fresh, record.end - record.start)
        self._context.counters.add("audio_seconds_total", heard / self.sample_rate)
        self.last = dataclasses.replace(record, columns={})  # without its sound

    def _push(self, index: int, records: Iterable[Record]) -> None:
        """Give records to the node at an index, and what it makes of each to those behind it."""
        if index == len(self._opened):
            for _ in records:
                pass
            return
        one = self._opened[index]
        for record in records:
            self._push(index + 1, self._given(one, one.node.process, record))

    def _end(self, item: EndOfStream) -> None:
        for index, one in enumerate(self._opened[1:], 1):
            self._push(index + 1, self._given(one, one.node.end, item.stream))

        def done() -> tuple[()]:
            item.done()
            return ()

        for _ in self._given(self._opened[0], done):
            pass

    def _given(self, one: _Opened, call: Callable[..., Iterable[Any]], *arguments: Any) -> Any:
        """What a node gives, and a sentence in place of what it must not raise."""
        try:
            yield from call(*arguments)
        except LabousError:
            raise
        except Exception as error:
            raise NodeError(_fault(self._context, one.step, error)) from error


def opened(pipeline: Pipeline, step: Step, context: Context, way: Callable[[Context], Any] | None = None) -> Any:
    """A step's node or source, ready; or what another way than ``open`` gives.

    Raises:
        PipelineError: it cannot be opened; with its line.
    """
    try:
        return (way or step.options.open)(context)
    except LabousError as error:
        why = str(error)
    except Exception as error:
        why = _fault(context, step, error)
    raise PipelineError(f"{str(pipeline.path)!r}, line {step.line}: {why}")


def _fault(context: Context, step: Step, error: Exception) -> str:
    """Log and count what a node must not raise; a sentence about it."""
    context.counters.add(f'node_faults_total{{node="{step.type}"}}')
    _logger.error("The node %s failed unexpectedly.", step.type, exc_info=error)
    return f"the node {step.type} failed unexpectedly ({type(error).__name__}: {error}); the log has its traceback."
