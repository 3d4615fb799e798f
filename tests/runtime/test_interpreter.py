"""Models behind an interpreter: tensors are read, not assumed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from labous import cli, models
from labous.errors import EngineError
from labous.models import tflite_c
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
    installed = {"litert", "tflite_runtime", "onnxruntime"}
    for name in models.ENGINES:
        monkeypatch.setattr(models.engine_named(name), "is_installed", lambda name=name: name in installed)
        monkeypatch.setattr(models.engine_named(name), "import_engine", lambda: None)
    tflite, both = {"tflite": b""}, {"tflite": b"", "onnx": b""}
    assert models.choose_engine(both) == "litert"
    assert models.choose_engine(both, "onnxruntime") == "onnxruntime"
    assert models.choose_engine(tflite, "tflite_runtime") == "tflite_runtime"
    installed.remove("litert")
    assert models.choose_engine(both) == "tflite_runtime"
    with pytest.raises(EngineError, match=r"litert is not installed; run: pip install 'labous\[litert\]'"):
        models.choose_engine(tflite, "litert")
    installed.remove("tflite_runtime")
    assert models.choose_engine(both) == "onnxruntime"
    with pytest.raises(EngineError, match=r"onnxruntime reads onnx files, and the model has none"):
        models.choose_engine(tflite, "onnxruntime")
    with pytest.raises(EngineError, match=r"No engine .* run: pip install 'labous\[litert\]'"):
        models.choose_engine(tflite)
    with pytest.raises(EngineError, match="choose one of: litert, tflite_c, tflite_runtime"):
        models.choose_engine(tflite, "torch")


def test_the_command_line_knows_the_engines() -> None:
    assert cli._ENGINES == models.ENGINES


def test_tflite_runtime_says_that_it_needs_an_older_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.engine_named("tflite_runtime"), "is_installed", lambda: True)
    monkeypatch.setattr(np, "__version__", "2.4.6")
    with pytest.raises(EngineError, match=r"numpy below 2 and this is 2\.4\.6"):
        models.open_model(b"", "tflite_runtime")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "is not installed"), (b"no library", "cannot be used .* LABOUS_TFLITE_LIBRARY")],
)
def test_a_c_library_that_is_none(
    content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is None:
        monkeypatch.delenv(tflite_c.VARIABLE, raising=False)
        monkeypatch.setattr(tflite_c, "_FOLDERS", (str(tmp_path),))
    else:
        tmp_path.joinpath("libtensorflow-lite.so").write_bytes(content)
        monkeypatch.setenv(tflite_c.VARIABLE, str(tmp_path / "libtensorflow-lite.so"))
    with pytest.raises(EngineError, match=said):
        models.open_model(b"", "tflite_c")


def test_the_newest_c_library_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tflite_c.VARIABLE, raising=False)
    monkeypatch.setattr(tflite_c, "_FOLDERS", (str(tmp_path / "none"), str(tmp_path)))
    for version in ("2.9.0", "2.14.1"):
        tmp_path.joinpath(f"libtensorflow-lite.so.{version}").touch()
    assert tflite_c.library() == tmp_path / "libtensorflow-lite.so.2.14.1"


def test_an_engine_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert "cannot be imported" in refused(b"")


def onnx_model(weights: np.ndarray, shape: tuple[int | str, ...] = (1, 4, 6, 1)) -> bytes:
    """Logits are a product of the flattened input, float32 [24, n_labels]."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Flatten", ["mel"], ["flat"]), helper.make_node("MatMul", ["flat", "weights"], ["logits"])],
        "twin",
        [helper.make_tensor_value_info("mel", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, weights.shape[1]])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_the_onnx_twin() -> None:
    generator = np.random.default_rng(5)
    weights = generator.normal(size=(24, 3)).astype(np.float32)
    mel = generator.normal(size=(4, 6)).astype(np.float32)
    model = models.open_model({"onnx": onnx_model(weights)}, "onnxruntime")
    assert (model.input_shape, model.input_dtype) == ((1, 4, 6, 1), "float32")
    assert (model.output_shape, model.output_dtype, model.n_labels) == ((1, 3), "float32", 3)
    np.testing.assert_allclose(model.predict(mel), mel.reshape(-1) @ weights, rtol=1e-5, atol=1e-5)
    with pytest.raises(EngineError, match="not finite"):
        model.predict(np.full((4, 6), np.nan, np.float32))
    with pytest.raises(EngineError, match="The model failed to run"):
        model.predict(mel[:3])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no model", "ONNX Runtime refuses the model"),
        (onnx_model(np.zeros((24, 3), np.float32), (1, 4, 6)), r"input is \[1, 4, 6\]; it must be"),
        (onnx_model(np.zeros((24, 3), np.float32), ("n", 4, 6, 1)), r"input is \[-1, 4, 6, 1\]; it must be"),
    ],
)
def test_a_twin_that_is_none(content: bytes, said: str) -> None:
    with pytest.raises(EngineError, match=said) as caught:
        models.open_model({"onnx": content}, "onnxruntime")
    assert "\n" not in str(caught.value)
