"""Options of a pipeline file as frozen dataclasses: their fields are the keys, checked, documented and published.

One description serves three readers: :func:`parse` makes the object of a TOML table and says what is wrong with it,
:func:`schema` makes the JSON Schema that editors check files with, and people read the docstrings in both.

A field's type is one of ``bool``, ``int``, ``float``, ``str``, ``tuple[T, ...]`` and ``dict[str, T]`` of these, or one
of them ``| None``. None, which TOML cannot write, is what a key that is left out may mean.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
_NAMED = {
    "boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text",
    "array": "an array", "object": "a table",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a key says, and what it may hold beyond its type; of an array or a table, what each value in it may.

    Attributes:
        doc: a clause for people: "of the server's answer, s".
        choices: the only values.
        minimum, maximum: of a number, themselves allowed.
        above: what a number must be greater than.
        pattern: a regular expression that the whole of a text matches.
        least: how many values an array has, or characters a text, at least.
        names: what a text names, if it is of the machine: ``reads``, a file or folder that the node reads; ``writes``,
            a folder that it writes into; ``secret``, the file of a secret; ``environment``, a variable that holds one.
    """

    doc: str
    choices: Sequence[str] = ()
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    pattern: str | None = None
    least: int = 0
    names: str = ""


class Refused(ValueError):
    """A value that cannot be: ``key`` names it, dotted, and the message goes on behind its name."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def option(doc: str, default: Any = dataclasses.MISSING, **rule: Any) -> Any:
    """A field of options; without a default, a key that must be there. See :class:`Rule`."""
    return dataclasses.field(default=default, metadata={"rule": Rule(doc, **rule)})


def parse(kind: type[T], table: Mapping[str, Any]) -> T:
    """The options that a TOML table gives.

    A class may refuse what its fields cannot be together by raising :class:`Refused` in ``__post_init__``.

    Raises:
        Refused: a key is unknown or missing, or its value cannot be.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise Refused(key, f"is not known here; known are {', '.join(fields)}.")
        if "rule" not in fields[key].metadata:
            raise Refused(key, "is no option, as the class that has it says nothing of it; update its package.")
    hints = typing.get_type_hints(kind)
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _value(hints[name], table[name], field.metadata["rule"], name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            rule = field.metadata.get("rule")
            raise Refused(name, "is missing." if rule is None else f"is missing: {rule.doc}.")
    return kind(**values)


def named(options: Any) -> Iterator[tuple[str, str, str]]:
    """What the options at hand name of the machine: each key, what it means (``Rule.names``), and its value."""
    for field in dataclasses.fields(options):
        rule, value = field.metadata.get("rule"), getattr(options, field.name)
        if rule is not None and rule.names and value is not None:
            yield field.name, rule.names, value


def schema(kind: type) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the tables that :func:`parse` takes; what __post_init__ refuses is not in it."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    described = {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
        "properties": {field.name: _described(hints[field.name], field) for field in fields},
        "required": [field.name for field in fields if field.default is dataclasses.MISSING],
        "additionalProperties": False,
    }
    return described


def _described(hint: Any, field: dataclasses.Field[Any]) -> dict[str, Any]:
    rule: Rule = field.metadata["rule"]
    found = {"description": rule.doc, **_schema_of(_taken(hint), rule)}
    if field.default is not dataclasses.MISSING and field.default is not None:
        found["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    return found


def _schema_of(kind: Any, rule: Rule) -> dict[str, Any]:
    origin = typing.get_origin(kind)
    if origin is tuple:
        inside = _schema_of(typing.get_args(kind)[0], dataclasses.replace(rule, least=0))
        return {"type": "array", "items": inside, **({"minItems": rule.least} if rule.least else {})}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema_of(typing.get_args(kind)[1], rule)}
    found: dict[str, Any] = {"type": _TYPES[kind]}
    if rule.choices:
        found["enum"] = list(rule.choices)
    for name, limit in (("minimum", rule.minimum), ("maximum", rule.maximum), ("exclusiveMinimum", rule.above)):
        if limit is not None:
            found[name] = limit
    if rule.pattern is not None:
        # in Python, whose validators read it too, $ alone would let a line feed through
        found["pattern"] = rf"^(?:{rule.pattern})(?!\n)$"
    if rule.least:
        found["minLength"] = rule.least
    return found


def _value(hint: Any, value: Any, rule: Rule, key: str) -> Any:
    kind = _taken(hint)
    origin = typing.get_origin(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong_type(key, value, "array")
        if len(value) < rule.least:
            raise Refused(key, f"has {len(value)} values; give at least {rule.least}: {rule.doc}.")
        inside = dataclasses.replace(rule, least=0)
        return tuple(_value(typing.get_args(kind)[0], v, inside, f"{key}[{n}]") for n, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong_type(key, value, "object")
        return {name: _value(typing.get_args(kind)[1], v, rule, f"{key}.{name}") for name, v in value.items()}
    # in TOML, as in Python, 3 is a number too; true, which Python counts as 1, is none
    allowed = (int, float) if kind is float else (kind,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise _wrong_type(key, value, _TYPES[kind])
    _check(value, rule, key)
    return kind(value)


def _check(value: Any, rule: Rule, key: str) -> None:
    if isinstance(value, str):
        if rule.choices and value not in rule.choices:
            raise Refused(key, f"is {shown(value)}; choose one of {', '.join(rule.choices)}.")
        if rule.pattern is not None and re.fullmatch(rule.pattern, value) is None:
            raise Refused(key, f"is {shown(value)}; it must be {rule.doc}.")
        if len(value) < rule.least:
            raise Refused(key, f"is {shown(value)}; it must have at least {rule.least} characters: {rule.doc}.")
        return
    if isinstance(value, bool):
        return
    if not math.isfinite(value):
        raise Refused(key, f"is {value}; it must be finite: {rule.doc}.")
    bounds = (
        (rule.minimum, lambda limit: value >= limit, "at least"),
        (rule.above, lambda limit: value > limit, "above"),
        (rule.maximum, lambda limit: value <= limit, "at most"),
    )
    for limit, holds, words in bounds:
        if limit is not None and not holds(limit):
            raise Refused(key, f"is {value}; it must be {words} {limit:g}: {rule.doc}.")


def shown(value: Any) -> str:
    """A value for a sentence: short, and without anything that could steer a terminal."""
    try:
        text = ascii(value)
    except RecursionError:  # what can just be read may be too deep to be written
        return "something nested deeply"
    return text if len(text) <= 80 else f"{text[:77]}…"


def _wrong_type(key: str, value: Any, wanted: str) -> Refused:
    return Refused(key, f"is {shown(value)}; it must be {_NAMED[wanted]}.")


def _taken(hint: Any) -> Any:
    """The type without its ``| None``."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint
