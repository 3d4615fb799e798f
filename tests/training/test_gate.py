"""The gate lets good files through, names what is wrong with the others, and leaves nothing half-written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from export_fixtures import (
    N_LABELS,
    SHAPE,
    edited,
    exported,
    group,
    mel_like,
    needs,
    random_model,
    settings,
)
from lazily import keras, tf

from tests.few import few
from training.engines import Engine
from training.errors import ConfigError
from training.export_tflite import export_float32, export_int8
from training.gate import GateError, gate, write_gated
from training.tflite_file import TfliteFileError, read_tflite

pytestmark = pytest.mark.tensorflow


def refused(data: bytes, reference: np.ndarray | None = None) -> tuple[str, ...]:
    """What the gate finds."""
    with pytest.raises(GateError) as caught:
        gate(data, exported().mels, exported().reference if reference is None else reference, settings())
    return caught.value.findings


def converter_of(model: keras.Model) -> Any:
    """A bare converter with a static batch, for the ways in which export_tflite does not convert."""
    mel = keras.Input(batch_shape=(1, *SHAPE, 1), name="mel")
    return tf.lite.TFLiteConverter.from_keras_model(keras.Model(mel, model(mel)))


@pytest.mark.parametrize("precision", few(["float32", "int8"], 1))
def test_good_files_pass_and_are_measured(precision: str) -> None:
    data = getattr(exported(), precision)
    report = gate(data, exported().mels, exported().reference, settings())
    file, told = read_tflite(data), report.to_dict()
    assert report.precision == precision
    assert told["input"] == {"name": "mel", "shape": [1, *SHAPE, 1], "dtype": "float32"}
    assert told["output"] == {"name": "logits", "shape": [1, N_LABELS], "dtype": "float32"}
    assert told["ops"] == file.op_counts()
    assert (report.parameters, report.macs, report.bytes) == (file.parameters, file.macs, len(data))
    outputs = Engine("litert").run(data, exported().mels[..., np.newaxis])
    assert report.difference == np.abs(outputs - exported().reference).max() > 0
    assert 0 < report.argmax_equal <= 1


@pytest.mark.slow
def test_a_spectrogram_inside_the_model_is_refused_by_name_of_its_ops_though_it_runs_here() -> None:
    @keras.saving.register_keras_serializable("test")
    class Spectrogram(keras.layers.Layer):
        def call(self, samples: tf.Tensor) -> tf.Tensor:
            return tf.abs(tf.signal.stft(samples[:, :, 0], 64, 32))[..., tf.newaxis]

    samples = keras.Input((1024, 1))
    x = keras.layers.Conv2D(4, 3, strides=2)(Spectrogram()(samples))
    model = keras.Model(samples, keras.layers.Dense(N_LABELS)(keras.layers.GlobalAveragePooling2D()(x)))
    data = export_float32(model)
    assert Engine("litert").run(data, np.zeros((1, 1024, 1), np.float32)).shape == (1, N_LABELS)
    found = " ".join(refused(data))
    assert "RFFT2D version 1 at operator" in found
    assert "COMPLEX_ABS version 1 at operator" in found
    assert "is not on the allow-list" in found


@pytest.mark.slow
def test_weights_left_outside_the_file_are_refused() -> None:
    model = random_model()
    call = tf.function(model, input_signature=[tf.TensorSpec((1, *SHAPE, 1), tf.float32)])
    data = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()], model).convert()
    found = " ".join(refused(data))
    assert "VAR_HANDLE" in found
    assert "READ_VARIABLE" in found


@pytest.mark.slow
def test_dynamic_range_quantisation_is_refused() -> None:
    converter = converter_of(exported().model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    found = " ".join(refused(converter.convert()))
    assert "has int8 weights and float32 activations" in found


@pytest.mark.slow
def test_a_dynamic_batch_is_refused() -> None:
    data = tf.lite.TFLiteConverter.from_keras_model(exported().model).convert()
    assert any("dynamic shape" in finding for finding in refused(data))


def _dense(model: Any) -> Any:
    """The last dense layer's kernel buffer."""
    operator = model.subgraphs[0].operators[-1]
    return model.buffers[model.subgraphs[0].tensors[operator.inputs[1]].buffer]


