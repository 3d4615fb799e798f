"""What ``labous run --check`` tries: whatever of a pipeline can be tried without leaving a trace."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from labous.bundle import Bundle
from labous.errors import PipelineError
from labous.nodes import Context, built_in, is_source, writes
from labous.options import named
from labous.station.counters import Counters
from labous.station.pipeline_file import Pipeline
from labous.station.runner import Stopping, opened


def rehearsed(pipeline: Pipeline, bundle: Bundle) -> list[str]:
    """Open the nodes in a state directory of their own, and try the files and folders that they name.

    Returns:
        what was not tried, each for a sentence.

    Raises:
        PipelineError: what could not run.
    """
    why = _unwritable(pipeline.state)
    if why is not None:
        raise PipelineError(f"The state directory {why}; set station.state, or make it writable.")
    return [text for number in range(len(pipeline.steps)) for text in _step(pipeline, bundle, number)]


def _step(pipeline: Pipeline, bundle: Bundle, number: int) -> Iterator[str]:
    step = pipeline.steps[number]
    options = step.options
    known = step.type in built_in() or bool(writes(options) and not is_source(type(options)))
    with tempfile.TemporaryDirectory(prefix="labous-") as folder:
        context = Context(bundle, pipeline.station, Path(folder), Counters(), Stopping(), pipeline.folder)
        if hasattr(options, "check"):
            opened(pipeline, step, context, options.check)
        elif known:
            own = {key: folder for key, what, _ in named(options) if what == "writes"}
            opened(pipeline, step, context, dataclasses.replace(options, **own).open).close()  # type: ignore[type-var]
    for key, what, value in named(options):
        why = _unwritable(context.path(value)) if what == "writes" else None
        if what == "reads":
            why = _unreadable(context.path(value))
        if why is not None:
            raise PipelineError(f"{str(pipeline.path)!r}, line {step.line}: {step.type}: {key} {why}.")
    untried = options.untried() if hasattr(options, "untried") else None if known else "all that it does"
    if untried is not None:
        yield f"node {number + 1} ({step.type}): {untried}"


def _unreadable(path: Path) -> str | None:
    """Why a file or folder cannot be read."""
    try:
        if path.is_dir():
            os.scandir(path).close()
        elif not os.access(path, os.R_OK):
            path.open("rb").close()  # to learn why; a pipe that nobody writes to would hold it up
    except OSError as error:
        return f"is {str(path)!r}, which cannot be read ({error.strerror})"
    return None


def _unwritable(folder: Path) -> str | None:
    """Why files cannot be written into a folder, which is made if it is missing."""
    there = next(above for above in (folder, *folder.absolute().parents) if os.path.lexists(above))
    try:
        with tempfile.TemporaryDirectory(prefix=".labous-", dir=there):
            return None
    except OSError as error:
        return f"is {str(folder)!r}, which cannot be written ({error.strerror})"
