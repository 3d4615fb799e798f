"""A bundle in use: consistent or refused, and the same answers whichever way it is asked."""

from __future__ import annotations

import copy
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

import labous
from labous import models
from labous.archive import write_checksums
from labous.errors import BundleError, EngineError
from labous.mel import wasm
from labous.recordings import windows
from tests.runtime import audio, bundles

LIGHT = "import sys, labous, labous.cli; print(sorted({m.split('.')[0] for m in sys.modules}))"


def change_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((path / "manifest.json").read_text())
    change(values)
    bundles.write_manifest(path, values)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(labous.BundleError) as caught:
        labous.load(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_every_way_of_asking_gives_the_same_answer(
    precision: str, bundle_path: Path, zip_path: Path, wav: Path
) -> None:
    bundle = labous.load(bundle_path, precision)
    frontend = bundle.frontend
    predictions = bundle.predict(wav)
    samples, rate = soundfile.read(wav, dtype="float32")
    resampled = soxr.resample(samples.mean(axis=1), rate, frontend.sample_rate, quality="HQ")

    # by hand: mel, then the model's arithmetic
    weights, bias = bundles.weights(["float32", "int8"].index(precision))
    mel = labous.MelSpectrogram(frontend)
    expected = [weights @ mel(w.samples).mean(axis=1) + bias for w in windows([resampled], frontend)]
    np.testing.assert_allclose(predictions.logits, expected, atol=1e-4)
    np.testing.assert_array_equal(predictions.starts, [0, 1, 2, 2.5])
    np.testing.assert_array_equal(predictions.ends, [1, 2, 3, 3.5])

    for again in (
        bundle.predict(samples, rate),
        bundle.predict(samples.astype(np.float64), rate),
        bundle.predict(resampled),
        labous.load(zip_path, precision).predict(str(wav)),
    ):
        np.testing.assert_array_equal(again.logits, predictions.logits)

    found = list(bundle.analyze(wav, top_n=4, min_score=0.0))
    assert len(found) == 4 * 4
    for i, detection in enumerate(found):
        label = [code for code, *_ in bundles.LABELS].index(detection.ebird_code)
        assert detection.score == pytest.approx(predictions.probabilities[i // 4, label], abs=1e-7)
        assert (detection.start, detection.end) == (predictions.starts[i // 4], predictions.ends[i // 4])
        assert detection.recording == str(wav)


def test_thresholds_come_from_the_bundle_unless_overridden(bundle_path: Path, wav: Path) -> None:
    change_manifest(bundle_path, lambda m: m["detection"]["thresholds"].update(hergul=1.0, comcuc=0.0))
    bundle = labous.load(bundle_path)
    found = {d.ebird_code for d in bundle.analyze(wav, top_n=4)}
    assert "comcuc" in found
    assert "hergul" not in found
    assert {d.ebird_code for d in bundle.analyze(wav, top_n=4, min_score=0.0)} == {code for code, *_ in bundles.LABELS}
    best = list(bundle.analyze(wav, top_n=1, min_score=0.0))
    assert len(best) == 4


def _calibrate(values: dict[str, Any]) -> None:
    for i, (code, *_) in enumerate(bundles.LABELS):
        values["detection"]["calibration"][code].update(scale=0.5 + i / 2, offset=i - 1.5)
    values["detection"]["smoothing"]["neighbor_weight"] = 0.25


def test_probabilities_are_smoothed_and_calibrated_wherever_they_come_out(bundle_path: Path, wav: Path) -> None:
    plain = labous.load(bundle_path).predict(wav)
    change_manifest(bundle_path, _calibrate)
    bundle = labous.load(bundle_path)
    found = bundle.predict(wav)
    np.testing.assert_array_equal(found.logits, plain.logits)  # as the model gave them
    z = plain.logits.astype(float)
    smooth = np.stack(
        [
            (0.5 * z[0] + 0.25 * z[1]) / 0.75,
            *(0.25 * z[i - 1] + 0.5 * z[i] + 0.25 * z[i + 1] for i in (1, 2)),
            (0.5 * z[3] + 0.25 * z[2]) / 0.75,
        ]
    )
    expected = 1 / (1 + np.exp(-([0.5, 1, 1.5, 2] * smooth + [-1.5, -0.5, 0.5, 1.5])))
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
    listed = list(bundle.analyze(wav, top_n=4, min_score=0.0))
    codes = [code for code, *_ in bundles.LABELS]
    assert [d.start for d in listed] == [start for start in found.starts for _ in codes]
    for i, detection in enumerate(listed):
        score = found.probabilities[i // 4, codes.index(detection.ebird_code)]
        assert detection.score == score  # to the last bit, whichever way it is asked


def test_thresholds_apply_to_calibrated_probabilities(bundle_path: Path, wav: Path) -> None:
    change_manifest(bundle_path, lambda m: m["detection"]["calibration"]["hergul"].update(offset=900))
    found = list(labous.load(bundle_path).analyze(wav, top_n=4))
    assert [d.score for d in found if d.ebird_code == "hergul"] == [1.0] * 4
    change_manifest(bundle_path, lambda m: m["detection"]["calibration"]["hergul"].update(offset=-900))
    assert "hergul" not in {d.ebird_code for d in labous.load(bundle_path).analyze(wav, top_n=4)}


def test_a_bundle_of_the_first_schema_gives_plain_sigmoids(bundle_path: Path, wav: Path) -> None:
    def first(values: dict[str, Any]) -> None:
        _calibrate(values)
        values["schema_version"] = 1
        values["detection"] = {"thresholds": values["detection"]["thresholds"]}

    change_manifest(bundle_path, first)
    found = labous.load(bundle_path).predict(wav)
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-found.logits.astype(float))), rtol=1e-6)


def test_a_recording_shorter_than_a_window(bundle_path: Path, tmp_path: Path) -> None:
    bundle = labous.load(bundle_path)
    samples = audio.noise(0.3, 16_000)
    found = list(bundle.analyze(audio.write(tmp_path / "s.wav", samples, 16_000, "FLOAT"), min_score=0.0))
    assert {(d.start, d.end) for d in found} == {(0.0, 0.3)}
    padded = np.pad(samples[:, 0], (0, 11_200))
    np.testing.assert_array_equal(bundle.predict(samples).logits, bundle.predict(padded).logits)
    nothing = bundle.predict(np.ones(1, np.float32), 96_000)  # not one sample at the front end's rate
    assert nothing.probabilities.shape == (0, 4)


@pytest.mark.parametrize("options", [{"top_n": 0}, {"min_score": 1.1}, {"min_score": float("nan")}, {"overlap": 1.0}])
def test_options_that_cannot_be(options: dict[str, Any], bundle_path: Path, wav: Path) -> None:
    with pytest.raises(labous.LabousError, match=next(iter(options))):
        list(labous.load(bundle_path).analyze(wav, **options))


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (np.zeros(0, np.float32), "give floats"),
        (np.zeros(100, np.int16), "give floats"),
        (np.zeros((1, 2, 3), np.float32), "give floats"),
        (np.array([0, 0, np.nan], np.float32), "Sample 2 is not finite"),
        (np.full((20, 2), np.inf), "Sample 0 is not finite"),
    ],
)
def test_samples_that_cannot_be(samples: np.ndarray, why: str, bundle_path: Path) -> None:
    with pytest.raises(labous.SamplesError, match=why):
        labous.load(bundle_path).predict(samples)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m["models"]["float32"]["input"].update(shape=[1, 16, 63, 1]), "models.float32.input.shape"),
        (lambda m: m["models"]["int8"]["output"].update(shape=[1, 5]), "models.int8.output.shape"),
        (lambda m: m["frontend"].update(n_mels=17), "shape"),
        (lambda m: m["models"]["float32"]["input"].update(dtype="int8"), "input of model.tflite is float32"),
        (lambda m: m["mel"].update(abi_version=2), "melspec.wasm has ABI version 1"),
        (lambda m: m["detection"]["thresholds"].pop("comcuc"), "comcuc"),
        (lambda m: m["detection"]["thresholds"].update(x=0.5), "disagree about x"),
        (lambda m: m.update(labels="species.csv"), "species.csv is not listed"),
        (lambda m: m["mel"].update(file="../melspec.wasm"), "../melspec.wasm is not listed"),
        (lambda m: m["models"].clear(), "has no model"),
        (
            lambda m: m["detection"]["calibration"].pop("comcuc"),
            "detection.calibration and labels.csv disagree about comcuc",
        ),
        (lambda m: m["detection"]["calibration"].update(x={"scale": 1, "offset": 0}), "disagree about x"),
        (lambda m: m.update(schema_version=4), "schema version 4"),
    ],
)
def test_a_bundle_at_odds_with_itself_is_refused(change: Callable[[Any], object], why: str, bundle_path: Path) -> None:
    change_manifest(bundle_path, change)
    assert why in refusal(bundle_path)


