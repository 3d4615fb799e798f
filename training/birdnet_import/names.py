"""Which of BirdNET's classes are kept, and what a bundle calls them.

A species is found by its scientific name, then by the other names that its table knows, then by its English name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labous.detect import Label
from training.birdnet_import.errors import BirdNetImportError
from training.birdnet_import.settings import ALL
from training.datasets.base import TABLES, Species, find_table, read_column, read_species_table

_OTHER_NAMES = ("birdnet_name", "xeno_canto_name")


@dataclass(frozen=True)
class Class:
    """A line of BirdNET's labels: its number, from 0, and its names."""

    row: int
    scientific_name: str
    common_name: str


@dataclass(frozen=True)
class Kept:
    """A class in the bundle: what it is called there, and by which of its names it was found."""

    row: int
    label: Label
    found_by: str
    is_bird: bool


@dataclass(frozen=True)
class Selection:
    """The classes kept, in the order of the logits, and the species of the table that BirdNET has no class for."""

    kept: tuple[Kept, ...]
    without_class: tuple[Species, ...]

    @property
    def not_birds(self) -> list[str]:
        """Codes of the classes that are no birds."""
        return [kept.label.ebird_code for kept in self.kept if not kept.is_bird]


def read_classes(path: Path, count: int) -> list[Class]:
    """BirdNET's labels.

    Args:
        path: the file, a line "Scientific name_English name" each.
        count: how many classes the model has.

    Raises:
        BirdNetImportError: it is no such file, or not of this model.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BirdNetImportError(f"{path} is not UTF-8 text (byte {error.start}): fetch it again.") from error
    if len(lines) != count:
        raise BirdNetImportError(
            f"{path} has {len(lines)} lines, and the model {count} classes: take both from one place."
        )
    classes: list[Class] = []
    taken: dict[str, int] = {}
    for row, line in enumerate(lines):
        scientific, mark, common = (part.strip() for part in line.partition("_"))
        if not scientific or not mark or not common or not line.isprintable():
            raise BirdNetImportError(
                f"{path}, line {row + 1} is {line[:60]!r}: it must be Scientific name_English name."
            )
        if scientific.casefold() in taken:
            raise BirdNetImportError(
                f"{path}, lines {taken[scientific.casefold()]} and {row + 1} are both {scientific}: fetch it again."
            )
        taken[scientific.casefold()] = row + 1
        classes.append(Class(row, scientific, common))
    return classes


def select(classes: Sequence[Class], species: str, not_birds: Sequence[str]) -> Selection:
    """The classes of a table's species, or all, with those that are no birds.

    Args:
        classes: BirdNET's.
        species: a table's path or name, or ``all``.
        not_birds: scientific names, or their first words, of the classes that are no birds.

    Raises:
        BirdNetImportError: two species of the table mean one class, or none has one, or a word of not_birds is no
            class's.
        DatasetError: there is no such table, or a fault in it.
    """
    words = {word.casefold() for word in not_birds}
    other = [c for c in classes if words & {c.scientific_name.casefold(), c.scientific_name.casefold().split()[0]}]
    names = {word for c in other for word in (c.scientific_name.casefold(), c.scientific_name.casefold().split()[0])}
    unmet = [word for word in not_birds if word.casefold() not in names]
    if unmet:
        raise BirdNetImportError(
            f"not_birds has {unmet[0]!r}, and BirdNET has no class of that scientific name or first word of one: "
            "correct it, or leave it out."
        )
    if species == ALL:
        known, strange = _known(), {c.row for c in other}
        kept = tuple(Kept(c.row, _label(c, known), "scientific name", c.row not in strange) for c in classes)
        return _unambiguous(Selection(kept, ()))
    table = find_table(species)
    birds, without = _of_table(classes, table)
    taken = {kept.row for kept in birds}
    rest = [Kept(c.row, _label(c, {}), "not a bird", False) for c in other if c.row not in taken]
    return _unambiguous(Selection((*birds, *rest), without))


def _of_table(classes: Sequence[Class], table: Path) -> tuple[list[Kept], tuple[Species, ...]]:
    scientific = {c.scientific_name.casefold(): c for c in classes}
    common: dict[str, list[Class]] = {}
    for c in classes:
        common.setdefault(c.common_name.casefold(), []).append(c)
    others = {column: read_column(table, column) for column in _OTHER_NAMES}
    kept: list[Kept] = []
    without: list[Species] = []
    taken: dict[int, str] = {}
    for bird in read_species_table(table):
        names = [("scientific name", bird.scientific_name)]
        names += [(column, cells[bird.ebird_code]) for column, cells in others.items() if bird.ebird_code in cells]
        found, by = next(((scientific[n.casefold()], by) for by, n in names if n.casefold() in scientific), (None, ""))
        called = common.get(bird.common_name.casefold(), [])
        if found is None and len(called) == 1:
            found, by = called[0], "English name"
        if found is None:
            without.append(bird)
            continue
        if found.row in taken:
            raise BirdNetImportError(
                f"{table}: {taken[found.row]} and {bird.ebird_code} are both BirdNET's {found.scientific_name}: "
                "leave one out."
            )
        taken[found.row] = bird.ebird_code
        names_here = bird.scientific_name, bird.common_name, bird.french_name
        kept.append(Kept(found.row, Label(bird.ebird_code, *names_here), by, True))
    if not kept:
        raise BirdNetImportError(f"BirdNET has no class for any species of {table}: see its column scientific_name.")
    return kept, tuple(without)


def _known() -> dict[str, Species]:
    """The species of the project's own tables by scientific name, those of the larger tables first."""
    known: dict[str, Species] = {}
    for table in sorted(TABLES.glob("*.csv"), key=lambda path: -path.stat().st_size):
        for bird in read_species_table(table):
            known.setdefault(bird.scientific_name.casefold(), bird)
    return known


def _label(found: Class, known: dict[str, Species]) -> Label:
    """Of a class that no table was given for: the project's names for it, or BirdNET's own and a code made of them."""
    bird = known.get(found.scientific_name.casefold())
    if bird is not None:
        return Label(bird.ebird_code, bird.scientific_name, bird.common_name, bird.french_name)
    return Label(made_up_code(found.scientific_name), found.scientific_name, found.common_name, found.scientific_name)


def made_up_code(scientific_name: str) -> str:
    """A code in the place of eBird's: the scientific name in small letters, with hyphens. eBird's own have none."""
    plain = unicodedata.normalize("NFKD", scientific_name).encode("ascii", "ignore").decode().casefold()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _unambiguous(selection: Selection) -> Selection:
    seen: dict[str, Kept] = {}
    for kept in selection.kept:
        code = kept.label.ebird_code
        if not code or code in seen:
            other = f" and {seen[code].label.scientific_name}" if code else ""
            raise BirdNetImportError(
                f"{kept.label.scientific_name}{other} would have the code {code!r}: name one otherwise."
            )
        seen[code] = kept
    return selection
