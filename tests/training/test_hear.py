"""hear.wasm: a whole bundle in one module gives what the wheel gives, in Wasmtime, in Node and in Rust."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wasmtime
from tflite_graphs import litert

from labous import Bundle
from labous.errors import LabousError
from labous.mel import MelSpectrogram
from melspec_cpp import build as mel_build
from tests import crates
from tests.runtime import bundles
from tests.training import listening
from training.aot import __main__ as command
from training.aot.build import HERE
from training.aot.errors import AotError
from training.aot.graph import read_graph
from training.aot.hearing import build_hear, float32_model
from training.aot.lower import lower
from training.aot.tell import tell

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "outputs" / "bundle"
EXAMPLES = HERE / "examples"
NOT_OPENED, NOT_FINITE = -19, -24


class Module:
    """hear.wasm in Wasmtime."""

    def __init__(self, path: Path) -> None:
        self.store = wasmtime.Store()
        self.module = wasmtime.Module.from_file(self.store.engine, str(path))
        self.exports = wasmtime.Instance(self.store, self.module, []).exports(self.store)
        memory = self.exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self.memory = memory

    def call(self, name: str, *arguments: int) -> int:
        function = self.exports[f"labous_hear{name}"]
        assert isinstance(function, wasmtime.Func)
        return function(self.store, *arguments)

    def text(self, address: int) -> str | None:
        read = self.memory.read(self.store, address, address + 200)
        return bytes(read).partition(b"\0")[0].decode() if address else None

    def floats(self, name: str, count: int) -> np.ndarray:
        at = self.call(name)
        return np.frombuffer(self.memory.read(self.store, at, at + 4 * count), np.float32)

    def hear(self, samples: np.ndarray) -> int:
        self.memory.write(self.store, samples.astype("<f4").tobytes(), self.call("_samples"))
        return self.call("")

    def logits(self) -> np.ndarray:
        return self.floats("_logits", self.call("_labels"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return listening.litert(listening.write_bundle(tmp_path_factory.mktemp("hear") / "bundle", neighbor_weight=0.0))


@pytest.fixture(scope="module")
def path(bundle: Bundle) -> Path:
    place = bundle.path.parent / "hear.wasm"
    build_hear(bundle, place)
    return place


@pytest.fixture
def module(path: Path) -> Module:
    loaded = Module(path)
    assert loaded.call("_open") == 0
    return loaded


def test_nothing_but_the_interface(path: Path) -> None:
    loaded = Module(path)
    assert loaded.module.imports == []
    header = (HERE / "include" / "labous_hear.h").read_text(encoding="ascii")
    functions = re.findall(r"^LABOUS_HEAR_API\((\w+)\)", header, re.MULTILINE)
    assert len(functions) == 21
    assert {export.name for export in loaded.module.exports} == {"memory", *functions}


def test_what_it_says_about_itself(module: Module, bundle: Bundle) -> None:
    frontend, detection = bundle.frontend, bundle.manifest.detection
    assert module.call("_abi_version") == 1
    assert module.text(module.call("_name")) == "labous-test" and module.text(module.call("_version")) == "0.1.0"
    assert module.call("_synthetic") == 0
    assert module.call("_sample_rate") == frontend.sample_rate
    assert module.call("_window_samples") == frontend.window_samples
    assert module.call("_tail_samples") == frontend.n_fft
    assert module.call("_neighbor_weight") == detection.neighbor_weight
    assert module.call("_labels") == len(bundle.labels)
    for i, label in enumerate(bundle.labels):
        assert tuple(module.text(module.call("_label", i, column)) for column in range(4)) == dataclasses.astuple(label)
        calibration = detection.calibration[label.ebird_code]
        assert module.call("_scale", i) == np.float32(calibration.scale)
        assert module.call("_offset", i) == np.float32(calibration.offset)
        assert module.call("_threshold", i) == np.float32(detection.thresholds[label.ebird_code])
    for i, column in ((-1, 0), (len(bundle.labels), 0), (0, -1), (0, 4), (2**31 - 1, 3)):
        assert module.call("_label", i, column) == 0
    assert all(np.isnan(module.call(name, -1)) for name in ("_scale", "_offset", "_threshold"))


def check_golden(module: Module, bundle: Bundle) -> None:
    """Mel bit for bit what melspec.wasm gives, logits within 1e-5 of LiteRT's, computed now."""
    golden = np.load(bundle.path / "golden" / "golden.npz")
    mel, n_values = MelSpectrogram(bundle.frontend), bundle.frontend.n_mels * bundle.frontend.n_frames
    seen = []
    for window in golden["samples"].astype(np.float32) / 32768:
        assert module.hear(window) == 0
        expected = mel(window)
        assert module.floats("_mel", n_values).tobytes() == expected.tobytes()
        logits = litert(float32_model(bundle), expected).ravel()
        np.testing.assert_allclose(module.logits(), logits, rtol=0, atol=listening.TOLERANCE)
        seen.append(logits)
    assert np.ptp(np.stack(seen), axis=0).max() > 0.01
    np.testing.assert_allclose(np.stack(seen), golden["logits_float32"], rtol=0, atol=listening.TOLERANCE)


