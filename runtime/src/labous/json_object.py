"""Reading ``manifest.json`` key by key: nothing in it is believed, and an error names its key by its dotted path."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from labous.errors import BundleError
from labous.options import shown

_MAX_ENTRIES = 100_000


class JsonObject:
    """A JSON object that knows its dotted path; each getter checks presence and type.

    Raises:
        BundleError: (from every method) a key is missing, or its value is not what was asked for.
    """

    def __init__(self, values: object, path: str) -> None:
        if not isinstance(values, dict):
            raise BundleError(f"manifest.json: {path or 'the whole'} is {shown(values)}; it must be an object.")
        self.values: dict[str, Any] = values
        self._path = path

    def _where(self, key: str) -> str:
        name = key if len(key) <= 60 and key.isprintable() else shown(key)
        return f"{self._path}.{name}" if self._path else name

    def _wrong(self, key: str, wanted: str) -> BundleError:
        return BundleError(f"manifest.json: {self._where(key)} is {shown(self.values[key])}; it must be {wanted}.")

    def _get(self, key: str) -> Any:
        if key not in self.values:
            raise BundleError(f"manifest.json: {self._where(key)} is missing; the bundle is incomplete.")
        return self.values[key]

    def has(self, key: str) -> bool:
        """Whether an optional key is there, and not null."""
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not 0 < len(value) <= 1000 or not value.isprintable():
            raise self._wrong(key, "a short printable text")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in choices:
            raise self._wrong(key, " or ".join(choices))
        return value

    def boolean(self, key: str) -> bool:
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def integer(self, key: str, lowest: int = 0, highest: int = 2**63 - 1) -> int:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise self._wrong(key, "a whole number, not negative")
        if not lowest <= value <= highest:
            raise self._wrong(key, f"between {lowest} and {highest}")
        return value

    def number(self, key: str, highest: float = math.inf, lowest: float = 0.0) -> float:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
            raise self._wrong(key, "a finite number")
        if not lowest <= value <= highest:
            raise self._wrong(key, "zero or more" if highest == math.inf else f"between {lowest:g} and {highest:g}")
        return float(value)

    def numbers(self, highest: float = math.inf) -> dict[str, float]:
        return {key: self.number(key, highest) for key in self._keys()}

    def numbers_or_null(self) -> dict[str, float | None]:
        return {key: None if self.values[key] is None else self.number(key) for key in self._keys()}

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if (
            not isinstance(value, list)
            or len(value) > _MAX_ENTRIES
            or any(not isinstance(text, str) or not 0 < len(text) <= 100 or not text.isprintable() for text in value)
        ):
            raise self._wrong(key, "a list of short printable texts")
        return tuple(value)

    def shape(self, key: str) -> tuple[int, ...]:
        value = self._get(key)
        if (
            not isinstance(value, list)
            or not 1 <= len(value) <= 8
            or any(isinstance(n, bool) or not isinstance(n, int) or not 1 <= n < 2**31 for n in value)
        ):
            raise self._wrong(key, "a list of positive whole numbers")
        return tuple(value)

    def object(self, key: str) -> JsonObject:
        return JsonObject(self._get(key), self._where(key))

    def objects(self) -> Iterator[tuple[str, JsonObject]]:
        return ((key, self.object(key)) for key in self._keys())

    def list_of_objects(self, key: str) -> list[JsonObject]:
        value = self._get(key)
        if not isinstance(value, list) or len(value) > 1000:
            raise self._wrong(key, "a list of at most 1000 objects")
        return [JsonObject(item, f"{self._where(key)}[{i}]") for i, item in enumerate(value)]

    def _keys(self) -> list[str]:
        if len(self.values) > _MAX_ENTRIES:
            raise BundleError(f"manifest.json: {self._path} has {len(self.values)} entries, over {_MAX_ENTRIES}.")
        for key in self.values:
            if not 0 < len(key) <= 100 or not key.isprintable():
                raise BundleError(
                    f"manifest.json: {self._path} has the key {shown(key)}; keys must be short and printable."
                )
        return list(self.values)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
