"""What the command lines of training show: lines, tables and progress bars, on one console."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.text import Text
from tqdm import tqdm

from training import interrupts

T = TypeVar("T")

# where nobody says how wide it is (a log, a pipe), wide enough for the tables
_PIPE_WIDTH = "110"
console = Console(highlight=False, width=None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", _PIPE_WIDTH)))


def say(line: str, style: str = "") -> None:
    """One line for the person at the terminal, as it is: names of files may hold brackets."""
    console.print(line, style=style, markup=False, soft_wrap=True)


def say_stage(name: str, line: str) -> None:
    """A stage's name, set off, and what becomes of it."""
    console.print(Text.assemble((f"{name:<9}", "bold"), " ", line), soft_wrap=True)


def progress(items: Iterable[T], description: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """A progress bar on standard error over ``items``."""
    # None: only where someone is watching
    bar = tqdm(items, desc=f"{description:<9}", total=total, unit=unit, dynamic_ncols=True, leave=False, disable=None)
    for item in bar:
        interrupts.heed()
        yield item
