"""The mel stage against librosa in float64, over the whole grid of front ends."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from front_ends import PLAIN, front_ends, front_ends_and_samples
from hypothesis import HealthCheck, given, settings

from labous.frontend import Frontend
from labous.mel import MelSpectrogram, NativeEngine, WasmEngine
from training.features import LibrosaMel, librosa_arguments
from training.parity import AUDIBLE, DECIBEL_BOUND, HALF_ULP, POWER_BOUND

pytestmark = pytest.mark.filterwarnings("ignore:Empty filters", "ignore:n_fft=")
grid = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
few = settings(grid, max_examples=10)


@few
@given(case=front_ends_and_samples())
def test_equals_librosa_in_float64(native: NativeEngine, case: tuple[Frontend, np.ndarray]) -> None:
    assert_near_librosa(native, *case)


@pytest.mark.slow
@grid
@given(case=front_ends_and_samples())
def test_equals_librosa_in_float64_over_the_grid(native: NativeEngine, case: tuple[Frontend, np.ndarray]) -> None:
    assert_near_librosa(native, *case)


@pytest.mark.slow
@grid
@given(case=front_ends_and_samples())
def test_the_fast_build_is_within_the_same_bounds(fast: NativeEngine, case: tuple[Frontend, np.ndarray]) -> None:
    assert_near_librosa(fast, *case)


def assert_near_librosa(engine: NativeEngine, frontend: Frontend, samples: np.ndarray) -> None:
    """Within the bounds, and no worse than librosa in float32 unless correctly rounded."""
    exact, mel = LibrosaMel(frontend, np.float64), MelSpectrogram(frontend, engine)
    power = exact.power(samples)
    assert mel.power(samples).shape == power.shape == (frontend.n_mels, frontend.frames_of(samples.size))
    # 1e-8 of the loudest power in the signal, in the bands or not: below, float64 itself runs out, librosa's included
    whole = dataclasses.replace(frontend, f_min=0.0, f_max=frontend.sample_rate / 2)
    audible = power > AUDIBLE ** (frontend.power / 2) * LibrosaMel(whole, np.float64).power(samples).max()

    def error(found: np.ndarray) -> float:
        return float(np.max(np.abs(found - power)[audible] / power[audible], initial=0.0))

    assert error(mel.power(samples)) <= min(POWER_BOUND, max(error(LibrosaMel(frontend).power(samples)), HALF_ULP))
    assert np.max(np.abs(mel.decibels(samples) - exact.decibels(samples))) <= DECIBEL_BOUND
    scaled = (exact.decibels(samples) + frontend.db_offset) * frontend.db_scale
    assert np.max(np.abs(mel(samples) - scaled)) <= DECIBEL_BOUND * abs(frontend.db_scale)


@grid
@given(case=front_ends_and_samples())
def test_every_build_gives_the_same_bits(
    native: NativeEngine, wasm: WasmEngine, scalar: WasmEngine, case: tuple[Frontend, np.ndarray]
) -> None:
    frontend, samples = case
    mels = [MelSpectrogram(frontend, engine) for engine in (native, wasm, scalar)]
    for method in ("power", "decibels", "__call__"):
        first, *others = (getattr(mel, method)(samples).tobytes() for mel in mels)
        assert all(other == first for other in others), method
    for method in ("filters", "window"):
        first, *others = (getattr(mel, method)().tobytes() for mel in mels)
        assert all(other == first for other in others), method
    for mel in mels:
        mel.close()


@grid
@given(frontend=front_ends())
def test_filter_bank_is_librosas_within_one_ulp(native: NativeEngine, frontend: Frontend) -> None:
    import librosa

    theirs = librosa.filters.mel(**librosa_arguments(frontend)["filters"])
    ours = MelSpectrogram(frontend, native).filters()
    assert ours.dtype == theirs.dtype == np.float32 and ours.shape == theirs.shape
    # a weight that is nearly nothing is a difference of edges: there an ulp of the edges is what can be asked for
    allowed = np.maximum(np.spacing(theirs), 1e-12 * theirs.max())
    assert np.all(np.abs(ours.astype(float) - theirs) <= allowed)


@pytest.mark.parametrize("n_fft", [256, 1024, 4096])
@pytest.mark.parametrize("share", [1.0, 0.73, 0.5, 0.01])
def test_window_is_scipys(native: NativeEngine, n_fft: int, share: float) -> None:
    import scipy.signal

    length = max(1, int(share * n_fft))
    frontend = Frontend.from_dict({**PLAIN.to_dict(), "n_fft": n_fft, "win_length": length})
    left = (n_fft - length) // 2
    theirs = np.pad(scipy.signal.get_window("hann", length, fftbins=True), (left, n_fft - length - left))
    ours = MelSpectrogram(frontend, native).window()
    assert ours.dtype == np.float64
    assert np.max(np.abs(ours - theirs)) <= 4 * np.finfo(np.float64).eps  # scipy's own cosine is no nearer
    assert np.all(np.abs(ours.astype(np.float32) - theirs.astype(np.float32)) <= np.spacing(theirs.astype(np.float32)))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_shortest_windows(native: NativeEngine, length: int) -> None:
    frontend = Frontend.from_dict({**PLAIN.to_dict(), "win_length": length})
    window = MelSpectrogram(frontend, native).window()
    expected = {1: [1.0], 2: [0.0, 1.0], 3: [0.0, 0.75, 0.75]}[length]
    left = (1024 - length) // 2
    np.testing.assert_allclose(window[left : left + length], expected, atol=1e-15)
    assert np.count_nonzero(window) == np.count_nonzero(expected)


@pytest.mark.parametrize("n_fft", [256, 512, 1024, 2048, 4096])
def test_power_spectrum_of_every_bin(native: NativeEngine, n_fft: int) -> None:
    """A cosine at bin k under a periodic Hann window has (N/4)² in bin k, (N/8)² beside it and nothing elsewhere."""
    frontend = Frontend.from_dict(
        {**PLAIN.to_dict(), "n_fft": n_fft, "win_length": n_fft, "f_min": 0.0, "f_max": 16000.0, "mel_norm": None}
    )
    mel = MelSpectrogram(frontend, native)
    weights = mel.filters().astype(float)
    for k in (2, 3, n_fft // 8, n_fft // 4, n_fft // 4 + 1, n_fft // 2 - 2):
        spectrum = np.zeros(n_fft // 2 + 1)
        spectrum[k - 1 : k + 2] = np.array([1 / 64, 1 / 16, 1 / 64]) * float(n_fft) ** 2
        cosine = np.cos(2 * np.pi * k * np.arange(n_fft) / n_fft).astype(np.float32)
        found = mel.power(cosine)[:, 0]
        np.testing.assert_allclose(found, weights @ spectrum, rtol=1e-6, atol=1e-12 * spectrum.max())


def test_linearity_of_frames(native: NativeEngine) -> None:
    """Without padding a frame depends on its own samples alone, wherever they lie."""
    samples = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    mel = MelSpectrogram(PLAIN, native)
    whole = mel.power(samples)
    for t in (0, 1, 7, whole.shape[1] - 1):
        alone = mel.power(samples[500 * t : 500 * t + 1024])
        assert np.array_equal(alone[:, 0], whole[:, t])


def test_librosa_gets_every_argument() -> None:
    import inspect

    import librosa

    arguments = librosa_arguments(PLAIN)
    named = {
        "melspectrogram": {*_names(librosa.feature.melspectrogram), *_names(librosa.filters.mel)} - {"y", "kwargs"},
        "filters": _names(librosa.filters.mel),
        "decibels": _names(librosa.power_to_db) - {"S"},
    }
    assert {group: set(given) for group, given in arguments.items()} == named
    assert set(inspect.signature(librosa.amplitude_to_db).parameters) - {"S"} == set(arguments["decibels"])


def _names(function: object) -> set[str]:
    import inspect

    return set(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_librosas_warning_about_empty_bands_does_not_hide_a_difference(native: NativeEngine) -> None:
    """256 bands over few bins leave empty ones: zero power, the floor in dB."""
    constants = {**PLAIN.to_dict(), "n_fft": 256, "win_length": 256, "n_mels": 256, "f_min": 0.0, "f_max": 16000.0}
    frontend = Frontend.from_dict(constants)
    samples = np.random.default_rng(2).standard_normal(4000).astype(np.float32)
    mel = MelSpectrogram(frontend, native)
    empty = mel.filters().max(axis=1) == 0
    assert 50 < np.count_nonzero(empty) < 200
    assert np.all(mel.power(samples)[empty] == 0)
    assert np.all(mel.decibels(samples)[empty] == -80)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(LibrosaMel(frontend).power(samples)[:, 0] == 0, empty)
