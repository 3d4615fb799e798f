"""What a model is, ahead of time: calls of kernels.c with all of their numbers, weights and a size of arena."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = dict[str, int | float | tuple[int, ...]]
"""Fields of a struct of kernels.h, by name; a tuple for an array."""

INPUT, OUTPUT, WEIGHTS, ARENA = "input", "output", "weights", "arena"


@dataclass(frozen=True)
class Place:
    """Where a call reads or writes: ``offset`` floats into one of INPUT, OUTPUT, WEIGHTS and ARENA."""

    region: str
    offset: int


@dataclass(frozen=True)
class Call:
    """One call of kernels.c.

    Attributes:
        kernel: the function's name, without ``labous_``.
        struct: of its first argument, without ``labous_``.
        numbers: that struct's fields.
        places: its other arguments, the output last.
        what: the operator and the tensor it writes, to read.
    """

    kernel: str
    struct: str
    numbers: Numbers
    places: tuple[Place, ...]
    what: str


@dataclass(frozen=True)
class Program:
    """A whole model.

    Attributes:
        calls: in order.
        weights: float32 [n], packed for vectors of ``lanes`` floats.
        lanes: LABOUS_LANES of the kernels that it needs.
        arena: floats that computed tensors need.
        inputs, outputs: floats of the model's input and output.
    """

    calls: tuple[Call, ...]
    weights: NDArray[np.float32]
    lanes: int
    arena: int
    inputs: int
    outputs: int
