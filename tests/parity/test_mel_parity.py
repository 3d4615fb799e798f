"""librosa ↔ native ↔ wasm, in pairs: nine hard signals, committed vectors, real recordings."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from labous import recordings
from labous.frontend import Frontend
from labous.mel import MelSpectrogram, NativeEngine, WasmEngine
from tests.few import few
from tests.parity import golden
from training import parity
from training.features import BACKENDS, EXACT_LIBRARY, conf_frontends, mel_spectrogram
from training.segments import runs_of_frames
from training.signals import hard_signals

FRONTENDS = conf_frontends()
SIGNALS = tuple(hard_signals(8000, 64))
SECONDS = 1

REAL = os.environ.get("LABOUS_REAL_AUDIO")


def test_nine_signals_and_the_front_ends_of_conf() -> None:
    assert len(SIGNALS) == 9
    assert {"mel64", "mel128", "librosa"} <= set(FRONTENDS)
    for signal in hard_signals(32_000, 32_000).values():
        assert signal.dtype == np.float32 and np.abs(signal).max() <= 1


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("name", FRONTENDS)
def test_within_the_bounds_and_no_worse_than_librosa(name: str, signal: str) -> None:
    frontend = FRONTENDS[name]
    samples = hard_signals(frontend.sample_rate, SECONDS * frontend.sample_rate)[signal]
    errors = parity.compare(frontend, [samples])
    assert parity.complaints(errors) == []
    for backend in ("native", "wasm"):
        assert errors[backend].rounded >= max(0.99, errors["librosa"].rounded)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("name", FRONTENDS)
def test_native_and_wasm_give_the_same_bits(name: str, signal: str) -> None:
    frontend = FRONTENDS[name]
    samples = hard_signals(frontend.sample_rate, SECONDS * frontend.sample_rate)[signal]
    native, wasm = MelSpectrogram(frontend, NativeEngine(EXACT_LIBRARY)), MelSpectrogram(frontend, WasmEngine())
    assert native.power(samples).tobytes() == wasm.power(samples).tobytes()
    assert native(samples).tobytes() == wasm(samples).tobytes()


@pytest.mark.parametrize("name", FRONTENDS)
def test_every_pair_sees_the_same_model_input(name: str) -> None:
    """What a model is given differs between backends by rounding alone: 2e-5 dB at most, scaled."""
    frontend = FRONTENDS[name]
    samples = hard_signals(frontend.sample_rate, frontend.window_samples)["mixture"]
    seen = {backend: mel_spectrogram(frontend, backend)(samples) for backend in BACKENDS}
    for one, other in itertools.combinations(BACKENDS, 2):
        assert seen[one].shape == (frontend.n_mels, frontend.n_frames)
        assert np.max(np.abs(seen[one] - seen[other])) <= 2e-5 * frontend.db_scale, (one, other)


@pytest.mark.parametrize("name", few(FRONTENDS, 1))
def test_prepared_features_are_the_same_with_every_backend(name: str) -> None:
    frontend = FRONTENDS[name]
    for signal in hard_signals(frontend.sample_rate, frontend.window_samples).values():
        assert_same_features(signal, frontend)


def assert_same_features(samples: np.ndarray, frontend: Frontend) -> None:
    """As prepare writes them, in float16: to the last bit."""
    seen = {
        backend: np.concatenate(list(runs_of_frames([samples], frontend, backend)), axis=1).astype(np.float16)
        for backend in BACKENDS
    }
    for backend in BACKENDS:
        assert seen[backend].tobytes() == seen["librosa"].tobytes(), backend


def test_committed_vectors() -> None:
    said: list[str] = []
    assert golden.check(said.append) == 0, said
    assert sum(path.stat().st_size for path in golden.FOLDER.iterdir()) < 300_000


def test_a_changed_bit_in_a_committed_vector_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    load = golden.load

    def damaged(name: str) -> golden.Vectors:
        vectors = load(name)
        if name == "mel64":
            vectors["mixture.scaled"].view(np.uint32)[3, 3] ^= 1
        return vectors

    monkeypatch.setattr(golden, "load", damaged)
    said: list[str] = []
    assert golden.check(said.append) == 2
    assert any("mixture.scaled: wasm gives other bits" in line for line in said)


def test_a_worse_mel_is_complained_of() -> None:
    """The measure can fail: a power that is off by one part in a million, decibels by 2e-5, NaN."""
    good = parity.Errors(power=5e-8, decibels=4e-6, rounded=1.0)
    librosa = parity.Errors(power=5e-7, decibels=2e-5, rounded=0.4)
    bad = (parity.Errors(1e-6, 4e-6, 1.0), parity.Errors(5e-8, 2e-5, 1.0), parity.Errors(float("nan"), 4e-6, 1.0))
    assert parity.complaints({"librosa": librosa, "native": good, "wasm": good}) == []
    for errors in bad:
        assert len(parity.complaints({"librosa": librosa, "native": good, "wasm": errors})) == 1
    exacter = parity.Errors(power=8e-8, decibels=2e-5, rounded=0.9)
    worse = parity.Errors(power=1e-7, decibels=4e-6, rounded=0.9)
    assert len(parity.complaints({"librosa": exacter, "native": worse, "wasm": good})) == 1
    exact = np.array([[1.0, 1e-3, 1e-9]])
    assert parity.power_error(exact * [1, 1 + 1e-6, 2], exact) == pytest.approx(1e-6)


@pytest.mark.slow
def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "mel.png"
    assert parity.main(["--frontend", "mel64", "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    assert said.count("\nmel64 ") == 9 and "All within the bounds" in said
    assert picture.read_bytes().startswith(b"\x89PNG") and [picture] == list(tmp_path.iterdir())
    monkeypatch.setattr(parity, "DECIBEL_BOUND", 1e-7)
    monkeypatch.setattr(parity, "hard_signals", lambda rate, n: {"noise": hard_signals(rate, n)["noise"]})
    assert parity.main(["--frontend", "mel64"]) == 1
    assert "Above the bounds: mel64, noise: wasm:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--frontend", "mel63"], "no front end 'mel63'"), (["no/such/recording.ogg"], "does not exist")],
)
def test_command_line_refuses_in_a_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parity.main(arguments)
    assert stopped.value.code == 1
    assert words in capsys.readouterr().err


@pytest.mark.real
@pytest.mark.skipif(REAL is None, reason="LABOUS_REAL_AUDIO is not set")
@pytest.mark.parametrize("name", FRONTENDS)
def test_real_recordings(name: str) -> None:
    frontend = FRONTENDS[name]
    found = recordings.find([Path(str(REAL))])
    assert found, "no recording there"
    for path in found[:: max(1, len(found) // 12)]:
        samples = recordings.read(path, frontend.sample_rate)[: 3 * frontend.window_samples]
        windows = [w.samples for w in recordings.windows([samples], frontend)]
        assert parity.complaints(parity.compare(frontend, windows)) == [], path.name
        assert_same_features(samples, frontend)