def test_golden_windows(module: Module, bundle: Bundle) -> None:
    check_golden(module, bundle)


@pytest.mark.slow
def test_the_demo_bundle_on_its_golden_windows(tmp_path: Path) -> None:
    if not DEMO.is_dir():
        pytest.skip("hear.wasm of a real model is not tested: there is no bundle in outputs; run make train")
    bundle = listening.litert(DEMO)
    build_hear(bundle, tmp_path / "hear.wasm")
    module = Module(tmp_path / "hear.wasm")
    assert module.call("_open") == 0 and module.call("_synthetic") == int(bundle.synthetic)
    check_golden(module, bundle)


def test_the_memory_does_not_grow_after_open(path: Path) -> None:
    module = Module(path)
    assert module.call("_open") == 0
    opened = module.memory.data_len(module.store)
    for seed in range(3):
        assert module.call("_open") == 0
        assert module.hear(listening.sound(listening.WINDOW, seed=seed)) == 0
    assert module.memory.data_len(module.store) == opened


def test_refusals(path: Path) -> None:
    module, good = Module(path), listening.sound(listening.WINDOW).ravel()
    assert module.hear(good) == NOT_OPENED and "plan" in str(module.text(module.call("_message", NOT_OPENED)))
    assert module.call("_open") == 0 and module.hear(good) == 0
    before = module.logits().tobytes()
    for at, value in ((0, np.nan), (777, np.inf), (listening.WINDOW - 1, -np.inf)):
        bad = good.copy()
        bad[at] = value
        assert module.hear(bad) == NOT_FINITE and module.call("_bad_sample") == at
        assert module.text(module.call("_message", NOT_FINITE)) == "a sample is NaN or infinite"
        assert module.logits().tobytes() == before
    assert module.hear(good) == 0 and module.logits().tobytes() == before


def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, **{"timeout": 60, **options}
    )


def host(language: str) -> list[object]:
    """How a host is started."""
    if language == "python":
        return [sys.executable, EXAMPLES / "hear.py"]
    if language == "node":
        if shutil.which("node") is None:
            crates.unavailable("NODE", "hear.wasm in Node is not tested: node is not installed")
        return ["node", EXAMPLES / "hear.mjs"]
    return [crates.program(EXAMPLES / "rust", "hear-example")]


