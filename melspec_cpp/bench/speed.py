"""Part speed: five seconds at 32 kHz to decibels, every candidate at settings A, B and C."""

from __future__ import annotations

import dataclasses
import functools
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from candidates import BUILDS, SETTINGS, AbsentError, Candidate, frontend_of, librosa_cached, librosa_default
from peers import PEERS

from labous.frontend import Frontend
from training.features import LibrosaMel
from training.parity import power_error
from training.signals import hard_signals

LIBROSA, CACHED = "librosa", "librosa, bank cached"
COMPARABLE = 0.99
"""Correlation with librosa's dB above which a peer counts as computing the same thing."""

_MAKERS: dict[str, Callable[[Frontend], Candidate]] = {
    LIBROSA: librosa_default, CACHED: librosa_cached, **BUILDS, **PEERS,
}  # fmt: skip


def measure(rounds: int) -> dict[str, Any]:
    """Times, ratios and errors of whoever can take part, and why the others cannot.

    Args:
        rounds: timed turns of each candidate at each setting.

    Returns:
        ``ratio_to_librosa``, ``ratio_to_librosa_cached`` (least time over least time), ``ratio_of_medians`` (to librosa
        as it comes), ``milliseconds`` and ``error``, each by candidate and setting; ``peers``, how comparable each is,
        by setting; ``absent``, the reasons by name.
    """
    times: dict[str, dict[str, list[float]]] = {}
    errors: dict[str, dict[str, float]] = {}
    comparable: dict[str, dict[str, dict[str, object]]] = {}
    absent: dict[str, str] = {}
    for setting, sizes in SETTINGS.items():
        frontend = frontend_of(*sizes)
        signals = hard_signals(frontend.sample_rate, frontend.window_samples)
        truth = _truth_of(frontend, signals)
        runners = {}
        for name, make in _MAKERS.items():
            try:
                runners[name] = make(frontend)
            except AbsentError as error:
                absent[name] = str(error)
        for name, candidate in runners.items():
            errors.setdefault(name, {})[setting] = _error(candidate, frontend, signals, truth)
            if name in PEERS:
                comparable.setdefault(name, {})[setting] = _comparability(candidate, frontend, signals, truth)
        for name, found in _times(runners, signals["noise"], rounds).items():
            times.setdefault(name, {})[setting] = found
    return {
        "ratio_to_librosa": _ratios(times, LIBROSA, min),
        "ratio_to_librosa_cached": _ratios(times, CACHED, min),
        "ratio_of_medians": _ratios(times, LIBROSA, np.median),
        "milliseconds": {
            name: {s: {"min": round(min(t), 4), "median": round(float(np.median(t)), 4)} for s, t in by_setting.items()}
            for name, by_setting in times.items()
        },
        "error": errors,
        "peers": comparable,
        "absent": absent,
    }


