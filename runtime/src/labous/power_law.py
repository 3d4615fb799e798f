"""A front end of another kind: mel maps of the spectrum's real part, raised to a power, of a window scaled to its peak.

It is what BirdNET v2.4 computes inside its graph. Like :class:`labous.frontend.Frontend` it is one frozen value without
defaults; in a manifest it is told apart by ``kind``. docs/frontend-spec.md says exactly what is computed from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from labous.errors import FrontendError
from labous.frontend import Frontend, checked_integer, checked_number, constants_of
from labous.options import shown

KIND = "power_law"
MOST_CHANNELS = 4
_MOST_SHIFTS = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerLawChannel:
    """One mel map.

    Attributes:
        n_fft: samples per frame, a power of two; the analysis window, a periodic Hann window, is as long.
        hop_length: samples from one frame to the next.
        f_min, f_max: lower edge of the first and upper edge of the last band, Hz.
        exponent: of the squared mel value: what is written is ``(mel ** 2) ** exponent``.
    """

    n_fft: int
    hop_length: int
    f_min: float
    f_max: float
    exponent: float

    def __post_init__(self) -> None:
        for name in ("n_fft", "hop_length"):
            object.__setattr__(self, name, checked_integer(name, getattr(self, name)))
        for name in ("f_min", "f_max", "exponent"):
            object.__setattr__(self, name, checked_number(name, getattr(self, name)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerLawFrontend:
    """Every constant between a window of samples and the input of a model like BirdNET's.

    The window is scaled by ``v = x - min(x)``, ``((v / (max(v) + peak_epsilon)) - peak_offset) * peak_scale``. Frames
    are not padded. The filter bank is TensorFlow's ``linear_to_mel_weight_matrix``: triangles that are straight in mels
    of the HTK scale, nothing of bin 0. It weighs the *real part* of the spectrum. Scaling, Hann window, their products
    and filter bank are float32 with TensorFlow's bits, and the rest is float64: of silence, rounding is all that is
    left, and the power makes much of it.

    Attributes:
        sample_rate: Hz.
        window_seconds: length of the stretch the model sees, s.
        n_mels: bands of every channel; the highest comes first.
        peak_epsilon, peak_offset, peak_scale: of the scaling above, rounded to float32.
        channels: the mel maps, all of the same number of frames.
        shifts: samples of the window before the first frame, ascending, without repetition: one input of the model for
            each, whose logits are averaged. ``(0,)`` is one input of the window as it is.

    Raises:
        FrontendError: a constant has the wrong type or an impossible value.
    """

    kind: ClassVar[str] = KIND

    sample_rate: int
    window_seconds: float
    n_mels: int
    peak_epsilon: float
    peak_offset: float
    peak_scale: float
    channels: tuple[PowerLawChannel, ...]
    shifts: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_mels"):
            object.__setattr__(self, name, checked_integer(name, getattr(self, name)))
        for name in ("window_seconds", "peak_epsilon", "peak_offset", "peak_scale"):
            object.__setattr__(self, name, checked_number(name, getattr(self, name)))
        for name in ("channels", "shifts"):
            if not isinstance(getattr(self, name), (list, tuple)):
                raise FrontendError(f"Front end: {name} is {shown(getattr(self, name))}; write a list.")
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "shifts", tuple(checked_integer("shifts", shift) for shift in self.shifts))
        self._check_ranges()

    def _check_ranges(self) -> None:
        samples = self.window_seconds * self.sample_rate
        rules: list[tuple[bool, str, object]] = [
            (8_000 <= self.sample_rate <= 96_000, "sample_rate must lie between 8000 and 96000 Hz", self.sample_rate),
            (
                0 < samples < 2**31 and abs(samples - round(samples)) < 1e-6,
                "window_seconds times sample_rate must be a whole number of samples, fewer than 2147483648",
                samples,
            ),
            (1 <= self.n_mels <= 256, "n_mels must lie between 1 and 256", self.n_mels),
            (self.peak_epsilon > 0, "peak_epsilon must be positive", self.peak_epsilon),
            (self.peak_scale != 0, "peak_scale must not be zero", self.peak_scale),
            (1 <= len(self.channels) <= MOST_CHANNELS, f"channels must be 1 to {MOST_CHANNELS}", len(self.channels)),
            (
                1 <= len(self.shifts) <= _MOST_SHIFTS
                and list(self.shifts) == sorted(set(self.shifts))
                and self.shifts[0] >= 0,
                f"shifts must be 1 to {_MOST_SHIFTS} numbers of samples that rise from 0 or more",
                list(self.shifts),
            ),
        ]
        for channel in self.channels[:MOST_CHANNELS]:
            rules += [
                (
                    256 <= channel.n_fft <= 4096 and channel.n_fft & (channel.n_fft - 1) == 0,
                    "n_fft must be a power of two from 256 to 4096",
                    channel.n_fft,
                ),
                (channel.hop_length >= 1, "hop_length must be at least 1", channel.hop_length),
                (
                    0 <= channel.f_min < channel.f_max <= self.sample_rate / 2,
                    "0 <= f_min < f_max <= sample_rate / 2 must hold",
                    (channel.f_min, channel.f_max),
                ),
                (0 < channel.exponent <= 1, "exponent must lie above 0 and be at most 1", channel.exponent),
            ]
        for holds, rule, given in rules:
            if not holds:
                raise FrontendError(f"Front end: {rule}; it was given {shown(given)}.")
        counts = {self._frames(channel, self.window_samples) for channel in self.channels}
        if len(counts) != 1 or min(counts) < 1:
            raise FrontendError(
                f"Front end: the channels have {', '.join(map(str, sorted(counts)))} frames; all must have "
                "the same number of them, at least 1."
            )
        if any(self._frames(c, self.window_samples - self.shifts[-1]) != self.n_frames for c in self.channels):
            raise FrontendError(
                f"Front end: a shift of {self.shifts[-1]} samples leaves too few for {self.n_frames} frames."
            )

    @staticmethod
    def _frames(channel: PowerLawChannel, n_samples: int) -> int:
        return 0 if n_samples < channel.n_fft else 1 + (n_samples - channel.n_fft) // channel.hop_length

    @property
    def window_samples(self) -> int:
        """Samples in one window."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def n_frames(self) -> int:
        """Frames in one window."""
        return self._frames(self.channels[0], self.window_samples)

    @property
    def longest_frame(self) -> int:
        """Samples of the longest frame."""
        return max(channel.n_fft for channel in self.channels)

    @property
    def band(self) -> tuple[float, float]:
        """The lowest and the highest frequency that is heard, Hz."""
        return min(channel.f_min for channel in self.channels), max(channel.f_max for channel in self.channels)

    @property
    def mel_shape(self) -> tuple[int, ...]:
        """Of what it gives for a window: [n_mels, n_frames, n_channels]; the shifts first, where there are several."""
        shape = (self.n_mels, self.n_frames, len(self.channels))
        return shape if len(self.shifts) == 1 else (len(self.shifts), *shape)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Of the model's input."""
        return (1, self.n_mels, self.n_frames, len(self.channels))

    @property
    def n_inputs(self) -> int:
        """Inputs of the model that a window gives: one for each shift."""
        return len(self.shifts)

    @property
    def frames_are_local(self) -> bool:
        """False: the scale of a window is in every frame of it."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Every constant by name, and the kind, ready for JSON or YAML."""
        told = dataclasses.asdict(self)
        return {"kind": KIND, **told, "channels": [dict(c) for c in told["channels"]], "shifts": list(self.shifts)}

    @classmethod
    def from_dict(cls, constants: Mapping[str, Any]) -> PowerLawFrontend:
        """The inverse of :meth:`to_dict`.

        Raises:
            FrontendError: a key is unknown or missing, or a value impossible.
        """
        told = dict(constants)
        if told.pop("kind", None) != KIND:
            raise FrontendError(f"Front end: kind is {shown(constants.get('kind'))}; it must be {KIND}.")
        channels = told.get("channels")
        if isinstance(channels, (list, tuple)):
            for channel in channels:
                if not isinstance(channel, Mapping):
                    raise FrontendError(f"Front end: a channel is {shown(channel)}; write its constants by name.")
            told["channels"] = [PowerLawChannel(**constants_of(PowerLawChannel, channel)) for channel in channels]
        return cls(**constants_of(cls, told))


