"""``labous run``: a station, from its pipeline file."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
from pathlib import Path

from labous._version import __version__
from labous.bundle import Bundle
from labous.columns import aligned, table
from labous.errors import LabousError
from labous.formats import printable
from labous.nodes import Context, reads, writes
from labous.station import log, pipeline_file, prometheus, rehearsal, runner, status
from labous.station.counters import Counters
from labous.station.pipeline_file import Pipeline
from labous.station.process import Signals, Systemd, alone_in
from labous.station.settings import PREFERRED

_END_SECONDS = 5.0

_logger = logging.getLogger("labous")


def run(arguments: argparse.Namespace) -> int:
    """Run until the source ends or a signal comes; 0 after SIGTERM, 130 after Ctrl-C."""
    if arguments.schema:
        print(json.dumps(pipeline_file.json_schema(), indent=2, ensure_ascii=False))
        return 0
    if arguments.pipeline is None:
        raise LabousError("There is no pipeline file; give its path.")
    pipeline = pipeline_file.read(arguments.pipeline)
    log.to_stderr()
    return _check(pipeline) if arguments.check else _run(pipeline)


def _check(pipeline: Pipeline) -> int:
    """Prove the bundle, try the nodes, and say what would run."""
    bundle = _bundle(pipeline)
    untried = rehearsal.rehearsed(pipeline, bundle)
    told = bundle.manifest
    pairs = [
        ("station", pipeline.station.name),
        ("bundle", f"{told.name} {told.version}, {bundle.precision}, {(~bundle.not_birds).sum()} species"),
        ("state", str(pipeline.state)),
    ]
    rows = [
        [
            str(number),
            step.type,
            "inserted, as clips are saved" if step.inserted else f"line {step.line}",
            ", ".join(reads(step.options)),
            ", ".join(writes(step.options)),
        ]
        for number, step in enumerate(pipeline.steps, 1)
    ]
    for line in [*aligned(pairs), "", *table(["node", "type", "from", "reads", "writes"], rows)]:
        print(printable(line))
    left = f" Not tried: {'; '.join(untried)}." if untried else ""
    print(f"\nThis would run.{printable(left)}")
    return 0


def _run(pipeline: Pipeline) -> int:
    stopping, counters, systemd = runner.Stopping(), Counters(), Systemd()

    def stop() -> None:
        systemd.tell("STOPPING=1")
        stopping.set()

    with Signals(stop, _END_SECONDS) as signals, alone_in(pipeline.state):
        context = _context(pipeline, _bundle(pipeline), pipeline.state, counters, stopping)
        running = runner.Runner(pipeline, context, stopping)
        reporter = status.Reporter(pipeline, counters, running, systemd, status.folder_of(pipeline))
        how, good = "by an unexpected error", False
        try:
            with reporter, _metrics(pipeline, reporter):
                systemd.tell("READY=1")
                kinds = " → ".join(step.type for step in pipeline.steps)
                _logger.info("Labous %s runs the station %s: %s.", __version__, pipeline.station.name, kinds)
                running.run()
                good = running.close()
            how = "as it was told" if signals.first is not None else "as its source ended"
        except LabousError as error:
            how = f"by an error: {error}"
            raise
        finally:
            running.close()
            reporter.ended(how)
        _logger.info("The station %s has ended, %s.", pipeline.station.name, how)
    if not good:
        return 1
    return 130 if signals.first == signal.SIGINT else 0


def _metrics(pipeline: Pipeline, reporter: status.Reporter) -> contextlib.AbstractContextManager[object]:
    port = pipeline.station.metrics_port
    return contextlib.nullcontext() if port is None else prometheus.served(port, reporter.numbers)


def _bundle(pipeline: Pipeline) -> Bundle:
    bundle = Bundle.read(pipeline.bundle, pipeline.station.precision, pipeline.station.engine, PREFERRED)
    bundle.announce()
    return bundle


def _context(pipeline: Pipeline, bundle: Bundle, state: Path, counters: Counters, stopping: runner.Stopping) -> Context:
    return Context(bundle, pipeline.station, state, counters, stopping, pipeline.folder)
