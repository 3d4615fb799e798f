"""Bundles whose front end is a power law: run like any other, averaged over shifts, and never a dog reported."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labous
from labous import cli, models, recordings
from labous.errors import BundleError, EngineError, LabousError
from labous.mel import MelSpectrogram
from labous.models.inputs import Averaged, as_input, averaged, fits
from tests.runtime import audio, bundles, law_bundles
from tests.runtime.law_bundles import FRONTEND, LABELS, NOT_BIRDS

RATE, SIZE = FRONTEND.sample_rate, FRONTEND.window_samples
SHIFTED = dataclasses.replace(FRONTEND, shifts=(0, 11, 29))
SINGLE = dataclasses.replace(FRONTEND, channels=FRONTEND.channels[1:])


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles by what is odd about them."""
    folder = tmp_path_factory.mktemp("law")
    return {
        "plain": law_bundles.write_bundle(folder / "plain"),
        "single": law_bundles.write_bundle(folder / "single", SINGLE),
        "shifted": law_bundles.write_bundle(folder / "shifted", SHIFTED, ("float32",)),
        "half": law_bundles.write_bundle(folder / "half", FRONTEND, ("float16",)),
    }


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return audio.noise(7.0, RATE)[:, 0]


@pytest.fixture
def recording(tmp_path: Path, sound: np.ndarray) -> Path:
    return audio.write(tmp_path / "garden.wav", sound, RATE)


def rewritten(folder: Path, change: Any) -> Path:
    """A bundle with another manifest."""
    place = law_bundles.write_bundle(folder / "bundle")
    values = law_bundles.manifest()
    change(values)
    bundles.write_manifest(place, values)
    return place


def expected(frontend: Any, place: Path, windows: list[np.ndarray]) -> np.ndarray:
    """The logits by numpy, from the mel of each single shift."""
    w, _ = law_bundles.weights(frontend)
    with np.load(place / "golden/golden.npz") as golden:
        heard = golden["mel"].reshape(-1, *frontend.input_shape[1:]).mean(axis=(0, 2)).ravel()
    mels = [MelSpectrogram(dataclasses.replace(frontend, shifts=(shift,))) for shift in frontend.shifts]
    rows = [[w @ (mel(window).mean(axis=1).ravel() - heard) for mel in mels] for window in windows]
    return np.mean(rows, axis=1)


@pytest.mark.parametrize(
    ("kind", "frontend"), [("plain", FRONTEND), ("single", SINGLE), ("shifted", SHIFTED), ("half", FRONTEND)]
)
def test_logits_are_those_of_the_mean_over_the_shifts(
    kind: str, frontend: Any, places: dict[str, Path], sound: np.ndarray
) -> None:
    bundle = labous.load(places[kind])
    found = bundle.predict(sound)
    windows = [sound[:SIZE], sound[SIZE : 2 * SIZE], sound[-SIZE:]]
    assert list(found.starts) == [0.0, 3.0, 4.0]
    np.testing.assert_allclose(found.logits, expected(frontend, places[kind], windows), atol=2e-4)
    assert np.ptp(found.logits, axis=0).min() > 0.01  # or nothing would be compared
    if kind == "shifted":
        alone = labous.load(places["plain"]).predict(sound).logits
        assert np.abs(alone - found.logits).max() > 0.01


def test_overlapping_windows_are_those_without_overlap(places: dict[str, Path], sound: np.ndarray) -> None:
    bundle = labous.load(places["plain"])
    found = bundle.predict(sound, overlap=1.5)
    assert list(found.starts) == [0.0, 1.5, 3.0, 4.0]
    for start, logits in zip(found.starts, found.logits, strict=True):
        begin = round(start * RATE)
        alone = bundle.predict(sound[begin : begin + SIZE])
        assert (alone.logits[0] == logits).all()


def test_a_tail_is_a_window_if_it_holds_the_longest_frame() -> None:
    for tail, n_windows in ((2047, 1), (2048, 2)):
        found = list(recordings.windows([np.zeros(SIZE + tail, np.float32)], FRONTEND))
        assert len(found) == n_windows


def test_a_bundle_runs_the_most_exact_model_that_it_has(places: dict[str, Path], sound: np.ndarray) -> None:
    exact, half = labous.load(places["plain"]), labous.load(places["half"])
    assert (exact.precision, half.precision) == ("float32", "float16")
    with pytest.raises(BundleError, match="has no float32 model; it has: float16"):
        labous.load(places["half"], "float32")
    same = exact.with_precision("float16").predict(sound).logits
    assert (same == half.predict(sound).logits).all()