def in_decibels(frontend: PowerLawFrontend) -> Frontend:
    """A log-mel front end of the same windows, frames, bands and frequencies: what to draw where no model looks."""
    lowest, highest = frontend.band
    return Frontend(
        sample_rate=frontend.sample_rate,
        window_seconds=frontend.window_seconds,
        n_fft=frontend.longest_frame,
        win_length=frontend.longest_frame,
        hop_length=frontend.channels[0].hop_length,
        window="hann",
        center=False,
        pad_mode="constant",
        power=2.0,
        n_mels=frontend.n_mels,
        f_min=lowest,
        f_max=highest,
        mel_scale="htk",
        mel_norm=None,
        amin=1e-10,
        ref=1.0,
        top_db=None,
        db_offset=0.0,
        db_scale=1.0,
    )


AnyFrontend = Frontend | PowerLawFrontend
"""A front end of either kind."""


def read_frontend(constants: Mapping[str, Any]) -> AnyFrontend:
    """The front end of a manifest: of the kind that it names; without one, a :class:`labous.frontend.Frontend`.

    Raises:
        FrontendError: the kind or a key is unknown, a key is missing, or a value impossible.
    """
    if "kind" not in constants:
        return Frontend.from_dict(constants)
    if constants["kind"] == KIND:
        return PowerLawFrontend.from_dict(constants)
    raise FrontendError(f"Front end: kind is {shown(constants['kind'])}; it must be {KIND}, or be left out.")
