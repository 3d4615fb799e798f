"""From operators to calls of kernels.c: weights packed, shapes and paddings worked out, tensors placed.

Enters: a Graph. Leaves: a :class:`~training.aot.program.Program`. An operator, or an option of one, that the kernels do
not have is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.aot.graph import Graph, Node, Tensor
from training.aot.lowering import Lowering
from training.aot.program import Numbers, Program

# a vector of 16 bytes: what NEON, SSE and SIMD128 have
LANES = 4
# floats of the input that a convolution goes through at a time: half of a first cache of 32 KB
_BLOCK = 4096
_RANK = 4
_SAME = 0
_ACTIVATIONS = {0: (-math.inf, math.inf), 1: (0.0, math.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
_ACTIVATION_NAMES = {4: "TANH", 5: "SIGN_BIT"}

_Shape = tuple[int, ...]


def lower(graph: Graph, lanes: int = LANES) -> Program:
    """The calls that compute a graph, for kernels with vectors of ``lanes`` floats.

    Raises:
        AotError: an operator, an option or a tensor that the kernels do not have.
    """
    lowering = Lowering(graph, lanes)
    for node in graph.nodes:
        if node.name not in _OPERATORS:
            raise node.error(f"there is no such operator; there are {', '.join(sorted(_OPERATORS))}")
        _OPERATORS[node.name](lowering, node)
    return lowering.program()


def _activation(node: Node) -> Numbers:
    kind = node.options.fusedActivationFunction
    if kind not in _ACTIVATIONS:
        raise node.error(f"its activation is {_ACTIVATION_NAMES.get(kind, kind)}; NONE and the kinds of RELU are known")
    low, high = _ACTIVATIONS[kind]
    return {"low": low, "high": high}


def _image(node: Node, tensor: Tensor) -> tuple[int, int, int]:
    """Rows, columns and channels."""
    if len(tensor.shape) != _RANK or tensor.shape[0] != 1:
        raise node.error(f"its tensor {tensor.name!r} is {list(tensor.shape)}, not [1, rows, columns, channels]")
    return tensor.shape[1], tensor.shape[2], tensor.shape[3]


def _window(node: Node, kernel: tuple[int, ...], channels: int) -> tuple[Numbers, int]:
    """A labous_window, as TFLite understands strides and padding, and the elements of its output."""
    in_h, in_w, in_c = _image(node, _input(node, 0))
    strides = (int(node.options.strideH), int(node.options.strideW))
    if min(strides) < 1 or min(kernel) < 1:
        raise node.error(f"its kernel is {list(kernel)} and its strides are {list(strides)}")
    outs, pads = [], []
    for size, taps, stride in zip((in_h, in_w), kernel, strides, strict=True):
        out = -(-size // stride) if node.options.padding == _SAME else (size - taps) // stride + 1
        if out < 1:
            raise node.error(f"its kernel of {list(kernel)} is larger than its input of {[in_h, in_w]}")
        outs.append(out)
        pads.append(max((out - 1) * stride + taps - size, 0) // 2 if node.options.padding == _SAME else 0)
    first = min(-(-pads[1] // strides[1]), outs[1])
    whole = range(first, max(first, min(outs[1], (in_w - kernel[1] + pads[1]) // strides[1] + 1)))
    # fmt: off
    numbers: Numbers = {
        "in_h": in_h, "in_w": in_w, "in_c": in_c, "out_h": outs[0], "out_w": outs[1], "out_c": channels,
        "kernel_h": kernel[0], "kernel_w": kernel[1], "stride_h": strides[0], "stride_w": strides[1],
        "pad_top": pads[0], "pad_left": pads[1], "whole_first": whole.start, "whole_end": whole.stop,
        "block": _block(strides[1] * in_c), **_activation(node),
    }
    # fmt: on
    return numbers, outs[0] * outs[1] * channels


def _pixels(count: int, in_c: int, out_c: int) -> Numbers:
    """A labous_window of one tap, over pixels in a line."""
    # fmt: off
    return {
        "in_h": 1, "in_w": count, "in_c": in_c, "out_h": 1, "out_w": count, "out_c": out_c, "kernel_h": 1,
        "kernel_w": 1, "stride_h": 1, "stride_w": 1, "pad_top": 0, "pad_left": 0, "whole_first": 0, "whole_end": count,
        "block": _block(in_c),
    }
    # fmt: on


def _block(floats: int) -> int:
    """Pixels of so many floats that leave room in a small first cache; every kernel's tile divides 24."""
    return max(_BLOCK // floats // 24, 1) * 24


def _input(node: Node, index: int) -> Tensor:
    found = node.inputs[index] if index < len(node.inputs) else None
    if found is None:
        raise node.error(f"its input {index} is missing")
    return found


def _constant(node: Node, index: int, dtype: str = "float32") -> NDArray[Any]:
    tensor = _input(node, index)
    if tensor.values is None or tensor.dtype != dtype:
        raise node.error(f"its input {tensor.name!r} must be a constant of {dtype}")
    return tensor.values


def _bias(node: Node, channels: int) -> NDArray[np.float32] | None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    bias = _constant(node, 2)
    if bias.shape != (channels,):
        raise node.error(f"its biases are {list(bias.shape)} for {channels} channels")
    return bias


def _no_dilation(node: Node) -> None:
    factors = [int(node.options.dilationHFactor), int(node.options.dilationWFactor)]
    if factors != [1, 1]:
        raise node.error(f"its kernel is dilated by {factors}, and only [1, 1] is known")


def _conv_2d(lowering: Lowering, node: Node) -> None:
    _no_dilation(node)
    kernel, source = _constant(node, 1), _input(node, 0)
    if kernel.ndim != _RANK or kernel.shape[3] != _image(node, source)[2]:
        raise node.error(f"its kernel is {list(kernel.shape)} for an input of {list(source.shape)}: it has groups")
    channels = kernel.shape[0]
    numbers, size = _window(node, kernel.shape[1:3], channels)
    output = lowering.result(node, size)
    if kernel.shape[1:3] == (1, 1) and node.options.strideH == node.options.strideW == 1:
        numbers |= _pixels(output.size // channels, kernel.shape[3], channels)
    panels = lowering.panels(kernel.reshape(channels, -1), _bias(node, channels))
    lowering.call(node, "conv_2d", "window", numbers, lowering.operand(node, source), panels, (output.index, 0))


def _depthwise_conv_2d(lowering: Lowering, node: Node) -> None:
    _no_dilation(node)
    kernel, source = _constant(node, 1), _input(node, 0)
    channels = _image(node, source)[2]
    if kernel.ndim != _RANK or kernel.shape[0] != 1 or kernel.shape[3] != channels:
        raise node.error(f"its kernel is {list(kernel.shape)} for {channels} channels: its depth multiplier must be 1")
    numbers, size = _window(node, kernel.shape[1:3], channels)
    output = lowering.result(node, size)
    panels = lowering.panels(kernel.reshape(-1, channels).T, _bias(node, channels))
    lowering.call(
        node, "depthwise_conv_2d", "window", numbers, lowering.operand(node, source), panels, (output.index, 0)
    )


def _fully_connected(lowering: Lowering, node: Node) -> None:
    matrix, source = _constant(node, 1), _input(node, 0)
    if node.options.weightsFormat != 0:
        raise node.error("its weights are shuffled")
    if matrix.ndim != 2 or matrix.size == 0 or source.size % matrix.shape[1]:
        raise node.error(f"its weights are {list(matrix.shape)} for an input of {list(source.shape)}")
    channels, taps = matrix.shape
    count = source.size // taps
    numbers = _pixels(count, taps, channels) | _activation(node)
    output, panels = lowering.result(node, count * channels), lowering.panels(matrix, _bias(node, channels))
    lowering.call(node, "conv_2d", "window", numbers, lowering.operand(node, source), panels, (output.index, 0))


def _pool(lowering: Lowering, node: Node) -> None:
    source = _input(node, 0)
    kernel = (int(node.options.filterHeight), int(node.options.filterWidth))
    channels = _image(node, source)[2]
    numbers, size = _window(node, kernel, channels)
    output = lowering.result(node, size)
    lowering.call(node, node.name.lower(), "window", numbers, lowering.operand(node, source), (output.index, 0))


def _reduction(lowering: Lowering, node: Node) -> None:
    source = _input(node, 0)
    rank = len(source.shape)
    axes = {int(axis) + (rank if axis < 0 else 0) for axis in _constant(node, 1, "int32").ravel()}
    if any(not 0 <= axis < rank for axis in axes):
        raise node.error(f"its axes {sorted(axes)} are not those of {source.name!r}, {list(source.shape)}")
    # axes of one element may count as either
    reduced = [axis for axis in sorted(axes) if source.shape[axis] != 1]
    if reduced and any(source.shape[axis] != 1 and axis not in axes for axis in range(reduced[0], reduced[-1])):
        raise node.error(f"its axes {sorted(axes)} of {source.name!r}, {list(source.shape)}, are no neighbors")
    first, end = (reduced[0], reduced[-1] + 1) if reduced else (rank, rank)
    outer, length, inner = (
        math.prod(source.shape[part]) for part in (slice(first), slice(first, end), slice(end, rank))
    )
    output = lowering.result(node, outer * inner)
    numbers: Numbers = {"outer": outer, "length": length, "inner": inner}
    lowering.call(node, node.name.lower(), "reduction", numbers, lowering.operand(node, source), (output.index, 0))


def _add(lowering: Lowering, node: Node) -> None:
    inputs = [_input(node, 0), _input(node, 1)]
    shapes: list[_Shape] = [tensor.shape for tensor in inputs]
    if shapes[0] == shapes[1]:
        shapes = [(tensor.size,) for tensor in inputs]
    if max(map(len, shapes)) > _RANK:
        raise node.error(f"it adds {list(shapes[0])} to {list(shapes[1])}: more than {_RANK} dimensions")
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise node.error(f"it adds {list(shapes[0])} to {list(shapes[1])}") from None
    output = lowering.result(node, math.prod(shape))
    full = _padded(shape)
    numbers = {"shape": full, "out": _strides(full, full), **_activation(node)}
    numbers |= {key: _strides(_padded(found), full) for key, found in zip("ab", shapes, strict=True)}
    operands = (lowering.operand(node, tensor) for tensor in inputs)
    lowering.call(node, "add", "elements", numbers, *operands, (output.index, 0))


def _concatenation(lowering: Lowering, node: Node) -> None:
    if node.options.fusedActivationFunction != 0:
        raise node.error("it has an activation")
    inputs = [_input(node, i) for i in range(len(node.inputs))]
    rank = len(inputs[0].shape)
    axis = int(node.options.axis) + (rank if node.options.axis < 0 else 0)
    frames = {(*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor in inputs}
    if not 0 <= axis < rank or len(frames) != 1 or any(len(tensor.shape) != rank for tensor in inputs):
        raise node.error(f"it joins {', '.join(str(list(tensor.shape)) for tensor in inputs)} along axis {axis}")
    output, outer, offset = lowering.result(node, sum(t.size for t in inputs)), math.prod(inputs[0].shape[:axis]), 0
    for tensor in inputs:
        piece = tensor.size // outer
        numbers = _copied((1, 1, outer, piece), (0, 0, piece, 1), (0, 0, output.size // outer, 1))
        lowering.call(node, "copy", "elements", numbers, lowering.operand(node, tensor), (output.index, offset))
        offset += piece


def _pad(lowering: Lowering, node: Node) -> None:
    source, sides = _input(node, 0), _constant(node, 1, "int32")
    if len(source.shape) > _RANK or sides.shape != (len(source.shape), 2) or sides.min() < 0:
        raise node.error(f"it pads {list(source.shape)} by {sides.tolist()}")
    inside = _padded(source.shape)
    before = (0,) * (_RANK - len(sides)) + tuple(int(n) for n in sides[:, 0])
    outside = _padded(tuple(int(n) for n in source.shape + sides.sum(axis=1)))
    output = lowering.result(node, math.prod(outside))
    zeros = _copied((1, 1, 1, output.size), (0, 0, 0, 0), (0, 0, 0, 1))
    lowering.call(node, "copy", "elements", zeros, lowering.constant(np.zeros(1, np.float32)), (output.index, 0))
    strides = _strides(outside, outside)
    numbers = _copied(inside, _strides(inside, inside), strides)
    offset = sum(n * stride for n, stride in zip(before, strides, strict=True))
    lowering.call(node, "copy", "elements", numbers, lowering.operand(node, source), (output.index, offset))


def _reshape(lowering: Lowering, node: Node) -> None:
    source = _input(node, 0)
    operand, output = lowering.operand(node, source), lowering.result(node, source.size)
    if not lowering.alias(output, source):
        numbers = _copied((1, 1, 1, source.size), (0, 0, 0, 1), (0, 0, 0, 1))
        lowering.call(node, "copy", "elements", numbers, operand, (output.index, 0))


def _copied(shape: _Shape, a: _Shape, out: _Shape) -> Numbers:
    return {"shape": shape, "a": a, "out": out}


def _padded(shape: Sequence[int]) -> _Shape:
    return (1,) * (_RANK - len(shape)) + tuple(shape)


def _strides(shape: _Shape, full: _Shape) -> _Shape:
    """In floats, 0 along the axes that are repeated."""
    steps = [math.prod(shape[axis + 1 :]) for axis in range(_RANK)]
    return tuple(0 if n == 1 and wanted != 1 else step for n, wanted, step in zip(shape, full, steps, strict=True))


_OPERATORS: dict[str, Callable[[Lowering, Node], None]] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _pool,
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "FULLY_CONNECTED": _fully_connected,
    "MAX_POOL_2D": _pool,
    "MEAN": _reduction,
    "PAD": _pad,
    "REDUCE_MAX": _reduction,
    "RESHAPE": _reshape,
}
