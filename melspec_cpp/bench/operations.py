"""The vector operations that the mel stage's algorithm takes, stage by stage, by formula.

An operation is one instruction of WebAssembly's SIMD128 on two float64 lanes; the few on a single number count as one.
Loads, stores, index arithmetic and the check for NaN are no arithmetic of the algorithm and are left out. The formulas
follow melspec_cpp/src; tests/melspec/test_limit.py compares them with what the module executes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from labous.frontend import Frontend

LANES = 2
REST = 32  # real numbers of a frame that are left for two frames at once
STEP = 4  # bins that the mel product takes at once: a band's weights are filled up to a multiple


class Operations(NamedTuple):
    """How many of each kind; they can be added to each other and multiplied by a number."""

    additions: int = 0  # and subtractions
    multiplications: int = 0
    divisions: int = 0
    promotions: int = 0  # float32 to float64
    demotions: int = 0  # and back
    shuffles: int = 0
    maxima: int = 0
    integers: int = 0  # on 64-bit lanes and their bits, in the logarithm

    def __add__(self, other: tuple[int, ...]) -> Operations:  # type: ignore[override]
        return Operations(*(a + b for a, b in zip(self, other, strict=True)))

    def __mul__(self, times: int) -> Operations:  # type: ignore[override]
        return Operations(*(times * n for n in self))


PRODUCT = Operations(additions=2, multiplications=4)  # of complex numbers
POWER = Operations(additions=1, multiplications=2)
HALVE = PRODUCT + Operations(additions=4)  # two sums of real numbers, one complex number of their differences
WINDOWED = HALVE + Operations(multiplications=4, promotions=4, shuffles=2)
TRANSFORM4 = Operations(additions=16)  # of four complex numbers: eight complex additions
PASS = TRANSFORM4 + PRODUCT * 3
LAST4 = TRANSFORM4 + POWER * 4 + Operations(shuffles=8)
# two transforms of 4, two products with sqrt(1/2) (1 + i) and the like, eight complex additions
LAST8 = TRANSFORM4 * 2 + Operations(additions=4 + 16, multiplications=4, shuffles=16) + POWER * 8
RADIX2 = PRODUCT + Operations(additions=4)
LAST = Operations(additions=6, multiplications=2) + POWER  # of four real numbers

STEP_PRODUCT = Operations(additions=4, multiplications=4)  # four bins of two frames, two lanes at once
STEP_SUM = Operations(additions=3, shuffles=2)

LOGARITHM = Operations(additions=8, multiplications=8, divisions=1, integers=6)
# The square, which only magnitudes need, is not branched around.
LEVEL = LOGARITHM + Operations(multiplications=1, maxima=1) + Operations(additions=2, multiplications=1, demotions=1)
REFERENCE = LOGARITHM + Operations(multiplications=2, maxima=1)  # once a run


def stages(frontend: Frontend, filters: np.ndarray, n_frames: int) -> dict[str, Operations]:
    """Operations of one run to decibels, scaled or not, by stage, in the order in which they are done.

    Args:
        frontend: with power 2, a fixed reference and no top_db; win_length makes no difference.
        filters: the filter bank, [n_mels, 1 + n_fft // 2]; only where it is not zero matters.
        n_frames: of the run.

    Raises:
        ValueError: for other front ends.
    """
    if frontend.power != 2 or frontend.ref == "max" or frontend.top_db is not None:
        raise ValueError("only power 2, a fixed reference and no top_db are counted")
    pairs = -(-n_frames // LANES)  # the mel product and what follows take two frames at once
    steps = int(np.sum(-(-np.count_nonzero(filters, axis=1) // STEP)))
    values = frontend.n_mels * pairs
    n_fft = frontend.n_fft
    splits = [n_fft >> n for n in range(n_fft.bit_length()) if n_fft >> n > REST]  # real numbers that each begins with
    complex_transforms = [_transform(length // 4) for length in splits]
    return {
        "window and first split": WINDOWED * (n_fft // 4 // LANES * n_frames),
        "further splits": HALVE * (sum(splits[1:]) // 4 // LANES * n_frames),
        "passes": total(passes for passes, _ in complex_transforms) * n_frames,
        "last passes and power": total(last for _, last in complex_transforms) * n_frames,
        f"last {REST} real numbers": _rest() * pairs,
        "mel product": STEP_PRODUCT * (steps * pairs) + STEP_SUM * values,
        "decibels and scaling": LEVEL * values + REFERENCE,
    }  # fmt: skip


def _transform(points: int) -> tuple[Operations, Operations]:
    """A complex transform: its passes of radix 4, and the last, of 4 or of 8 points, with the power."""
    passes, length = Operations(), points
    while length > 8:
        passes += PASS * (points // 4 // LANES)
        length //= 4
    return passes, (LAST4 if length == 4 else LAST8) * (points // length // LANES)


def _rest() -> Operations:
    """The last splits, of as many frames as there are lanes, with transforms of radix 2."""
    done, length = LAST, REST
    while length > 4:
        points = length // 4
        done += (HALVE + POWER) * points + RADIX2 * (points // 2 * (points.bit_length() - 1))
        length //= 2
    return done


def total(operations: Iterable[Operations]) -> Operations:
    """All of them together."""
    return sum(operations, start=Operations())


_SIMD = 0xFD
_OPCODES: dict[str, tuple[tuple[int, ...], ...]] = {
    # f64x2.add, .sub, .neg; f64.add, .sub, .neg
    "additions": ((_SIMD, 0xF0), (_SIMD, 0xF1), (_SIMD, 0xED), (0xA0,), (0xA1,), (0x9A,)),
    "multiplications": ((_SIMD, 0xF2), (0xA2,)),
    "divisions": ((_SIMD, 0xF3), (0xA3,)),
    "promotions": ((_SIMD, 0x5F),),  # f64x2.promote_low_f32x4
    "demotions": ((_SIMD, 0x5E), (0xB6,)),  # f32x4.demote_f64x2_zero, f32.demote_f64
    "shuffles": ((_SIMD, 0x0D),),  # i8x16.shuffle
    "maxima": tuple((_SIMD, n) for n in range(0xF4, 0xF8)),  # f64x2.min to f64x2.pmax
    "integers": tuple((_SIMD, n) for n in (*range(0x4D, 0x53), *range(0xC0, 0xE0))),  # bits, and i64x2
}


def of(executed: Mapping[tuple[int, ...], int]) -> Operations:
    """What a run executed (see counted.executed) by kind: more than the algorithm where the compiler takes detours."""
    return Operations(**{kind: sum(executed.get(opcode, 0) for opcode in _OPCODES[kind]) for kind in _OPCODES})
