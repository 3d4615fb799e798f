"""Pipeline files: TOML that names a station and its nodes, checked before anything is opened."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labous.errors import PipelineError
from labous.nodes import GROUP, NodeOptions, built_in, is_source, reads, writes
from labous.options import Refused, parse, schema, shown
from labous.station.settings import Station
from labous.station.toml_file import Key, TomlFile

_TABLES = ("station", "node")


@dataclasses.dataclass(frozen=True)
class Step:
    """One node of a pipeline file.

    Attributes:
        type: the kind's name.
        options: what its table says.
        line: where the table begins; that of the node that it was inserted for, where it was.
        inserted: whether the file does not name it.
    """

    type: str
    options: NodeOptions
    line: int
    inserted: bool = False


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """What a pipeline file says."""

    path: Path
    station: Station
    steps: tuple[Step, ...]

    @property
    def folder(self) -> Path:
        """Where relative paths begin."""
        return self.path.parent

    @property
    def bundle(self) -> Path:
        """The station's bundle."""
        return self.folder / self.station.bundle

    @property
    def state(self) -> Path:
        """The directory of what outlives a restart: the file's own, or the service's, or the user's.

        Raises:
            PipelineError: none of them is there.
        """
        if self.station.state is not None:
            return self.folder / self.station.state
        given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        if given:
            return Path(given)
        base = os.environ.get("XDG_STATE_HOME", "")
        try:
            above = Path(base) if os.path.isabs(base) else Path.home() / ".local/state"  # noqa: PTH117 (XDG's own rule)
        except RuntimeError as error:
            raise PipelineError(
                "This user has no home to keep the station's state in; set station.state, or the variable HOME."
            ) from error
        return above / "labous" / self.station.name


