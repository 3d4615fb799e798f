"""Between the bird and the recorder: background, distance, reverberation, and what remains audible of it all."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from training.datasets.demo.synth import RATE, Generator, Signal, band, between, jitter, noise, samples

FRAME = 1024  # samples of the short spectra by which loudness and audibility are judged
PAUSE = 0.4  # seconds
AUDIBLE = 3.0  # a bird stands out of a band where it has this many times the power of everything else
_EDGES = np.unique(np.geomspace(5, FRAME // 2, 41).astype(int))  # bins: 40 bands from 150 Hz to 16 kHz
_WINDOW = np.hanning(FRAME)


def band_power(sound: Signal) -> npt.NDArray[np.float64]:
    """Power in each band of each whole frame: [len(sound) // FRAME, n_bands]."""
    count = len(sound) // FRAME
    frames = sound[: count * FRAME].reshape(count, FRAME) * _WINDOW
    power = np.abs(scipy.fft.rfft(frames, axis=1)) ** 2
    return np.add.reduceat(power, _EDGES[:-1], axis=1)


def pink(rng: Generator, seconds: float, slope: float = 1.0) -> Signal:
    """Noise whose power falls by `slope` × 3 dB per octave, root mean square 1."""
    sound = band(rng.standard_normal(samples(seconds)), lambda f: 1.0 / np.maximum(f, 60.0) ** (slope / 2))
    return sound / np.sqrt(np.mean(sound**2))


def swell(rng: Generator, seconds: float, period: float) -> Signal:
    """A level that wanders between about 0.2 and 1, turning every `period` seconds."""
    turns = rng.uniform(0.2, 1.0, size=max(2, round(seconds / period) + 2))
    at = np.linspace(0, len(turns) - 1, samples(seconds))
    return np.interp(at, np.arange(len(turns)), turns)


def wind(rng: Generator, seconds: float) -> Signal:
    """Gusts: rumble below 300 Hz and a rustle of leaves above."""
    gusts = swell(rng, seconds, 1.5)
    return 2.0 * noise(rng, seconds, 20, 250) * gusts + 0.25 * noise(rng, seconds, 1500, 7000) * gusts**2


def rain(rng: Generator, seconds: float) -> Signal:
    """A hiss with drops: short clicks, some of them close."""
    drops = np.zeros(samples(seconds))
    at = rng.integers(0, len(drops), size=round(40 * seconds))
    drops[at] = rng.exponential(1.0, size=len(at)) ** 2
    drops = band(drops, between(700, 6000))
    return 0.5 * noise(rng, seconds, 1000, 12000) + 6.0 * drops


def insects(rng: Generator, seconds: float) -> Signal:
    """A bush-cricket: noise in a narrow band between 6 and 11 kHz, pulsed 15 to 40 times a second."""
    center = rng.uniform(6000, 11000)
    time = np.arange(samples(seconds)) / RATE
    pulses = np.clip(np.sin(2 * np.pi * rng.uniform(15, 40) * time), 0.0, None)
    return 0.5 * noise(rng, seconds, center * 0.93, center * 1.07) * pulses * swell(rng, seconds, 3.0)


def surf(rng: Generator, seconds: float) -> Signal:
    """Waves on a beach: broad noise that comes and goes every five seconds or so."""
    return 1.5 * noise(rng, seconds, 80, 4000) * swell(rng, seconds, 2.5) ** 2


def engine(rng: Generator, seconds: float) -> Signal:
    """A tractor far away: harmonics of 20 to 40 Hz up to some hundred hertz."""
    base = rng.uniform(20, 40)
    time = np.arange(samples(seconds)) / RATE
    phase = 2 * np.pi * base * time + 0.5 * np.cumsum(rng.standard_normal(len(time))) / np.sqrt(RATE)
    sound = sum(np.sin(order * phase + rng.uniform(0, 6)) / order**0.7 for order in range(2, 16))
    return np.asarray(sound) * swell(rng, seconds, 4.0)


def knocks(rng: Generator, seconds: float) -> Signal:
    """Steps, twigs and fingers on the recorder: a few thumps and cracks."""
    sound = np.zeros(samples(seconds))
    for _ in range(rng.poisson(seconds / 5)):
        low = float(rng.choice([60.0, 300.0, 1500.0]))
        length = rng.uniform(0.02, 0.12)
        hit = noise(rng, length, low, low * 4) * np.exp(-np.linspace(0, 6, samples(length)))
        at = int(rng.integers(0, max(1, len(sound) - len(hit))))
        sound[at : at + len(hit)] += rng.uniform(1, 4) * hit[: len(sound) - at]
    return sound


BEDS: tuple[Callable[[Generator, float], Signal], ...] = (wind, rain, insects, surf, engine, knocks)


@dataclass(frozen=True)
class Place:
    """Where somebody records, and with what: the noise that is usual there and the microphone's upper limit."""

    usual: int  # index into BEDS
    slope: float  # of the pink noise
    cutoff: float  # Hz

    @classmethod
    def draw(cls, rng: Generator) -> Place:
        return cls(int(rng.integers(len(BEDS))), float(rng.uniform(0.7, 1.4)), float(rng.uniform(9_000, 15_500)))

    def background(self, rng: Generator, seconds: float) -> Signal:
        """Noise of this place for a while, about root mean square 1."""
        bed = pink(rng, seconds, self.slope)
        kinds = [self.usual] if rng.random() < 0.6 else []
        if rng.random() < 0.4:
            kinds.append(int(rng.integers(len(BEDS))))
        for kind in kinds:
            bed = bed + rng.uniform(0.2, 1.0) * BEDS[kind](rng, seconds)
        return bed

    def record(self, sound: Signal) -> Signal:
        """`sound` as this place's microphone takes it."""
        return band(sound, between(40.0, self.cutoff))


def far(rng: Generator, sound: Signal, distance: float) -> Signal:
    """`sound` from a distance of 0 (at the microphone) to 1 (across a valley): duller, with an echoing tail.

    Air and leaves take the high frequencies; the tail is noise that dies away in 0.15 to 0.5 s.
    """
    length = jitter(rng, 0.15 + 0.35 * distance, 0.1)
    tail = rng.standard_normal(samples(length)) * np.exp(-6.9 * np.linspace(0, 1, samples(length)))
    tail *= (0.1 + 0.6 * distance) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    size = scipy.fft.next_fast_len(len(sound) + len(tail), real=True)
    frequency = scipy.fft.rfftfreq(size, 1 / RATE)
    air = 1.0 / (1.0 + (frequency / (18_000 * (1 - 0.75 * distance))) ** 2)
    spectrum = scipy.fft.rfft(sound, size) * scipy.fft.rfft(tail, size) * air
    return scipy.fft.irfft(spectrum, size)[: len(sound) + len(tail)]


def gain_for(sound: Signal, background: npt.NDArray[np.float64], snr: float) -> float:
    """Factor that lifts `sound` to `snr` dB over a background of given mean band power [n_bands].

    Measured in the band where the sound is strongest against the background, in the middle one of its loud frames: so
    that 10 dB mean the same for a pigeon in the wind's band and a robin above it.
    """
    power = band_power(np.pad(sound, (0, FRAME)))
    total = power.sum(axis=1)
    loud = power[total > 0.1 * total.max()]
    ratio = float(np.median((loud / background).max(axis=1)))
    return float(np.sqrt(10 ** (snr / 10) / ratio))


def audible(sound: Signal, everything: Signal) -> npt.NDArray[np.bool_]:
    """Frames [len // FRAME] in which `sound`, a part of `everything`, stands out of the rest in some band.

    The rest counts for its median at least: a lull of one frame makes nothing audible. Pauses of up to PAUSE between
    the notes of a song belong to it.
    """
    rest = band_power(everything - sound)
    rest = np.maximum(rest, np.median(rest, axis=0)) if len(rest) else rest
    heard = np.asarray((band_power(sound) > AUDIBLE * rest).any(axis=1))
    notes = np.flatnonzero(heard)
    for last, following in itertools.pairwise(notes):
        if (following - last) * FRAME / RATE <= PAUSE:
            heard[last:following] = True
    return heard
