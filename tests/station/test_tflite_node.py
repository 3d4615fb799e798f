"""tflite: the bundle's model, and models of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from labous import models
from labous.errors import EngineError, NodeError
from labous.nodes import Context
from labous.nodes.tflite import Tflite
from labous.nodes.wasm import Wasm
from labous.options import Refused
from tests.runtime import audio, bundles
from tests.station import middle
from tests.station.middle import RATE


@pytest.fixture
def context(bundle_path: Path, tmp_path: Path) -> Context:
    return middle.context(bundle_path, tmp_path)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_bundles_model_says_what_the_bundle_predicts(
    precision: str, bundle_path: Path, wav: Path, tmp_path: Path
) -> None:
    context = middle.context(bundle_path, tmp_path, precision=precision)
    nodes = [Wasm().open(context), Tflite(top_n=2).open(context)]
    found = [record.columns["predictions"] for record in middle.through(nodes, middle.of_file(wav, 0.5), str(wav))]
    expected = context.bundle.predict(wav, overlap=0.5)
    np.testing.assert_array_equal([one.logits for one in found], expected.logits)
    told = found[0].classifier
    assert (told.labels, told.top_n, told.name) == (context.bundle.labels, 2, "labous-test 0.1.0")
    np.testing.assert_array_equal(told.thresholds, np.full(4, 0.5, np.float32))


def test_a_model_of_ones_own_with_labels_of_its_own(context: Context, tmp_path: Path) -> None:
    weights = np.eye(2, bundles.FRONTEND.n_mels, dtype=np.float32)
    content = bundles.tflite_model(weights, np.zeros(2, np.float32), bundles.FRONTEND.n_frames)
    (tmp_path / "own.tflite").write_bytes(content)
    header = "ebird_code,scientific_name,common_name,french_name\n"
    (tmp_path / "own.csv").write_text(f"{header}human,Homo sapiens,Human,Humain\ndog,Canis lupus,Dog,Chien\n")
    node = Tflite(model="own.tflite", labels="own.csv").open(context)
    mel = np.random.default_rng(0).normal(0, 1, (16, bundles.FRONTEND.n_frames)).astype(np.float32)
    (record,) = middle.through([node], [middle.at(0, mel=mel)])
    told = record.columns["predictions"]
    np.testing.assert_allclose(told.logits, mel.mean(axis=1)[:2], atol=1e-6)
    assert [label.common_name for label in told.classifier.labels] == ["Human", "Dog"]
    assert told.classifier.thresholds is None
    assert told.classifier.name == "own.tflite"
    with pytest.raises(NodeError, match="gives 2 logits and there are 4 labels"):
        Tflite(model="own.tflite").open(context)
    (tmp_path / "own.csv").write_text("human\n")
    with pytest.raises(NodeError, match=r"its first line must be .*; mend the table"):
        Tflite(model="own.tflite", labels="own.csv").open(context)


def test_what_cannot_be_is_told_in_a_sentence(context: Context, tmp_path: Path) -> None:
    (tmp_path / "text.tflite").write_text("nothing")
    with pytest.raises(NodeError, match="cannot be read"):
        Tflite(model="missing.tflite").open(context)
    with pytest.raises(EngineError, match=r"tflite: 'text\.tflite'"):
        Tflite(model="text.tflite").open(context)
    with pytest.raises(Refused, match="goes with a model"):
        Tflite(labels="own.csv")
    node = Tflite(input="audio").open(context)
    with pytest.raises(NodeError, match=r"takes \[16, 62\] and the column audio has \[16000\]"):
        middle.through([node], [middle.at(0, audio=audio.noise(1, RATE)[:, 0])])


def test_the_engine_is_the_stations_unless_the_node_names_one(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def spy(kinds: Mapping[str, object], name: str | None = None) -> str:
        asked.append(name)
        return "litert"

    monkeypatch.setattr("labous.bundle.choose_engine", spy)
    Tflite().open(middle.context(bundle_path, tmp_path))
    Tflite().open(middle.context(bundle_path, tmp_path, engine="litert"))
    Tflite(engine="tflite_runtime").open(middle.context(bundle_path, tmp_path, engine="litert"))
    assert asked == [None, "litert", "tflite_runtime"]


def test_an_engine_that_is_not_installed_is_named_with_its_extra(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in models.ENGINES:
        monkeypatch.setattr(models.engine_named(name), "is_installed", lambda: False)
    with pytest.raises(EngineError, match=r"pip install 'labous\[litert\]'"):
        Tflite().open(context)