def _nan_kernel(model: Any) -> None:
    _dense(model).data = np.full(len(_dense(model).data) // 4, np.nan, np.float32).view(np.uint8)


def _zero_kernel(model: Any) -> None:
    _dense(model).data = np.zeros_like(_dense(model).data)


def test_nan_weights_are_refused() -> None:
    assert refused(edited(exported().float32, _nan_kernel)) == ("8 of 8 windows give NaN or infinite logits.",)


def test_a_model_that_does_not_listen_is_refused() -> None:
    found = refused(edited(exported().float32, _zero_kernel))
    assert found[0] == (
        "All 8 windows give the same logits: it does not listen to its input; train it longer, or look at its loss."
    )


def test_another_models_logits_are_noticed() -> None:
    found = refused(exported().float32, exported().reference + 0.1)
    assert len(found) == 1
    assert found[0].startswith("Its logits differ from Keras's by 0.1")
    assert refused(exported().float32, np.full_like(exported().reference, np.nan))


def _newer(model: Any) -> None:
    model.operatorCodes[model.subgraphs[0].operators[0].opcodeIndex].version = 8


def _flex(model: Any) -> None:
    code = model.operatorCodes[model.subgraphs[0].operators[0].opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"FlexRFFT"


def _second_subgraph(model: Any) -> None:
    model.subgraphs.append(model.subgraphs[0])


def _variable(model: Any) -> None:
    model.subgraphs[0].tensors[-2].isVariable = True


def _other_dtype(model: Any) -> None:
    model.subgraphs[0].tensors[-2].type = schema.TensorType.FLOAT16


def _ballast(model: Any) -> None:
    buffer = schema.BufferT()
    buffer.data = np.ones(100_000, np.uint8)
    model.buffers.append(buffer)


def _renamed_input(model: Any) -> None:
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].name = b"audio"


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (_newer, "CONV_2D version 8 at operator 0 is newer than version 3"),
        (_flex, "CUSTOM(FlexRFFT) version 1 at operator 0 is not a builtin"),
        (_second_subgraph, "It has 2 subgraphs"),
        (_variable, "is a variable"),
        (_other_dtype, "is float16; only float32, int8, int32 are allowed"),
        (_ballast, "it carries something else"),
        (_renamed_input, "Its input is audio float32 [1, 32, 64, 1]; it must be mel float32 [1, 32, 64, 1]"),
    ],
)
def test_tampered_files_are_refused(edit: Callable[[Any], None], told: str) -> None:
    found = refused(edited(exported().float32, edit))
    assert any(told in finding for finding in found), found


def test_every_finding_is_in_the_message() -> None:
    def both(model: Any) -> None:
        _flex(model)
        _variable(model)

    with pytest.raises(GateError) as caught:
        gate(edited(exported().float32, both), exported().mels, exported().reference, settings(), "model.tflite")
    assert len(caught.value.findings) > 1
    assert str(caught.value) == "model.tflite does not pass the gate: " + " ".join(caught.value.findings)


def test_a_refused_file_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    with pytest.raises(GateError, match=r"^model\.tflite does not pass the gate: .*FlexRFFT"):
        write_gated(path, edited(exported().float32, _flex), exported().mels, exported().reference, settings())
    assert list(tmp_path.iterdir()) == []
    report = write_gated(path, exported().float32, exported().mels, exported().reference, settings())
    assert report.bytes == path.stat().st_size
    with pytest.raises(TfliteFileError):
        write_gated(path, b"nothing of the kind", exported().mels, exported().reference, settings())
    with pytest.raises(GateError):
        write_gated(path, exported().float32, exported().mels, -exported().reference, settings())
    assert path.read_bytes() == exported().float32
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"gate_windows": 1}, "export.gate_windows is 1"),
        ({"representative_windows": 8}, "no fewer than the first"),
        ({"max_difference": {"float32": 0.1}}, "exactly the keys float32 and int8"),
    ],
)
def test_impossible_settings_are_refused(change: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        dataclasses.replace(group("export=default"), **change)


@pytest.mark.slow
def test_every_line_of_the_allow_list_runs_in_tflite_runtime_and_tflite_micro() -> None:
    """The evidence for conf/export: each operator, at its highest allowed version, in both of the strictest engines."""
    needs("tflite_runtime", "tflite_micro")
    layers = keras.layers
    mel = keras.Input((*SHAPE, 1))
    x = layers.ReLU(6.0)(layers.Conv2D(4, 3, strides=2, padding="same")(mel))
    x = layers.Add()([x, layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(x))])
    x = layers.ReLU(6.0)(layers.Conv2D(4, 3)(layers.ZeroPadding2D(((1, 2), (0, 0)))(x)))
    pooled = [layers.Flatten()(pool(4)(x)) for pool in (layers.AveragePooling2D, layers.MaxPooling2D)]
    pooled += [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]
    model = keras.Model(mel, layers.Dense(N_LABELS)(layers.Concatenate()(pooled)))
    files = [export_float32(model), export_int8(model, mel_like(4, SHAPE, seed=1))]

    newest: dict[str, int] = {}
    for data in files:
        for op in read_tflite(data).operators:
            newest[op.name] = max(newest.get(op.name, 0), op.version)
        expected = Engine("litert").run(data, exported().mels[..., np.newaxis])
        for engine in ("tflite_runtime", "tflite_micro"):
            outputs = Engine(engine).run(data, exported().mels[..., np.newaxis])
            # int8 engines round differently: two steps of the output's scale
            atol = 1e-5 if data is files[0] else 2 * _output_step(data)
            np.testing.assert_allclose(outputs, expected, atol=atol)
    assert newest == dict(settings().allowed_ops)


def _output_step(int8: bytes) -> float:
    """Scale of the last quantised tensor: the grid that the logits lie on."""
    return read_tflite(int8).operators[-1].inputs[0].scales[0]


def test_the_allow_list_is_data() -> None:
    without = dataclasses.replace(settings(), allowed_ops={"CONV_2D": 1})
    with pytest.raises(GateError, match=r"REDUCE_MAX version 1 at operator .* is not on the allow-list: CONV_2D"):
        gate(exported().float32, exported().mels, exported().reference, without)
