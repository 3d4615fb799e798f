"""Whether a person speaks in a stretch of sound: a rule, not a model, that rather takes a tractor for a voice than
the other way round.

What a voice has and birds, wind and water mostly lack is a pitch between those of a deep man and of a child, with
harmonics above it, that lasts for the length of a vowel. The rule looks for that in frames of the band of low
harmonics, by the autocorrelation of its compressed spectrum.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_RATE = 4000  # Hz, or a little more, to which the sound is thinned out first
_TAPS = 8  # of the filter for that, per sample that is kept
_BAND = (80.0, 1000.0)  # Hz
_PITCH = (90.0, 330.0)  # Hz
_LAG_RATE = 8000.0  # lags per second
_FUNDAMENTALS = 350.0  # Hz; pigeons, cuckoos and owls have little below
_LEAST_FUNDAMENTAL = 0.02  # of the band's energy below that
_LEAST_BAND = 0.01  # of all energy in the band
_FRAME, _HOP = 256, 128  # samples: 64 and 32 ms
_STEADY = 0.15  # octaves from frame to frame
_LASTS = 3  # frames in a row
_TINY = 1e-20
_WINDOW = np.hanning(_FRAME).astype(np.float32)

Floats = NDArray[np.float32]


def voicing(samples: Floats, sample_rate: int) -> float:
    """How surely somebody speaks: 0, certainly not, to 1.

    Args:
        samples: float32 [n_samples].
        sample_rate: Hz, 8000 or more.

    Returns:
        the strength of the pitch in the steadiest stretch of 0.1 s: 1 is a buzzer; speech passes 0.45.
    """
    if len(samples) < _shortest(sample_rate):
        return 0.0
    step = sample_rate // _RATE
    frames = np.lib.stride_tricks.sliding_window_view(_thinned(samples, step), _FRAME)[::_HOP]
    band_of, is_fundamental, cosines, lags = _transform(sample_rate / step)
    band = np.square(np.abs(np.fft.rfft(frames * _WINDOW, 2 * _FRAME, axis=1)[:, band_of]))
    energy, amplitude = band.sum(axis=1), np.sqrt(band)
    # which is their autocorrelation, at the lags that matter
    correlation = amplitude @ cosines / np.maximum(amplitude.sum(axis=1, keepdims=True), _TINY)
    best = correlation.argmax(axis=1)
    strength = correlation[np.arange(len(best)), best]
    strength[band[:, is_fundamental].sum(axis=1) <= _LEAST_FUNDAMENTAL * energy] = 0
    strength[energy <= _LEAST_BAND * _energies(samples, len(frames))] = 0
    strength[1:][np.abs(np.diff(np.log2(lags[best]))) > _STEADY] = 0
    steady = np.lib.stride_tricks.sliding_window_view(strength, _LASTS).min(axis=1)
    return float(np.clip(steady.max(), 0, 1))


def _shortest(sample_rate: int) -> int:
    """The fewest samples in which a voice can be heard."""
    return (_FRAME + (_LASTS - 1) * _HOP + _TAPS) * (sample_rate // _RATE)


@functools.lru_cache(maxsize=4)
def _transform(rate: float) -> tuple[slice, NDArray[np.bool_], Floats, Floats]:
    """At a rate: the bins of the band, which of them are fundamentals, cosines [n_bins, n_lags], and the lags, s."""
    frequencies = np.fft.rfftfreq(2 * _FRAME, 1 / rate)
    first, last = np.searchsorted(frequencies, _BAND)
    inside = frequencies[first:last]
    lags = np.arange(int(_LAG_RATE / _PITCH[1]), int(_LAG_RATE / _PITCH[0]) + 1) / _LAG_RATE
    cosines = np.cos(2 * np.pi * np.outer(inside, lags))
    return slice(first, last), inside < _FUNDAMENTALS, cosines.astype(np.float32), lags.astype(np.float32)


def _thinned(samples: Floats, step: int) -> Floats:
    """Every step-th sample, those about it mixed in so that what would fold into the band is gone."""
    blocks = samples[: len(samples) // step * step].reshape(-1, step)
    # a matrix product for all phases of the filter at once, then sums of its columns, each a block later
    parts = blocks @ _filter(step)
    n = len(blocks) - _TAPS + 1
    mixed = np.zeros(n, np.float32)
    for k in range(_TAPS):
        mixed += parts[k : k + n, k]
    return mixed


@functools.lru_cache(maxsize=4)
def _filter(step: int) -> Floats:
    """Float32 [step, _TAPS]."""
    taps = np.arange(_TAPS * step) - (_TAPS * step - 1) / 2
    taps = np.sinc(taps / step / 2) * np.hanning(_TAPS * step + 2)[1:-1]
    return (taps / taps.sum()).reshape(_TAPS, step).T.astype(np.float32)


def _energies(samples: Floats, n: int) -> Floats:
    """The energy in all frequencies of n frames, in the units of their power spectra's sums: float32 [n]."""
    whole = len(samples) // n
    squares = samples[: whole * n].reshape(n, whole)
    power = np.einsum("ij,ij->i", squares, squares) / np.float32(whole)
    return np.asarray(power * np.float32(np.square(_WINDOW).sum() * _FRAME))
