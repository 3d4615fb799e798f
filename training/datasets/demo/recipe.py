"""What a demo data set is made from: every number that conf/dataset/demo.yaml may set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.datasets.base import DatasetError
from training.datasets.demo import calls, songs
from training.datasets.demo.synth import Song

VOICES: dict[str, Song] = {
    "blutit": songs.blue_tit,
    "carcro1": calls.carrion_crow,
    "combuz1": calls.common_buzzard,
    "comcha": songs.common_chaffinch,
    "comchi1": songs.common_chiffchaff,
    "comcuc": calls.common_cuckoo,
    "cowpig1": calls.common_wood_pigeon,
    "eurbla": songs.eurasian_blackbird,
    "eurmag1": calls.eurasian_magpie,
    "eurrob1": songs.european_robin,
    "gretit1": songs.great_tit,
    "grswoo": songs.great_spotted_woodpecker,
    "hergul": calls.herring_gull,
    "tawowl1": calls.tawny_owl,
    "winwre4": songs.eurasian_wren,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of the generator. The same recipe gives the same bytes (one version of numpy and libsndfile)."""

    seed: int
    codes: Sequence[str] | None  # species of VOICES; all of them when None
    recordings_per_species: int
    recordists: int  # people who record; each has a habitual noise and microphone
    recordists_per_species: int  # how many of them recorded a species: each records one bird of it, several times
    seconds: Sequence[float]  # shortest and longest recording
    snr: Sequence[float]  # dB, weakest and strongest, in the band where the bird is strongest
    overlap: float  # share of recordings with another species behind
    unlisted: float  # share of those whose secondary_labels do not say so
    soundscape_files: int
    soundscape_seconds: float  # of each, a multiple of 5
    soundscape_snr: Sequence[float]  # dB, as above
    soundscape_species: int  # in each file
    bouts_per_minute: float  # in a soundscape, all species together; a bout is one to three songs
    audible_seconds: float  # a window is labelled when the bird stands out of everything else for that long

    def __post_init__(self) -> None:
        unknown = [code for code in self.codes or () if code not in VOICES]
        if unknown:
            raise DatasetError(f"the demo cannot sing {', '.join(unknown)}: dataset.codes knows {', '.join(VOICES)}")
        if self.codes is not None and not self.codes:
            raise DatasetError("dataset.codes is empty: name at least one species, or null for all")
        for name in ("recordings_per_species", "recordists", "recordists_per_species"):
            if getattr(self, name) < 1:
                raise DatasetError(f"dataset.{name} is {getattr(self, name)}: make it at least 1")
        if self.recordists_per_species > self.recordists:
            raise DatasetError(
                f"dataset.recordists_per_species is {self.recordists_per_species}, "
                f"more than dataset.recordists ({self.recordists}): make it smaller"
            )
        for name, lowest in (("seconds", 1.0), ("snr", None), ("soundscape_snr", None)):
            if len(getattr(self, name)) != 2:
                raise DatasetError(f"dataset.{name} is {list(getattr(self, name))}: give two numbers, low and high")
            low, high = getattr(self, name)
            if low > high or (lowest is not None and low < lowest):
                bound = "" if lowest is None else f", not below {lowest:g}"
                raise DatasetError(f"dataset.{name} is [{low}, {high}]: give the smaller number first{bound}")
        for name in ("overlap", "unlisted"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise DatasetError(f"dataset.{name} is {getattr(self, name)}: it is a share, from 0 to 1")
        if self.soundscape_files < 0 or self.bouts_per_minute < 0:
            raise DatasetError("dataset.soundscape_files and dataset.bouts_per_minute cannot be negative")
        if self.soundscape_seconds < 5 or self.soundscape_seconds % 5:
            raise DatasetError(f"dataset.soundscape_seconds is {self.soundscape_seconds}: make it a multiple of 5")

    @property
    def voices(self) -> dict[str, Song]:
        """Song of each species of the recipe, sorted by code."""
        return {code: VOICES[code] for code in sorted(VOICES if self.codes is None else self.codes)}
