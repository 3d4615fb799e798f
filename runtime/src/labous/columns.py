"""Text in columns that line up, for terminals."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A line per pair, indented: a name, and a value in one column."""
    width = max(len(name) for name, _ in pairs)
    return [f"  {name:<{width}}  {value}".rstrip() for name, value in pairs]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A line per row, indented; columns as wide as their widest cell, numbers to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell.removeprefix("-")[:1].isdigit() or cell == "-" for cell in column[1:]) for column in columns]
    return [
        "  " + "  ".join(f"{c:>{w}}" if r else f"{c:<{w}}" for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in [header, *rows]
    ]