def test_a_station_prefers_the_quickest_and_then_the_exact(places: dict[str, Path]) -> None:
    from labous.station.settings import PREFERRED

    def chosen(place: Path) -> str:
        return labous.Bundle.read(place, preferred=PREFERRED).precision

    assert chosen(places["plain"]) == "float32"
    assert chosen(places["half"]) == "float16"


def test_no_score_makes_a_detection_of_what_is_no_bird(places: dict[str, Path], recording: Path) -> None:
    bundle = labous.load(places["plain"])
    probabilities = bundle.predict(recording).probabilities
    others = [label.ebird_code in NOT_BIRDS for label in bundle.labels]
    assert probabilities[:, others].max() > 0.5  # a dog is heard
    for min_score in (None, 0.0, 1e-9):
        found = list(bundle.analyze(recording, top_n=99, min_score=min_score))
        assert (found or min_score is None) and not {d.ebird_code for d in found} & set(NOT_BIRDS)
    # nor does one take a bird's place among the top
    assert len(list(bundle.analyze(recording, top_n=3, min_score=0.0))) == 9


def test_a_threshold_of_nothing_lifts_no_exclusion(recording: Path, tmp_path: Path) -> None:
    place = rewritten(tmp_path, lambda m: m["detection"].update(thresholds={code: 0.0 for code, *_ in LABELS}))
    found = {d.ebird_code for d in labous.load(place).analyze(recording, top_n=99)}
    assert found == {code for code, *_ in LABELS} - set(NOT_BIRDS)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m["detection"].update(not_birds=["dog", "cat"]), "not_birds and labels.csv disagree about cat"),
        (lambda m: m["frontend"].update(n_mels=17), "models.float16.input.shape is [1, 16, 511, 2]"),
        (lambda m: m["frontend"]["channels"].pop(), "the front end gives [1, 16, 511, 1]"),
        (lambda m: m["frontend"].update(kind="law"), "kind is 'law'; it must be power_law"),
        (lambda m: m["frontend"].pop("kind"), "unknown constant"),
        (lambda m: m["frontend"].update(shifts=[0, 0]), "shifts must be"),
        (lambda m: m["frontend"].update(channels=m["frontend"]["channels"] * 50_000), "channels must be 1 to 4"),
        (lambda m: m["frontend"].update(shifts=[*range(100_000)]), "shifts must be"),
        (lambda m: m["frontend"].update(window_seconds=1e300), "fewer than 2147483648"),
        (lambda m: m.update(schema_version=2), "onnx is missing"),
        (lambda m: m["models"]["float32"].update(file="float.tflite"), "float.tflite is not listed"),
    ],
)  # fmt: skip
def test_a_bundle_at_odds_with_itself_is_refused(change: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        labous.load(rewritten(tmp_path, change))
    message = str(caught.value).replace(str(tmp_path), "")
    assert why in message and message.isprintable() and len(message) < 500


def test_the_float16_model_is_the_twins_where_there_is_no_float32(tmp_path: Path) -> None:
    place = law_bundles.write_bundle(tmp_path / "bundle")
    (place / "model.onnx").write_bytes(b"twin")
    values = law_bundles.manifest() | {"onnx": {"file": "model.onnx", "opset": 17}}
    bundles.write_manifest(place, values)
    both = labous.Bundle.read(place)
    assert both.model_files("float32")["onnx"] == b"twin" and "onnx" not in both.model_files("float16")
    del values["models"]["float32"]
    bundles.write_manifest(place, values)
    assert labous.Bundle.read(place).model_files("float16")["onnx"] == b"twin"


@pytest.mark.parametrize("engine", ["tflite_c", "tflite_runtime"])
def test_other_engines_give_the_same(engine: str, places: dict[str, Path], sound: np.ndarray) -> None:
    if why := models.hindrance(engine, {"tflite": b""}):
        pytest.skip(f"{engine} {why}")
    for place in places.values():
        here, there = labous.load(place, engine="litert"), labous.load(place, engine=engine)
        np.testing.assert_allclose(there.predict(sound).logits, here.predict(sound).logits, atol=1e-3)


def test_shapes_that_a_model_takes() -> None:
    assert fits((16, 62), (1, 16, 62, 1)) and fits((16, 62, 1), (1, 16, 62, 1)) and fits((16, 62, 2), (1, 16, 62, 2))
    assert not fits((16, 62), (1, 16, 62, 2)) and not fits((62, 16), (1, 16, 62, 1)) and not fits((), (1, 16, 62, 1))
    assert fits((3, 16, 62, 2), (3, 16, 62, 2)) and not fits((16, 62, 2), (3, 16, 62, 2))
    with pytest.raises(EngineError, match=r"its input is \[16, 61, 2\], and must be \[16, 62, 2\]"):
        as_input(np.zeros((16, 61, 2), np.float32), (1, 16, 62, 2))


def test_a_model_of_one_channel_takes_both_shapes() -> None:
    model = models.open_model(bundles.tflite_model(*bundles.weights(3), 62))
    mel = np.random.default_rng(0).normal(size=(16, 62)).astype(np.float32)
    assert (model.predict(mel) == model.predict(mel[..., np.newaxis])).all()
    assert averaged(model, 1) is model
    mean = Averaged(model, 2).predict(np.stack((mel, -mel))[..., np.newaxis])
    np.testing.assert_allclose(mean, (model.predict(mel) + model.predict(-mel)) / 2, atol=1e-6)
    with pytest.raises(EngineError, match=r"\[16, 62\], and must be \[2, 16, 62\]"):
        Averaged(model, 2).predict(mel)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "labous", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("kind", ["plain", "single", "shifted", "half"])
def test_check_compares_and_times(kind: str, places: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--bundle", str(places[kind])]) == 0
    said = capsys.readouterr().out
    assert said.count(" ok ") == 1 + len(labous.Bundle.read(places[kind]).manifest.models)
    assert "s per hour of audio" in said and "gives the results of owl-test" in said


@pytest.mark.parametrize("array", ["mel", "logits_float16"])
def test_check_tells_what_is_wrong(array: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = law_bundles.write_bundle(tmp_path / "bundle")
    with np.load(place / "golden/golden.npz") as archive:
        golden = dict(archive)
    golden[array] = golden[array][..., ::-1] if array == "mel" else golden[array] + 1  # channels exchanged
    np.savez(place / "golden/golden.npz", **golden)
    bundles.write_manifest(place, law_bundles.manifest())
    assert cli.main(["check", "--bundle", str(place)]) == 1
    said = capsys.readouterr().out
    assert said.count("WRONG") == 1 and "does NOT give" in said


def test_info_shows_the_channels_the_licence_and_what_is_no_bird(
    places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["info", str(places["shifted"])]) == 0
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    for row in (["kind", "power_law"], ["shifts", "0,", "11,", "29"], ["0", "2048", "278", "0", "3000", "0.22952"]):
        assert row in lines
    assert "Made of" in said and "CC BY-NC-SA 4.0" in said and "Not for commercial use." in said
    assert "Species (3)" in said and "Not birds, never detected (2)" in said and "ONNX" not in said


@pytest.mark.parametrize("form", ["table", "jsonl", "csv", "raven", "audacity"])
def test_analyze_writes_every_format(form: str, places: dict[str, Path], recording: Path) -> None:
    done = run("analyze", recording, "--bundle", places["plain"], "--format", form, "--min-score", 0, "--top-n", 9)
    assert done.returncode == 0, done.stderr
    assert "Cuckoo" in done.stdout and "Dog" not in done.stdout and "Human" not in done.stdout
    if form == "jsonl":
        assert len([json.loads(line) for line in done.stdout.splitlines()]) == 9
    if form == "raven":
        assert {tuple(line.split("\t")[5:7]) for line in done.stdout.splitlines()[1:]} == {("0", "15000")}


def test_analyze_takes_float16_and_names_what_is_missing(places: dict[str, Path], recording: Path) -> None:
    assert run("analyze", recording, "--bundle", places["plain"], "--precision", "float16", "-j", 2).returncode == 0
    done = run("analyze", recording, "--bundle", places["plain"], "--precision", "int8")
    assert done.returncode == 1 and "has no int8 model; it has:" in done.stderr


def test_min_score_is_still_checked(places: dict[str, Path], recording: Path) -> None:
    with pytest.raises(LabousError, match="min_score is 1"):
        list(labous.load(places["plain"]).analyze(recording, min_score=1.5))


def test_a_picture_is_drawn_of_sound_of_any_length(places: dict[str, Path], sound: np.ndarray) -> None:
    found = labous.load(places["plain"]).decibels(sound)
    assert found.shape == (16, 1 + (len(sound) - 2048) // 278)
