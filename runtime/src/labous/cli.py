"""The command line: ``labous analyze``, ``run``, ``status``, ``devices``, ``install-service``, ``info``, ``check``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence

from labous._version import __version__
from labous.errors import LabousError

_EXIT_CODES = (
    "exit codes: 0 all well; 1 something given could not be used (a recording, the bundle) or a check failed; "
    "2 wrong usage; 130 interrupted"
)
_FORMATS = ("table", "jsonl", "csv", "raven", "audacity")
_PRECISIONS = ("float32", "float16", "int8")
_ENGINES = ("litert", "tflite_c", "tflite_runtime", "aot", "onnxruntime")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    began = time.perf_counter()
    arguments = _parser().parse_args(argv)
    arguments.began = began
    try:
        # each command's module is imported when it is asked for, so that --help is immediate
        module = f"labous.commands.{arguments.command.replace('-', '_')}"
        code: int = importlib.import_module(module).run(arguments)
        sys.stdout.flush()
        return code
    except LabousError as error:
        print(f"labous: {_one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("labous: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader (head, less) has gone; point stdout elsewhere so that Python's flush at exit cannot fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _one_line(message: str) -> str:
    from labous.formats import printable

    return printable(message)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labous", description="Listen for birds.", epilog=_EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"labous {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    analyze = commands.add_parser("analyze", help="name the species in recordings", epilog=_EXIT_CODES)
    analyze.add_argument("paths", nargs="+", metavar="PATH", help="a recording, or a folder of them at any depth")
    analyze.add_argument("--bundle", required=True, metavar="B", help="a bundle's directory or .zip")
    analyze.add_argument("--top-n", type=_positive, default=3, metavar="N", help="most species per window (3)")
    analyze.add_argument(
        "--min-score", type=float, metavar="P", help="lowest score, 0 to 1, for every species (the bundle's thresholds)"
    )
    analyze.add_argument(
        "--overlap", type=float, default=0.0, metavar="S", help="overlap of one window with the next in seconds (0)"
    )
    analyze.add_argument("--format", choices=_FORMATS, default="table", help="of the results (table)")
    analyze.add_argument(
        "--output", metavar="FILE", help="where to write; for raven and audacity with several recordings, a folder"
    )
    analyze.add_argument("-j", "--jobs", type=_positive, default=1, metavar="N", help="processes (1)")
    analyze.add_argument(
        "--precision", choices=_PRECISIONS, help="which of the bundle's models (the first that it has, in this order)"
    )
    _add_engine(analyze)
    analyze.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress bar")

    run = commands.add_parser("run", help="run a station from its pipeline file", epilog=_EXIT_CODES)
    run.add_argument("pipeline", nargs="?", metavar="PIPELINE", help="a pipeline file (TOML)")
    run.add_argument("--check", action="store_true", help="check the file and its bundle, say what would run, and end")
    run.add_argument("--schema", action="store_true", help="print the JSON Schema of pipeline files, and end")

    status = commands.add_parser("status", help="how a station fares", epilog=_EXIT_CODES)
    status.add_argument("pipeline", nargs="?", metavar="PIPELINE", help="the station's pipeline file")
    status.add_argument("--state", metavar="DIR", help="where the station keeps its status, in place of the file")
    status.add_argument("--json", action="store_true", help="as JSON")

    service = commands.add_parser(
        "install-service", help="print or write a systemd unit that runs a station", epilog=_EXIT_CODES
    )
    service.add_argument("pipeline", metavar="PIPELINE", help="a pipeline file (TOML)")
    service.add_argument("--write", action="store_true", help="write the unit, rather than print it")
    service.add_argument("--folder", default="/etc/systemd/system", metavar="DIR", help="of units (%(default)s)")
    service.add_argument("--user", metavar="NAME", help="an existing user to run as (one that systemd makes)")
    service.add_argument(
        "--writable", action="append", default=[], metavar="DIR", help="a folder that nodes write into; may be repeated"
    )
    service.add_argument("--memory", default="512M", metavar="SIZE", help="that it may take at most (%(default)s)")

    commands.add_parser("devices", help="list what a microphone node can listen to", epilog=_EXIT_CODES)

    info = commands.add_parser("info", help="what a bundle holds and whether it is intact", epilog=_EXIT_CODES)
    info.add_argument("bundle", metavar="B", help="a bundle's directory or .zip")

    check = commands.add_parser("check", help="prove that this device gives a bundle's own results", epilog=_EXIT_CODES)
    check.add_argument("--bundle", metavar="B", help="a bundle's directory or .zip; without it, the mel module alone")
    _add_engine(check)
    return parser


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", choices=_ENGINES, help="what runs the model (the first installed)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
