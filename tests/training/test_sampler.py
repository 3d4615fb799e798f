import dataclasses

import numpy as np
import pandas as pd
import pytest

from training.augment import disturb, to_input, to_power
from training.config import compose
from training.features import LibrosaMel, conf_frontends
from training.sampler import Sampler, random_window, steady_windows

SETTINGS = compose()
FRONTEND, AUGMENT = SETTINGS.frontend, SETTINGS.augment
CODES = ["comcuc", "gretit1", "tawowl1"]
OFF = dict.fromkeys(("mixup_probability", "noise_probability"), 0.0) | {
    "gain_db": [0.0, 0.0],
    "time_masks": 0,
    "frequency_masks": 0,
    "frequency_shift_bands": 0,
    "time_stretch": [1.0, 1.0],
}


def mel(rng, frames=FRONTEND.n_frames):
    return rng.uniform(-2, 2, (FRONTEND.n_mels, frames)).astype(np.float32)


def altered(**values):
    return dataclasses.replace(AUGMENT, **values)


@pytest.fixture
def sampler(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i, (primary, secondary) in enumerate([("comcuc", []), ("comcuc", ["gretit1"]), ("gretit1", ["elsewhere"])]):
        np.save(tmp_path / f"{i}.npy", np.stack([mel(rng, 400)]).astype(np.float16))
        rows.append((primary, secondary, f"{i}.npy"))
    table = pd.DataFrame(rows, columns=["primary_label", "secondary_labels", "feature"])
    return lambda augment=AUGMENT, **told: Sampler(
        table,
        tmp_path,
        CODES,
        FRONTEND,
        augment,
        **{"seed": 3, "batch_size": 16, "label_smoothing": 0.0, "secondary_weight": 0.5, "crop_candidates": 2} | told,
    )


def test_a_batch_depends_on_its_number_alone(sampler):
    first, second = sampler(), sampler()
    first.batch(0, 0)
    for a, b in zip(first.batch(4, 2), second.batch(4, 2), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.batch(4, 2)[0], first.batch(4, 3)[0])


def test_species_are_balanced_whatever_their_recordings(sampler):
    batches = [sampler(altered(**OFF)).batch(0, n)[1] for n in range(40)]
    drawn = (np.concatenate(batches) == 1.0).mean(axis=0)
    np.testing.assert_allclose(drawn, [0.5, 0.5, 0.0], atol=0.06)


def test_targets_know_background_species_and_smoothing(sampler):
    _, targets = sampler(altered(**OFF), label_smoothing=0.1).batch(0, 0)
    np.testing.assert_allclose(np.unique(targets), [0.05, 0.5, 0.95], atol=1e-6)


def test_shapes_are_what_the_model_takes(sampler):
    inputs, targets = sampler().batch(0, 0)
    assert inputs.shape == (16, FRONTEND.n_mels, FRONTEND.n_frames, 1)
    assert inputs.dtype == targets.dtype == np.float32
    assert np.isfinite(inputs).all()


def test_power_and_input_are_inverse():
    given = mel(np.random.default_rng(1))
    np.testing.assert_allclose(to_input(to_power(given, FRONTEND), FRONTEND), given, atol=2e-5)


def test_nothing_switched_on_changes_nothing():
    rng = np.random.default_rng(2)
    given, target = mel(rng), np.array([1, 0, 0], np.float32)
    found, targets = disturb(given, target, mel(rng), target, altered(**OFF), FRONTEND, rng)
    np.testing.assert_allclose(found, given, atol=2e-5)
    np.testing.assert_array_equal(targets, target)


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
    told = OFF | {"noise_probability": 1.0, "noise_snr_db": [-60.0, -60.0], "noise_slope_db": [slope_db] * 2}
    quiet = np.full((frontend.n_mels, 4000), real.min() / 100, np.float32)
    given, target = to_input(quiet, frontend), np.ones(1, np.float32)
    found, _ = disturb(given, target, given, target, altered(**told), frontend, np.random.default_rng(9))
    apart = 10 * np.log10(to_power(found, frontend).mean(axis=1) / real.mean(axis=1))
    np.testing.assert_allclose(apart - np.median(apart), 0, atol=1.2)
    assert np.std(apart) < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_the_floor_is_the_front_ends(kind):
    frontend = KINDS[kind]
    given, target = LibrosaMel(frontend)(noise(frontend, -6.0, 2)), np.ones(1, np.float32)
    np.testing.assert_allclose(to_input(to_power(given, frontend), frontend), given, atol=2e-5)
    silence = LibrosaMel(frontend)(np.zeros(frontend.sample_rate, np.float32))
    augment, rng = altered(**OFF | {"gain_db": [-200.0, -200.0]}), np.random.default_rng(11)
    found, _ = disturb(given, target, given, target, augment, frontend, rng)
    np.testing.assert_allclose(found, silence.min(), atol=2e-5)


def test_a_reference_of_max_is_found_anew_and_cancels_gain():
    frontend = dataclasses.replace(FRONTENDS["librosa"], ref="max")
    rng, target = np.random.default_rng(10), np.ones(1, np.float32)
    first, second = (LibrosaMel(frontend)(noise(frontend, slope, 2)) for slope in (-6.0, 0.0))
    quieter, _ = disturb(first, target, second, target, altered(**OFF | {"gain_db": [-20.0, -20.0]}), frontend, rng)
    np.testing.assert_allclose(quieter, first, atol=2e-5)
    both = altered(**OFF | {"mixup_probability": 1.0, "mixup_snr_db": [0.0, 0.0]})
    mixed, _ = disturb(first, target, second, target, both, frontend, rng)
    assert mixed.max() == pytest.approx(frontend.db_offset * frontend.db_scale, abs=2e-5)


def test_nothing_lies_further_below_the_maximum_than_top_db():
    frontend = dataclasses.replace(FRONTENDS["mel64"], top_db=20.0)
    power = np.array([[[1.0, 1e-1], [1e-3, 1e-5]], [[10.0, 1.0], [1e-3, 1e-5]]], np.float32)
    decibels = to_input(power, frontend) / frontend.db_scale - frontend.db_offset
    np.testing.assert_allclose(decibels, [[[0, -10], [-20, -20]], [[10, 0], [-10, -10]]], atol=1e-4)


def test_mixup_adds_power_at_the_level_asked_for_and_joins_labels():
    rng = np.random.default_rng(3)
    first, second = mel(rng), mel(rng)
    augment = altered(**OFF | {"mixup_probability": 1.0, "mixup_snr_db": [6.0, 6.0]})
    found, targets = disturb(
        first, np.array([1, 0], np.float32), second, np.array([0, 0.5], np.float32), augment, FRONTEND, rng
    )
    np.testing.assert_array_equal(targets, [1, 0.5])
    added = to_power(found, FRONTEND) - to_power(first, FRONTEND)
    level = np.percentile(to_power(first, FRONTEND).sum(axis=0), 99) / np.percentile(added.sum(axis=0), 99)
    assert 10 * np.log10(level) == pytest.approx(6.0, abs=0.05)


def test_gain_moves_decibels():
    rng = np.random.default_rng(4)
    given, target = mel(rng) * 0.5, np.ones(1, np.float32)
    found, _ = disturb(given, target, given, target, altered(**OFF | {"gain_db": [3.0, 3.0]}), FRONTEND, rng)
    np.testing.assert_allclose(found - given, 3.0 * FRONTEND.db_scale, atol=1e-4)


def test_masks_are_no_wider_than_told():
    rng = np.random.default_rng(5)
    given, target = mel(rng), np.ones(1, np.float32)
    told = OFF | {"time_masks": 1, "time_mask_seconds": 0.4, "frequency_masks": 1, "frequency_mask_bands": 6}
    for _ in range(50):
        found, _ = disturb(given, target, given, target, altered(**told), FRONTEND, rng)
        changed = ~np.isclose(found, given, atol=1e-4)
        assert (changed.mean(axis=0) > 0.9).sum() <= round(0.4 * FRONTEND.sample_rate / FRONTEND.hop_length)
        assert (changed.mean(axis=1) > 0.9).sum() <= 6


def test_validation_windows_are_the_same_each_time_and_reach_the_end():
    segments = np.arange(1000, dtype=np.float16)[None, None].repeat(2, axis=1)
    cut = steady_windows(segments, 300, at_most=3)
    np.testing.assert_array_equal(cut[:, 0, 0], [0, 350, 700])
    np.testing.assert_array_equal(cut, steady_windows(segments, 300, at_most=3))


@pytest.mark.parametrize(("at_most", "chosen"), [(1, [0]), (2, [0, 10]), (3, [0, 5, 10]), (20, list(range(11)))])
def test_validation_windows_of_a_front_end_with_one_segment_a_window_are_spread_too(at_most, chosen):
    segments = np.arange(11, dtype=np.float16)[:, None, None] + np.zeros((11, 2, 300), np.float16)
    cut = steady_windows(segments, 300, at_most)
    assert cut.dtype == np.float32
    np.testing.assert_array_equal(cut[:, 0, 0], chosen)


@pytest.mark.parametrize("shape", [(1, 4, 30), (5, 4, 20)])
def test_windows_come_from_inside_one_segment(shape):
    segments = np.random.default_rng(6).random(shape).astype(np.float16)
    for seed in range(20):
        assert random_window(segments, 20, np.random.default_rng(seed)).shape == (4, 20)


def test_a_shift_moves_the_whole_window_by_at_most_the_bands_told():
    rng = np.random.default_rng(7)
    given, target = mel(rng), np.ones(1, np.float32)
    seen = set()
    for _ in range(40):
        found, _ = disturb(given, target, given, target, altered(**OFF | {"frequency_shift_bands": 2}), FRONTEND, rng)
        by = next(k for k in range(-2, 3) if np.allclose(found[10:20], given[10 + k : 20 + k], atol=2e-5))
        seen.add(by)
    assert seen == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize("stretch", [0.8, 1.0, 1.25])
def test_stretch_is_the_pace_at_which_frames_are_gone_through(stretch):
    ramp = np.arange(1000, dtype=np.float32)[None, None].repeat(2, axis=1)
    for seed in range(10):
        cut = random_window(ramp, 100, np.random.default_rng(seed), stretch)
        assert cut.shape == (2, 100)
        np.testing.assert_allclose(np.diff(cut[0]), stretch, rtol=1e-3)


def test_a_segment_too_short_for_the_pace_is_gone_through_as_fast_as_it_allows():
    ramp = np.arange(110, dtype=np.float32)[None, None].repeat(2, axis=1)
    cut = random_window(ramp, 100, np.random.default_rng(0), 2.0)
    np.testing.assert_allclose(cut[0], np.linspace(0, 109, 100), rtol=1e-4)
