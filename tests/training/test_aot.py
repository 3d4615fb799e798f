"""Operators ahead of time give what LiteRT gives, whatever their shapes and options; what is not known is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aot_calls
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_graphs import NONE, RELU, RELU6, RELU_N1_TO_1, SAME, TANH, VALID, Graph, litert

from training.aot import generate, memory
from training.aot.errors import AotError
from training.aot.graph import read_graph
from training.aot.lower import lower
from training.aot.program import ARENA, Program
from training.tflite_file import TfliteFileError

LANES = st.sampled_from([1, 4, 8])
ACTIVATIONS = st.sampled_from([NONE, RELU, RELU_N1_TO_1, RELU6])
PADDINGS = st.sampled_from([SAME, VALID])
examples = settings(max_examples=100, deadline=None, derandomize=True)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1.5, shape).astype(np.float32)


def weights(*shape: int, taps: int) -> np.ndarray:
    """Such that sums of so many products are about as large as their terms: the tolerance is for numbers near 1."""
    return normal(*shape) / np.float32(np.sqrt(taps))


def same_as_litert(data: bytes, lanes: int) -> Program:
    """Runs a file both ways."""
    graph = read_graph(data)
    program, values = lower(graph, lanes), normal(*graph.input.shape, seed=1)
    np.testing.assert_allclose(aot_calls.run(program, values), litert(data, values), rtol=1e-5, atol=1e-5)
    return program


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    """Sizes, kernel, strides, padding, activation."""
    padding = draw(PADDINGS)
    kernel = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    least = (1, 1) if padding == SAME else kernel
    size = draw(st.integers(least[0], 11)), draw(st.integers(least[1], 40))
    stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    if padding == SAME:
        out = tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
    else:
        out = tuple((n - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True))
    return {"size": size, "kernel": kernel, "stride": stride, "padding": padding, "out": out}


def options(window: dict[str, Any], activation: int, **others: Any) -> dict[str, Any]:
    stride_h, stride_w = window["stride"]
    chosen = {"padding": window["padding"], "strideH": stride_h, "strideW": stride_w}
    return {**chosen, "fusedActivationFunction": activation, **others}


@examples
@given(windows(), st.integers(1, 21), st.integers(1, 21), ACTIVATIONS, LANES)
def test_conv_2d(window: dict, in_c: int, out_c: int, activation: int, lanes: int) -> None:
    graph = Graph((1, *window["size"], in_c))
    kernel = weights(out_c, *window["kernel"], in_c, taps=in_c * int(np.prod(window["kernel"])))
    inputs = [graph.input, graph.constant(kernel), graph.constant(normal(out_c))]
    dilation = {"dilationHFactor": 1, "dilationWFactor": 1}
    output = graph.op("CONV_2D", inputs, (1, *window["out"], out_c), **options(window, activation, **dilation))
    same_as_litert(graph.bytes(output), lanes)


@examples
@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 40), ACTIVATIONS, LANES)
def test_pointwise_conv_2d(pixels: int, in_c: int, out_c: int, activation: int, lanes: int) -> None:
    window = {"size": (1, pixels), "stride": (1, 1), "padding": SAME}
    graph = Graph((1, 1, pixels, in_c))
    inputs = [graph.input, graph.constant(weights(out_c, 1, 1, in_c, taps=in_c)), graph.constant(normal(out_c))]
    dilation = {"dilationHFactor": 1, "dilationWFactor": 1}
    output = graph.op("CONV_2D", inputs, (1, 1, pixels, out_c), **options(window, activation, **dilation))
    same_as_litert(graph.bytes(output), lanes)


@pytest.mark.parametrize("lanes", [1, 4, 8])
@pytest.mark.parametrize("in_c", [300, 3000])
def test_pointwise_conv_2d_in_several_blocks(in_c: int, lanes: int) -> None:
    window = {"stride": (1, 1), "padding": SAME}
    graph = Graph((1, 2, 37, in_c))
    inputs = [graph.input, graph.constant(weights(9, 1, 1, in_c, taps=in_c))]
    inputs.append(graph.constant(normal(9)))
    dilation = {"dilationHFactor": 1, "dilationWFactor": 1}
    same_as_litert(graph.bytes(graph.op("CONV_2D", inputs, (1, 2, 37, 9), **options(window, NONE, **dilation))), lanes)


def depthwise(window: dict, channels: int, activation: int) -> bytes:
    graph = Graph((1, *window["size"], channels))
    kernel = weights(1, *window["kernel"], channels, taps=int(np.prod(window["kernel"])))
    inputs = [graph.input, graph.constant(kernel), graph.constant(normal(channels))]
    others = {"dilationHFactor": 1, "dilationWFactor": 1, "depthMultiplier": 1}
    chosen = options(window, activation, **others)
    return graph.bytes(graph.op("DEPTHWISE_CONV_2D", inputs, (1, *window["out"], channels), **chosen))


@examples
@given(windows(), st.integers(1, 21), ACTIVATIONS, LANES)
def test_depthwise_conv_2d(window: dict, channels: int, activation: int, lanes: int) -> None:
    same_as_litert(depthwise(window, channels, activation), lanes)


@pytest.mark.parametrize("lanes", [1, 4, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_conv_2d_as_the_models_have_it(stride: int, lanes: int) -> None:
    """A kernel of 3 x 3 has code of its own, and four columns at a time: every width has its own edges."""
    for width in range(1, 20):
        out = -(-7 // stride), -(-width // stride)
        window = {"size": (7, width), "kernel": (3, 3), "stride": (stride, stride), "padding": SAME, "out": out}
        same_as_litert(depthwise(window, 13, RELU6), lanes)


@examples
@given(windows(), st.integers(1, 21), ACTIVATIONS, st.sampled_from(["AVERAGE_POOL_2D", "MAX_POOL_2D"]), LANES)
def test_pools(window: dict, channels: int, activation: int, name: str, lanes: int) -> None:
    graph = Graph((1, *window["size"], channels))
    filter_h, filter_w = window["kernel"]
    chosen = options(window, activation, filterHeight=filter_h, filterWidth=filter_w)
    same_as_litert(graph.bytes(graph.op(name, [graph.input], (1, *window["out"], channels), **chosen)), lanes)


@examples
@given(st.integers(1, 5), st.integers(1, 60), st.integers(1, 40), ACTIVATIONS, st.booleans(), LANES)
def test_fully_connected(rows: int, taps: int, channels: int, activation: int, bias: bool, lanes: int) -> None:
    graph = Graph((rows, taps))
    inputs = [graph.input, graph.constant(weights(channels, taps, taps=taps))]
    inputs += [graph.constant(normal(channels))] if bias else [-1]
    output = graph.op("FULLY_CONNECTED", inputs, (rows, channels), fusedActivationFunction=activation)
    same_as_litert(graph.bytes(output), lanes)


@examples
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.integers(0, 3),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["MEAN", "REDUCE_MAX"]),
    LANES,
)
def test_reductions(shape: list, first: int, count: int, keep: bool, negative: bool, name: str, lanes: int) -> None:
    rank = len(shape)
    first = min(first, rank - 1)
    axes = list(range(first, min(first + count, rank)))
    kept = [1 if axis in axes else n for axis, n in enumerate(shape) if keep or axis not in axes]
    graph = Graph(shape)
    given_axes = np.array([axis - rank if negative else axis for axis in axes], np.int32)
    output = graph.op(name, [graph.input, graph.constant(given_axes)], kept, keepDims=keep)
    same_as_litert(graph.bytes(output), lanes)


@examples
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.data(), ACTIVATIONS, LANES)
def test_add(shape: list, data: st.DataObject, activation: int, lanes: int) -> None:
    other = [data.draw(st.sampled_from([1, n])) for n in shape][data.draw(st.integers(0, len(shape) - 1)) :]
    graph = Graph(shape)
    inputs = [graph.input, graph.constant(normal(*other))]
    if data.draw(st.booleans()):
        inputs.reverse()
    output = graph.op("ADD", inputs, shape, fusedActivationFunction=activation)
    same_as_litert(graph.bytes(output), lanes)


def test_adding_two_computed_tensors_of_five_dimensions() -> None:
    graph = Graph((2, 1, 3, 2, 5))
    twice = graph.op("ADD", [graph.input, graph.input], (2, 1, 3, 2, 5))
    assert same_as_litert(graph.bytes(graph.op("ADD", [twice, graph.input], (2, 1, 3, 2, 5))), 4).arena == 64


@examples
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data(), LANES)
def test_concatenation(shape: list, data: st.DataObject, lanes: int) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    others = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    graph, inputs, total = Graph(shape), [], 0
    for size in others:
        piece = [*shape]
        piece[axis] = size
        total += size
        inputs.append(graph.constant(normal(*piece, seed=total)))
    inputs.insert(data.draw(st.integers(0, len(inputs))), graph.input)
    joined = [*shape]
    joined[axis] += total
    same_as_litert(graph.bytes(graph.op("CONCATENATION", inputs, joined, axis=axis)), lanes)


@examples
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.data(), LANES)
def test_pad(shape: list, data: st.DataObject, lanes: int) -> None:
    sides = np.array([[data.draw(st.integers(0, 4)) for _ in range(2)] for _ in shape], np.int32)
    graph = Graph(shape)
    padded = [n + int(both.sum()) for n, both in zip(shape, sides, strict=True)]
    same_as_litert(graph.bytes(graph.op("PAD", [graph.input, graph.constant(sides)], padded)), lanes)


def test_reshapes_take_no_memory_but_where_they_must() -> None:
    def reshaped(graph: Graph, tensor: int, *shape: int) -> int:
        return graph.op("RESHAPE", [tensor, graph.constant(np.array(shape, np.int32))], shape, newShape=list(shape))

    graph = Graph((1, 4, 6))
    program = same_as_litert(graph.bytes(reshaped(graph, graph.input, 24)), 4)
    assert [call.kernel for call in program.calls] == ["copy"] and program.arena == 0
    graph = Graph((1, 4, 6))
    start = reshaped(graph, graph.input, 1, 24)
    dense = graph.op("FULLY_CONNECTED", [start, graph.constant(normal(8, 24))], (1, 8))
    program = same_as_litert(graph.bytes(reshaped(graph, dense, 2, 4)), 4)
    assert [call.kernel for call in program.calls] == ["conv_2d"] and program.arena == 0


@given(
    st.dictionaries(
        st.integers(0, 30), st.tuples(st.integers(1, 500), st.integers(0, 12), st.integers(0, 5)), max_size=14
    )
)
def test_tensors_that_live_together_lie_apart(given_lives: dict) -> None:
    lives = {key: memory.Life(size, first, first + more) for key, (size, first, more) in given_lives.items()}
    offsets, total = memory.arrange(lives)
    for key, life in lives.items():
        assert offsets[key] % memory.ALIGNMENT == 0 and offsets[key] + life.size <= total
        for other, met in lives.items():
            if other != key and life.meets(met):
                ends = offsets[key] + life.size, offsets[other] + met.size
                assert ends[0] <= offsets[other] or ends[1] <= offsets[key]


def test_a_chain_takes_two_places() -> None:
    lives = {i: memory.Life(160, i, i + 1) for i in range(9)}
    assert memory.arrange(lives)[1] == 320


def _conv(edit: Callable[[dict], None], in_c: int = 2) -> bytes:
    chosen = {"padding": SAME, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    edit(chosen)
    graph = Graph((1, 4, 4, 2 * in_c))
    return graph.bytes(graph.op("CONV_2D", [graph.input, graph.constant(normal(4, 1, 1, 2))], (1, 4, 4, 4), **chosen))


def _reduced(*axes: int) -> bytes:
    graph = Graph((2, 3, 4))
    return graph.bytes(graph.op("MEAN", [graph.input, graph.constant(np.array(axes, np.int32))], (3,)))


def _depthwise() -> bytes:
    graph = Graph((1, 4, 4, 2))
    chosen = {"padding": SAME, "strideH": 1, "strideW": 1, "depthMultiplier": 2}
    chosen |= {"dilationHFactor": 1, "dilationWFactor": 1}
    inputs = [graph.input, graph.constant(normal(1, 1, 1, 4))]
    return graph.bytes(graph.op("DEPTHWISE_CONV_2D", inputs, (1, 4, 4, 4), **chosen))


def _computed_weights() -> bytes:
    graph = Graph((3, 3))
    return graph.bytes(graph.op("FULLY_CONNECTED", [graph.input, graph.input], (3, 3)))


def _logistic() -> bytes:
    graph = Graph((1, 3))
    return graph.bytes(graph.op("LOGISTIC", [graph.input], (1, 3)))


def _batch() -> bytes:
    graph = Graph((2, 4, 4, 1))
    chosen = {"padding": SAME, "strideH": 1, "strideW": 1, "filterHeight": 1, "filterWidth": 1}
    return graph.bytes(graph.op("MAX_POOL_2D", [graph.input], (2, 4, 4, 1), **chosen))


def _wrong_shape() -> bytes:
    graph = Graph((1, 3))
    return graph.bytes(graph.op("FULLY_CONNECTED", [graph.input, graph.constant(normal(2, 3))], (1, 9)))


def _unwritten() -> bytes:
    graph = Graph((1, 3))
    return graph.bytes(graph.op("ADD", [graph.input, graph.tensor("nowhere", (1, 3))], (1, 3)))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (_logistic(), "LOGISTIC at operator 0, which writes 'logistic', cannot be built ahead of time: there is no"),
        (_conv(lambda o: o.update(dilationWFactor=2), 1), "'conv_2d', .* its kernel is dilated by [1, 2]"),
        (_conv(lambda o: o.update(fusedActivationFunction=TANH), 1), "'conv_2d', .* its activation is TANH"),
        (_conv(lambda o: o.update(strideW=0), 1), "its strides are [1, 0]"),
        (_conv(lambda o: None), "its kernel is [4, 1, 1, 2] for an input of [1, 4, 4, 4]: it has groups"),
        (_depthwise(), "'depthwise_conv_2d', .* its depth multiplier must be 1"),
        (_reduced(0, 2), "MEAN at operator 0, .* its axes [0, 2] of 'mel', [2, 3, 4], are no neighbors"),
        (_reduced(5), "its axes [5] are not those of 'mel'"),
        (_computed_weights(), "its input 'mel' must be a constant of float32"),
        (_batch(), "its tensor 'mel' is [2, 4, 4, 1], not [1, rows, columns, channels]"),
        (_wrong_shape(), "its shape is [1, 9], and 2 values are computed"),
        (_unwritten(), "it reads 'nowhere', which nothing has written"),
    ],
)
def test_what_is_not_known_is_refused_by_operator_and_tensor(data: bytes, told: str) -> None:
    with pytest.raises(AotError) as caught:
        lower(read_graph(data))
    at = 0
    for part in told.split(".*"):
        assert part.strip() in str(caught.value)[at:], str(caught.value)
        at = str(caught.value).index(part.strip(), at) + len(part.strip())
    assert str(caught.value).count("\n") == 0 and str(caught.value).endswith(".")


def test_int8_and_damage_are_refused() -> None:
    graph = Graph((1, 3))
    graph.graph.tensors[graph.input].type = 9
    with pytest.raises(AotError, match="The tensor 'mel' is int8; only float32"):
        lower(read_graph(graph.bytes(graph.op("RESHAPE", [graph.input], (3, 1)))))
    with pytest.raises(TfliteFileError):
        read_graph(b"nothing of the kind")
    graph = Graph((1, 3))
    graph.graph.tensors[graph.constant(normal(3))].shape = [4]
    with pytest.raises(AotError, match=r"The constant 'constant' holds 3 values; its shape \[4\] asks for 4"):
        read_graph(graph.bytes(graph.op("ADD", [graph.input, 1], (1, 3))))


def test_names_from_a_file_stay_in_their_comments() -> None:
    graph = Graph((1, 3))
    output = graph.op("ADD", [graph.input, graph.input], (1, 3))
    graph.graph.tensors[output].name = "é */ int x; /*\n".encode()
    program = lower(read_graph(graph.bytes(output)))
    text = generate.generate(program, "0" * 64)[generate.MODEL_FILE].decode("ascii")
    assert "/* ADD \\xe9 * / int x; /*\\n */" in text


def test_weights_are_aligned_and_stored_once() -> None:
    graph = Graph((1, 8))
    matrix = graph.constant(weights(8, 8, taps=8))
    again = graph.op("FULLY_CONNECTED", [graph.input, matrix], (1, 8))
    program = same_as_litert(graph.bytes(graph.op("FULLY_CONNECTED", [again, matrix], (1, 8))), 4)
    assert program.weights.size == 8 * 9
    assert {call.places[1].offset for call in program.calls} == {0}
    assert [call.places[-1].region for call in program.calls] == [ARENA, "output"]
