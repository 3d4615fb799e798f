"""The front end: the map from a window of samples to a log-mel array, all its constants together.

One frozen value, composed from ``conf/frontend/*.yaml``, carried by the bundle's manifest and read on the device.
It has no defaults on purpose: a constant that is not written down is an error, never a guess.
docs/frontend-spec.md says exactly what is computed from it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from labous.errors import FrontendError
from labous.options import shown

_WINDOWS = ("hann",)
_PAD_MODES = ("constant", "reflect")
_POWERS = (1.0, 2.0)
_MEL_SCALES = ("slaney", "htk")
_MEL_NORMS = ("slaney", None)
_REFS = ("max",)
_LARGEST = 2**31 - 1  # the mel stage's numbers have 32 bits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frontend:
    """Every constant between a window of samples and the model's input.

    Names are librosa's where librosa has one (``f_min``/``f_max`` are its ``fmin``/``fmax``).

    Attributes:
        sample_rate: Hz.
        window_seconds: length of the stretch the model sees, s.
        n_fft: samples per frame, a power of two.
        win_length: length of the analysis window in samples, zero-padded on both sides to n_fft.
        hop_length: samples from one frame to the next.
        window: analysis window; "hann" is the periodic Hann window.
        center: whether frames are centred on multiples of hop_length, padding n_fft // 2 samples at both ends.
        pad_mode: how centred frames are padded, "constant" (zeros) or "reflect".
        power: exponent of the magnitude, 1.0 or 2.0.
        n_mels: number of mel bands.
        f_min, f_max: lower edge of the first and upper edge of the last band, Hz.
        mel_scale: "slaney" or "htk".
        mel_norm: "slaney" (unit area per band) or None.
        amin: floor under the power (or magnitude) before the logarithm.
        ref: what 0 dB is: a positive number, or "max" for the largest value of the array.
        top_db: lowest value below the array's maximum in dB, or None for no such limit.
        db_offset, db_scale: the model's input is ``(decibels + db_offset) * db_scale``.

    Raises:
        FrontendError: a constant has the wrong type or an impossible value.
    """

    sample_rate: int
    window_seconds: float
    n_fft: int
    win_length: int
    hop_length: int
    window: str
    center: bool
    pad_mode: str
    power: float
    n_mels: int
    f_min: float
    f_max: float
    mel_scale: str
    mel_norm: str | None
    amin: float
    ref: float | str
    top_db: float | None
    db_offset: float
    db_scale: float

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels"):
            self._set(name, checked_integer(name, getattr(self, name)))
        for name in ("window_seconds", "power", "f_min", "f_max", "amin", "db_offset", "db_scale"):
            self._set(name, checked_number(name, getattr(self, name)))
        if self.ref not in _REFS:
            self._set("ref", checked_number("ref", self.ref))
        if self.top_db is not None:
            self._set("top_db", checked_number("top_db", self.top_db))
        if not isinstance(self.center, bool):
            raise FrontendError(f"Front end: center is {shown(self.center)}; write true or false.")
        for name, allowed in (
            ("window", _WINDOWS),
            ("pad_mode", _PAD_MODES),
            ("power", _POWERS),
            ("mel_scale", _MEL_SCALES),
            ("mel_norm", _MEL_NORMS),
        ):
            if getattr(self, name) not in allowed:
                choices = ", ".join("null" if a is None else str(a) for a in allowed)
                raise FrontendError(f"Front end: {name} is {shown(getattr(self, name))}; choose one of: {choices}.")
        self._check_ranges()

    def _check_ranges(self) -> None:
        samples = self.window_seconds * self.sample_rate  # may be infinite
        rules = (
            (8_000 <= self.sample_rate <= 96_000, "sample_rate must lie between 8000 and 96000 Hz"),
            (
                256 <= self.n_fft <= 4096 and self.n_fft & (self.n_fft - 1) == 0,
                "n_fft must be a power of two from 256 to 4096",
            ),
            (1 <= self.win_length <= self.n_fft, "win_length must lie between 1 and n_fft"),
            (self.hop_length >= 1, "hop_length must be at least 1"),
            (1 <= self.n_mels <= 256, "n_mels must lie between 1 and 256"),
            (0 <= self.f_min < self.f_max <= self.sample_rate / 2, "0 <= f_min < f_max <= sample_rate / 2 must hold"),
            (self.amin > 0, "amin must be positive"),
            (isinstance(self.ref, str) or self.ref > 0, "ref must be positive, or max"),
            (self.top_db is None or self.top_db >= 0, "top_db must not be negative"),
            (self.db_scale != 0, "db_scale must not be zero"),
            (
                self.n_fft - 0.5 < samples <= _LARGEST,
                f"window_seconds must hold at least n_fft samples and at most {_LARGEST}",
            ),
            (
                min(samples % 1, 1 - samples % 1) < 1e-6,
                "window_seconds times sample_rate must be a whole number of samples",
            ),
        )
        for holds, rule in rules:
            if not holds:
                raise FrontendError(f"Front end: {rule}; it was given {self._given(rule)}.")

    def _given(self, rule: str) -> str:
        named = [f.name for f in dataclasses.fields(self) if f.name in rule.replace(",", " ").split()]
        return ", ".join(f"{name} = {getattr(self, name)!r}" for name in named)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def window_samples(self) -> int:
        """Samples in one window."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def n_frames(self) -> int:
        """Frames in one window."""
        return self.frames_of(self.window_samples)

    def frames_of(self, n_samples: int) -> int:
        """Frames that n_samples give: librosa's count, 0 where not one frame fits."""
        padded = n_samples + (2 * (self.n_fft // 2) if self.center else 0)
        return 0 if padded < self.n_fft else 1 + (padded - self.n_fft) // self.hop_length

    @property
    def longest_frame(self) -> int:
        """Samples of a frame."""
        return self.n_fft

    @property
    def band(self) -> tuple[float, float]:
        """The lowest and the highest frequency that is heard, Hz."""
        return self.f_min, self.f_max

    @property
    def mel_shape(self) -> tuple[int, ...]:
        """Of what the front end gives for a window: [n_mels, n_frames]."""
        return (self.n_mels, self.n_frames)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Of the model's input."""
        return (1, self.n_mels, self.n_frames, 1)

    @property
    def n_inputs(self) -> int:
        """Inputs of the model that a window gives."""
        return 1

    @property
    def frames_are_local(self) -> bool:
        """Whether each frame depends on its own samples alone, so that windows can be cut from a longer spectrogram."""
        return not self.center and self.top_db is None and self.ref not in _REFS

    def to_dict(self) -> dict[str, Any]:
        """Every constant by name, ready for JSON or YAML."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, constants: Mapping[str, Any]) -> Frontend:
        """The inverse of :meth:`to_dict`.

        Raises:
            FrontendError: a key is unknown or missing, or a value impossible.
        """
        return cls(**constants_of(cls, constants))


def checked_integer(name: str, value: Any) -> int:
    """A constant that is a whole number of at most 32 bits.

    Raises:
        FrontendError: it is not.
    """
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or abs(value) > _LARGEST:
        raise FrontendError(f"Front end: {name} is {shown(value)}; write a whole number up to {_LARGEST}.")
    return int(value)


def checked_number(name: str, value: Any) -> float:
    """A constant that is a finite number.

    Raises:
        FrontendError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise FrontendError(f"Front end: {name} is {shown(value)}; write a finite number.")
    return float(value)


def constants_of(kind: type, constants: Mapping[str, Any]) -> dict[str, Any]:
    """The constants of a dataclass, each of them and no other.

    Raises:
        FrontendError: a key is unknown or missing.
    """
    known = [f.name for f in dataclasses.fields(kind)]
    unknown = sorted(set(constants) - set(known), key=str)
    missing = [name for name in known if name not in constants]
    if unknown:
        told = ", ".join(shown(name)[1:-1] for name in unknown[:5])
        raise FrontendError(f"Front end: unknown constant {told}; known are {', '.join(known)}.")
    if missing:
        raise FrontendError(f"Front end: {', '.join(missing)} missing; every constant must be written down.")
    return dict(constants)
