"""Mixtures of recordings for a teacher to listen to: made from a number, so that they need not be kept as sound."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.errors import ConfigError

Samples = NDArray[np.float32]

_SILENT = 1e-6  # RMS below which nothing sounds


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What mixtures are made of; conf/teacher says what each value means. Pairs are [low, high]."""

    sources: Sequence[float]
    source_level_db: tuple[float, float]
    speed_probability: float
    speed: tuple[float, float]
    filter_probability: float
    tilt_db: tuple[float, float]
    ripple_db: float
    reverberation_probability: float
    reverberation_seconds: tuple[float, float]
    direct_db: tuple[float, float]
    background_probability: float
    background_snr_db: tuple[float, float]
    background_alone: float
    crop_candidates: int

    def __post_init__(self) -> None:
        if not self.sources or min(self.sources) < 0 or abs(sum(self.sources) - 1) > 1e-6:
            raise ConfigError(
                f"teacher.sources is {list(self.sources)}; write shares of 1, 2, … sources that sum to 1."
            )
        pairs = ("source_level_db", "speed", "tilt_db", "reverberation_seconds", "direct_db", "background_snr_db")
        for name in pairs:
            pair = getattr(self, name)
            if len(pair) != 2 or pair[0] > pair[1]:
                raise ConfigError(f"teacher.{name} is {list(pair)}; write [low, high].")
        for name in ("sources", *pairs):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # hashable, from the lists of conf/
        if self.speed[0] <= 0:
            raise ConfigError(f"teacher.speed is {list(self.speed)}; write [slowest, fastest], 1 as it is.")
        if self.reverberation_seconds[0] <= 0:
            raise ConfigError(
                f"teacher.reverberation_seconds is {list(self.reverberation_seconds)}; they must be above 0."
            )
        if self.ripple_db < 0:
            raise ConfigError(f"teacher.ripple_db is {self.ripple_db}; it must be at least 0.")
        parts = ("speed", "filter", "reverberation", "background")
        for name in (*(f"{part}_probability" for part in parts), "background_alone"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"teacher.{name} is {getattr(self, name)}; a probability lies between 0 and 1.")
        if self.crop_candidates < 1:
            raise ConfigError(f"teacher.crop_candidates is {self.crop_candidates}; it must be at least 1.")


class Library:
    """Recordings at one rate, decoded once and kept as int16 up to a number of bytes, the longest unused dropped."""

    def __init__(self, sample_rate: int, most_bytes: int) -> None:
        self._rate, self._most = sample_rate, most_bytes
        self._kept: OrderedDict[str, NDArray[np.int16]] = OrderedDict()
        self._bytes = 0

    def samples(self, path: str) -> NDArray[np.int16]:
        """A recording, int16 [n_samples].

        Raises:
            RecordingError: it cannot be read.
        """
        from labous.recordings import read

        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        found = np.round(np.clip(read(path, self._rate), -1, 1) * 32767).astype(np.int16)
        self._kept[path] = found
        self._bytes += found.nbytes
        while self._bytes > self._most and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return found


@dataclasses.dataclass(frozen=True)
class Mixture:
    """One window of sound, float32 [window_samples], and the recording_ids that are heard in it, the first loudest."""

    samples: Samples
    sources: tuple[str, ...]
    background: str


