"""Writes a demo data set: recordings, soundscapes and their tables, as BirdCLEF 2021 lays them out."""

from __future__ import annotations

import csv
import datetime
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from training.datasets import birdclef
from training.datasets.base import Species
from training.datasets.demo import ogg, scene
from training.datasets.demo.recipe import Recipe
from training.datasets.demo.synth import RATE, Bird, Generator, Signal, Song, normalize, samples, silence

FIRST_ID = 900_000_001  # far above the numbers that xeno-canto has given
LICENSE = "CC0 1.0 (synthetic)"
_PERSON, _RECORDING, _SCENE = range(3)  # first key of each family of random numbers


def write(recipe: Recipe, species: Sequence[Species], folder: Path, progress: bool) -> None:
    """Fill an empty `folder`. Each file has random numbers of its own: adding one changes no other."""
    names = {label.ebird_code: label for label in species}
    total = len(recipe.voices) * recipe.recordings_per_species + recipe.soundscape_files
    with tqdm(total=total, desc="demo", unit="file", disable=None if progress else True, dynamic_ncols=True) as bar:
        rows: list[tuple[Any, ...]] = []
        for code in recipe.voices:
            for index in range(recipe.recordings_per_species):
                rows.append(_recording(recipe, names[code], index, len(rows), folder))
                bar.update()
        _write_csv(folder / birdclef.METADATA, birdclef.METADATA_COLUMNS, rows)
        labels: list[tuple[Any, ...]] = []
        (folder / birdclef.SOUNDSCAPES).mkdir()
        for index in range(recipe.soundscape_files):
            labels += _soundscape(recipe, index, folder)
            bar.update()
        _write_csv(folder / birdclef.SOUNDSCAPE_LABELS, birdclef.LABEL_COLUMNS, labels)


def _rng(recipe: Recipe, *key: int) -> Generator:
    return np.random.default_rng([recipe.seed, *key])


def _number(code: str) -> int:
    return zlib.crc32(code.encode())


@dataclass(frozen=True)
class _Person:
    """Somebody who records, always at the same place."""

    name: str
    place: scene.Place

    @classmethod
    def draw(cls, recipe: Recipe, number: int) -> _Person:
        return cls(f"Demo recordist {number + 1:02d}", scene.Place.draw(_rng(recipe, _PERSON, number)))


def _recording(recipe: Recipe, label: Species, index: int, serial: int, folder: Path) -> tuple[Any, ...]:
    """Write one recording and return its row of train_metadata.csv."""
    code = label.ebird_code
    people = _rng(recipe, _RECORDING, _number(code)).permutation(recipe.recordists)
    number = int(people[index % recipe.recordists_per_species])
    person = _Person.draw(recipe, number)
    bird = Bird(_number(f"{recipe.seed} {code} {number}"))
    rng = _rng(recipe, _RECORDING, _number(code), index)

    seconds = float(rng.uniform(recipe.seconds[0], recipe.seconds[1]))
    background = person.place.background(rng, seconds)
    floor = scene.band_power(background).mean(axis=0)
    snr = float(rng.uniform(recipe.snr[0], recipe.snr[1]))
    nearness = (snr - recipe.snr[0]) / max(1e-9, recipe.snr[1] - recipe.snr[0])
    sound = background + _singing(rng, recipe.voices[code], bird, seconds, floor, snr, 1.0 - nearness)
    secondary: list[str] = []
    others = [other for other in recipe.voices if other != code]
    if others and rng.random() < recipe.overlap:
        other = str(rng.choice(others))
        stranger = Bird(int(rng.integers(2**32)))
        behind = snr - rng.uniform(3, 10)
        sound += _singing(rng, recipe.voices[other], stranger, seconds, floor, behind, rng.uniform(0.4, 1.0))
        if rng.random() >= recipe.unlisted:
            secondary.append(other)

    name = f"XC{FIRST_ID + serial}.ogg"
    _write_audio(folder / birdclef.AUDIO / code / name, _leveled(rng, person.place.record(sound)))
    return (
        code,
        repr(secondary),
        repr(["song"]),
        round(float(rng.uniform(47.3, 48.8)), 4),
        round(float(rng.uniform(-4.7, -1.2)), 4),
        label.scientific_name,
        label.common_name,
        person.name,
        _date(rng, dirty=rng.random() < 0.03),
        name,
        LICENSE,
        # the clearer, the better rated; now and then nobody has rated
        0.0 if rng.random() < 0.1 else float(np.clip(round(2 * (2.0 + 3.0 * nearness)) / 2, 0.5, 5.0)),
        _time(rng),
        "",
    )


