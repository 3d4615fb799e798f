"""Where computed tensors lie in the arena: those whose lives do not overlap may share a place.

Enters: sizes and lives. Leaves: offsets, and the size of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ALIGNMENT = 16
"""Of every place, in floats: a cache line."""


@dataclass(frozen=True)
class Life:
    """How many floats a tensor has, and the first and last call that touch it."""

    size: int
    first: int
    last: int

    def meets(self, other: Life) -> bool:
        """Whether a call touches both."""
        return self.first <= other.last and other.first <= self.last


def arrange(lives: Mapping[int, Life]) -> tuple[dict[int, int], int]:
    """Offsets, in floats, by the tensors' keys, and the floats of the whole arena.

    The largest tensor first, each in the smallest gap that is left between those that live at the same time: so does
    TFLite's own planner.
    """
    offsets: dict[int, int] = {}
    total = 0
    for key in sorted(lives, key=lambda key: (-lives[key].size, key)):
        size = _aligned(lives[key].size)
        taken = sorted(
            (offsets[other], offsets[other] + _aligned(lives[other].size))
            for other in offsets
            if lives[other].meets(lives[key])
        )
        offsets[key] = _smallest_gap(taken, size)
        total = max(total, offsets[key] + size)
    return offsets, total


def _smallest_gap(taken: list[tuple[int, int]], size: int) -> int:
    end, best = 0, None
    for first, last in taken:
        if first - end >= size and (best is None or first - end < best[0]):
            best = (first - end, end)
        end = max(end, last)
    return end if best is None else best[1]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
