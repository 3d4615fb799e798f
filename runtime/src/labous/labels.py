"""The table of labels, a bundle's ``labels.csv``."""

from __future__ import annotations

import dataclasses

from labous.csv_rows import rows_below
from labous.detect import Label
from labous.errors import BundleError

_LABEL_COLUMNS = [field.name for field in dataclasses.fields(Label)]


def read_labels(content: bytes, name: str, remedy: str = "export the bundle again") -> tuple[Label, ...]:
    """A table of labels, each a row, in the order of the logits.

    Args:
        content: of a file like a bundle's ``labels.csv``.
        name: of the file, for errors.
        remedy: what to do about an error.

    Raises:
        BundleError: it is no such table.
    """
    rows = rows_below(content, _LABEL_COLUMNS, ",".join(_LABEL_COLUMNS), name, remedy)
    labels = []
    for number, row in enumerate(rows, 2):
        if len(row) != len(_LABEL_COLUMNS) or not all(cell.isprintable() for cell in row) or not row[0]:
            raise BundleError(f"{name}: line {number} is not four printable columns; {remedy}.")
        labels.append(Label(*row))
    codes = [label.ebird_code for label in labels]
    if not codes or len(set(codes)) != len(codes):
        raise BundleError(f"{name} has no label, or the same ebird_code twice; {remedy}.")
    return tuple(labels)
