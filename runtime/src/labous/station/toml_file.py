"""A TOML file whose keys know their lines, which no reader of TOML in the standard library tells."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labous.errors import PipelineError

_MOST_BYTES = 1_000_000
_TOO_LARGE = 2**63  # TOML's integers have 64 bits

# in a document that has been parsed, so is known to be right: what may hold or hide a bracket or an end of line
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{}\n]",
    re.DOTALL,
)
_AT_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")

# a key lies between these; the time that tomllib takes for one grows with more than the square of its parts
_BETWEEN = re.compile(r"[^=\[\]{},\n#]+")
_MOST_DOTS = 200

Key = tuple["str | int", ...]


class TomlFile:
    """A file, read and parsed.

    Args:
        path: of the file.

    Raises:
        PipelineError: it is missing, too large, not UTF-8 or not TOML; with the line.

    Attributes:
        path: of the file.
        values: what it says, in dicts, lists and scalars.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = _read(path)
        try:
            self.values = self._parsed()
            large = next((key for key, value in _leaves(self.values, ()) if _is_too_large(value)), None)
        except RecursionError:
            raise PipelineError(f"{str(path)!r} is nested too deeply; write it flatter.") from None
        if large is not None:
            raise self.error(large, "this whole number has more than 64 bits; write a smaller one.")

    def error(self, key: Key, message: str) -> PipelineError:
        """What is wrong with a key, or, where the file has no such key, with the table that should have it."""
        return PipelineError(f"{str(self.path)!r}, line {self.line(key)}: {message}")

    def line(self, key: Key) -> int:
        """Where the file gives a value, or the innermost that it gives of those around it; from 1.

        Args:
            key: names of tables, numbers in arrays, from the whole document down: ``("node", 2, "url")``.
        """
        found, depth = 1, 0
        for line, reached in self._statements(key):
            if reached > depth:
                found, depth = line, reached
        return found

    def _parsed(self) -> dict[str, Any]:
        for run in _BETWEEN.finditer(self._text):
            if run[0].count(".") > _MOST_DOTS:
                line = self._text.count("\n", 0, run.start()) + 1
                raise PipelineError(
                    f"{str(self.path)!r}, line {line}: this has more than {_MOST_DOTS} dots; shorten it."
                )
        try:
            return _loads(self._text)
        except ValueError as error:
            message = str(error)
            at = _AT_LINE.search(message)
            if at is None:  # not tomllib's, but int's, which reads no number of thousands of digits
                raise PipelineError(
                    f"{str(self.path)!r}: a whole number in it has more than 64 bits; write a smaller one."
                ) from None
            line = int(at[1] or self._text.count("\n") + 1)
            what = message[: at.start()]
            raise PipelineError(f"{str(self.path)!r}, line {line}: this is not TOML: {what}.") from None

    def _statements(self, key: Key) -> Iterator[tuple[int, int]]:
        """Each statement's line, and how many parts of the key it gives."""
        counts: dict[Key, int] = {}  # of each array of tables
        table: Key = ()
        for line, text in _split(self._text):
            if text.startswith("["):
                *above, last = _chain(_loads(text))
                table = ()
                for name in above:
                    table += (name,)
                    table += (counts[table],) if table in counts else ()
                table += (last,)
                if text.startswith("[["):
                    counts[table] = counts.get(table, -1) + 1
                    table += (counts[table],)
                yield line, _common(key, table)
            elif key[: len(table)] == table:
                yield line, len(table) + _reached(key[len(table) :], _loads(text))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise PipelineError(f"{str(path)!r} cannot be read ({why}); check the path.") from error
    if len(content) > _MOST_BYTES:
        raise PipelineError(f"{str(path)!r} has more than {_MOST_BYTES} bytes; a pipeline file is smaller.")
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PipelineError(f"{str(path)!r}, line {line}: this is not UTF-8; save it as UTF-8.") from error


def _loads(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _split(text: str) -> Iterator[tuple[int, str]]:
    """The statements of a right document, each with its line; neither blank lines nor comments."""
    begin = line = depth = 0
    for token in _TOKEN.finditer(text + "\n"):
        mark = token[0]
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        elif mark == "\n" and depth == 0:
            statement = text[begin : token.start()].strip(" \t")
            if statement and not statement.startswith("#"):
                yield line + 1, statement
            line += text.count("\n", begin, token.end())
            begin = token.end()


def _chain(values: Any) -> Iterator[str]:
    """The names in a header, from what it makes by itself."""
    while values:
        if isinstance(values, list):
            (values,) = values
            continue
        ((name, values),) = values.items()
        yield name


def _reached(key: Key, values: Any) -> int:
    """How many parts of the key are in what a statement ``name = value`` says."""
    for depth, part in enumerate(key):
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return depth
    return len(key)


def _common(key: Key, table: Key) -> int:
    """How many parts of the key a header gives."""
    depth = 0
    for wanted, given in zip(key, table, strict=False):
        if wanted != given:
            break
        depth += 1
    return depth


def _is_too_large(value: Any) -> bool:
    return isinstance(value, int) and not -_TOO_LARGE <= value < _TOO_LARGE


def _leaves(value: Any, key: Key) -> Iterator[tuple[Key, Any]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inside is None:
        yield key, value
        return
    for part, below in inside:
        yield from _leaves(below, (*key, part))
