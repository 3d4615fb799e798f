"""The same held-out recordings under other conditions: with background sound over them, and begun a little later."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.frontend import Frontend
from labous.recordings import read
from training.console import progress
from training.errors import StageError
from training.evaluate import FILES, Heard, Listener
from training.metrics import Scores

Samples = NDArray[np.float32]


def mixed(signal: Samples, background: Samples, snr_db: float) -> Samples:
    """A recording with a background over it, looped or cut to its length.

    Args:
        signal: float32 [n_samples], left as loud as it is. What it brings of its own noise counts as signal.
        background: float32 [n], not silent.
        snr_db: level of the signal over the background, each by its RMS over the whole recording.
    """
    over = np.resize(background, len(signal))
    gain = _rms(signal) / _rms(over) * 10 ** (-snr_db / 20)
    return signal + np.float32(gain) * over


class Backgrounds:
    """Held-out stretches of sound without birds, and which of them goes with which recording.

    Args:
        table: path, start_seconds, end_seconds (infinity: the recording's end).
        frontend: whose sample rate is used.
        seed: of the choice.
    """

    def __init__(self, table: pd.DataFrame, frontend: Frontend, seed: int) -> None:
        self._stretches = list(zip(table.path, table.start_seconds, table.end_seconds, strict=True))
        self._rate = frontend.sample_rate
        self._seed = seed
        self._read = functools.lru_cache(maxsize=16)(functools.partial(read, sample_rate=self._rate))

    def behind(self, signal: Samples, number: int) -> Samples:
        """The background of the recording with this number, begun anywhere in its stretch; float32 [n].

        Raises:
            StageError: every stretch is silent.
        """
        rng = np.random.default_rng([self._seed, number])
        for i in rng.permutation(len(self._stretches)):
            path, start, end = self._stretches[i]
            samples = self._read(path)
            stretch = samples[round(start * self._rate) : round(min(end * self._rate, len(samples)))]
            if not len(stretch):
                continue
            turned = np.roll(stretch, -int(rng.integers(len(stretch))))
            if _rms(np.resize(turned, len(signal))) > 0:
                return turned
        raise StageError(
            f"All {len(self._stretches)} held-out backgrounds are silent; take such files out of dataset.backgrounds, "
            "or set evaluate.noise_snr_db=[]."
        )


def hear_in_noise(
    recordings: pd.DataFrame, backgrounds: Backgrounds, snr_db: float, listener: Listener, overlap_seconds: float
) -> dict[str, Heard]:
    """Each recording with its background at this level, through the two files, by path."""
    found = {}
    ordered = sorted(recordings.path)
    for number, path in enumerate(progress(ordered, f"{snr_db:g} dB", total=len(ordered), unit="rec")):
        signal = read(path, listener.frontend.sample_rate)
        noisy = mixed(signal, backgrounds.behind(signal, number), snr_db)
        found[path] = listener.hear_samples([noisy], overlap_seconds, reference=False)
    return found


def hear_shifted(
    paths: Sequence[str], listener: Listener, shift_ms: Sequence[float]
) -> tuple[dict[str, Scores], dict[str, list[Scores]]]:
    """The middle window of each recording, and the same begun later by each shift, through the two files.

    Recordings that are too short for the window and the longest shift are left out.

    Returns:
        Logits [n_windows, n_labels] by engine, and by engine a list of the same for each shift.
    """
    frontend = listener.frontend
    steps = [round(shift * frontend.sample_rate / 1000) for shift in (0.0, *shift_ms)]
    logits: dict[str, list[list[Scores]]] = {name: [[] for _ in steps] for name in FILES}
    for path in progress(paths, "shifting", total=len(paths), unit="rec"):
        samples = read(path, frontend.sample_rate)
        room = len(samples) - frontend.window_samples - max(steps)
        if room < 0:
            continue
        for i, step in enumerate(steps):
            start = room // 2 + step
            for name, row in listener.on_device(samples[start : start + frontend.window_samples]).items():
                logits[name][i].append(row)
    stacked = {name: [np.array(rows) for rows in lists] for name, lists in logits.items()}
    return {name: rows[0] for name, rows in stacked.items()}, {name: rows[1:] for name, rows in stacked.items()}


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