class Mixer:
    """Draws mixtures.

    Args:
        recordings: columns recording_id, path, primary_label, author.
        backgrounds: columns recording_id, path, start_seconds, end_seconds (NaN: to the end); may be empty.
    """

    def __init__(
        self,
        recordings: pd.DataFrame,
        backgrounds: pd.DataFrame,
        recipe: Recipe,
        library: Library,
        sample_rate: int,
        window_samples: int,
    ) -> None:
        self._recipe, self._library = recipe, library
        self._rate, self._length = sample_rate, window_samples
        self._ids, self._paths = list(recordings.recording_id), list(recordings.path)
        numbered = recordings.assign(row=np.arange(len(recordings)))
        # species, recordist, recording: each drawn evenly
        self._tree = [
            [list(rows.row) for _, rows in birds.groupby("author", sort=True)]
            for _, birds in numbered.groupby("primary_label", sort=True)
        ]
        self._backgrounds = list(
            zip(
                backgrounds.recording_id,
                backgrounds.path,
                backgrounds.start_seconds,
                backgrounds.end_seconds,
                strict=True,
            )
        )

    def draw(self, rng: np.random.Generator) -> Mixture:
        """One mixture; the same for a generator in the same state."""
        recipe = self._recipe
        alone = bool(self._backgrounds) and rng.random() < recipe.background_alone
        count = 1 + int(rng.choice(len(recipe.sources), p=recipe.sources))
        mixed, loudest = np.zeros(self._length, np.float32), 0.0
        heard: list[str] = []
        for _ in range(0 if alone else count):
            row = self._row(rng)
            if self._ids[row] in heard:
                continue
            crop = self._elsewhere(self._crop(self._paths[row], rng), rng)
            if heard:
                crop = crop * _level(loudest, _rms(crop), rng.uniform(*recipe.source_level_db))
            else:
                loudest = _rms(crop)
            start = int(rng.integers(0, self._length - len(crop) + 1))  # what is shorter lies anywhere
            mixed[start : start + len(crop)] += crop
            heard.append(self._ids[row])
        background = ""
        if self._backgrounds and (alone or rng.random() < recipe.background_probability):
            background, sound = self._background(rng)
            snr = rng.uniform(*recipe.background_snr_db)
            mixed = sound if alone else mixed + sound * _level(loudest, _rms(sound), -snr)
        peak = float(np.abs(mixed).max())
        return Mixture((mixed / max(peak, 1.0)).astype(np.float32), tuple(heard), background)

    def _row(self, rng: np.random.Generator) -> int:
        recordists = self._tree[rng.integers(len(self._tree))]
        rows = recordists[rng.integers(len(recordists))]
        return int(rows[rng.integers(len(rows))])

    def _crop(self, path: str, rng: np.random.Generator) -> Samples:
        """A window of a recording, at its pace or another: the loudest of a few; at most [window_samples]."""
        import soxr

        whole, length = self._library.samples(path), self._length
        changed = rng.random() < self._recipe.speed_probability
        low, high = self._recipe.speed
        speed = float(np.exp(rng.uniform(np.log(low), np.log(high)))) if changed else 1.0
        needed = round(length * speed)
        if len(whole) > needed:
            starts = rng.integers(0, len(whole) - needed + 1, self._recipe.crop_candidates)
            crops = [whole[s : s + needed].astype(np.float32) / np.float32(32767) for s in starts]
            crop = max(crops, key=lambda c: float(np.abs(c).mean()))
        else:
            crop = whole.astype(np.float32) / np.float32(32767)
        if speed != 1.0:
            crop = np.asarray(soxr.resample(crop, self._rate * speed, self._rate, quality="MQ"), np.float32)
        return crop[:length]

    def _elsewhere(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """The sound as from another distance, place and microphone: filtered, and reverberant."""
        recipe, size = self._recipe, len(samples)
        filtered = rng.random() < recipe.filter_probability
        reverberant = rng.random() < recipe.reverberation_probability
        if not (filtered or reverberant):
            return samples
        response = np.ones(1)
        if reverberant:
            seconds, direct_db = rng.uniform(*recipe.reverberation_seconds), rng.uniform(*recipe.direct_db)
            response = _response(seconds, direct_db, self._rate, rng)
        length = 1 << (size + len(response) - 2).bit_length()  # a power of two that holds the sound and its tail
        spectrum = np.fft.rfft(samples, length) * np.fft.rfft(response, length)
        if filtered:
            octaves = np.log2(np.clip(np.fft.rfftfreq(length, 1 / self._rate), 100, None) / 3000)
            # a straight line about 3 kHz, and a broken one with a corner an octave
            points = np.arange(np.floor(octaves[0]), np.ceil(octaves[-1]) + 1)
            curve = rng.uniform(*recipe.tilt_db) * octaves
            curve += np.interp(octaves, points, recipe.ripple_db * rng.standard_normal(len(points)))
            spectrum = spectrum * 10 ** (curve / 20)
        return np.fft.irfft(spectrum, length)[:size].astype(np.float32)

    def _background(self, rng: np.random.Generator) -> tuple[str, Samples]:
        name, path, start, end = self._backgrounds[rng.integers(len(self._backgrounds))]
        whole = self._library.samples(path)
        stop = len(whole) if np.isnan(end) else round(end * self._rate)
        sound = whole[round(start * self._rate) : stop].astype(np.float32) / np.float32(32767)
        if len(sound) < self._length:
            sound = np.resize(sound, self._length) if len(sound) else np.zeros(self._length, np.float32)
        first = int(rng.integers(0, len(sound) - self._length + 1))
        return name, sound[first : first + self._length]


def _response(seconds: float, direct_db: float, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Impulse response of a place without first echoes: noise that decays by 60 dB in ``seconds`` (Moorer 1979).

    Args:
        direct_db: the direct sound's energy over that of the noise.
    """
    time = np.arange(max(2, round(seconds * sample_rate))) / sample_rate
    noise = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    noise[0] = 0.0
    response = noise * np.sqrt(10 ** (-direct_db / 10) / np.sum(noise**2))
    response[0] = 1.0
    return response


def _level(loud: float, quiet: float, db: float) -> float:
    """The factor that brings a root mean square ``quiet`` to ``db`` above ``loud``."""
    return loud / quiet * 10 ** (db / 20) if min(loud, quiet) > _SILENT else 1.0


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
