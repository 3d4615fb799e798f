"""BirdNET's front end is found by its operators, proved, and cut off; what differs is refused in a sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_fixtures import needs
from small_birdnet import CLASSES, Channel, Small, edited, small_birdnet

from labous.power_law import PowerLawFrontend
from tests.few import few
from training.birdnet_import.bank import filter_bank, periodic_hann, read_bank
from training.birdnet_import.cut import cut_graph, last_layer
from training.birdnet_import.errors import BirdNetImportError, GraphError
from training.birdnet_import.graph import Graph
from training.birdnet_import.proof import Difference, cut_logits, original_logits
from training.birdnet_import.recognise import Found, recognise
from training.birdnet_import.reference import spectrogram
from training.birdnet_import.settings import ImportSettings
from training.birdnet_import.weights import with_weights
from training.config import compose_alone
from training.engines import Engine
from training.export_tflite import export_onnx
from training.gate import GateError, gate
from training.tflite_file import TfliteFileError, read_tflite

pytestmark = pytest.mark.tensorflow


def settings(*overrides: str) -> ImportSettings:
    return compose_alone("import_birdnet", ["species=all", *overrides])


def found(data: bytes) -> tuple[Graph, Found]:
    graph = Graph(data, "model.tflite")
    return graph, recognise(graph, settings().sample_rates, settings().tolerances)


def sounds(frontend: PowerLawFrontend, count: int = 4) -> np.ndarray:
    """Noise that ends in silence, ever earlier."""
    rng = np.random.default_rng(5)
    samples = rng.normal(0, 0.1, (count, frontend.window_samples)).astype(np.float32)
    for n, window in enumerate(samples):
        window[frontend.window_samples * (count - n) // count :] = 0
    return samples


MONO = Small(channels=(Channel(),))


@pytest.mark.parametrize(
    "small", few([Small(), MONO, Small(sample_rate=32000, n_samples=16000, channels=(Channel(1024, 300),))], 2)
)
def test_every_constant_is_read_from_the_graph(small: Small) -> None:
    _, seen = found(small_birdnet(small))
    frontend = seen.frontend
    assert (frontend.sample_rate, frontend.window_samples, frontend.n_mels) == (
        small.sample_rate, small.n_samples, small.n_mels,
    )  # fmt: skip
    assert frontend.peak_epsilon == np.float32(small.epsilon)
    assert (frontend.peak_offset, frontend.peak_scale, frontend.shifts) == (0.5, 2.0, (0,))
    assert [(c.n_fft, c.hop_length, c.f_min, c.f_max) for c in frontend.channels] == [
        (c.n_fft, c.hop, c.f_min, c.f_max) for c in small.channels
    ]
    assert [c.exponent for c in frontend.channels] == [np.float32(c.exponent) for c in small.channels]
    assert not seen.is_half


@pytest.mark.parametrize("small", few([Small(), MONO], 2))
def test_the_cut_gives_the_whole_models_logits(small: Small) -> None:
    graph, seen = found(small_birdnet(small))
    rows = np.array([8, 0, 4])
    cut = cut_graph(graph, seen, rows)
    file = read_tflite(cut)
    assert [(t.name, t.shape) for t in file.inputs] == [("mel", seen.frontend.input_shape)]
    assert [(t.name, t.shape) for t in file.outputs] == [("logits", (1, 3))]
    assert not any(t.is_dynamic for t in file.tensors)
    assert {op.name for op in file.operators} == {
        "MUL", "ADD", "CONV_2D", "LOGISTIC", "MEAN", "RESHAPE", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED",
    }  # fmt: skip
    samples = sounds(seen.frontend)
    mels = np.stack([spectrogram(seen.frontend, window) for window in samples])
    theirs = original_logits(graph.data, seen.frontend, samples, rows)
    assert np.ptp(theirs, axis=0).min() > 0.1  # they listen
    apart = Difference.between(cut_logits(cut, seen.frontend, mels), theirs)
    assert apart.score <= 1e-5
    assert apart.top1_equal == 1
    report = gate(cut, mels, theirs, settings().export, origin="the original")
    assert report.precision == "float32"


def test_what_the_cut_holds_is_the_sources_to_the_bit() -> None:
    graph, seen = found(small_birdnet(Small()))
    cut = Graph(cut_graph(graph, seen, range(len(CLASSES))), "cut")
    kernels = [
        [g.constant(node.inputs[1]) for node in g.nodes if node.name in ("CONV_2D", "DEPTHWISE_CONV_2D")]
        for g in (graph, cut)
    ]
    assert len(kernels[1]) == 3
    for theirs, ours in zip(*kernels, strict=True):
        np.testing.assert_array_equal(theirs, ours)
    np.testing.assert_array_equal(
        graph.constant(last_layer(graph)[0].inputs[1]), cut.constant(last_layer(cut)[0].inputs[1])
    )


def _no_transform(model: Any) -> None:
    for code in model.operatorCodes:
        if code.builtinCode == 131:  # RFFT2D
            code.builtinCode, code.deprecatedBuiltinCode = 59, 59  # NEG


def _constant(model: Any, size: int, edit: Any) -> None:
    for tensor in model.subgraphs[0].tensors:
        content = model.buffers[tensor.buffer].data
        if content is not None and list(tensor.shape if tensor.shape is not None else []) == [size]:
            values = np.asarray(content, np.uint8).view(np.float32).copy()
            model.buffers[tensor.buffer].data = np.frombuffer(edit(values).tobytes(), np.uint8)


def _window_off_by_little(model: Any) -> None:
    _constant(model, 512, lambda values: values * np.float32(1.0001))


@pytest.mark.parametrize(
    ("small", "told"),
    few(
        [
            (Small(part="abs"), "there is COMPLEX_ABS: it takes another part of the spectrum than the real one"),
            (Small(window="hamming"), "is no periodic Hann window: it differs by 0.08"),
            (Small(window="none"), "not of frames times a window function"),
            (Small(norm="rms"), "the scaling of the window by its peak, at its end, should be MUL with one number"),
            (Small(norm="mean"), "the scaling of the window by its peak"),
            (Small(order="as is"), "should be REVERSE_V2, the highest band first, and there is TRANSPOSE"),
            (Small(law="abs"), "should be MUL, the square, and there is ABS"),
            (Small(mel="linear"), "a filter bank in it is none of overlapping triangles"),
            (Small(mel="scaled"), "a filter bank in it is not TensorFlow's linear_to_mel_weight_matrix"),
            (Small(sample_rate=23000, channels=(Channel(),)), "linear_to_mel_weight_matrix for any of"),
            (Small(padded=True, channels=(Channel(),)), "should be MUL with one number, and is PADV2"),
            (Small(leak=True), "what follows the spectrogram takes the samples as well"),
            (Small(softmax=True), "should end in a FULLY_CONNECTED layer that gives logits, and ends in SOFTMAX"),
        ],
        3,
    ),
)
def test_another_front_end_is_refused_with_what_differs(small: Small, told: str) -> None:
    with pytest.raises(GraphError) as caught:
        graph, seen = found(small_birdnet(small))
        cut_graph(graph, seen, [0])
    assert told in str(caught.value)
    assert str(caught.value).startswith("model.tflite is no graph of the kind that can be imported: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "told"),
    [(_no_transform, "it has no RFFT2D operator"), (_window_off_by_little, "it differs by 0.0001")],
)
def test_a_changed_file_is_refused(edit: Any, told: str) -> None:
    with pytest.raises(GraphError, match=told):
        found(edited(small_birdnet(Small()), edit))


def test_a_damaged_file_is_refused_and_never_brings_the_process_down() -> None:
    whole = small_birdnet(Small())
    for cut_at in (0, 7, 100, len(whole) // 2, len(whole) - 2000):
        with pytest.raises((TfliteFileError, BirdNetImportError)):
            found(whole[:cut_at])
    rng = np.random.default_rng(1)
    for _ in range(8):
        broken = bytearray(whole)
        for at in rng.integers(8, len(broken), 40):
            broken[at] = rng.integers(0, 256)
        try:
            graph, seen = found(bytes(broken))
            cut_graph(graph, seen, [0])
        except (TfliteFileError, BirdNetImportError):
            continue


def test_smaller_weights_keep_the_kernels_small_and_the_scores_near() -> None:
    graph, seen = found(small_birdnet(Small()))
    cut = cut_graph(graph, seen, range(len(CLASSES)))
    half = with_weights(cut, "float16")
    file = read_tflite(half)
    assert file.weight_dtypes == {"float16"}
    assert file.parameters == read_tflite(cut).parameters
    samples = sounds(seen.frontend)
    mels = np.stack([spectrogram(seen.frontend, window) for window in samples])
    theirs = original_logits(graph.data, seen.frontend, samples, np.arange(len(CLASSES)))
    assert gate(half, mels, theirs, settings().export).precision == "float16"
    assert 0 < Difference.between(cut_logits(half, seen.frontend, mels), theirs).score < 0.01
    # int8 is for measuring: the gate does not let its operators through
    with pytest.raises(GateError, match="int8"):
        gate(with_weights(cut, "int8"), mels, theirs, settings().export)
    with pytest.raises(BirdNetImportError, match="too large for float16"):
        with_weights(edited(cut, _huge), "float16")


def _huge(model: Any) -> None:
    kernel = model.subgraphs[0].tensors[model.subgraphs[0].operators[-1].inputs[1]]
    content = np.asarray(model.buffers[kernel.buffer].data, np.uint8).view(np.float32) * np.float32(1e6)
    model.buffers[kernel.buffer].data = np.frombuffer(content.tobytes(), np.uint8)


@pytest.mark.slow
def test_a_source_with_float16_weights_is_read_and_made_small_again() -> None:
    graph, seen = found(small_birdnet(Small(half=True)))
    assert seen.is_half
    cut = cut_graph(graph, seen, range(len(CLASSES)))
    assert read_tflite(cut).weight_dtypes == {"float32"}
    half = with_weights(cut, "float16")
    assert read_tflite(half).weight_dtypes == {"float16"}
    samples = sounds(seen.frontend)
    mels = np.stack([spectrogram(seen.frontend, window) for window in samples])
    rows = np.arange(len(CLASSES))
    assert np.array_equal(cut_logits(cut, seen.frontend, mels), cut_logits(half, seen.frontend, mels))
    theirs = original_logits(graph.data, seen.frontend, samples, rows)
    assert Difference.between(cut_logits(cut, seen.frontend, mels), theirs).score < 0.01


@pytest.mark.slow
def test_the_onnx_twin_says_the_same() -> None:
    import onnxruntime

    graph, seen = found(small_birdnet(Small()))
    cut = cut_graph(graph, seen, range(len(CLASSES)))
    session = onnxruntime.InferenceSession(export_onnx(cut))
    mels = np.stack([spectrogram(seen.frontend, window) for window in sounds(seen.frontend)])
    theirs = np.concatenate([session.run(["logits"], {"mel": mel[np.newaxis]})[0] for mel in mels])
    np.testing.assert_allclose(theirs, cut_logits(cut, seen.frontend, mels), atol=1e-4)


@pytest.mark.parametrize(
    ("rate", "low", "high"), [(48000, 0.0, 3000.0), (32000, 123.4, 9876.5), (16000, 60.0, 7000.25)]
)
def test_a_bank_tells_what_it_was_made_with(rate: int, low: float, high: float) -> None:
    bank = read_bank(filter_bank(64, 513, rate, low, high), settings().sample_rates)
    assert bank is not None
    assert (bank.sample_rate, bank.f_min, bank.f_max, bank.difference) == (rate, low, high, 0.0)


def test_bank_and_window_are_tensorflows_to_the_bit() -> None:
    import tensorflow as tf

    for length in (256, 1024, 2048):
        np.testing.assert_array_equal(periodic_hann(length), tf.signal.hann_window(length).numpy())
    for n_mels, bins, rate, low, high in ((96, 1025, 48000, 0.0, 3000.0), (96, 513, 48000, 500.0, 15000.0)):
        theirs = tf.signal.linear_to_mel_weight_matrix(n_mels, bins, rate, low, high).numpy().T
        # its logarithm differs by a unit in the last place from one processor to another
        np.testing.assert_allclose(filter_bank(n_mels, bins, rate, low, high), theirs, atol=2e-5)


def test_settings_are_held_to_their_ranges(tmp_path: Path) -> None:
    from training.errors import ConfigError

    for override, told in (
        ("golden_seed=-1", "golden_seed is -1"),
        ("sample_rates=[0]", "sample_rates is"),
        ("sample_rates=[]", "sample_rates is"),
        ("weights=int8", "int8 does not keep its scores"),
        ("weights=[]", "weights is"),
        ("weights=3", "weights is 3"),
        ("phase_average=0", "phase_average is 0"),
        ("phase_average=two", "write a whole number"),
        ("threshold=1.5", "threshold is 1.5"),
        ("confirmation_hits=3", "confirmation_hits is 3"),
        ("not_birds=Dog", "not_birds is 'Dog'"),
        ("proof_pitches=[1]", "proof_pitches is"),
        ("max_score_difference={float32: 1}", "Key"),
        ("tolerances.bank=0", "tolerances.bank is 0"),
        ("nonsense=1", "there is no key nonsense"),
    ):
        try:
            settings(override)
        except ConfigError as error:
            assert told in str(error) or told == "Key", (override, str(error))
            assert "\n" not in str(error)
        else:
            assert told == "Key", override
    assert dataclasses.replace(settings(), weights="float16").weights == ("float16",)


@pytest.mark.slow
def test_the_strictest_engines_run_the_operators_that_are_allowed_beside_our_own() -> None:
    """The evidence for conf/export/birdnet.yaml; TFLite Micro has no float16."""
    needs("tflite_runtime", "tflite_micro")
    graph, seen = found(small_birdnet(Small()))
    cut = cut_graph(graph, seen, range(len(CLASSES)))
    half = with_weights(cut, "float16")
    mels = np.stack([spectrogram(seen.frontend, window) for window in sounds(seen.frontend)])
    assert {"LOGISTIC", "MUL", "DEQUANTIZE"} <= {op.name for op in read_tflite(half).operators}
    for data, engines in ((cut, ("tflite_runtime", "tflite_micro")), (half, ("tflite_runtime",))):
        expected = cut_logits(data, seen.frontend, mels)
        for engine in engines:
            np.testing.assert_allclose(Engine(engine).run(data, mels), expected, atol=1e-3)