def _times(runners: dict[str, Candidate], samples: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Milliseconds by candidate. They take turns, in another order each round: none always follows the same one."""
    order, shuffle = list(runners), random.Random(0).shuffle
    found: dict[str, list[float]] = {name: [] for name in order}
    for turn in range(rounds + 1):  # the first is not counted
        shuffle(order)
        for name in order:
            run = runners[name].log_mel
            start = time.perf_counter()
            run(samples)
            elapsed = 1e3 * (time.perf_counter() - start)
            if turn:
                found[name].append(elapsed)
    return found


def _ratios(
    times: dict[str, dict[str, list[float]]], reference: str, least: Callable[[list[float]], Any]
) -> dict[str, dict[str, float]]:
    return {
        name: {s: round(float(least(times[reference][s]) / least(t)), 3) for s, t in by_setting.items()}
        for name, by_setting in times.items()
    }


Truth = Callable[[str, str], np.ndarray]


def _truth_of(frontend: Frontend, signals: dict[str, np.ndarray]) -> Truth:
    """Mel power of a signal on a mel scale by librosa in float64, float64 [n_mels, n_frames], each computed once."""

    @functools.cache
    def truth(signal: str, mel_scale: str) -> np.ndarray:
        return LibrosaMel(dataclasses.replace(frontend, mel_scale=mel_scale), np.float64).power(signals[signal])

    return truth


def _error(candidate: Candidate, frontend: Frontend, signals: dict[str, np.ndarray], truth: Truth) -> float:
    """Largest relative power error in audible bins over the signals, as of training.parity.power_error.

    Where there is no power but only its logarithm in float32, which resolves about 2e-6 of the power, that is turned
    back into power, and bins under the floor of the logarithm count as at the floor.
    """
    found = 0.0
    for signal, samples in signals.items():
        exact = truth(signal, candidate.mel_scale)
        if candidate.power is not None:
            power = candidate.power(samples)
        else:
            power = 10 ** (candidate.decibels_per_unit * candidate.log_mel(samples).astype(np.float64) / 10)
            power, exact = np.maximum(power, frontend.amin), np.maximum(exact, frontend.amin)
        found = max(found, power_error(power, exact))
    return found


def _comparability(
    candidate: Candidate, frontend: Frontend, signals: dict[str, np.ndarray], truth: Truth
) -> dict[str, object]:
    """How a peer's output lies to librosa's dB (with the peer's mel scale), over noise and a mixture of sounds.

    Returns:
        ``mel_scale``; the least ``correlation``; ``dB_per_unit`` and ``offset_dB`` of the line that fits best; the
        largest ``difference_dB`` from that line; whether it is ``comparable``.
    """
    floor = 10 * np.log10(frontend.amin)
    theirs, exact = [], []
    correlation = 1.0
    for signal in ("noise", "mixture"):
        log_mel = candidate.log_mel(signals[signal]).astype(np.float64).ravel()
        theirs.append(np.maximum(log_mel, floor / candidate.decibels_per_unit))
        exact.append(10 * np.log10(np.maximum(truth(signal, candidate.mel_scale), frontend.amin)).ravel())
        correlation = min(correlation, float(np.corrcoef(theirs[-1], exact[-1])[0, 1]))
    x, y = np.concatenate(theirs), np.concatenate(exact)
    slope, offset = np.polyfit(x, y, 1)
    return {
        "mel_scale": candidate.mel_scale,
        "correlation": round(correlation, 9),
        "dB_per_unit": round(float(slope), 6),
        "offset_dB": round(float(offset), 6),
        "difference_dB": float(np.max(np.abs(slope * x + offset - y))),
        "comparable": correlation > COMPARABLE,
    }


def table(result: dict[str, Any]) -> str:
    """A block of rows per setting, then how comparable the peers are, then who did not take part."""
    lines = []
    for setting, (n_fft, hop, mels) in SETTINGS.items():
        columns = ("ratio", "of medians", "to cached", "min ms", "median ms", "error")
        lines += ["", f"{f'{setting}: {n_fft}/{hop}/{mels}':<22}" + "".join(f"{column:>12}" for column in columns)]
        for name in result["milliseconds"]:
            ratios = (result[key][name][setting]
                      for key in ("ratio_to_librosa", "ratio_of_medians", "ratio_to_librosa_cached"))  # fmt: skip
            took = result["milliseconds"][name][setting]
            lines.append(
                f"{name:<22}" + "".join(f"{ratio:>12.2f}" for ratio in ratios)
                + f"{took['min']:>12.3f}{took['median']:>12.3f}{result['error'][name][setting]:>12.1e}"
            )  # fmt: skip
    lines.append("")
    for name, by_setting in result["peers"].items():
        worst = min(by_setting.values(), key=lambda found: found["correlation"])
        lines.append(
            f"{name}: {'comparable' if worst['comparable'] else 'NOT COMPARABLE'}, correlation with librosa "
            f"({worst['mel_scale']} mels) {worst['correlation']:.6f}, {worst['difference_dB']:.1e} dB off a line"
        )
    lines += [f"{name}: {reason}" for name, reason in result["absent"].items()]
    return "\n".join(lines).strip("\n")
