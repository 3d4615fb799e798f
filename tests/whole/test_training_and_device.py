"""Training's side (librosa.load, librosa, Keras) against the device's (the installed wheel), on whole recordings.

Resampling included: the recordings have other rates and channels than the front end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from labous.bundle import Bundle
from labous.frontend import Frontend
from labous.recordings import read, windows
from tests.whole.device_side import hear
from training.features import mel_spectrogram

pytestmark = [pytest.mark.slow, pytest.mark.wheel]

FORMS = [("44100.flac", 44_100, 1), ("48000.wav", 48_000, 2), ("22050.ogg", 22_050, 1), ("32000.wav", 32_000, 2)]


def librosa_samples(path: Path, frontend: Frontend) -> np.ndarray:
    """A recording as training's reference hears it."""
    import librosa

    samples, _ = librosa.load(path, sr=frontend.sample_rate, mono=True, dtype=np.float32, res_type="soxr_hq")
    return samples


def in_other_forms(source: Path, work: Path) -> list[Path]:
    """A demo recording at other rates, with other channels, in other formats."""
    samples, rate = soundfile.read(source, dtype="float32")
    paths = []
    for name, wanted, channels in FORMS:
        # read at another rate, a recording is another sound of another length: all that matters here
        path = work / name
        block = np.stack([samples * (1 - 0.3 * c) for c in range(channels)], axis=1)
        with soundfile.SoundFile(path, "w", wanted, channels) as file:
            for start in range(0, len(block), wanted // 2):
                file.write(block[start : start + wanted // 2])
        paths.append(path)
    assert rate == 32_000
    return paths


def compare(device: Path, bundle_place: Path, keras_place: Path, paths: list[Path]) -> dict[str, float]:
    """Largest differences over the recordings, and the share of windows with the same top-1."""
    import keras

    bundle = Bundle.read(bundle_place)
    frontend = bundle.frontend
    model = keras.saving.load_model(keras_place, compile=False)
    reference = mel_spectrogram(frontend, "librosa")
    heard = {precision: hear(device, bundle_place, precision, paths) for precision in ("float32", "int8")}
    found: dict[str, list[float]] = {"samples": [], "float32": [], "int8_share": [], "int8_top1": []}
    for path in paths:
        ours, theirs = librosa_samples(path, frontend), read(path, frontend.sample_rate)
        # librosa rounds the length up and fills the missing sample with zero
        assert 0 <= len(ours) - len(theirs) <= 1
        found["samples"].append(float(np.abs(ours[: len(theirs)] - theirs).max()))
        cut = list(windows([ours[: len(theirs)]], frontend))
        logits = np.asarray(model(np.stack([reference(w.samples) for w in cut])[..., None], training=False))
        starts, float32 = heard["float32"][path]
        np.testing.assert_allclose(starts, [w.start / frontend.sample_rate for w in cut], atol=1e-9)
        int8 = heard["int8"][path][1]
        found["float32"].append(float(np.abs(float32 - logits).max()))
        found["int8_share"].append(float(np.abs(int8 - logits).max() / np.ptp(logits)))
        found["int8_top1"] += list(int8.argmax(axis=1) == logits.argmax(axis=1))
    return {name: float(np.mean(values) if name == "int8_top1" else max(values)) for name, values in found.items()}


def check(found: dict[str, float]) -> None:
    print("\n" + "  ".join(f"{name} {value:.2g}" for name, value in found.items()))
    assert found["samples"] == 0.0
    assert found["float32"] <= 1e-3
    assert found["int8_share"] <= 0.15


def test_on_demo_recordings(trained, device, tmp_path):
    sources = sorted((trained.place / "data/raw/demo/train_short_audio").rglob("*.ogg"))
    paths = [*in_other_forms(sources[0], tmp_path), *sources[::7]]
    outputs = trained.place / "outputs"
    check(compare(device, outputs / "bundle", outputs / "fit/model.keras", paths))


@pytest.mark.real
def test_on_real_recordings(real_trained, device, real_audio):
    paths = sorted((real_audio / "train_short_audio").rglob("*.ogg"))[::25]
    outputs = real_trained.place / "outputs"
    found = compare(device, outputs / "bundle", outputs / "fit/model.keras", paths)
    check(found)
    assert found["int8_top1"] >= 0.9
