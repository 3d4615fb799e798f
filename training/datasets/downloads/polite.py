"""Requests at a modest rate, again when the server is busy or the line breaks; files go on where they broke."""

from __future__ import annotations

import datetime
import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.datasets.base import DatasetError

if TYPE_CHECKING:
    import requests

_BUSY = {429, 500, 502, 503, 504}
_BLOCK = 1 << 14
_LONGEST_BACKOFF = 60.0  # s


class Refused(DatasetError):
    """The server answered, and the answer is no; `status` is its HTTP status, `said` the message with it."""

    def __init__(self, message: str, status: int, said: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.said = said


@dataclass
class PoliteClient:
    """A client of one service.

    Attributes:
        service: its name in messages; addresses are left out of them, for they may hold a key.
        requests_per_second: at most, repeated ones included.
        retries: of one request or file, after which it counts as failed.
        timeout: seconds without an answer.
        longest_wait: seconds that the server may ask us to wait.
    """

    service: str
    requests_per_second: float
    retries: int
    timeout: float
    longest_wait: float
    _next: float = 0.0
    _session: Any = field(default=None, repr=False)

    def json(self, url: str, params: Mapping[str, str]) -> Any:
        """The JSON that a server answers with.

        :raises Refused: for an answer of 4xx
        :raises DatasetError: when it cannot be reached, stays busy, or does not answer with JSON
        """
        problem = ""
        for attempt in range(self.retries + 1):
            try:
                with self._get(url, params, {}) as response:
                    if response.status_code not in _BUSY:
                        self._check(response)
                        return response.json()
                    problem = f"it answered {response.status_code}"
                    wait = self._asked_to_wait(response)
            except ValueError as error:
                raise DatasetError(f"{self.service} answered with something else than JSON: try again later") from error
            except OSError as error:  # all of requests' errors are
                problem, wait = type(error).__name__, None
            self._wait(attempt, wait)
        raise self._given_up(problem)

    def download(self, url: str, target: Path) -> None:
        """A file, written beside its place and renamed; what an earlier try left of the same file is continued.

        :raises Refused: for an answer of 4xx
        :raises DatasetError: when it cannot be had whole
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part, tag = target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.etag")
        problem = ""
        for attempt in range(self.retries + 1):
            wait = None
            known = tag.read_text() if tag.is_file() and part.is_file() else ""
            headers = {"Range": f"bytes={part.stat().st_size}-", "If-Range": known} if known else {}
            try:
                with self._get(url, {}, headers) as response:
                    if response.status_code == 416:  # what is there is as long as the file, or longer
                        tag.unlink(missing_ok=True)
                        problem = "it answered 416"
                        continue
                    if response.status_code in _BUSY:
                        problem, wait = f"it answered {response.status_code}", self._asked_to_wait(response)
                    else:
                        self._check(response)
                        if response.headers.get("Content-Type", "").startswith("text/html"):
                            raise DatasetError(f"{self.service} answered with a web page instead of {target.name}")
                        if response.status_code != 206:  # before the tag: no older part may pass for one of this file
                            part.unlink(missing_ok=True)
                        tag.write_text(response.headers.get("ETag", ""))
                        with part.open("ab") as file:
                            for block in response.iter_content(_BLOCK):
                                file.write(block)
                        if part.stat().st_size:
                            part.replace(target)
                            tag.unlink()
                            return
                        problem = "the file is empty"
            except OSError as error:
                if not _is_of_the_network(error):
                    raise
                problem = type(error).__name__
            self._wait(attempt, wait)
        raise self._given_up(problem)

    def _get(self, url: str, params: Mapping[str, str], headers: Mapping[str, str]) -> requests.Response:
        import requests

        self._session = self._session or requests.Session()
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        self._next = max(now, self._next) + 1.0 / self.requests_per_second
        # encoded bodies would break ranges
        headers = {"User-Agent": "labous-training", "Accept-Encoding": "identity", **headers}
        response: requests.Response = self._session.get(
            url, params=params, headers=headers, timeout=self.timeout, stream=True
        )
        return response

    def _check(self, response: requests.Response) -> None:
        if response.status_code >= 400:
            try:
                said = str(response.json().get("message", ""))
            except (ValueError, AttributeError):
                said = ""
            raise Refused(f"{self.service} answered {response.status_code}", response.status_code, said)

    def _asked_to_wait(self, response: requests.Response) -> float | None:
        """Seconds of the answer's Retry-After (RFC 9110: seconds or a date)."""
        text = response.headers.get("Retry-After", "")
        try:
            wait = float(text)
        except ValueError:
            try:
                date = email.utils.parsedate_to_datetime(text)
                wait = (date - datetime.datetime.now(datetime.UTC)).total_seconds()
            except (ValueError, TypeError):
                return None
        if wait > self.longest_wait:
            raise DatasetError(
                f"{self.service} asks to come back in {wait:.0f} s: run the same again then; what has arrived is kept"
            )
        return max(0.0, wait)

    def _wait(self, attempt: int, asked: float | None) -> None:
        if attempt < self.retries:
            time.sleep(min(2.0**attempt, _LONGEST_BACKOFF) if asked is None else asked)

    def _given_up(self, problem: str) -> DatasetError:
        return DatasetError(
            f"{self.service} could not be reached {self.retries + 1} times in a row ({problem}): check the network and "
            "run the same again; what has arrived is kept"
        )


def _is_of_the_network(error: OSError) -> bool:
    """Whether it is not the disk that fails."""
    import requests

    return isinstance(error, requests.RequestException)
