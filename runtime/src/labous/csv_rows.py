"""The tables of a bundle, as strict as CSV can be read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from labous.errors import BundleError


def rows_below(content: bytes, header: Sequence[str], told: str, name: str, remedy: str) -> list[list[str]]:
    """The rows below a table's first line, which is line 1.

    Args:
        content: of the file.
        header: what the first line must be.
        told: how an error tells that.
        name: of the file, for errors.
        remedy: what to do about an error.

    Raises:
        BundleError: it is no UTF-8 table with this first line.
    """
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BundleError(f"{name} is not a UTF-8 table ({error}); {remedy}.") from error
    if not rows or rows[0] != list(header):
        raise BundleError(f"{name}: its first line must be {told}; {remedy}.")
    return rows[1:]
