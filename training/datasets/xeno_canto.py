"""Recordings from xeno-canto, by the names of a species table, with the user's own key."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from training.console import progress as progress_bar
from training.datasets.backgrounds import readable_suffixes
from training.datasets.base import (
    RECORDING_COLUMNS,
    DatasetError,
    Notes,
    Species,
    one_spelling,
    read_boxes,
    read_column,
    read_species_table,
    recordists,
    require_directory,
    require_recordings,
)
from training.datasets.downloads.polite import Refused
from training.datasets.downloads.xeno_canto import QUALITIES, Api, license_code, query_for, seconds_of
from training.datasets.focal import FocalDataset
from training.datasets.rules import Account, Limits, inside_boxes
from training.files import write_text, written_beside

LISTINGS = "listings"  # what the service lists for each species, by code
UNAVAILABLE = "unavailable.json"  # listed recordings that it does not hand out, with the status it answered
ATTRIBUTION = "ATTRIBUTION.csv"
ATTRIBUTION_COLUMNS = ("file", "scientific_name", "recordist", "license", "url")
_GONE = {404, 410, 451}
HOW_TO_GET = "get it with `python -m training.download` and the same dataset settings"


class XenoCantoDataset(FocalDataset):
    """What xeno-canto has of the species of a table, below `root`/<ebird_code>/XC<number>.<suffix>.

    A species is searched by its name in the column xeno_canto_name, or its scientific name. Recordings beside it
    that the table has are secondary labels. Quality A … E is rating 5 … 1, unrated 0.

    :param species: path of a species table, or the name of one in data/species/
    :param tiers: of the table, whose species are labels; all of them when None
    :param search_tiers: of these, the ones that are searched for; all of them when None
    :param min_quality: worst of A … E to take; None for any, unrated ones included
    :param licenses: codes such as by-nc-sa, cc0; None for any
    :param max_recordings: of a species; recordists take turns, the best recordings of each first
    :param backgrounds: folders of recordings without any bird of the table
    :param require_all: whether a species searched for without a recording is an error
    """

    def __init__(
        self,
        root: str | Path,
        species: str | Path,
        api: Api,
        *,
        tiers: Sequence[str] | None = None,
        search_tiers: Sequence[str] | None = None,
        min_quality: str | None = None,
        licenses: Sequence[str] | None = None,
        min_seconds: float | None = None,
        max_seconds: float | None = None,
        max_recordings: int | None = None,
        backgrounds: Sequence[str] | None = None,
        require_all: bool = True,
        name: str = "xeno_canto",
    ) -> None:
        if min_quality is not None and min_quality not in tuple(QUALITIES):
            raise DatasetError(f"dataset.min_quality is {min_quality!r}: choose one of {', '.join(QUALITIES)}, or null")
        if max_recordings is not None and not (isinstance(max_recordings, int) and max_recordings > 0):
            raise DatasetError(f"dataset.max_recordings is {max_recordings!r}: write a number above 0, or null for all")
        self.root = Path(root)
        self.table = species
        self.api = api
        self.tiers = tiers
        self.search_tiers = search_tiers
        self.limits = Limits(_rating(min_quality or ""), min_seconds, max_seconds)
        self.min_quality = min_quality
        one_or_more = [licenses] if isinstance(licenses, str) else licenses
        self.licenses = None if one_or_more is None else {code.lower() for code in one_or_more}
        self.max_recordings = max_recordings
        self.background_folders = backgrounds
        self.require_all = require_all
        self.name = name
        self.synthetic = False

    def fetch(self, progress: bool = True) -> None:
        """List and download what is not on disk; nothing is asked for, no key either, where all of it is.

        Interrupted, it goes on where it stopped. `root`/ATTRIBUTION.csv names the recordist and the license of each.
        """
        client = self.api.client()
        unlisted = [label for label in self._searched if self._listing(label).get("query") != self._query(label)]
        for label in progress_bar(unlisted, "searching", unit="species") if progress else unlisted:
            query, key = self._query(label), self.api.key()
            text = json.dumps({"query": query, "recordings": self.api.search(client, query, key)}, ensure_ascii=False)
            write_text(self.root / LISTINGS / f"{label.ebird_code}.json", text.replace(key, ""))
        self._forget()
        rows, _ = self._listed
        files = zip(rows["number"], rows["file"], map(Path, rows["path"]), strict=True)
        ahead = [(number, address, path) for number, address, path in files if not path.is_file()]
        if ahead:
            self.api.key()  # files are for members, as listings are, though they are sent without it
        lost = self._unavailable
        try:
            for number, address, path in progress_bar(ahead, "download", unit="file") if progress else ahead:
                try:
                    client.download(address, path)
                except Refused as refused:
                    if refused.status not in _GONE:
                        raise DatasetError(
                            f"xeno-canto answered {refused.status} when asked for XC{number}: try again later"
                        ) from None
                    lost[number] = refused.status
                    write_text(self.root / UNAVAILABLE, json.dumps(lost, indent=1, sort_keys=True) + "\n")
        finally:
            self._forget()
            self._write_attribution()

    def _forget(self) -> None:
        """What was read from disk before it changed."""
        for name in ("_listed", "_recordings"):
            self.__dict__.pop(name, None)

    def species(self) -> list[Species]:
        return list(self._species)

    @cached_property
    def _species(self) -> list[Species]:
        return read_species_table(self.table, self.tiers)

    @cached_property
    def _searched(self) -> list[Species]:
        wanted = set(self._species)
        return [label for label in read_species_table(self.table, self.search_tiers) if label in wanted]

    @cached_property
    def _names(self) -> dict[str, str]:
        """Name of each species at xeno-canto, by its code."""
        own = read_column(self.table, "xeno_canto_name")
        return {label.ebird_code: own.get(label.ebird_code, label.scientific_name) for label in self._species}

    @property
    def _unavailable(self) -> dict[str, int]:
        try:
            lost: dict[str, int] = json.loads((self.root / UNAVAILABLE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return lost

    def _query(self, label: Species) -> str:
        name = self._names[label.ebird_code]
        return query_for(name, self.min_quality, self.limits.min_seconds, self.limits.max_seconds)

    def _listing(self, label: Species) -> dict[str, Any]:
        try:
            listing: dict[str, Any] = json.loads((self.root / LISTINGS / f"{label.ebird_code}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return listing

    @cached_property
    def _listed(self) -> tuple[pd.DataFrame, Account]:
        """What is to be on disk, and what rules leave out of the listings."""
        root = self.root.resolve()
        rows = [
            _row(label, entry, root)
            for label in self._searched
            for entry in self._listing(label).get("recordings", ())
            if str(entry.get("id", "")).isdigit()  # it becomes the name of a file
        ]
        columns = ("recording_id", "path", "primary_label", "also", "author", "rating", "license", "url")
        frame = pd.DataFrame(rows, columns=[*columns, "seconds", "latitude", "longitude", "file", "number"])
        frame = frame.drop_duplicates("recording_id").sort_values("recording_id", ignore_index=True)
        frame["rating"] = frame["rating"].astype(float)
        account = Account()
        if self.licenses is not None:
            codes = [license_code(address) for address in frame["license"]]
            allowed = pd.Series([code in self.licenses for code in codes], index=frame.index, dtype=bool)
            frame = account.keep(frame, allowed, "licenses", [f"under {code or 'no license'}" for code in codes])
        frame = self.limits.rated(frame, account)
        frame = self.limits.of_length(frame, frame["seconds"].astype(float), account)
        frame = inside_boxes(frame, read_boxes(self.table), account)
        lost = self._unavailable
        numbers, addresses = list(frame["number"]), list(frame["file"])
        had = [n not in lost and a.startswith("http") for n, a in zip(numbers, addresses, strict=True)]
        details = [f"xeno-canto answered {lost[n]}" if n in lost else "xeno-canto gives no file" for n in numbers]
        frame = account.keep(frame, pd.Series(had, index=frame.index, dtype=bool), "unavailable", details)
        if self.max_recordings is not None:
            frame = self._best(frame, self.max_recordings, account)
        return frame.reset_index(drop=True), account

    def _best(self, frame: pd.DataFrame, most: int, account: Account) -> pd.DataFrame:
        order = frame.assign(number=frame["number"].astype(int))
        order = order.sort_values(["rating", "number"], ascending=[False, True])
        order["turn"] = order.groupby(["primary_label", one_spelling(order["author"])]).cumcount()
        order = order.sort_values(["turn", "rating", "number"], ascending=[True, False, True])
        place = order.groupby("primary_label").cumcount().reindex(frame.index)
        details = [f"beyond the best {most}"] * len(frame)
        return account.keep(frame, place < most, "max_recordings", details)

    @cached_property
    def _recordings(self) -> tuple[pd.DataFrame, Notes, Account]:
        require_directory(self.root, HOW_TO_GET)
        unlisted = [label.ebird_code for label in self._searched if not self._listing(label)]
        if unlisted:
            raise DatasetError(f"{self.root} has no listing of {', '.join(unlisted[:8])}: {HOW_TO_GET}")
        listed, account = self._listed
        present = pd.Series([Path(path).is_file() for path in listed["path"]], index=listed.index, dtype=bool)
        rows = listed[present].reset_index(drop=True)
        if self.require_all:
            reasons = dict.fromkeys(set(listed["primary_label"]), f"no file below {self.root}")
            reasons = dict.fromkeys(self._names, "xeno-canto lists none") | account.reasons() | reasons
            require_recordings(rows, self._searched, reasons, self.table)
        codes = {name.lower(): code for code, name in self._names.items()}
        codes |= {label.scientific_name.lower(): label.ebird_code for label in self._species}
        dropped: Counter[str] = Counter()
        labels = []
        for also, primary in zip(rows["also"], rows["primary_label"], strict=True):
            dropped.update(name for name in also if name.lower() not in codes)
            found = {codes[name.lower()] for name in also if name.lower() in codes}
            labels.append(sorted(found - {primary}))
        rows["secondary_labels"] = pd.Series(labels, index=rows.index, dtype=object)
        unknown = sum(not author.strip() for author in rows["author"])
        rows["author"] = recordists(rows["author"], rows["recording_id"])
        missing = list(listed.loc[~present, "recording_id"])
        noted = Notes(missing=missing, dropped_labels=dropped, unknown_recordists=unknown)
        return rows[list(RECORDING_COLUMNS)], noted, account

    def _write_attribution(self) -> None:
        rows, _ = self._listed
        names = {label.ebird_code: label.scientific_name for label in self._species}
        with (
            written_beside(self.root / ATTRIBUTION) as beside,
            beside.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(ATTRIBUTION_COLUMNS)
            columns = ("recording_id", "primary_label", "author", "license", "url", "path")
            for identifier, code, author, terms, url, path in zip(*(rows[name] for name in columns), strict=True):
                if Path(path).is_file():
                    writer.writerow((identifier, names[code], author, terms, url))


def _row(label: Species, entry: dict[str, Any], root: Path) -> tuple[Any, ...]:
    number = str(entry["id"])
    suffix = Path(str(entry.get("file-name", ""))).suffix.lower()
    identifier = f"{label.ebird_code}/XC{number}{suffix if suffix in readable_suffixes() else '.mp3'}"
    return (
        identifier,
        str(root / identifier),
        label.ebird_code,
        [name for name in map(str, entry.get("also") or ()) if name.strip()],
        str(entry.get("rec") or ""),
        _rating(str(entry.get("q") or "")),
        _address(str(entry.get("lic") or "")),
        _address(str(entry.get("url") or "")),
        seconds_of(str(entry.get("length") or "")),
        entry.get("lat"),
        entry.get("lon", entry.get("lng")),
        _address(str(entry.get("file") or "")),
        number,
    )


def _rating(quality: str) -> float:
    """5 for A … 1 for E, 0 for unrated."""
    return float(5 - QUALITIES.index(quality)) if quality and quality in QUALITIES else 0.0


def _address(text: str) -> str:
    return f"https:{text}" if text.startswith("//") else text
