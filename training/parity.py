"""How near the mel stage is to librosa: ``python -m training.parity [RECORDING…] [--frontend NAME] … [--plot PNG]``.

The truth is librosa with float64 input. librosa with float32 input, the native library and the WebAssembly module are
measured against it, on nine hard signals and on the recordings given, window by window. Exits non-zero where native or
wasm are above the bounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from labous import recordings
from labous.frontend import Frontend
from training.config import told_in_a_sentence
from training.console import say
from training.errors import ConfigError
from training.features import BACKENDS, LibrosaMel, Mel, conf_frontends, librosa_arguments, mel_spectrogram
from training.files import written_beside
from training.signals import hard_signals

AUDIBLE = 1e-8
"""Power errors count in bins above this share of the array's peak; below, float32 input decides, not arithmetic."""

POWER_BOUND = 1.2e-7
DECIBEL_BOUND = 1e-5
HALF_ULP = 2.0**-24 * (1 + 1e-6)
"""Relative error of a correctly rounded float32, the least that can be asked for."""


@dataclasses.dataclass(frozen=True)
class Errors:
    """What separates one mel array from the truth.

    Attributes:
        power: largest relative error of the power, in audible bins.
        decibels: largest error in dB, in all bins.
        rounded: share of the audible bins whose power is the float32 nearest to the truth.
    """

    power: float
    decibels: float
    rounded: float


def _audible(exact: np.ndarray) -> np.ndarray:
    return exact > AUDIBLE * exact.max()


def power_error(power: np.ndarray, exact: np.ndarray) -> float:
    """Largest relative error of power [n_mels, n_frames] in audible bins; 0 where nothing is audible."""
    audible = _audible(exact)
    return float(np.max(np.abs(power[audible] - exact[audible]) / exact[audible], initial=0.0))


def errors_of(mel: Mel, samples: np.ndarray, exact_power: np.ndarray, exact_decibels: np.ndarray) -> Errors:
    """A mel's errors against the truth, for float32 samples [n_samples]."""
    power, audible = mel.power(samples), _audible(exact_power)
    same = power[audible] == exact_power[audible].astype(np.float32)
    return Errors(
        power_error(power, exact_power),
        float(np.max(np.abs(mel.decibels(samples) - exact_decibels))),
        float(np.mean(same)) if same.size else 1.0,
    )


def compare(frontend: Frontend, windows: Iterable[np.ndarray]) -> dict[str, Errors]:
    """Every backend's errors over some windows: the largest, and the mean share of correctly rounded bins."""
    exact, mels = LibrosaMel(frontend, np.float64), {name: mel_spectrogram(frontend, name) for name in BACKENDS}
    found: dict[str, list[Errors]] = {name: [] for name in BACKENDS}
    for samples in windows:
        power, decibels = exact.power(samples), exact.decibels(samples)
        for name, mel in mels.items():
            found[name].append(errors_of(mel, samples, power, decibels))
    return {
        name: Errors(
            max(e.power for e in errors), max(e.decibels for e in errors), float(np.mean([e.rounded for e in errors]))
        )
        for name, errors in found.items()
    }


def complaints(errors: dict[str, Errors]) -> list[str]:
    """What is above the bounds, a phrase each.

    The power must be within POWER_BOUND and no worse than librosa in float32, unless it is correctly rounded.
    """
    power_bound = min(POWER_BOUND, max(errors["librosa"].power, HALF_ULP))
    found = []
    for name in ("native", "wasm"):
        if not errors[name].power <= power_bound:
            found.append(f"{name}: power error {errors[name].power:.2e} above {power_bound:.2e}")
        if not errors[name].decibels <= DECIBEL_BOUND:
            found.append(f"{name}: {errors[name].decibels:.2e} dB above {DECIBEL_BOUND:.0e} dB")
    return found


def _sources(paths: list[Path], frontend: Frontend) -> Iterator[tuple[str, Iterable[np.ndarray]]]:
    """Names and windows of the recordings (first, so that a bad one is told at once) and of the nine signals."""
    for path in paths:
        blocks = recordings.read_blocks(path, frontend.sample_rate)
        yield path.name, (window.samples for window in recordings.windows(blocks, frontend))
    for name, samples in hard_signals(frontend.sample_rate, frontend.window_samples).items():
        yield name, [samples]


