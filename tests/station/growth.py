"""What a station holds while a day goes by, and whether it grows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

WARM_HOURS = 3
PIECES = 14  # of the day, each with its median
MOST_DRIFT, MOST_RISE = 0.015, 0.1
# what a process holds of its own; pages of files come and go as the system likes
_PRIVATE = ("RssAnon", "VmSwap")


@dataclasses.dataclass(frozen=True)
class Sample:
    """What a station has at one moment: the hours of sound that are behind it, private memory, descriptors, threads."""

    hours: float
    megabytes: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, process: int, hours: float) -> Sample:
        place = Path(f"/proc/{process}")
        lines = (line.partition(":") for line in (place / "status").read_text().splitlines())
        kilobytes = {name: int(value.split()[0]) for name, _, value in lines if name in _PRIVATE}
        return cls(
            hours,
            sum(kilobytes.values()) * 1024 / 1e6,
            len(list((place / "fd").iterdir())),
            len(list((place / "task").iterdir())),
        )


@dataclasses.dataclass(frozen=True)
class Growth:
    """Of memory, descriptors and threads while the day goes on, from the hour from which on the station is warm.

    Memory goes up and down with what is under way, and rises once when a rare thing happens for the first time. So its
    drift is what the medians of the day's pieces rise from the first to the last, without the greatest step from one
    piece to the next, by the first: a single step, at whatever hour, is none, and what is lost again and again is. How
    high a step may be, the rise from the first sample to the highest bounds. Some descriptors and threads come and go
    with files and connections, so what leaks is seen in the fewest that are open, in the first and in the last fifth.
    """

    samples: Sequence[Sample]
    hours: float

    @property
    def warm(self) -> list[Sample]:
        return [sample for sample in self.samples if WARM_HOURS <= sample.hours < self.hours]

    @property
    def memory(self) -> list[float]:
        return [sample.megabytes for sample in self.warm]

    @property
    def drift(self) -> float:
        medians = np.array([np.median(piece) for piece in np.array_split(self.memory, PIECES)])
        steps = np.diff(medians)
        return float((steps.sum() - steps[np.abs(steps).argmax()]) / medians[0])

    @property
    def rise(self) -> float:
        return max(self.memory) / self.memory[0] - 1

    def fewest(self, name: str) -> tuple[int, int]:
        values = [getattr(sample, name) for sample in self.warm]
        return min(values[: len(values) // 5]), min(values[-(len(values) // 5) :])

    def check(self) -> None:
        assert len(self.warm) >= 50, "too few samples to tell"
        assert abs(self.drift) < MOST_DRIFT, f"a drift: {self}"
        assert self.rise < MOST_RISE, f"a rise: {self}"
        for name in ("descriptors", "threads"):
            first, last = self.fewest(name)
            assert last <= first, f"more {name}: {self}"

    def __str__(self) -> str:
        memory, tenths = self.memory, max(1, len(self.warm) // 10)
        highest = " ".join(f"{max(memory[n : n + tenths]):.1f}" for n in range(0, len(memory), tenths))
        return (
            f"private memory {memory[0]:.1f} MB after {WARM_HOURS} h, {min(memory):.1f} to {max(memory):.1f} MB from "
            f"then on (highest of each tenth: {highest}), a drift of {self.drift:+.2%} ({len(memory)} samples); fewest "
            "descriptors {} at first, {} at last; fewest threads ".format(*self.fewest("descriptors"))
            + "{}, {}".format(*self.fewest("threads"))
        )
