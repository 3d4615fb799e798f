"""TensorFlow's mel filter bank and Hann window in its own float32, and what a bank was made with, read from it.

Scores come out of a power of 0.19, which makes much of little: a bank or a window that is right to 1e-7 and not the
very same bits moves the scores of soft sound by 1e-3. So the logarithm and the cosine are those that TensorFlow
computes constants with (Eigen's, after Cephes, without fused multiply-adds), operation by operation.

Between two neighboring bands the weight of a bin says where the bin lies, in units of bands: of all bins together, that
is a straight line over their mels, whose ends are f_min and f_max. The sample rate is that whose mels make it straight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BREAK_HZ, _PER_LOG = 700.0, 1127.0  # of the HTK scale, as TensorFlow has it
_DECIMALS = (0, 1, 2, 3)
_FEWEST_BINS = 8
_LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
_COS = (2.4372266125283204e-5, -0.00138865201734006405, 0.041666619479656219, -0.5, 1.0)
_SIN = (-0.00019592341140837039, 0.0083326873655616852, -0.16666662039822983)
_HALF_PI = (-1.5703125, -0.000483989715576171875, 1.62865035235881805e-7, 5.56443155441677106e-11)
_ROUNDING = 12582912.0  # 1.5 · 2 ** 23: what is added to it keeps no fraction

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Bank:
    """What a filter bank was made with.

    Attributes:
        sample_rate: Hz.
        f_min, f_max: Hz.
        difference: largest difference of a weight to the formula's.
    """

    sample_rate: int
    f_min: float
    f_max: float
    difference: float


def periodic_hann(length: int) -> Floats:
    """tf.signal.hann_window, float32 [length]; the length is even."""
    one = np.float32
    angle = one(2 * np.pi) * np.arange(length, dtype=np.float32) / one(length)
    return one(0.5) - one(0.5) * _cos(angle)


def filter_bank(n_mels: int, n_bins: int, sample_rate: int, f_min: float, f_max: float) -> Floats:
    """tf.signal.linear_to_mel_weight_matrix, transposed: float32 [n_mels, n_bins]."""
    bins = _mels(_line(0.0, sample_rate / 2, n_bins)[1:])  # that of 0 Hz is left out
    low, high = _mels(np.array([f_min, f_max], np.float32))
    edges = _line(low, high, n_mels + 2)
    lower, center, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - lower) / (center - lower), (upper - bins) / (upper - center)
    return np.pad(np.maximum(np.float32(0), np.minimum(rising, falling)), [[0, 0], [1, 0]])


def read_bank(weights: NDArray[np.floating], sample_rates: Sequence[int]) -> Bank | None:
    """What a bank was made with.

    Args:
        weights: [n_mels, n_bins].
        sample_rates: those that it may have been made for, Hz.

    Returns:
        The call whose result comes nearest, with the difference that remains; None where no band meets the next.
    """
    bank = np.asarray(weights, np.float64)
    n_mels, n_bins = bank.shape
    bins, bands = [], []
    for k in range(1, n_bins):
        held = np.flatnonzero(bank[:, k])
        if len(held) == 2 and held[1] == held[0] + 1:
            bins.append(k)
            bands.append(held[1] + bank[held[1], k])
    if len(bins) < _FEWEST_BINS:
        return None
    found: list[Bank] = []
    for rate in sample_rates:
        at = _PER_LOG * np.log1p(np.array(bins) * rate / (2 * (n_bins - 1)) / _BREAK_HZ)
        slope, start = np.polyfit(at, np.array(bands), 1)
        if slope > 0:
            ends = [float(_BREAK_HZ * np.expm1((edge - start) / slope / _PER_LOG)) for edge in (0, n_mels + 1)]
            found += _roundest(bank, rate, *ends)
    return min(found, key=lambda made: made.difference, default=None)


def _roundest(bank: NDArray[np.float64], rate: int, low: float, high: float) -> list[Bank]:
    """The bank between the fitted edges, rounded as far as that makes it no worse."""
    tried = []
    for decimals in _DECIMALS:
        f_min, f_max = max(0.0, round(low, decimals)), round(high, decimals)
        if 0 <= f_min < f_max <= rate / 2:
            difference = float(np.abs(filter_bank(len(bank), bank.shape[1], rate, f_min, f_max) - bank).max())
            tried.append(Bank(rate, f_min, f_max, difference))
    best = min((made.difference for made in tried), default=np.inf)
    return [next(made for made in tried if made.difference <= 2 * best)] if tried else []


def _mels(hertz: Floats) -> Floats:
    return np.float32(_PER_LOG) * _log(np.float32(1) + hertz / np.float32(_BREAK_HZ))


def _line(start: Any, stop: Any, count: int) -> Floats:
    """TensorFlow's linspace."""
    first, last = np.float32(start), np.float32(stop)
    line = first + np.arange(count, dtype=np.float32) * ((last - first) / np.float32(count - 1))
    line[-1] = last
    return line


def _polynomial(x: Floats, coefficients: Sequence[float]) -> Floats:
    made = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        made = made * x + np.float32(coefficient)
    return made


def _log(values: Floats) -> Floats:
    """Eigen's logarithm."""
    mantissa, exponent = np.frexp(values)
    low = mantissa < np.float32(np.sqrt(0.5))
    x = mantissa - np.float32(1)
    x = np.where(low, x + mantissa, x)
    x2 = x * x
    x3 = x2 * x
    parts = [_polynomial(x, _LOG[i : i + 3]) for i in (0, 3, 6)]
    made = ((parts[0] * x3 + parts[1]) * x3 + parts[2]) * x3
    made = x + (np.float32(-0.5) * x2 + made)
    return (exponent - low).astype(np.float32) * np.float32(np.log(2)) + made


def _cos(angle: Floats) -> Floats:
    """Eigen's cosine, of angles that are not negative."""
    turns = angle * np.float32(0.636619746685028076171875) + np.float32(_ROUNDING)
    quarter = turns.view(np.int32)
    turns = turns - np.float32(_ROUNDING)
    x = angle
    for part in _HALF_PI:
        x = turns * np.float32(part) + x
    x2 = x * x
    cosine = _polynomial(x2, _COS)
    sine = _polynomial(x2, _SIN) * x2 * x + x
    made = np.where(quarter & 1 == 0, cosine, sine)
    return np.where((quarter + 1) & 2 == 2, -made, made)