def _singing(
    rng: Generator, song: Song, bird: Bird, seconds: float, floor: npt.NDArray[np.float64], snr: float, distance: float
) -> Signal:
    """`bird` singing on and off for `seconds`, `snr` dB over a background of band power `floor`."""
    track = np.zeros(samples(seconds))
    gain = None
    start = rng.uniform(0.0, 1.0)
    while start < seconds - 1.0:
        phrase = scene.far(rng, normalize(song(bird, rng)), distance)
        gain = gain or scene.gain_for(phrase, floor, snr)
        _add(track, phrase * gain * 10 ** (rng.normal(0, 1.0) / 20), start)
        start += len(phrase) / RATE + rng.uniform(0.4, 2.5)
    return track


def _add(track: Signal, sound: Signal, start: float) -> None:
    at = round(start * RATE)
    sound = sound[: len(track) - at]
    track[at : at + len(sound)] += sound


def _soundscape(recipe: Recipe, index: int, folder: Path) -> list[tuple[Any, ...]]:
    """Write one soundscape and return its rows of train_soundscape_labels.csv."""
    rng = _rng(recipe, _SCENE, index)
    seconds = recipe.soundscape_seconds
    place = scene.Place.draw(rng)
    sound = place.record(place.background(rng, seconds))
    floor = scene.band_power(sound).mean(axis=0)
    # The species of all files together go round a shuffled list, so that each is in about as many files.
    codes = _rng(recipe, _SCENE).permutation(list(recipe.voices))
    first = index * recipe.soundscape_species
    present = [str(codes[(first + k) % len(codes)]) for k in range(min(recipe.soundscape_species, len(codes)))]
    birds = {code: Bird(int(rng.integers(2**32))) for code in present}
    strengths = {code: float(rng.uniform(recipe.soundscape_snr[0], recipe.soundscape_snr[1])) for code in present}

    tracks: list[tuple[str, int, Signal]] = []
    count = int(rng.poisson(recipe.bouts_per_minute * seconds / 60))
    for k in range(count):
        code = present[k % len(present)]
        distance = 1.0 - (strengths[code] - recipe.soundscape_snr[0]) / max(1e-9, np.ptp(recipe.soundscape_snr))
        songs = [recipe.voices[code](birds[code], rng) for _ in range(rng.integers(1, 4))]
        bout = np.concatenate([part for song in songs for part in (normalize(song), silence(rng.uniform(0.5, 2.0)))])
        bout = place.record(scene.far(rng, bout, float(distance)))
        bout *= scene.gain_for(bout, floor, strengths[code] + rng.normal(0, 1.5))
        at = int((k + rng.random()) / count * len(sound)) // scene.FRAME * scene.FRAME
        bout = bout[: len(sound) - at]
        sound[at : at + len(bout)] += bout
        tracks.append((code, at, bout))

    heard: dict[str, npt.NDArray[np.bool_]] = defaultdict(lambda: np.zeros(len(sound) // scene.FRAME + 1, bool))
    for code, at, bout in tracks:
        frames = scene.audible(bout, sound[at : at + len(bout)])
        heard[code][at // scene.FRAME :][: len(frames)] |= frames

    site, audio_id = ("ARMOR", "ARGOAT")[index % 2], 90_001 + index
    day = _date(rng, dirty=False).replace("-", "")
    _write_audio(folder / birdclef.SOUNDSCAPES / f"{audio_id}_{site}_{day}.ogg", _leveled(rng, sound))
    rows: list[tuple[Any, ...]] = []
    for end in range(5, int(seconds) + 1, 5):
        window = slice((end - 5) * RATE // scene.FRAME, end * RATE // scene.FRAME)
        long_enough = recipe.audible_seconds * RATE / scene.FRAME
        labels = sorted(code for code, frames in heard.items() if frames[window].sum() >= long_enough)
        rows.append((f"{audio_id}_{site}_{end}", site, audio_id, end, " ".join(labels) or birdclef.NO_CALL))
    return rows


def _leveled(rng: Generator, sound: Signal) -> npt.NDArray[np.float32]:
    """`sound` as somebody set the recording level: its peak between -14 and -1 dB of full scale."""
    return (normalize(sound) * 10 ** (rng.uniform(-14.0, -1.0) / 20)).astype(np.float32)


def _write_audio(path: Path, sound: npt.NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ogg.encode(sound, RATE))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _date(rng: Generator, dirty: bool) -> str:
    """A day of spring; the competition's file has some that do not exist, so this one has too."""
    day = datetime.date(2021, 3, 1) + datetime.timedelta(days=int(rng.integers(0, 110)))
    return f"{day.year}-{day.month:02d}-00" if dirty else day.isoformat()


def _time(rng: Generator) -> str:
    """A time of day, one in ten as untidy as in the competition's file."""
    hour, minute = int(rng.integers(5, 21)), int(rng.integers(0, 60))
    if rng.random() < 0.1:
        return str(rng.choice(["?", "xx:xx", f"{hour % 12 or 12:02d}:{minute:02d}:00 {'AM' if hour < 12 else 'PM'}"]))
    return f"{hour:02d}:{minute:02d}"
