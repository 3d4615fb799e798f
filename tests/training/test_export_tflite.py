"""Keras → TFLite float32 and int8 → ONNX, and what tflite_file reads from the results."""

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from export_fixtures import N_LABELS, SHAPE, exported, keras_macs
from hypothesis import given
from hypothesis import strategies as st

from training.engines import Engine
from training.export_tflite import ExportError, export_float32, export_int8, export_onnx
from training.tflite_file import TfliteFileError, read_tflite

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_interface_is_the_contract(precision: str) -> None:
    file = read_tflite(getattr(exported(), precision))
    described = [(t.name, t.shape, t.dtype) for t in (*file.inputs, *file.outputs)]
    assert described == [("mel", (1, *SHAPE, 1), "float32"), ("logits", (1, N_LABELS), "float32")]
    assert file.subgraphs == 1
    assert not any(t.is_dynamic or t.is_variable for t in file.tensors)
    names = [t.name for t in file.tensors]
    assert len(set(names)) == len(names)


def test_float32_is_keras() -> None:
    outputs = Engine("litert").run(exported().float32, exported().mels[..., np.newaxis])
    np.testing.assert_allclose(outputs, exported().reference, atol=2e-5)
    assert {op.version for op in read_tflite(exported().float32).operators} == {1}


def test_int8_is_integer_throughout_and_per_channel() -> None:
    file = read_tflite(exported().int8)
    inside = [op for op in file.operators if op.name not in ("QUANTIZE", "DEQUANTIZE")]
    assert {t.dtype for op in inside for t in op.outputs} == {"int8"}
    for op in inside:
        if op.name == "CONV_2D":
            assert len(op.weights[0].scales) == op.weights[0].shape[0]
        if op.name == "DEPTHWISE_CONV_2D":
            assert len(op.weights[0].scales) == op.weights[0].shape[-1]
    counts = {op["name"]: op["count"] for op in file.op_counts()}
    assert (counts["QUANTIZE"], counts["DEQUANTIZE"]) == (1, 1)


def test_parameters_and_macs_are_those_that_keras_counts_after_folding() -> None:
    model = exported().model
    # a folded batch normalisation leaves one bias for its four vectors
    folded = sum(
        layer.moving_mean.shape[0] if layer.name.endswith("_norm") else layer.count_params() for layer in model.layers
    )
    for data in (exported().float32, exported().int8):
        file = read_tflite(data)
        assert file.parameters == folded
        assert file.macs == sum(keras_macs(model))
        assert file.bytes == len(data)


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes_and_no_noise(capsys: pytest.CaptureFixture[str]) -> None:
    first = exported()
    capsys.readouterr()
    again = export_float32(first.model)
    assert again == first.float32
    assert export_onnx(again) == first.onnx
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


@pytest.mark.slow
def test_the_same_model_and_windows_give_the_same_int8_bytes() -> None:
    assert export_int8(exported().model, exported().representative) == exported().int8


def test_constants_lie_on_16_bytes() -> None:
    for data in (exported().float32, exported().int8):
        model = schema.Model.GetRootAs(data, 0)
        filled = [b for b in (model.Buffers(i) for i in range(model.BuffersLength())) if b.DataLength()]
        assert filled
        for buffer in filled:
            content = buffer._tab.Vector(buffer._tab.Offset(4))
            assert content % 16 == 0


@pytest.mark.slow
def test_onnx_is_valid_static_and_the_twin_of_the_file() -> None:
    model = onnx.load_from_string(exported().onnx)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import if o.domain == ""] == [("", 17)]
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes == {"mel": [1, *SHAPE, 1], "logits": [1, N_LABELS]}
    twin = Engine("litert").run(exported().float32, exported().mels[..., np.newaxis])
    outputs = Engine("onnxruntime").run(exported().onnx, exported().mels[..., np.newaxis])
    np.testing.assert_allclose(outputs, twin, atol=2e-5)


@pytest.mark.parametrize(
    ("representative", "told"),
    [
        ([], "got none"),
        ([np.zeros((32, 63), np.float32)], r"array 0 is \(32, 63\); the model takes \(32, 64\)"),
        ([np.zeros(SHAPE, np.float32), np.full(SHAPE, np.nan, np.float32)], "array 1 holds NaN"),
    ],
)
def test_useless_representative_windows_are_refused(representative: list, told: str) -> None:
    with pytest.raises(ExportError, match=told):
        export_int8(exported().model, representative)


def test_onnx_of_something_else_is_refused() -> None:
    with pytest.raises(ExportError, match="tf2onnx could not convert"):
        export_onnx(b"not a flatbuffer at all, but long enough to be tried")


def test_other_bytes_are_no_tflite_file() -> None:
    with pytest.raises(TfliteFileError, match="lack the mark"):
        read_tflite(b"RIFF....WAVEfmt ")


@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused_or_read_as_far_as_it_goes_but_never_crashes(cut: float) -> None:
    whole = exported().float32
    part = whole[: int(cut * len(whole))]
    try:
        assert read_tflite(part).bytes == len(part)
    except TfliteFileError as error:
        assert f"These {len(part)} bytes" in str(error)
