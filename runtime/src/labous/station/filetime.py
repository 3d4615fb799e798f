"""When a recording was begun: what its file tells."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from pathlib import Path

from labous import recordings
from labous.errors import NodeError

_UTC = datetime.timezone.utc
_IN_NAME = re.compile(
    r"(?<!\d)(?P<date>\d{8})[_T-]?(?P<time>\d{6})(?!\d)(?P<offset>Z(?![A-Za-z])|[+-]\d{2}:?\d{2}(?!\d))?"
)
_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2})")
_MOST_MINUTES = 14 * 60
_UNSET_BEFORE = datetime.datetime(1981, 1, 1, tzinfo=_UTC)  # recorders without a clock write 1970 or 1980


def zone(text: str) -> datetime.tzinfo:
    """A time zone: "UTC", "+02:00", or a name such as "Europe/Paris".

    Raises:
        NodeError: there is no such zone.
    """
    found = _offset(text)
    if found is not None:
        return found
    try:
        return zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise NodeError(
            f"There is no time zone {text!r} here; write an offset such as +02:00, or a name such as Europe/Paris, for "
            "which the system's package tzdata is needed."
        ) from error


def in_name(name: str, local: datetime.tzinfo) -> datetime.datetime | None:
    """The time in UTC that is written in a name as YYYYMMDD_HHMMSS; None where there is none.

    Args:
        name: as recorders write it: ``20240501_053000.WAV``, ``A1_20240501_053000.wav``, ``20240501T053000+0200.wav``.
        local: the zone of a time without Z or an offset that some place has.
    """
    for found in _IN_NAME.finditer(name):
        offset = _offset(found["offset"] or "")
        try:
            time = datetime.datetime.strptime(found["date"] + found["time"], "%Y%m%d%H%M%S")
            return time.replace(tzinfo=local if offset is None else offset).astimezone(_UTC)
        except (ValueError, OverflowError):
            continue
    return None


def from_modified(path: Path) -> datetime.datetime | None:
    """The time when the file was last written, less its length; None where that was before recorders like these.

    Raises:
        RecordingError: the file cannot be read.
        OSError: it cannot be looked at.
    """
    try:
        modified = datetime.datetime.fromtimestamp(path.stat().st_mtime, _UTC)
        began = modified - datetime.timedelta(seconds=recordings.duration(path))
    except (OverflowError, ValueError):
        return None
    return began if began >= _UNSET_BEFORE else None


def _offset(text: str) -> datetime.timezone | None:
    if text in ("Z", "UTC"):
        return _UTC
    found = _OFFSET.fullmatch(text)
    if found is None:
        return None
    minutes = 60 * int(found["hours"]) + int(found["minutes"])
    if minutes > _MOST_MINUTES or int(found["minutes"]) not in (0, 15, 30, 45):
        return None  # of no place on Earth: a number that follows the time by chance
    return datetime.timezone(datetime.timedelta(minutes=-minutes if found["sign"] == "-" else minutes))
