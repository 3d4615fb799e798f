"""Several sources as one data set: each recording used once, each recordist spelled one way."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

import pandas as pd

from training.datasets.backgrounds import background_files, joined
from training.datasets.base import (
    RECORDING_COLUMNS,
    REMOVED_COLUMNS,
    SOUNDSCAPE_COLUMNS,
    UNKNOWN,
    Dataset,
    DatasetError,
    Notes,
    Species,
    read_species_table,
    recordists,
    require_recordings,
)
from training.datasets.remembered import hash_tables
from training.datasets.rules import Account

_FILE_NUMBER = re.compile(r"^XC(\d+)", re.IGNORECASE)
_ADDRESS_NUMBER = re.compile(r"xeno-canto\.org/(?:XC)?(\d+)", re.IGNORECASE)


class ComposedDataset:
    """The recordings, soundscapes and backgrounds of several data sets, with the labels of one species table.

    Each source is seen at `root`/<its name>, where :meth:`fetch` makes a link to it unless it lies there itself; its
    recording_ids begin with its name. A recording that several sources have (the same number at xeno-canto, by the
    file's name or the address) is taken from the first of them, with all its pieces there; pieces of one recording
    whose recordist nobody names count as one unknown recordist's.

    :param root: folder of its own
    :param species: path of a species table, or the name of one in data/species/
    :param sources: data sets by name, in the order in which they are preferred; those that are None are left out
    :param tiers: keep only these tiers of the table; all of them when None
    :param backgrounds: folders of recordings without any bird of the table, besides those of the sources
    """

    def __init__(
        self,
        root: str | Path,
        species: str | Path,
        sources: Mapping[str, Dataset | None],
        *,
        tiers: Sequence[str] | None = None,
        backgrounds: Sequence[str] | None = None,
        name: str = "composed",
    ) -> None:
        self.root = Path(root)
        self.table = species
        if not isinstance(sources, Mapping):
            raise DatasetError(
                f"dataset.sources is {sources!r}: give each data set a name, as conf/dataset/brittany.yaml"
            )
        self.sources = {source: dataset for source, dataset in sources.items() if dataset is not None}
        if not self.sources:
            raise DatasetError("dataset.sources names no data set: give it at least one")
        for source, dataset in self.sources.items():
            if not hasattr(dataset, "recordings"):
                raise DatasetError(f"dataset.sources.{source} is {dataset!r}: give it a _target_ and what that needs")
        strange = [source for source in self.sources if not re.fullmatch(r"\w[\w.-]*", source)]
        if strange:
            raise DatasetError(f"dataset.sources calls a data set {strange[0]!r}: a name becomes a folder's")
        self.tiers = tiers
        self.background_folders = backgrounds
        self.name = name
        self.synthetic = any(dataset.synthetic for dataset in self.sources.values())

    def fetch(self, progress: bool = True) -> None:
        """Fetch every source, and link them below the root."""
        self.species()  # a mistake in the table is told before anything is downloaded
        for dataset in self.sources.values():
            dataset.fetch(progress)
        self._link()

    def _link(self) -> None:
        for source, dataset in self.sources.items():
            place, target = self.root / source, Path(dataset.root).resolve()
            if place.is_symlink() and place.resolve() != target:
                place.unlink()
            if not (place.exists() or place.is_symlink()):
                self.root.mkdir(parents=True, exist_ok=True)
                place.symlink_to(target, target_is_directory=True)
            if place.resolve() != target:
                raise DatasetError(
                    f"{place} is in the way of the source {source}: move it, or set dataset.root to a folder of its own"
                )

    def species(self) -> list[Species]:
        return list(self._species)

    def recordings(self) -> pd.DataFrame:
        return self._recordings[0].copy()

    def soundscapes(self) -> pd.DataFrame:
        return self._soundscapes.copy()

    def backgrounds(self) -> pd.DataFrame:
        self._link()
        own = background_files(self.background_folders, self.root)
        theirs = []
        for source, dataset in self.sources.items():
            table = dataset.backgrounds()
            for column in ("recording_id", "author"):
                table[column] = [_below(source, identifier) for identifier in table[column]]
            theirs.append(table)
        return joined(own, *theirs)

    def removed(self) -> pd.DataFrame:
        """What the sources removed, and what is in several of them (rule "duplicate")."""
        tables = [self._recordings[1].table()]
        for source, dataset in self.sources.items():
            table = dataset.removed()
            tables.append(table.assign(recording_id=[_below(source, name) for name in table["recording_id"]]))
        every = pd.concat(tables, ignore_index=True)[list(REMOVED_COLUMNS)]
        return every.sort_values(list(REMOVED_COLUMNS), ignore_index=True)

    def revision(self) -> str:
        return hash_tables(self._species, self._recordings[0], self._soundscapes, self.backgrounds())

    def notes(self) -> Notes:
        recordings, account = self._recordings
        unknown = sum(author.startswith(UNKNOWN) for author in recordings["author"])
        noted = Notes(removed=account.counts(), unknown_recordists=unknown)
        for source, dataset in self.sources.items():
            theirs = dataset.notes()
            noted.missing += [_below(source, identifier) for identifier in theirs.missing]
            noted.unreadable += [_below(source, identifier) for identifier in theirs.unreadable]
            noted.dropped_labels += theirs.dropped_labels
            for rule, counts in theirs.removed.items():
                noted.removed[rule] = dict(Counter(noted.removed.get(rule, {})) + Counter(counts))
        return noted

    @cached_property
    def _species(self) -> list[Species]:
        return read_species_table(self.table, self.tiers)

    @cached_property
    def _codes(self) -> frozenset[str]:
        return frozenset(label.ebird_code for label in self._species)

    @cached_property
    def _recordings(self) -> tuple[pd.DataFrame, Account]:
        tables = []
        for source, dataset in self.sources.items():
            table = dataset.recordings()
            table = table[table["primary_label"].isin(self._codes)].copy()
            pairs = list(zip(table["author"], table["recording_id"], strict=True))
            authors = ["" if author == UNKNOWN + identifier else author for author, identifier in pairs]
            table["author"] = pd.Series(authors, index=table.index, dtype=object)
            table["recording_id"] = [_below(source, identifier) for identifier in table["recording_id"]]
            table["secondary_labels"] = self._known(table["secondary_labels"])
            tables.append(table)
        self._link()  # only now is it known that every source is there
        every = pd.concat(tables, ignore_index=True)[list(RECORDING_COLUMNS)]
        account = Account()
        every = _once(every, account).sort_values("recording_id", ignore_index=True)
        every["author"] = recordists(every["author"], _first_pieces(every))
        require_recordings(every, self._species, {}, self.table)
        return every, account

    @cached_property
    def _soundscapes(self) -> pd.DataFrame:
        tables = [pd.DataFrame(columns=list(SOUNDSCAPE_COLUMNS))]
        for source, dataset in self.sources.items():
            table = dataset.soundscapes()
            table["recording_id"] = [_below(source, identifier) for identifier in table["recording_id"]]
            table["labels"] = self._known(table["labels"])
            tables.append(table)
        filled = [table for table in tables if len(table)]
        if not filled:
            return tables[0]
        return pd.concat(filled, ignore_index=True).sort_values(["recording_id", "start_seconds"], ignore_index=True)

    def _known(self, labels: pd.Series) -> pd.Series:
        """Lists of codes without those that are not in the table: a source may have a larger one."""
        lists = [[code for code in codes if code in self._codes] for codes in labels]
        return pd.Series(lists, index=labels.index, dtype=object)


def xeno_canto_number(recording_id: str, url: str) -> str | None:
    """Number of a recording at xeno-canto, from a file's name such as XC123.ogg or its page's address."""
    found = _FILE_NUMBER.search(PurePosixPath(recording_id).name) or _ADDRESS_NUMBER.search(url)
    return found.group(1).lstrip("0") if found else None


def _first_pieces(recordings: pd.DataFrame) -> pd.Series:
    """For each recording the recording_id of the first with the same number at xeno-canto; its own without one."""
    first: dict[str, str] = {}
    pairs = zip(recordings["recording_id"], recordings["url"], strict=True)
    numbers = [(identifier, xeno_canto_number(identifier, url)) for identifier, url in pairs]
    names = [name if number is None else first.setdefault(number, name) for name, number in numbers]
    return pd.Series(names, index=recordings.index, dtype=object)


def _once(recordings: pd.DataFrame, account: Account) -> pd.DataFrame:
    """Recordings without those that a source before theirs has."""
    firsts = list(_first_pieces(recordings))
    names = list(recordings["recording_id"])
    kept = [name.split("/")[0] == first.split("/")[0] for name, first in zip(names, firsts, strict=True)]
    details = [f"the recording at xeno-canto that is used as {first}" for first in firsts]
    return account.keep(recordings, pd.Series(kept, index=recordings.index, dtype=bool), "duplicate", details)


def _below(source: str, identifier: str) -> str:
    """A source's recording_id below the root; an absolute path stays one."""
    return identifier if PurePosixPath(identifier).is_absolute() else f"{source}/{identifier}"
