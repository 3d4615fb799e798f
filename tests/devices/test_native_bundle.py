"""A bundle's libraries in the runtime, on this machine: as Wasmtime and LiteRT have it, or refused."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import labous
from labous import libraries, models
from labous.archive import write_checksums
from labous.errors import BundleError, EngineError, SamplesError
from labous.mel import MelStream, NativeEngine, Output, WasmEngine, compiled
from labous.nodes.wasm import Wasm
from melspec_cpp import boards as machines
from tests.devices import boards
from tests.runtime import audio, bundles
from tests.station import middle
from training import native

HERE = platform.machine()
FRONTEND = bundles.FRONTEND
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        HERE not in machines.MACHINES or sys.platform != "linux", reason="no libraries are built for it"
    ),
]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return boards.write_bundle(tmp_path_factory.mktemp("native") / "bundle", HERE)


@pytest.fixture
def bundle_path(made: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(made, tmp_path / "bundle"))


@pytest.fixture
def without_wasmtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that has no Wasmtime and no engine for .tflite files."""
    monkeypatch.setitem(sys.modules, "wasmtime", None)
    for name in ("litert", "tflite_c", "tflite_runtime"):
        monkeypatch.setattr(models.engine_named(name), "is_installed", lambda: False)


@pytest.mark.usefixtures("without_wasmtime")
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75, 0.123])
def test_every_window_has_the_bits_of_wasmtime(
    overlap: float, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = np.random.default_rng(8).standard_normal(5 * FRONTEND.sample_rate).astype(np.float32) * 0.1
    here = labous.load(bundle_path)
    assert isinstance(here._mel_engine, NativeEngine)
    assert (
        here.mel_library == (f"native/{HERE}/libmelspec.so", here.mel_library[1]) and "wasmtime" in here.mel_library[1]
    )
    assert type(here.model).__module__ == "labous.models.aot"
    found = here.predict(sound, FRONTEND.sample_rate, overlap)
    whole = here.mel(sound)
    monkeypatch.undo()
    there = labous.load(bundle_path, engine="litert")
    assert isinstance(there._mel_engine, WasmEngine)
    assert whole.tobytes() == there.mel(sound).tobytes()
    wanted = there.predict(sound, FRONTEND.sample_rate, overlap)
    np.testing.assert_allclose(found.logits, wanted.logits, rtol=0, atol=1e-5)
    again = labous.load(bundle_path, engine="aot").predict(sound, FRONTEND.sample_rate, overlap)
    assert again.logits.tobytes() == found.logits.tobytes()  # the mel has the same bits, so these have


def test_the_node_computes_only_what_is_new(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = audio.write(tmp_path / "a.wav", audio.noise(6, FRONTEND.sample_rate), FRONTEND.sample_rate)
    wanted = labous.load(bundle_path).mel
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "library")
    context = middle.context(bundle_path, tmp_path)
    given: list[int] = []
    push = MelStream.push
    monkeypatch.setattr(MelStream, "push", lambda self, x: given.append(len(x)) or push(self, x))
    records = middle.through([Wasm().open(context)], list(middle.of_file(path, 0.75)))
    assert len(records) > 15 and min(given) == FRONTEND.window_samples // 4
    for record in records:
        assert record.columns["mel"].tobytes() == wanted(record.columns["audio"]).tobytes()


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_streams_of_any_chunks_have_the_bits_of_wasmtime(made: Path, data: st.DataObject) -> None:
    frontend = dataclasses.replace(
        FRONTEND,
        hop_length=data.draw(st.sampled_from([125, 250, 400])),
        center=data.draw(st.booleans()),
        n_mels=data.draw(st.integers(4, 24)),
        top_db=data.draw(st.sampled_from([None, 60.0])),
        window_seconds=data.draw(st.sampled_from([0.1, 0.25])),
    )
    step = data.draw(st.integers(100, 2 * frontend.window_samples))
    output = data.draw(st.sampled_from(Output))
    samples = np.random.default_rng(data.draw(st.integers(0, 99))).standard_normal(9000).astype(np.float32)
    cuts = sorted(data.draw(st.lists(st.integers(0, samples.size), max_size=8)))
    file = f"native/{HERE}/libmelspec.so"
    engines = NativeEngine(file, (made / file).read_bytes()), WasmEngine()
    found = [
        [window.tobytes() for chunk in np.split(samples, cuts) for window in stream.push(chunk)]
        for stream in (MelStream(frontend, step, engine, output) for engine in engines)
    ]
    assert found[0] == found[1] and len(found[0]) >= 1


@pytest.mark.usefixtures("without_wasmtime")
def test_a_bad_sample_is_told_and_nothing_is_lost(bundle_path: Path) -> None:
    bundle = labous.load(bundle_path)
    bad = np.zeros(FRONTEND.window_samples, np.float32)
    bad[7] = np.nan
    with pytest.raises(SamplesError, match="Sample 7 "):
        bundle.mel(bad)
    assert np.isfinite(bundle.mel(np.zeros_like(bad))).all()


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    told = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    edit(told["native"][HERE])
    bundles.write_manifest(bundle, told)


@pytest.mark.parametrize("part", ["mel", "model"])
def test_a_library_of_another_file_is_refused(part: str, bundle_path: Path) -> None:
    change(bundle_path, lambda told: told[part].update(source="0" * 64))
    with pytest.raises(BundleError, match=r"was not made from its (melspec\.wasm|model\.tflite); export"):
        labous.load(bundle_path)


def test_what_is_not_listed_is_refused(bundle_path: Path) -> None:
    change(bundle_path, lambda told: told["mel"].update(file="native/libother.so"))
    with pytest.raises(BundleError, match=r"native/libother\.so is not listed in SHA256SUMS"):
        labous.load(bundle_path)
    change(bundle_path, lambda told: told["mel"].pop("file"))
    with pytest.raises(BundleError, match=rf"native\.{HERE}\.mel\.file is missing"):
        labous.load(bundle_path)


def test_the_model_itself_says_what_it_was_made_from(bundle_path: Path) -> None:
    """Even where the manifest is wrong: here it names the int8 file's sha256, and the shape of another model."""
    bundle = labous.Bundle.read(bundle_path)
    library = bundle.model_files("float32")["library"]
    engine = models.engine_named("aot")
    with pytest.raises(EngineError, match=r"libmodel\.so was made from another \.tflite file"):
        engine.open_model(library._replace(source="0" * 64), 1)
    with pytest.raises(EngineError, match=r"takes \d+ floats and gives 4, and the manifest says"):
        engine.open_model(library._replace(input_shape=(1, 16, 61, 1)), 1)
    mel = bundle.files[bundle.native.mel.file]
    with pytest.raises(EngineError, match=r"lacks labous_model_abi_version; it is no model"):
        engine.open_model(library._replace(content=mel), 1)
    with pytest.raises(EngineError, match=r"lacks melspec_abi_version; it is not a libmelspec"):
        NativeEngine("libmodel.so", library.content)
    with pytest.raises(EngineError, match=r"The model failed to run: its input is \[16, 61\]"):
        engine.open_model(library, 1).predict(np.zeros((16, 61), np.float32))


def test_logits_that_are_not_finite_are_refused(bundle_path: Path) -> None:
    model = models.open_model(labous.Bundle.read(bundle_path).model_files("float32"), "aot")
    with pytest.raises(EngineError, match="not finite"):
        model.predict(np.full(model.input_shape[1:3], np.inf, np.float32))


@pytest.mark.parametrize("way", ["memfd", "file"])
def test_libraries_are_loaded_from_their_bytes(way: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two with nothing in common but how they were loaded, each again; where memory has no name, from a file."""
    monkeypatch.setattr(libraries, "_handles", {})
    if way == "file":
        monkeypatch.delattr(os, "memfd_create")
    contents = [(made / f"native/{HERE}/{name}").read_bytes() for name in ("libmelspec.so", "libmodel.so")]
    for _ in range(2):
        mel, model = (libraries.load(content, "x") for content in contents)
        assert mel.melspec_abi_version() == 1 and model.labous_model_abi_version() == 1
        assert not hasattr(mel, "labous_model_abi_version") and not hasattr(model, "melspec_abi_version")
    assert len(libraries._handles) == 2


def test_check_says_what_runs_and_why(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], without_wasmtime: None
) -> None:
    assert labous_command("check", "--bundle", bundle_path) == 0
    said = capsys.readouterr().out
    print(said)
    assert f"mel module     native/{HERE}/libmelspec.so in its place: Wasmtime cannot be imported" in said
    assert "float32 model  the bundle's own library (aot), the first that can" in said
    assert "not litert: it is not installed" in said
    assert "int8 model     not run" in said
    assert "mel module     ok     largest difference 0, " in said
    assert labous_command("info", bundle_path) == 0
    assert f"for {HERE}" in capsys.readouterr().out
    # another's model in a library that says otherwise is not what the bundle's golden vectors are
    (bundle_path / "model.tflite").write_bytes(bundles.tflite_model(*bundles.weights(5), FRONTEND.n_frames))
    write_checksums(bundle_path)
    assert labous_command("check", "--bundle", bundle_path) == 1


def labous_command(*arguments: object) -> int:
    from labous.cli import main

    return main([str(argument) for argument in arguments])


def test_a_build_gives_the_same_bytes_again(made: Path, tmp_path: Path) -> None:
    wasm, tflite = ((made / name).read_bytes() for name in ("melspec.wasm", "model.tflite"))
    native.build(HERE, wasm, tflite, tmp_path / "elsewhere")
    for name in (native.MEL, native.MODEL):
        assert (tmp_path / f"elsewhere/native/{HERE}/{name}").read_bytes() == (
            made / f"native/{HERE}/{name}"
        ).read_bytes()
