"""What augmentation does to a window, each kind by itself."""

import dataclasses

import numpy as np
import pytest

from training.augment import Augment, disturb, to_input, to_power
from training.config import compose
from training.errors import ConfigError
from training.features import LibrosaMel, conf_frontends

SETTINGS = compose()
FRONTEND, AUGMENT = SETTINGS.frontend, SETTINGS.augment
OFF = {field.name: 0.0 for field in dataclasses.fields(Augment) if field.name.endswith("_probability")}


def mel(rng, frames=FRONTEND.n_frames):
    return rng.uniform(-2, 2, (FRONTEND.n_mels, frames)).astype(np.float32)


def only(name="", /, **values):
    """Nothing switched on but one kind, always."""
    return dataclasses.replace(AUGMENT, **OFF | ({f"{name}_probability": 1.0} if name else {}) | values)


def test_power_and_input_are_inverse():
    given = mel(np.random.default_rng(1))
    np.testing.assert_allclose(to_input(to_power(given, FRONTEND), FRONTEND), given, atol=2e-5)


def test_nothing_switched_on_changes_nothing():
    rng = np.random.default_rng(2)
    given = mel(rng)
    found = disturb(given, [], None, only(), FRONTEND, rng)
    np.testing.assert_allclose(found, given, atol=2e-5)
    assert found is not given


FRONTENDS = conf_frontends()
KINDS = {
    "mel64": FRONTENDS["mel64"],
    "librosa": FRONTENDS["librosa"],
    "htk": dataclasses.replace(FRONTENDS["mel64"], mel_scale="htk"),
    "no norm": dataclasses.replace(FRONTENDS["mel64"], mel_norm=None),
    "magnitude": dataclasses.replace(FRONTENDS["mel64"], power=1.0, mel_norm=None, amin=1e-4),
    "loud reference": dataclasses.replace(FRONTENDS["mel64"], ref=20.0),
    "reference under the floor": dataclasses.replace(FRONTENDS["mel64"], ref=1e-12),
    "magnitude's reference": dataclasses.replace(FRONTENDS["mel64"], power=1.0, ref=3.0, amin=1e-5),
}


def noise(frontend, slope_db, seconds=30):
    """Samples of Gaussian noise with a slope in dB per octave from 50 Hz up."""
    n = round(seconds * frontend.sample_rate)
    spectrum = np.fft.rfft(np.random.default_rng(8).standard_normal(n))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(n, 1 / frontend.sample_rate), 50) / 50)
    samples = np.fft.irfft(spectrum * 10 ** (octaves * slope_db / 20))
    return (samples / np.abs(samples).max()).astype(np.float32)


@pytest.mark.parametrize("slope_db", [-6.0, 0.0, 3.0])
@pytest.mark.parametrize("kind", ["mel64", "htk", "no norm", "magnitude"])
def test_noise_has_the_slope_that_real_noise_has_in_this_front_end(kind, slope_db):
    frontend = KINDS[kind]
    real = to_power(LibrosaMel(frontend)(noise(frontend, slope_db)), frontend)
    told = only("noise", noise_snr_db=[-60.0, -60.0], noise_slope_db=[slope_db] * 2)
    quiet = np.full((frontend.n_mels, 4000), real.min() / 100, np.float32)
    found = disturb(to_input(quiet, frontend), [], None, told, frontend, np.random.default_rng(9))
    apart = 10 * np.log10(to_power(found, frontend).mean(axis=1) / real.mean(axis=1))
    np.testing.assert_allclose(apart - np.median(apart), 0, atol=1.2)
    assert np.std(apart) < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_the_floor_is_the_front_ends(kind):
    frontend = KINDS[kind]
    given = LibrosaMel(frontend)(noise(frontend, -6.0, 2))
    np.testing.assert_allclose(to_input(to_power(given, frontend), frontend), given, atol=2e-5)
    silence = LibrosaMel(frontend)(np.zeros(frontend.sample_rate, np.float32))
    augment, rng = only("gain", gain_db=[-200.0, -200.0]), np.random.default_rng(11)
    found = disturb(given, [], None, augment, frontend, rng)
    np.testing.assert_allclose(found, silence.min(), atol=2e-5)


def test_a_reference_of_max_is_found_anew_and_cancels_gain():
    frontend = dataclasses.replace(FRONTENDS["librosa"], ref="max")
    rng = np.random.default_rng(10)
    first, second = (LibrosaMel(frontend)(noise(frontend, slope, 2)) for slope in (-6.0, 0.0))
    quieter = disturb(first, [], None, only("gain", gain_db=[-20.0, -20.0]), frontend, rng)
    np.testing.assert_allclose(quieter, first, atol=2e-5)
    mixed = disturb(first, [second], None, only(mixup_snr_db=[0.0, 0.0]), frontend, rng)
    assert mixed.max() == pytest.approx(frontend.db_offset * frontend.db_scale, abs=2e-5)


def test_nothing_lies_further_below_the_maximum_than_top_db():
    frontend = dataclasses.replace(FRONTENDS["mel64"], top_db=20.0)
    power = np.array([[[1.0, 1e-1], [1e-3, 1e-5]], [[10.0, 1.0], [1e-3, 1e-5]]], np.float32)
    decibels = to_input(power, frontend) / frontend.db_scale - frontend.db_offset
    np.testing.assert_allclose(decibels, [[[0, -10], [-20, -20]], [[10, 0], [-10, -10]]], atol=1e-4)


def loudness(power):
    return np.percentile(power.sum(axis=0), 99)