def read(path: str | Path) -> Pipeline:
    """Read and check a pipeline file. Nothing is opened, and only the kinds that it names are imported.

    Raises:
        PipelineError: what is wrong, where, and what to do.
    """
    file = TomlFile(Path(path).absolute())
    for name in file.values:
        if name not in _TABLES:
            raise file.error((name,), f"{shown(name)} is not known here; known are [station] and [[node]].")
    station = _parsed(file, ("station",), "[station]", Station, _table(file, ("station",), "[station]"))
    tables = file.values.get("node")
    if not isinstance(tables, list) or not tables:
        raise file.error(("node",), 'there is no [[node]]; add one with type = "microphone", say.')
    steps = [_step(file, number) for number in range(len(tables))]
    _check_order(file, steps)
    _check_columns(file, steps)
    _check_names(file, steps)
    return Pipeline(file.path, station, tuple(_with_privacy(steps)))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of pipeline files.

    It lets tables with a type of another package through. What keys mean together, and the order of nodes, it leaves
    to :func:`read`.
    """
    kinds = {name: schema(_load(where)) for name, where in built_in().items()}
    for name, described in kinds.items():
        described["properties"] = {"type": {"const": name}, **described["properties"]}
        described["required"] = ["type", *described["required"]]
    types = {"description": "what kind of node it is; packages may add kinds", "type": "string"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Labous pipeline",
        "description": "What a station is, and the nodes that sound goes through, in their order.",
        "type": "object",
        "properties": {
            "station": schema(Station),
            "node": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {"type": {**types, "anyOf": [{"enum": list(kinds)}, {"type": "string"}]}},
                    "required": ["type"],
                    "allOf": [
                        {
                            "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                            "then": {"$ref": f"#/$defs/{name}"},
                        }
                        for name in kinds
                    ],
                },
            },
        },
        "required": ["station", "node"],
        "additionalProperties": False,
        "$defs": kinds,
    }


def _step(file: TomlFile, number: int) -> Step:
    key: Key = ("node", number)
    table = dict(_table(file, key, f"node {number + 1}"))
    name = table.pop("type", None)
    if not isinstance(name, str):
        what = "is missing" if name is None else f"is {shown(name)}; it must be text"
        raise file.error((*key, "type"), f"node {number + 1}: type {what}: one of {', '.join(built_in())}.")
    try:
        kind = _kind(name)
    except PipelineError as error:
        raise file.error((*key, "type"), f"node {number + 1}: {error}") from error
    return Step(name, _parsed(file, key, f"node {number + 1} ({name})", kind, table), file.line(key))


def _kind(name: str) -> type[Any]:
    """The options of a kind of node."""
    where = built_in().get(name)
    if where is not None:
        return _load(where)
    entries = importlib.metadata.entry_points(group=GROUP)
    found = [entry for entry in entries if entry.name == name]
    if not found:
        known = [*built_in(), *sorted({entry.name for entry in entries} - set(built_in()))]
        raise PipelineError(f"type is {shown(name)}; known are {', '.join(known)}; other kinds come with packages.")
    (entry, *others) = found
    whose = f"the package {entry.dist.name!r}" if entry.dist is not None else "another package"
    if others:
        raise PipelineError(f"type {shown(name)} comes with {len(found)} packages; uninstall all but one.")
    try:
        kind = entry.load()
    except Exception as error:  # a stranger's module may raise anything
        why = f"{type(error).__name__}: {error}"
        raise PipelineError(
            f"type {shown(name)} comes with {whose}, which cannot be imported ({why}); update or uninstall it."
        ) from error
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and callable(getattr(kind, "open", None))):
        raise PipelineError(
            f"type {shown(name)} comes with {whose}, whose {entry.value} is no dataclass with an open; update it."
        )
    return kind


def _load(where: str) -> type[Any]:
    module, _, name = where.partition(":")
    kind: type[Any] = getattr(importlib.import_module(module), name)
    return kind


def _table(file: TomlFile, key: Key, what: str) -> Mapping[str, Any]:
    value: Any = file.values
    for part in key:
        value = value.get(part) if isinstance(part, str) else value[part]
    if value is None:
        raise file.error(key, f'there is no {what}; add it, with bundle = "PATH".')
    if not isinstance(value, dict):
        raise file.error(key, f"{what} must be a table.")
    return value


def _parsed(file: TomlFile, key: Key, what: str, kind: type[Any], table: Mapping[str, Any]) -> Any:
    try:
        return parse(kind, table)
    except Refused as error:
        name, _, below = error.key.partition(".")
        inside = (error.key,) if error.key in table else (name.partition("[")[0], *([below] if below else []))
        where = shown(error.key)[1:-1]
        raise file.error((*key, *inside), f"{what}: {where} {error}") from error


def _check_order(file: TomlFile, steps: Sequence[Step]) -> None:
    for number, step in enumerate(steps):
        if is_source(type(step.options)) == (number == 0):
            continue
        if number:
            why = f"node {number + 1} ({step.type}) is a source, and only the first node can be one; remove it"
        else:
            why = f"the first node must be a source, and {step.type} is none; begin with microphone, say"
        raise file.error(("node", number), f"{why}.")


def _check_columns(file: TomlFile, steps: Sequence[Step]) -> None:
    there: dict[str, None] = {}
    for number, step in enumerate(steps):
        for column in reads(step.options):
            if column not in there:
                raise file.error(
                    ("node", number, "input"),
                    f"node {number + 1} ({step.type}) reads the column {shown(column)}, and the nodes before it write "
                    f"{', '.join(map(shown, there)) or 'none'}; put the node that writes it before, or name another.",
                )
        there |= dict.fromkeys(writes(step.options))


def _check_names(file: TomlFile, steps: Sequence[Step]) -> None:
    taken: dict[str, int] = {}
    for number, step in enumerate(steps):
        name = getattr(step.options, "name", None)
        if number == 0 or name is None:
            continue
        if name in taken:
            raise file.error(
                ("node", number, "name"),
                f"node {number + 1} ({step.type}) has the name {shown(name)}, as node {taken[name] + 1} has; give it "
                "another.",
            )
        taken[name] = number


def _with_privacy(steps: Sequence[Step]) -> list[Step]:
    """With a privacy node before the first confirm or sink, where clips would be saved without one.

    Behind confirm, a species whose first window it withholds would be taken for reported.
    """
    for number, step in enumerate(steps):
        if step.type == "privacy":
            break
        if step.type == "clips" and getattr(step.options, "privacy", True):
            at = next(n for n in range(1, number + 1) if steps[n].type == "confirm" or not writes(steps[n].options))
            from labous.nodes.privacy import Privacy
            from labous.nodes.tflite import Tflite

            models = [step.options for step in steps[:at] if isinstance(step.options, Tflite)]
            told = {"input": writes(steps[0].options)[0]}
            if models:
                told["predictions"] = models[-1].output
                if models[-1].labels is not None:
                    told["labels"] = models[-1].labels
            return [*steps[:at], Step("privacy", parse(Privacy, told), step.line, inserted=True), *steps[at:]]
    return list(steps)