def plot(frontend: Frontend, samples: np.ndarray, title: str, path: Path) -> None:
    """Write a PNG of librosa's spectrogram, the wasm module's, and their difference, all in dB."""
    import librosa
    from matplotlib.figure import Figure

    theirs = LibrosaMel(frontend, np.float64).decibels(samples)
    ours = mel_spectrogram(frontend, "wasm").decibels(samples)
    difference = ours - theirs
    extent = (0.0, theirs.shape[1] * frontend.hop_length / frontend.sample_rate, 0.0, float(frontend.n_mels))
    bands = np.linspace(0, frontend.n_mels - 1, 6).round().astype(int)
    edges = librosa_arguments(frontend)["filters"]
    centers = librosa.mel_frequencies(frontend.n_mels + 2, **{key: edges[key] for key in ("fmin", "fmax", "htk")})
    figure = Figure(figsize=(9, 8), layout="constrained")
    figure.suptitle(title)
    panels = (
        ("librosa, float64", theirs, "magma", (float(theirs.min()), float(theirs.max()))),
        ("melspec.wasm", ours, "magma", (float(theirs.min()), float(theirs.max()))),
        (f"difference, at most {np.abs(difference).max():.1e} dB", difference, "RdBu_r",
         (-DECIBEL_BOUND, DECIBEL_BOUND)),
    )  # fmt: skip
    for axes, (name, values, colors, (low, high)) in zip(figure.subplots(3, 1, sharex=True), panels, strict=True):
        image = axes.imshow(values, origin="lower", aspect="auto", extent=extent, cmap=colors, vmin=low, vmax=high,
                            interpolation="nearest")  # fmt: skip
        axes.set(title=name, ylabel="kHz")
        axes.set_yticks(bands + 0.5, [f"{centers[band + 1] / 1000:.1f}" for band in bands])
        figure.colorbar(image, ax=axes, label="dB")
    axes.set_xlabel("s")
    with written_beside(path) as beside:
        figure.savefig(beside, format="png", dpi=110)


def _report(names: list[str], paths: list[Path]) -> list[str]:
    """Measure and print; returns what is above the bounds."""
    frontends = conf_frontends()
    for name in names:
        if name not in frontends:
            raise ConfigError(f"There is no front end {name!r} in conf/frontend; there are {', '.join(frontends)}.")
    width = max(22, *(len(path.name) for path in paths)) if paths else 22
    say(f"{'':<{10 + width}}" + "".join(f"{name:^28}" for name in BACKENDS))
    say(f"{'front end':<10}{'signal':<{width}}" + f"{'power':>9}{'dB':>9}{'rounded':>9} " * len(BACKENDS))
    found = []
    for name in names:
        for signal, windows in _sources(paths, frontends[name]):
            errors = compare(frontends[name], windows)
            cells = (f"{e.power:>9.1e}{e.decibels:>9.1e}{e.rounded:>8.1%}  " for e in errors.values())
            say(f"{name:<10}{signal:<{width}}" + "".join(cells).rstrip())
            found += [f"{name}, {signal}: {complaint}" for complaint in complaints(errors)]
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.parity", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recording", nargs="*", type=Path, help="recordings to compare on, beside the nine signals")
    parser.add_argument("--frontend", action="append", help="a name in conf/frontend; may be repeated (default: all)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw a recording's first window, or a mixture")
    options = parser.parse_args(arguments)
    with told_in_a_sentence():
        paths = recordings.find(options.recording)
        names = options.frontend or list(conf_frontends())
        found = _report(names, paths)
        if options.plot:
            frontend = conf_frontends()[names[0]]
            sources = dict(_sources(paths, frontend))
            signal = paths[0].name if paths else "mixture"
            plot(frontend, next(iter(sources[signal])), f"{signal}, front end {names[0]}", options.plot)
            say(f"Plotted {signal} to {options.plot}.")
    for complaint in found:
        say(f"Above the bounds: {complaint}.")
    if not found:
        say(f"All within the bounds: power {POWER_BOUND:.1e} and no worse than librosa, {DECIBEL_BOUND:.0e} dB.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