def test_a_precision_that_a_bundle_lacks_is_refused_only_where_it_is_asked_for(bundle_path: Path) -> None:
    change_manifest(bundle_path, lambda m: m["models"].pop("float32"))
    with pytest.raises(BundleError, match="has no float32 model; it has: int8"):
        labous.load(bundle_path, "float32")
    assert labous.load(bundle_path).precision == "int8"


@pytest.mark.parametrize("name", ["manifest.json", "metrics.json", "MODEL_CARD.md", "model.onnx", "golden/golden.npz"])
def test_an_incomplete_bundle_is_refused(name: str, bundle_path: Path) -> None:
    (bundle_path / name).unlink()
    write_checksums(bundle_path)
    assert f"{name} is not listed" in refusal(bundle_path)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ("", "first line"),
        ("code,name\n", "first line"),
        ("ebird_code,scientific_name,common_name,french_name\n", "no label"),
        ("ebird_code,scientific_name,common_name,french_name\na,b,c\n", "line 2"),
        ("ebird_code,scientific_name,common_name,french_name\na,b,c,\x1b[2J\n", "line 2"),
        ("ebird_code,scientific_name,common_name,french_name\na,b,c,d\na,b,c,d\n", "twice"),
        ('ebird_code,scientific_name,common_name,french_name\n"a,b,c,d\n', "not a UTF-8 table"),
        ("ebird_code,scientific_name,common_name,french_name\n\udcff,b,c,d\n", "not a UTF-8 table"),
    ],
)
def test_bad_labels_are_refused(labels: str, why: str, bundle_path: Path) -> None:
    (bundle_path / "labels.csv").write_bytes(labels.encode("utf-8", "surrogateescape"))
    write_checksums(bundle_path)
    assert why in refusal(bundle_path)


