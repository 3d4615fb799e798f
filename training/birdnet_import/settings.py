"""conf/import_birdnet.yaml as typed values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerances:
    """What the numbers in a graph may differ by from what they are taken for.

    Attributes:
        window: of a value of the window function.
        bank: of a weight of the filter bank.
        spectrogram: of a mel value on noise, as a share of the largest.
    """

    window: float
    bank: float
    spectrogram: float
