"""Which species may be heard where and when: lists that people write, and the weekly occurrence that bundles carry."""

from __future__ import annotations

import collections
import datetime
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from labous.csv_rows import rows_below
from labous.detect import Label
from labous.errors import BundleError, NodeError
from labous.options import shown

FILE = "occurrence.csv"
"""Where a bundle carries weekly occurrence, if it does."""

WEEKS = 48
"""In a year: four of each month, the last of which has the days from the 22nd on, as eBird counts them."""

HEADER = ["ebird_code", "latitude", "longitude", *(f"week_{n}" for n in range(1, WEEKS + 1))]
"""The table's first row."""

_EARTH_KM = 6371.0
_SUGGESTIONS = 3

Place = tuple[float, float]


class Species:
    """A model's labels by what people call them: eBird code, scientific, common or French name, in any case."""

    def __init__(self, labels: Sequence[Label]) -> None:
        self._labels = labels
        self._named: dict[str, set[int]] = collections.defaultdict(set)
        for index, label in enumerate(labels):
            for name in (label.ebird_code, label.scientific_name, label.common_name, label.french_name):
                self._named[name.casefold()].add(index)

    def known(self, name: str) -> set[int]:
        """The labels of that name; none, where the model knows none."""
        return self._named.get(name.strip().casefold(), set()) if name.strip() else set()

    def named(self, name: str, where: str) -> set[int]:
        """The same, where it must be known.

        Args:
            name: of a species.
            where: the option that names it, for the error.

        Raises:
            NodeError: the model does not know it; names like it are told.
        """
        found = self.known(name)
        if not found:
            raise NodeError(f"{where} names {shown(name)}, and the model has no such species{self._like(name)}.")
        return found

    def _like(self, name: str) -> str:
        import difflib

        wanted = name.strip().casefold()
        near = difflib.get_close_matches(wanted, self._named, _SUGGESTIONS, 0.6)
        near += [known for known in self._named if wanted and wanted in known and known not in near]
        indices = dict.fromkeys(index for known in near for index in sorted(self._named[known]))
        if not indices:
            return "; give an eBird code or a name of the bundle's labels.csv"
        codes = [f"{self._labels[i].ebird_code} ({self._labels[i].common_name})" for i in indices][:_SUGGESTIONS]
        return f"; perhaps {' or '.join(codes)}"


def read_list(content: bytes, name: str, species: Species) -> set[int]:
    """The labels that a list of species names: one a line, by code or name; what follows a # is a comment.

    Species that the model does not know are left out, as a list of a region's birds is longer than most models'.

    Args:
        content: of the file, UTF-8.
        name: of the file, for errors.
        species: the model's.

    Raises:
        NodeError: it is not text, or the model knows none of its species.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise NodeError(f"The species list {name!r} is not UTF-8 text ({error.reason}); save it as such.") from error
    names = [line.partition("#")[0].strip() for line in lines]
    found = {index for line in names for index in species.known(line)}
    if not found:
        raise NodeError(
            f"The species list {name!r} names none of the model's species; give an eBird code or a name a line."
        )
    return found


class Occurrence:
    """How often each species is met near a place, week by week.

    Attributes:
        frequency: float32 [WEEKS, n_labels], 0 … 1; 1 for labels of which nothing is known.
        kilometers: from the station to where that holds; None where the table is of no single place.
    """

    def __init__(self, frequency: NDArray[np.float32], kilometers: float | None) -> None:
        self.frequency = frequency
        self.kilometers = kilometers

    @classmethod
    def read(cls, content: bytes, labels: Sequence[Label], place: Place | None) -> Occurrence:
        """From a table with a row for each species and place; of several places, the nearest to the station counts.

        Args:
            content: CSV, UTF-8: ebird_code, latitude, longitude (both empty: everywhere), week_1 … week_48 (0 … 1).
            labels: the model's; other species in the table are left out.
            place: of the station, latitude and longitude in degrees.

        Raises:
            BundleError: it is no such table.
            NodeError: it tells of several places, and where the station stands is not known.
        """
        index = {label.ebird_code: n for n, label in enumerate(labels)}
        at: dict[Place | None, NDArray[np.float32]] = {}
        for number, (code, where, weeks) in enumerate(_rows(content), 2):
            if where not in at:
                at[where] = np.ones((WEEKS, len(labels)), np.float32)
            if code in index:
                at[where][:, index[code]] = weeks
            elif not code:
                raise BundleError(f"{FILE}: line {number} names no species; export the bundle again.")
        if not at:
            raise BundleError(f"{FILE} has no rows; export the bundle again.")
        if len(at) == 1:
            ((only, frequency),) = at.items()
            return cls(frequency, None if only is None or place is None else _kilometers(only, place))
        if place is None:
            raise NodeError(
                "The bundle tells which species occur at several places; say where the station stands (latitude and "
                "longitude in [station]), or set occurrence = 0 to leave that out."
            )
        distances = {where: _kilometers(where, place) for where in at if where is not None}
        nearest = min(distances, key=lambda where: distances[where])
        return cls(at[nearest], distances[nearest])

    def likely(self, time: datetime.datetime | None, least: float) -> NDArray[np.bool_]:
        """Which labels occur at least so often: in the week of a time, or, where that is not known, in any.

        Returns:
            bool [n_labels].
        """
        frequency = self.frequency.max(axis=0) if time is None else self.frequency[week_of(time)]
        return np.asarray(frequency >= np.float32(least))


def week_of(time: datetime.datetime) -> int:
    """0 … 47."""
    return 4 * (time.month - 1) + min((time.day - 1) // 7, 3)


def _rows(content: bytes) -> Iterable[tuple[str, Place | None, list[float]]]:
    rows = rows_below(content, HEADER, f"{','.join(HEADER[:4])},…", FILE, "export the bundle again")
    for number, row in enumerate(rows, 2):
        try:
            code, latitude, longitude, *weeks = row
            where = (float(latitude), float(longitude)) if latitude or longitude else None
            values = [float(week) for week in weeks]
            if len(values) != WEEKS or not all(0 <= value <= 1 for value in values):
                raise ValueError
            if where is not None and not (abs(where[0]) <= 90 and abs(where[1]) <= 180):
                raise ValueError
        except ValueError as error:
            raise BundleError(
                f"{FILE}: line {number} is not a species, a place and {WEEKS} numbers of 0 … 1; export the bundle "
                "again."
            ) from error
        yield code, where, values


def _kilometers(one: Place, other: Place) -> float:
    """Along the great circle."""
    (lat1, lon1), (lat2, lon2) = (map(math.radians, place) for place in (one, other))
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * _EARTH_KM * math.asin(math.sqrt(min(1.0, h)))
