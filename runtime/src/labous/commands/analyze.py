"""``labous analyze``: recordings in, detections out."""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import multiprocessing
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from pathlib import Path

import labous
from labous import recordings
from labous.bundle import Bundle
from labous.detect import Detection
from labous.errors import LabousError
from labous.formats import FORMATS, Writer, printable, replacing
from labous.power_law import AnyFrontend
from labous.progress import Progress


@dataclasses.dataclass(frozen=True)
class _Options:
    """What ``Bundle.analyze`` is told for every recording."""

    top_n: int
    overlap: float
    min_score: float | None


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """One recording's detections, or the sentence that says why there are none."""

    recording: Path
    detections: Sequence[Detection] = ()
    error: str | None = None


def run(arguments: argparse.Namespace) -> int:
    """Analyze every recording; 1 where one could not be."""
    bundle = labous.load(arguments.bundle, arguments.precision, arguments.engine)
    recordings.check_overlap(arguments.overlap, bundle.frontend)
    found = recordings.find(arguments.paths)
    options = _Options(arguments.top_n, arguments.overlap, arguments.min_score)
    failed = 0
    with contextlib.ExitStack() as stack:
        sink = _sink(stack, arguments, found, bundle.frontend)
        progress = Progress(len(found), "recordings", arguments.progress)
        stack.callback(progress.clear)
        outcomes = stack.enter_context(contextlib.closing(_outcomes(bundle, found, options, arguments)))
        for outcome in outcomes:
            if outcome.error is not None:
                failed += 1
                progress.say(f"labous: {printable(outcome.error)}")
            else:
                progress.clear()
                sink.write(outcome)
            progress.advance()
    if failed:
        print(f"labous: {failed} of {len(found)} recordings could not be analyzed.", file=sys.stderr)
    return 1 if failed else 0


def _outcomes(
    bundle: Bundle, found: Sequence[Path], options: _Options, arguments: argparse.Namespace
) -> Generator[_Outcome, None, None]:
    """Outcomes in the order of the recordings, however many processes work on them."""
    jobs = min(arguments.jobs, len(found))
    if jobs == 1:
        for path in found:
            yield _outcome(bundle, path, options)
        return
    context = multiprocessing.get_context("spawn")  # not fork: the interpreter's and Wasmtime's threads would be lost
    stop = context.Event()
    executor = ProcessPoolExecutor(
        jobs,
        mp_context=context,
        initializer=_start_worker,
        initargs=(arguments.bundle, arguments.precision, arguments.engine, stop),
    )
    # what starts while Ctrl-C is ignored goes on ignoring it: this process alone ends the workers
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        waiting = collections.deque(executor.submit(_work, path, options) for path in found)
    finally:
        signal.signal(signal.SIGINT, handler)
    try:
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise LabousError("A worker process died, perhaps for want of memory; try again with -j 1.") from error
    finally:
        # asked, not killed: a worker that dies while it hands over a result blocks the executor for ever
        stop.set()
        executor.shutdown()


def _outcome(bundle: Bundle, path: Path, options: _Options, stopped: Callable[[], bool] = lambda: False) -> _Outcome:
    """Analyze one recording; given up where ``stopped`` says so."""
    # a list, since some damage shows only at a recording's end: then nothing of it may be written
    detections: list[Detection] = []
    try:
        for found in bundle.analyze_windows(path, options.top_n, options.overlap, options.min_score):
            if stopped():
                return _Outcome(path, error="stopped")
            detections += found
    except LabousError as error:
        return _Outcome(path, error=str(error))
    return _Outcome(path, detections)


class _Worker:
    """What a worker process keeps from one recording to the next."""

    bundle: Bundle
    stop: Event


def _start_worker(path: str, precision: str | None, engine: str | None, stop: Event) -> None:
    _Worker.bundle, _Worker.stop = Bundle.read(path, precision, engine), stop


def _work(path: Path, options: _Options) -> _Outcome:
    return _outcome(_Worker.bundle, path, options, _Worker.stop.is_set)


def _sink(
    stack: contextlib.ExitStack, arguments: argparse.Namespace, found: Sequence[Path], frontend: AnyFrontend
) -> _Stream | _Folder:
    """Where the results go, refused before any work where it cannot be."""
    writer = FORMATS[arguments.format]
    output = None if arguments.output is None else Path(arguments.output)
    several = len(arguments.paths) > 1 or Path(arguments.paths[0]).is_dir()
    if writer.one_recording and (several or (output is not None and output.is_dir())):
        if output is None:
            raise LabousError(f"The format {arguments.format} takes a file per recording; give --output FOLDER.")
        if output.exists() and not output.is_dir():
            raise LabousError(f"{str(output)!r} is a file and several recordings need a folder; give another --output.")
        return _Folder(output, writer, frontend, _names(arguments.paths, found))
    if output is not None and output.is_dir():
        raise LabousError(f"{str(output)!r} is a folder and {arguments.format} is one file; give --output a file name.")
    return _Stream(stack, output, writer, frontend, utf8=arguments.format != "table")


def _names(paths: Sequence[str], found: Sequence[Path]) -> dict[Path, Path]:
    """Each recording's place below the output folder: its path below the folder that was given, or its name."""
    folders = [Path(path) for path in paths if Path(path).is_dir()]
    names: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for recording in found:
        above = next((folder for folder in folders if recording.is_relative_to(folder)), recording.parent)
        name = recording.relative_to(above)
        if name in taken:
            raise LabousError(
                f"{str(taken[name])!r} and {str(recording)!r} would be written to one file; analyze them one at a time."
            )
        taken[name] = recording
        names[recording] = name
    return names


class _Stream:
    """All results in one file or on stdout. The file appears when all is done, and not if nothing could be read."""

    def __init__(
        self, stack: contextlib.ExitStack, output: Path | None, writer: type[Writer], frontend: AnyFrontend, utf8: bool
    ) -> None:
        self._stack, self._output, self._format, self._frontend = stack, output, writer, frontend
        self._encoding = "utf-8" if utf8 else None
        self._writer: Writer | None = None

    def write(self, outcome: _Outcome) -> None:
        if self._writer is None:
            self._writer = self._begin()
        self._writer.write(str(outcome.recording), outcome.detections)
        if self._output is None:
            sys.stdout.flush()

    def _begin(self) -> Writer:
        if self._output is not None:
            out = self._stack.enter_context(replacing(self._output))
        else:
            out = sys.stdout
            out.reconfigure(encoding=self._encoding, errors="backslashreplace")  # type: ignore[union-attr]
        writer = self._format(out, self._frontend)
        writer.begin()
        return writer


class _Folder:
    """A file per recording."""

    def __init__(self, folder: Path, writer: type[Writer], frontend: AnyFrontend, names: dict[Path, Path]) -> None:
        self._folder, self._format, self._frontend, self._names = folder, writer, frontend, names

    def write(self, outcome: _Outcome) -> None:
        name = self._names[outcome.recording]
        with replacing(self._folder / name.with_name(name.name + self._format.suffix)) as out:
            writer = self._format(out, self._frontend)
            writer.begin()
            writer.write(str(outcome.recording), outcome.detections)
