"""Recordings with background sound over them, and windows begun a little later."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.runtime.bundles import FRONTEND, tflite_model, weights
from training.conditions import Backgrounds, hear_in_noise, hear_shifted, mixed
from training.errors import StageError
from training.evaluate import Listener

RATE = FRONTEND.sample_rate


@pytest.fixture(scope="module")
def listener():
    files = [tflite_model(*weights(seed), FRONTEND.n_frames) for seed in range(2)]
    return Listener(None, *files, FRONTEND)  # Keras has no part in these


def noise(seconds, seed, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


def written(path, samples):
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return str(path)


def stretches(*rows):
    return pd.DataFrame(rows, columns=["path", "start_seconds", "end_seconds"])


@pytest.mark.parametrize("snr_db", [10.0, 0.0, -5.0])
@pytest.mark.parametrize("seconds", [0.3, 2.0, 7.0])
def test_a_mixture_has_the_ratio_that_was_asked_for(snr_db, seconds):
    signal, background = noise(2, 1), noise(seconds, 2, level=0.7)
    added = mixed(signal, background, snr_db) - signal
    ratio = 10 * np.log10(np.mean(signal.astype(float) ** 2) / np.mean(added.astype(float) ** 2))
    assert ratio == pytest.approx(snr_db, abs=1e-3)
    if seconds < 2:  # looped
        n = len(background)
        np.testing.assert_allclose(added[:n], added[n : 2 * n], atol=1e-6)


def test_the_seed_decides_which_background_and_from_where(tmp_path):
    paths = [written(tmp_path / f"{i}.wav", noise(3, i)) for i in range(4)]
    table = stretches(*((path, 0.0, np.inf) for path in paths))
    one, again, other = (Backgrounds(table, FRONTEND, seed) for seed in (1, 1, 2))
    signal = noise(1, 9)
    chosen = [one.behind(signal, number) for number in range(6)]
    for number, samples in enumerate(chosen):
        np.testing.assert_array_equal(samples, again.behind(signal, number))
    assert any(not np.array_equal(samples, other.behind(signal, n)) for n, samples in enumerate(chosen))
    assert len({samples.tobytes() for samples in chosen}) > 1


def test_only_the_stretch_is_used(tmp_path):
    sound = np.concatenate([noise(1, 1), np.full(RATE, 0.25, np.float32), noise(1, 2)])
    behind = Backgrounds(stretches((written(tmp_path / "a.wav", sound), 1.0, 2.0)), FRONTEND, 1)
    np.testing.assert_array_equal(behind.behind(noise(1, 3), 0), np.full(RATE, 0.25, np.float32))


def test_silent_backgrounds_are_passed_over_and_told(tmp_path):
    sound = np.concatenate([np.zeros(RATE, np.float32), noise(1, 2)])
    path = written(tmp_path / "a.wav", sound)
    silent = (path, 0.0, 1.0)
    both = Backgrounds(stretches(silent, (path, 1.0, 2.0)), FRONTEND, 1)
    assert all(both.behind(noise(1, 3), number).any() for number in range(8))
    with pytest.raises(StageError, match="silent"):
        Backgrounds(stretches(silent), FRONTEND, 1).behind(noise(1, 3), 0)


def test_noise_is_heard_in_the_same_windows(tmp_path, listener):
    signal = noise(3.5, 1)
    table = pd.DataFrame({"path": [written(tmp_path / "a.wav", signal)]})
    behind = Backgrounds(stretches((written(tmp_path / "b.wav", noise(2, 2)), 0.0, np.inf)), FRONTEND, 1)
    (heard,) = hear_in_noise(table, behind, 0.0, listener, 0.0).values()
    clean = listener.hear_samples([signal], 0.0, reference=False)
    np.testing.assert_array_equal(heard.starts, clean.starts)
    np.testing.assert_array_equal(heard.ends, clean.ends)
    assert set(heard.logits) == {"float32", "int8"}
    assert not np.allclose(heard.logits["float32"], clean.logits["float32"])


def test_a_shift_of_nothing_moves_nothing_and_short_recordings_are_left_out(tmp_path, listener):
    paths = [written(tmp_path / "a.wav", noise(2.5, 1)), written(tmp_path / "b.wav", noise(1.0, 2))]
    before, after = hear_shifted(paths, listener, [0.0, 2.9])
    assert before["float32"].shape == (1, 4)  # a window of 1 s leaves no room in 1 s
    np.testing.assert_array_equal(after["int8"][0], before["int8"])
    assert not np.array_equal(after["int8"][1], before["int8"])
    samples = noise(2.5, 1)
    shift = round(2.9e-3 * RATE)
    start = (len(samples) - FRONTEND.window_samples - shift) // 2 + shift
    expected = listener.on_device(samples[start : start + FRONTEND.window_samples])
    np.testing.assert_array_equal(after["float32"][1][0], expected["float32"])
