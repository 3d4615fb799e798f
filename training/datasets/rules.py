"""Rules that leave recordings out, and the account of what each of them left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from training.datasets.base import REMOVED_COLUMNS, Box, DatasetError
from training.datasets.remembered import durations


@dataclass
class Account:
    """Recordings that rules left out: (recording_id, rule, detail, label) each."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def keep(self, recordings: pd.DataFrame, kept: pd.Series, rule: str, details: Sequence[str]) -> pd.DataFrame:
        """Recordings with `kept`; the others are written down with the rule and the detail of their row.

        :param recordings: with the columns recording_id and primary_label
        """
        out = zip(recordings["recording_id"], details, recordings["primary_label"], kept, strict=True)
        self.rows += [(identifier, rule, detail, label) for identifier, detail, label, stays in out if not stays]
        return recordings[kept].copy()

    def table(self) -> pd.DataFrame:
        """As Dataset.removed() gives it, sorted by recording_id."""
        rows = sorted(row[:3] for row in self.rows)
        return pd.DataFrame(rows, columns=list(REMOVED_COLUMNS))

    def counts(self) -> dict[str, dict[str, int]]:
        """Recordings left out by rule and species, as Notes.removed gives them."""
        counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for _, rule, _, label in sorted(self.rows, key=lambda row: (row[1], row[3])):
            counts[rule][label] += 1
        return {rule: dict(species) for rule, species in counts.items()}

    def reasons(self) -> dict[str, str]:
        """Why each species lost recordings, for one that has lost all."""
        by_label: dict[str, set[str]] = defaultdict(set)
        for _, rule, _, label in self.rows:
            by_label[label].add(rule)
        return {label: f"all recordings left out by {', '.join(sorted(rules))}" for label, rules in by_label.items()}


@dataclass(frozen=True)
class Limits:
    """Bounds on what is kept; None for no bound.

    Attributes:
        min_rating: 0 … 5; as soon as it is positive, unrated recordings (0) stay out too.
        min_seconds: length of a recording.
        max_seconds: the same.
    """

    min_rating: float = 0.0
    min_seconds: float | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, bound in (("min_seconds", self.min_seconds), ("max_seconds", self.max_seconds)):
            if bound is not None and not (isinstance(bound, int | float) and bound >= 0):
                raise DatasetError(f"dataset.{name} is {bound!r}: write a number of seconds, or null for no bound")
        if self.min_seconds is not None and self.max_seconds is not None and self.min_seconds > self.max_seconds:
            raise DatasetError(
                f"dataset.min_seconds is {self.min_seconds:g} and dataset.max_seconds {self.max_seconds:g}: "
                "nothing can be both longer and shorter"
            )

    def rated(self, recordings: pd.DataFrame, account: Account) -> pd.DataFrame:
        """Recordings whose `rating` is high enough."""
        details = [f"rated {rating:g}, below {self.min_rating:g}" for rating in recordings["rating"]]
        return account.keep(recordings, recordings["rating"] >= self.min_rating, "min_rating", details)

    def long_enough(self, recordings: pd.DataFrame, account: Account) -> pd.DataFrame:
        """Recordings of the right length, by the header of the file at `path`; one that cannot be read stays."""
        if self.min_seconds is None and self.max_seconds is None:
            return recordings
        known = durations(list(recordings["path"]))
        seconds = pd.Series([known.get(path) for path in recordings["path"]], index=recordings.index, dtype=float)
        return self.of_length(recordings, seconds, account)

    def of_length(self, recordings: pd.DataFrame, seconds: pd.Series, account: Account) -> pd.DataFrame:
        """Recordings of the right length, by their `seconds` (NaN for unknown, which stays)."""
        for rule, bound, wrong, word in (
            ("min_seconds", self.min_seconds, seconds.lt, "shorter"),
            ("max_seconds", self.max_seconds, seconds.gt, "longer"),
        ):
            if bound is not None:
                details = [f"{length:.1f} s, {word} than {bound:g} s" for length in seconds[recordings.index]]
                recordings = account.keep(recordings, ~wrong(bound)[recordings.index], rule, details)
        return recordings


def inside_boxes(recordings: pd.DataFrame, boxes: Mapping[str, Box], account: Account) -> pd.DataFrame:
    """Recordings inside the box of their species, where it has one; without coordinates nobody can tell: they stay.

    :param recordings: with the columns latitude and longitude, in degrees or empty
    """
    if not boxes:
        return recordings
    latitude = pd.to_numeric(recordings["latitude"], errors="coerce")
    longitude = pd.to_numeric(recordings["longitude"], errors="coerce")
    kept, details = [], []
    for code, north, east in zip(recordings["primary_label"], latitude, longitude, strict=True):
        box = boxes.get(code)
        outside = box is not None and (
            not (box.latitude_min <= north <= box.latitude_max) or not (box.longitude_min <= east <= box.longitude_max)
        )
        kept.append(not outside or pd.isna(north) or pd.isna(east))
        details.append(f"at latitude {north:g}, longitude {east:g}, outside the box of {code}")
    return account.keep(recordings, pd.Series(kept, index=recordings.index, dtype=bool), "box", details)
