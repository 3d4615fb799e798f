"""xeno-canto's API, version 3: lists of recordings, page by page, and their files.

A query is made of tags (``sp:"erithacus rubecula" grp:birds q:">D" len:"2-180"``) and needs the key of the user's
account; the answer is JSON with ``numPages`` and ``recordings``. See https://xeno-canto.org/explore/api.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from training.datasets.base import DatasetError
from training.datasets.downloads.polite import PoliteClient, Refused

# what we read of a recording; lon was lng in version 2
FIELDS = ("id", "gen", "sp", "rec", "lat", "lon", "lng", "q", "length", "lic", "url", "file", "file-name", "also")
QUALITIES = "ABCDE"


@dataclass(frozen=True)
class Api:
    """How the service is asked.

    Attributes:
        url: of the search.
        key_variable: environment variable that holds the user's key; the key is written nowhere.
        per_page: recordings in one answer, 50 to 500.
        requests_per_second: at most, files included.
        retries: of one request.
        timeout: seconds without an answer.
        longest_wait: seconds that the service may ask us to wait.
    """

    url: str
    key_variable: str
    per_page: int
    requests_per_second: float
    retries: int
    timeout: float
    longest_wait: float

    def __post_init__(self) -> None:
        if not 50 <= self.per_page <= 500:
            raise DatasetError(f"api.per_page is {self.per_page}: the service takes 50 to 500")
        if self.requests_per_second <= 0:
            raise DatasetError(f"api.requests_per_second is {self.requests_per_second}: it must be above 0")
        if self.retries < 0 or self.timeout <= 0:
            raise DatasetError(
                f"api.retries is {self.retries} and api.timeout {self.timeout}: the first must not be below 0, the "
                "second must be above"
            )

    def key(self) -> str:
        """The user's key.

        :raises DatasetError: where there is none
        """
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise DatasetError(
                f"xeno-canto gives recordings to members only: put the key of your account "
                f"(https://xeno-canto.org/account) into the environment variable {self.key_variable}, and run the same "
                "again"
            )
        return key

    def client(self) -> PoliteClient:
        """A client that keeps to the rate."""
        return PoliteClient("xeno-canto", self.requests_per_second, self.retries, self.timeout, self.longest_wait)

    def search(self, client: PoliteClient, query: str, key: str) -> list[dict[str, Any]]:
        """All recordings that match a query, with FIELDS.

        :raises DatasetError: for a key or a query that the service refuses, and when it cannot be reached
        """
        found: list[dict[str, Any]] = []
        page, pages = 1, 1
        while page <= pages:
            params = {"query": query, "key": key, "per_page": str(self.per_page), "page": str(page)}
            try:
                answer = client.json(self.url, params)
                pages = int(answer["numPages"])
                found += [{name: row[name] for name in FIELDS if name in row} for row in answer["recordings"]]
            except Refused as refused:
                raise self._explained(refused, query, key) from None
            except (TypeError, LookupError, ValueError) as error:
                raise DatasetError(
                    f"xeno-canto's answer is no page of recordings ({error}): its interface has changed, or api.url is "
                    "not the search"
                ) from None
            page += 1
        return found

    def _explained(self, refused: Refused, query: str, key: str) -> DatasetError:
        if refused.status in (401, 403):
            return DatasetError(
                f"xeno-canto refuses the key in the environment variable {self.key_variable} ({refused.status}): copy "
                "it again from https://xeno-canto.org/account, and run the same again"
            )
        said = f": {refused.said.replace(key, '…')}" if refused.said else ""
        return DatasetError(f"xeno-canto answered {refused.status} to the query {query}{said}")


def query_for(scientific_name: str, min_quality: str | None, shortest: float | None, longest: float | None) -> str:
    """The query for recordings of one bird.

    :param min_quality: worst of A (best) to E; None for any, unrated ones included
    :param shortest: seconds, or None
    :param longest: seconds, or None
    """
    tags = [f'sp:"{scientific_name.lower()}"', "grp:birds"]
    if min_quality == "A":
        tags.append("q:A")
    elif min_quality in ("B", "C", "D"):
        worse = QUALITIES[QUALITIES.index(min_quality) + 1]
        tags.append(f'q:">{worse}"')
    if shortest is not None and longest is not None:
        tags.append(f'len:"{shortest:g}-{longest:g}"')
    elif shortest is not None:
        tags.append(f'len:">{shortest:g}"')
    elif longest is not None:
        tags.append(f'len:"<{longest:g}"')
    return " ".join(tags)


def license_code(address: str) -> str:
    """The code by-nc-sa of //creativecommons.org/licenses/by-nc-sa/4.0/; cc0 and pd of what is in the public domain."""
    parts = [part for part in address.split("/") if part]
    for kind in ("licenses", "publicdomain"):
        if kind in parts[:-1]:
            word = parts[parts.index(kind) + 1].lower()
            return {"zero": "cc0", "mark": "pd"}.get(word, word)
    return address.strip().lower()


def seconds_of(length: str) -> float:
    """Seconds of a length like 1:23 or 1:02:03; NaN for anything else."""
    try:
        total = 0.0
        for part in length.split(":"):
            total = total * 60 + float(part)
    except ValueError:
        return float("nan")
    return total