@pytest.mark.parametrize("count", [1, 2])
def test_mixup_adds_power_at_the_level_asked_for(count):
    rng = np.random.default_rng(3)
    first, *others = (mel(rng) for _ in range(1 + count))
    found = disturb(first, others, None, only(mixup_snr_db=[6.0, 6.0]), FRONTEND, rng)
    first, others = to_power(first, FRONTEND), [to_power(other, FRONTEND) for other in others]
    wanted = first + sum(other * loudness(first) / loudness(other) * 10**-0.6 for other in others)
    np.testing.assert_allclose(to_power(found, FRONTEND), wanted, rtol=1e-4)


def test_a_background_is_added_at_the_level_asked_for_and_is_not_moved():
    rng = np.random.default_rng(13)
    first, background = mel(rng), mel(rng)
    told = only(background_snr_db=[10.0, 10.0])
    found = to_power(disturb(first, [], background, told, FRONTEND, rng), FRONTEND)
    first, background = to_power(first, FRONTEND), to_power(background, FRONTEND)
    wanted = first + background * loudness(first) / loudness(background) * 10**-1.0
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_gain_moves_decibels():
    rng = np.random.default_rng(4)
    given = mel(rng) * 0.5
    found = disturb(given, [], None, only("gain", gain_db=[3.0, 3.0]), FRONTEND, rng)
    np.testing.assert_allclose(found - given, 3.0 * FRONTEND.db_scale, atol=1e-4)


def test_masks_are_no_wider_than_told():
    rng = np.random.default_rng(5)
    given = mel(rng)
    told = only("time_mask", frequency_mask_probability=1.0, time_mask_seconds=0.4, frequency_mask_bands=6)
    for _ in range(50):
        found = disturb(given, [], None, told, FRONTEND, rng)
        changed = ~np.isclose(found, given, atol=1e-4)
        assert (changed.mean(axis=0) > 0.9).sum() <= round(0.4 * FRONTEND.sample_rate / FRONTEND.hop_length)
        assert (changed.mean(axis=1) > 0.9).sum() <= 6


def test_a_mask_of_no_width_hides_nothing():
    rng = np.random.default_rng(6)
    given = mel(rng)
    told = only("time_mask", frequency_mask_probability=1.0, time_mask_seconds=0.0, frequency_mask_bands=0)
    for _ in range(20):
        np.testing.assert_allclose(disturb(given, [], None, told, FRONTEND, rng), given, atol=1e-4)


def test_a_shift_moves_the_whole_window_by_at_most_the_bands_told():
    rng = np.random.default_rng(7)
    given = mel(rng)
    seen = set()
    for _ in range(40):
        found = disturb(given, [], None, only("frequency_shift", frequency_shift_bands=2), FRONTEND, rng)
        by = next(k for k in range(-2, 3) if np.allclose(found[10:20], given[10 + k : 20 + k], atol=2e-5))
        seen.add(by)
    assert seen == {-2, -1, 0, 1, 2}


def test_a_roll_turns_the_window_round():
    rng = np.random.default_rng(12)
    given = mel(rng)
    by = set()
    for _ in range(20):
        found = disturb(given, [], None, only("time_roll"), FRONTEND, rng)
        (start,) = np.flatnonzero([np.allclose(found[:, k], given[:, 0], atol=2e-5) for k in range(given.shape[1])])
        np.testing.assert_allclose(found, np.roll(given, start, axis=1), atol=2e-5)
        by.add(start)
    assert len(by) > 10


KINDS_OF_CHANGE = ("noise", "gain", "time_roll", "time_mask", "frequency_mask", "frequency_shift")


@pytest.mark.parametrize("name", KINDS_OF_CHANGE)
def test_each_happens_as_often_as_its_probability_says(name):
    rng = np.random.default_rng(14)
    given = mel(rng, 60)
    often = only(**{f"{name}_probability": 0.5}, noise_snr_db=[0.0, 0.0])
    changed = np.mean(
        [not np.allclose(disturb(given, [], None, often, FRONTEND, rng), given, atol=2e-5) for _ in range(300)]
    )
    # a mask of no width, a shift by nothing
    idle = {"time_mask": 1 / 61, "frequency_mask": 1 / 7, "frequency_shift": 1 / 5, "time_roll": 1 / 60}.get(name, 0.0)
    assert changed == pytest.approx(0.5 * (1 - idle), abs=0.09)


def test_mixtures_have_as_many_sources_as_told_and_paces_lie_where_told():
    rng = np.random.default_rng(15)
    counts = [only("mixup", mixup_sources=3).draw_others(rng) for _ in range(200)]
    assert set(counts) == {1, 2}
    assert {only().draw_others(rng) for _ in range(50)} == {0}
    paces = [only("time_stretch", time_stretch=[0.8, 1.1]).draw_stretch(rng) for _ in range(100)]
    assert 0.8 <= min(paces) < 0.85
    assert 1.05 < max(paces) <= 1.1
    assert {only().draw_stretch(rng) for _ in range(50)} == {1.0}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"gain_probability": 1.5}, "augment.gain_probability is 1.5"),
        ({"background_snr_db": [3.0, 1.0]}, "augment.background_snr_db"),
        ({"mixup_sources": 1}, "augment.mixup_sources is 1"),
        ({"time_masks": -1}, "augment.time_masks is -1"),
        ({"frequency_shift_bands": -1}, "augment.frequency_shift_bands is -1"),
        ({"time_stretch": [0.0, 1.0]}, "augment.time_stretch"),
    ],
)
def test_impossible_settings_are_refused_by_name(change, told):
    with pytest.raises(ConfigError, match=told):
        dataclasses.replace(AUGMENT, **change)
