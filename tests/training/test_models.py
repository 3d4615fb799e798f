"""conf/model and the networks built from it."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from export_fixtures import CONF, group, keras_macs, mel_like, random_model, settings
from lazily import keras

from tests.few import few
from training.export_tflite import export_float32, export_int8, export_onnx
from training.gate import gate
from training.models import Block, ModelError, PlainCnn

pytestmark = pytest.mark.tensorflow

MEL64 = (64, 318, 1)
SIZES = {  # parameters with 30 labels, most MACs
    "tiny": (25_000, 5e6),
    "small": (98_000, 20e6),
    "medium": (380_000, 50e6),
    "large": (1_480_000, 125e6),
}
PLAIN: dict[str, Any] = {
    "stem": 8,
    "rows": 16,
    "blocks": ((16, 2),),
    "pool_mel": False,
    "head": 16,
    "dropout": 0.1,
    "batch_norm_momentum": 0.9,
}


@pytest.mark.parametrize("n_mels", few([64, 96, 128], 1))
@pytest.mark.parametrize("name", few(SIZES, 2))
def test_every_conf_builds_a_model_of_the_size_it_says_whatever_the_bands(name: str, n_mels: int) -> None:
    parameters, most_macs = SIZES[name]
    model = group(f"model={name}").build((n_mels, 318, 1), 30)
    assert (model.input_shape, model.output_shape) == ((None, n_mels, 318, 1), (None, 30))
    assert model.input.name == "mel"
    assert model.layers[-1].name == "logits"
    assert model.output.dtype == "float32"
    assert model.count_params() == pytest.approx(parameters, rel=0.02)
    assert sum(keras_macs(model)) <= most_macs


def test_sizes_are_of_every_network_there_is() -> None:
    assert {path.stem for path in (CONF / "model").glob("*.yaml")} == set(SIZES)


@pytest.mark.parametrize(
    "shape", few([((64, 318, 1),), ((33, 65, 1),), ((96, 318, 1),), ((128, 318, 1),), ((40, 98, 1),)], 2)
)
def test_the_mel_axis_is_weighed_row_by_row_whatever_its_height(shape: tuple[int, int, int]) -> None:
    model = group("model=tiny").build(shape, 3)
    stem, collapse = model.get_layer("stem"), model.get_layer("mel_collapse")
    assert stem.kernel.shape[0] >= stem.strides[0]  # no band is skipped
    assert stem.output.shape[1] == pytest.approx(32, abs=8)
    assert collapse.input.shape[1] == -(-stem.output.shape[1] // 4)  # two strides of 2, each rounding up
    assert collapse.kernel.shape[0] == collapse.input.shape[1]
    assert collapse.output.shape[1] == 1


def test_the_same_rows_in_another_order_are_another_pitch() -> None:
    collapse = random_model().get_layer("mel_collapse")
    rows = np.random.default_rng(0).random((1, *collapse.input.shape[1:])).astype(np.float32)
    assert np.abs(np.asarray(collapse(rows)) - np.asarray(collapse(rows[:, ::-1]))).max() > 0.01


@pytest.mark.parametrize("shape", [MEL64, (33, 65, 1)])
def test_pooled_rows_are_heard_alike_wherever_they_lie(shape: tuple[int, int, int]) -> None:
    model = dataclasses.replace(group("model=tiny"), pool_mel=True).build(shape, 3)
    assert "mel_collapse" not in {layer.name for layer in model.layers}
    frames = model.get_layer("head_relu6").output
    assert frames.shape[1] == -(-model.get_layer("stem").output.shape[1] // 4) > 1
    rows = np.random.default_rng(0).random((2, *frames.shape[1:])).astype(np.float32)
    pooled = keras.Model(frames, model.output)
    for axis in (1, 2):
        np.testing.assert_allclose(pooled(rows), pooled(np.flip(rows, axis)), atol=1e-5)
    assert np.abs(np.asarray(pooled(rows[:1])) - np.asarray(pooled(rows[1:]))).max() > 1e-3


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = random_model(), random_model()
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_logits_stay_float32_under_mixed_precision() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert random_model().output.dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


def test_blocks_may_be_any_sequence_of_pairs() -> None:
    listed = PlainCnn(**PLAIN | {"blocks": [[16, 2]]})  # what YAML gives
    assert listed == PlainCnn(**PLAIN)
    assert listed.blocks == (Block(16, 2),)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stem": 0}, "model.stem is 0"),
        ({"rows": 0}, "model.rows is 0"),
        ({"head": 1.5}, "model.head is 1.5"),
        ({"blocks": ()}, "at least one row"),
        ({"blocks": ((16, 2, 2),)}, r"\[channels, stride\]"),
        ({"blocks": ((16, 2), (8, 0))}, r"model.blocks\[1\].stride is 0"),
        ({"pool_mel": 2}, "model.pool_mel is 2: give true or false"),
        ({"dropout": 1.0}, "model.dropout is 1.0"),
        ({"batch_norm_momentum": 1.0}, "model.batch_norm_momentum is 1.0"),
    ],
)
def test_impossible_settings_are_refused_by_name(change: dict, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        PlainCnn(**PLAIN | change)


def test_a_window_that_the_strides_use_up_is_refused() -> None:
    with pytest.raises(ModelError, match="leave 1 x 40 of a 4 x 318 mel window"):
        group("model=small").build((4, 318, 1), 3)


def test_a_model_without_labels_is_refused() -> None:
    with pytest.raises(ModelError, match="at least one label"):
        PlainCnn(**PLAIN).build(MEL64, 0)


@pytest.mark.slow
@pytest.mark.parametrize("n_mels", [64, 96, 128])
@pytest.mark.parametrize("name", SIZES)
def test_every_network_passes_the_gate_with_every_number_of_bands(name: str, n_mels: int) -> None:
    shape = (n_mels, 318)
    keras.utils.set_random_seed(1)
    plain = group(f"model={name}")
    model = dataclasses.replace(plain, batch_norm_momentum=0.5).build((*shape, 1), 30)
    for step in range(4):  # with its initial statistics a random net answers the same to everything
        model(mel_like(8, shape, seed=step)[..., np.newaxis], training=True)
    model.get_layer("logits").bias.assign(np.linspace(-2, -1, 30))
    mels = mel_like(4, shape, seed=100)
    reference = np.asarray(model(mels[..., np.newaxis], training=False))
    float32 = export_float32(model)
    report = gate(float32, mels, reference, settings())
    assert report.macs == sum(keras_macs(model))
    int8 = export_int8(model, list(mel_like(16, shape, seed=200)))
    assert gate(int8, mels, reference, settings()).precision == "int8"
    assert len(int8) <= {"tiny": 50e3, "small": 150e3, "medium": 500e3, "large": 1.7e6}[name]
    export_onnx(float32, settings().onnx_opset)