def test_a_model_of_another_shape_is_refused(bundle_path: Path) -> None:
    (bundle_path / "model.tflite").write_bytes(bundles.tflite_model(*bundles.weights(0), n_frames=61))
    write_checksums(bundle_path)
    assert "input of model.tflite is float32 [1, 16, 61, 1]" in refusal(bundle_path)
    assert labous.load(bundle_path, "int8").labels[0].ebird_code == "eurrob1"


@pytest.mark.parametrize("name", ["model.tflite", "melspec.wasm"])
def test_what_an_engine_refuses_is_named(name: str, bundle_path: Path) -> None:
    (bundle_path / name).write_bytes(b"something else")
    write_checksums(bundle_path)
    with pytest.raises(labous.EngineError, match=name):
        labous.load(bundle_path)


def test_the_bundles_own_mel_module_is_used(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_packaged_module() -> bytes:
        raise AssertionError("the packaged module was asked for")

    monkeypatch.setattr(wasm, "packaged_module", no_packaged_module)
    labous.load(bundle_path).mel.power(np.ones(600, np.float32))


def test_a_synthetic_bundle_says_so_every_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = bundles.write_bundle(tmp_path / "s", synthetic=True)
    for _ in range(2):
        caplog.clear()
        assert labous.load(path).synthetic
        assert [(r.name, r.levelno) for r in caplog.records] == [("labous", logging.WARNING)]
        assert "synthetic sound (test)" in caplog.text


def test_a_real_bundle_says_nothing(bundle_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not labous.load(bundle_path).synthetic
    assert caplog.records == []


def test_reading_needs_no_engine(bundle_path: Path) -> None:
    (bundle_path / "model.tflite").write_bytes(b"something else")
    write_checksums(bundle_path)
    bundle = labous.Bundle.read(bundle_path)
    assert len(bundle.labels) == 4
    assert bundle.with_precision("int8").model.n_labels == 4


def test_importing_labous_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    for package in ("numpy", "wasmtime", "soundfile", "soxr", "ai_edge_litert", "tensorflow", "librosa"):
        assert f"'{package}'" not in done.stdout


def test_the_public_names_are_all_there() -> None:
    assert {name for name in labous.__all__ if getattr(labous, name) is None} == set()
    assert set(dir(labous)) == set(labous.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        labous.nothing  # noqa: B018


def test_a_manifest_is_not_changed_by_reading(bundle_path: Path) -> None:
    before = json.loads((bundle_path / "manifest.json").read_text())
    after = copy.deepcopy(before)
    labous.load(bundle_path)
    assert json.loads((bundle_path / "manifest.json").read_text()) == after


@pytest.mark.parametrize("overlap", [0.1, 0.5, 0.75, 0.123])
@pytest.mark.parametrize("seconds", [0.6, 1.0, 3.21, 4.0])
def test_overlapping_windows_are_as_if_each_were_alone(overlap: float, seconds: float, bundle_path: Path) -> None:
    bundle = labous.load(bundle_path)
    rate = bundle.frontend.sample_rate
    samples = np.random.default_rng(8).standard_normal(int(seconds * rate)).astype(np.float32) * 0.1
    found = list(windows([samples], bundle.frontend, overlap))
    alone = [bundle.model.predict(bundle.mel(window.samples)) for window in found]
    predicted = bundle.predict(samples, rate, overlap)
    assert predicted.logits.tobytes() == np.stack(alone).tobytes()
    assert predicted.starts.tolist() == [window.start / rate for window in found]


@pytest.mark.parametrize(("engine", "file"), [("onnxruntime", "model.onnx"), ("litert", "model.tflite")])
def test_a_model_that_its_engine_refuses_is_named(engine: str, file: str, tmp_path: Path) -> None:
    place = bundles.write_bundle(tmp_path / "bundle")
    (place / file).write_bytes(b"no model")
    write_checksums(place)
    with pytest.raises(EngineError, match=rf"^{re.escape(file)}: .*refuses the model"):
        _ = labous.load(place, engine=engine).model


def test_the_next_engine_is_named_where_the_first_refuses(tmp_path: Path) -> None:
    place = bundles.write_bundle(tmp_path / "bundle")
    (place / "model.tflite").write_bytes(b"no model")
    write_checksums(place)
    with pytest.raises(EngineError, match=r"refuses the model.*; onnxruntime may run it: --engine onnxruntime$"):
        _ = labous.load(place).model
    with pytest.raises(EngineError, match=r"refuses the model(?!.*may run it)"):
        _ = labous.load(place, engine="litert").model


def test_no_other_engine_is_loaded_where_the_first_does(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    hindrance = models.hindrance
    monkeypatch.setattr(models, "hindrance", lambda name, kinds: asked.append(name) or hindrance(name, kinds))
    assert labous.load(bundle_path).model.n_labels > 0
    assert asked == ["litert"]
