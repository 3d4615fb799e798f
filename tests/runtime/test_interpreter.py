"""Models behind an interpreter: tensors are read, not assumed."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from labous import models
from labous.errors import EngineError
from tests.runtime import bundles


def refused(content: bytes) -> str:
    with pytest.raises(EngineError) as caught:
        models.open_model(content, "litert")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_float32_predictions() -> None:
    weights, bias = bundles.weights(3)
    model = models.open_model(bundles.tflite_model(weights, bias, 62))
    assert (model.input_shape, model.input_dtype) == ((1, 16, 62, 1), "float32")
    assert (model.output_shape, model.output_dtype, model.n_labels) == ((1, 4), "float32", 4)
    mel = np.random.default_rng(0).normal(size=(16, 62)).astype(np.float32)
    first = model.predict(mel)
    np.testing.assert_allclose(first, weights @ mel.mean(axis=1) + bias, atol=1e-4)
    assert first.dtype == np.float32
    model.predict(-mel)
    np.testing.assert_allclose(first, weights @ mel.mean(axis=1) + bias, atol=1e-4)  # the caller's own copy


def test_int8_tensors_are_quantised_with_their_own_scale() -> None:
    scale, zero_point = 0.05, -20
    model = models.open_model(bundles.int8_identity(4, 6, scale, zero_point))
    assert (model.input_dtype, model.output_dtype) == ("int8", "int8")
    mel = np.random.default_rng(0).uniform(-10, 10, (4, 6)).astype(np.float32)
    representable = np.clip(mel, (-128 - zero_point) * scale, (127 - zero_point) * scale)
    assert (representable != mel).any()
    np.testing.assert_allclose(model.predict(mel), representable.ravel(), atol=scale / 2 + 1e-5)


def test_bad_files_are_refused() -> None:
    good = bundles.tflite_model(*bundles.weights(0), 62)
    assert "LiteRT refuses" in refused(b"not a model")
    assert "LiteRT refuses" in refused(good[: len(good) // 2])
    assert "2 inputs" in refused(bundles.tflite_model(*bundles.weights(0), 62, inputs=2))


def test_logits_that_are_not_finite_are_refused() -> None:
    model = models.open_model(bundles.tflite_model(*bundles.weights(0), 62, finite=False))
    with pytest.raises(EngineError, match="not finite"):
        model.predict(np.zeros((16, 62), np.float32))


def test_the_choice_of_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"ai_edge_litert", "tflite_runtime"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in installed or None)
    assert models.choose_engine() == "litert"
    assert models.choose_engine("tflite_runtime") == "tflite_runtime"
    installed.remove("ai_edge_litert")
    assert models.choose_engine() == "tflite_runtime"
    with pytest.raises(EngineError, match=r"litert is not installed; run: pip install 'labous\[litert\]'"):
        models.choose_engine("litert")
    installed.clear()
    with pytest.raises(EngineError, match=r"No engine .* run: pip install 'labous\[litert\]'"):
        models.choose_engine()
    with pytest.raises(EngineError, match="choose one of: litert, tflite_runtime"):
        models.choose_engine("torch")


def test_tflite_runtime_says_that_it_needs_an_older_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "choose_engine", lambda engine: engine)
    monkeypatch.setattr(np, "__version__", "2.4.6")
    with pytest.raises(EngineError, match=r"numpy below 2 and this is 2\.4\.6"):
        models.open_model(b"", "tflite_runtime")


def test_an_engine_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert "cannot be imported" in refused(b"")
