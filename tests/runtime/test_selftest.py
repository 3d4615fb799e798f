"""The mel module's built-in test."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest

from labous import selftest
from labous.mel import MelSpectrogram


def test_the_expected_values_are_librosas() -> None:
    f: Any = selftest.FRONTEND  # librosa's annotations want literals
    power = librosa.feature.melspectrogram(
        y=selftest.signal().astype(np.float64), sr=f.sample_rate, n_fft=f.n_fft, hop_length=f.hop_length,
        win_length=f.win_length, window=f.window, center=f.center, pad_mode=f.pad_mode, power=f.power,
        n_mels=f.n_mels, fmin=f.f_min, fmax=f.f_max, htk=False, norm="slaney", dtype=np.float64,
    )  # fmt: skip
    np.testing.assert_allclose(selftest.EXPECTED, power, rtol=2e-8)


def test_the_module_is_right() -> None:
    assert selftest.mel_difference() < 2e-7


def test_a_wrong_module_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = MelSpectrogram.power
    monkeypatch.setattr(MelSpectrogram, "power", lambda self, samples: real(self, samples) * np.float32(1.00001))
    assert selftest.mel_difference() > 1e-6