@pytest.mark.parametrize("language", ["python", "node", pytest.param("rust", marks=pytest.mark.slow)])
def test_hosts(language: str, path: Path, bundle: Bundle, tmp_path: Path) -> None:
    """The examples of docs/hear.md say what the wheel says of whole windows; a refusal is the module's sentence."""
    start, samples = host(language), listening.sound(5 * listening.WINDOW + 100).ravel()
    samples.tofile(tmp_path / "samples.f32")
    done = run(*start, path, tmp_path / "samples.f32")
    assert done.returncode == 0, done.stderr
    said = {(float(at), code): float(score) for at, code, score in map(str.split, done.stdout.splitlines())}
    predictions = bundle.predict(samples)
    thresholds = [np.float32(bundle.manifest.detection.thresholds[label.ebird_code]) for label in bundle.labels]
    expected = {
        (float(start), label.ebird_code): float(score)
        for start, row in zip(predictions.starts, predictions.probabilities, strict=True)
        for label, score, threshold in zip(bundle.labels, row, thresholds, strict=True)
        if score >= threshold
    }
    assert said == pytest.approx(expected, abs=2e-5) and 5 < len(said) < 20
    samples[listening.WINDOW + 5] = np.nan
    samples.tofile(tmp_path / "samples.f32")
    done = run(*start, path, tmp_path / "samples.f32")
    assert done.returncode != 0 and "a sample is NaN or infinite (-24)" in done.stderr


@pytest.mark.slow
def test_the_same_bytes_from_a_second_build(
    path: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a copy of the bundle in another folder, by a compiler that remembers nothing."""
    for variable in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "zig"))
    monkeypatch.setattr("melspec_cpp.build.environment", lambda: None)
    again = Bundle.read(shutil.copytree(bundle.path, tmp_path / "other"))
    build_hear(again, tmp_path / "again" / "hear.wasm")
    assert (tmp_path / "zig").is_dir()
    assert (tmp_path / "again" / "hear.wasm").read_bytes() == path.read_bytes()


def test_the_command(bundle: Bundle, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(bundle.path), "--out", str(tmp_path), "hear"]) == 0
    assert (tmp_path / "hear.wasm").read_bytes() == path.read_bytes()
    said = capsys.readouterr().out.split()
    assert said[0] == "hear.wasm" and len(said[-1]) == 64
    model = bundle.path / "model.tflite"
    with pytest.raises(SystemExit, match="2"):
        command.main([str(model), "--out", str(tmp_path / "none"), "hear", "labous-armv7l"])
    assert f"hear, labous-armv7l is made of a bundle; {model} is a file" in capsys.readouterr().err
    damaged = shutil.copytree(bundle.path, tmp_path / "damaged")
    (damaged / "labels.csv").write_text("no table", encoding="utf-8")
    assert command.main([str(damaged), "--out", str(tmp_path / "none"), "hear"]) == 1
    said_wrong = capsys.readouterr().err
    assert "labels.csv" in said_wrong and said_wrong.count("\n") == 1 and not (tmp_path / "none").exists()


def test_a_bundle_at_odds_with_its_model_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    program = lower(read_graph(bundles.tflite_model(*bundles.weights(0), bundles.FRONTEND.n_frames + 1)), 4)
    with pytest.raises(AotError, match=r"The model takes 1008 values and gives 4; .* gives 992 for 4 labels"):
        tell(bundle, program)
    newer = Bundle.read(bundle.path)
    mel = dataclasses.replace(newer.manifest.mel, abi_version=2)
    newer.manifest = dataclasses.replace(newer.manifest, mel=mel)
    with pytest.raises(AotError, match="ABI version 2 and the one here 1"):
        build_hear(newer, tmp_path / "hear.wasm")
    newer.manifest = dataclasses.replace(newer.manifest, models={"int8": newer.manifest.models["int8"]})
    with pytest.raises(LabousError, match="has no float32 model"):
        build_hear(newer, tmp_path / "hear.wasm")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_build_leaves_the_old_file(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hear.wasm").write_bytes(b"old")
    monkeypatch.setattr(mel_build, "COMMON", ("-no-such-flag",))
    with pytest.raises(AotError, match=r"Compiling .*hear\.wasm.* failed"):
        build_hear(bundle, tmp_path / "hear.wasm")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
