"""What is being made of a graph: calls, packed weights, and in the end a place for every tensor.

Enters: calls whose operands are tensors. Leaves: a :class:`~training.aot.program.Program`. Which calls an operator
takes is lower.py's business.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.aot import memory
from training.aot.errors import AotError
from training.aot.graph import Graph, Node, Tensor
from training.aot.program import ARENA, INPUT, OUTPUT, WEIGHTS, Call, Numbers, Place, Program

# weights begin on cache lines
_ALIGNMENT = 16
_MAX_BYTES = 2**31 - 1

# a tensor, and how many floats into it; or a place among the weights
Operand = tuple[int, int] | Place


class Lowering:
    """What has been made of the operators so far."""

    def __init__(self, graph: Graph, lanes: int) -> None:
        self._graph, self._lanes = graph, lanes
        self._calls: list[tuple[Call, tuple[Operand, ...]]] = []
        self._weights: list[NDArray[np.float32]] = []
        self._n_weights = 0
        self._known: dict[bytes, Place] = {}
        self._same: dict[int, int] = {}
        self._sizes: dict[int, int] = {graph.input.index: graph.input.size}
        for tensor in (graph.input, graph.output):
            if tensor.dtype != "float32":
                raise AotError(f"The tensor {tensor.name!r} is {tensor.dtype}; only float32 is built ahead of time.")

    def constant(self, values: NDArray[np.float32]) -> Place:
        """A place among the weights."""
        key = values.tobytes()
        if key not in self._known:
            padding = -self._n_weights % _ALIGNMENT
            self._weights += [np.zeros(padding, np.float32), values.ravel()]
            self._known[key] = Place(WEIGHTS, self._n_weights + padding)
            self._n_weights += padding + values.size
        return self._known[key]

    def panels(self, matrix: NDArray[np.float32], bias: NDArray[np.float32] | None) -> Place:
        """Weights [channels, taps] and biases [channels], as kernels.h wants them."""
        channels, taps = matrix.shape
        packed = np.zeros((-(-channels // self._lanes) * self._lanes, 1 + taps), np.float32)
        packed[:channels, 1:] = matrix
        if bias is not None:
            packed[:channels, 0] = bias
        by_panel = packed.reshape(-1, self._lanes, 1 + taps).transpose(0, 2, 1)
        return self.constant(np.ascontiguousarray(by_panel))

    def operand(self, node: Node, tensor: Tensor) -> Operand:
        """What a call reads."""
        if tensor.dtype != "float32":
            raise node.error(f"its tensor {tensor.name!r} is {tensor.dtype}, and only float32 is")
        if tensor.values is not None:
            return self.constant(np.ascontiguousarray(tensor.values))
        if self._root(tensor.index) not in self._sizes:
            raise node.error(f"it reads {tensor.name!r}, which nothing has written")
        return (tensor.index, 0)

    def result(self, node: Node, size: int) -> Tensor:
        """The tensor that an operator writes, of so many elements."""
        output = node.outputs[0]
        if output.dtype != "float32":
            raise node.error(f"its tensor {output.name!r} is {output.dtype}, and only float32 is")
        if output.size != size:
            raise node.error(f"its shape is {list(output.shape)}, and {size} values are computed")
        self._sizes[output.index] = size
        return output

    def call(
        self,
        node: Node,
        kernel: str,
        struct: str,
        numbers: Numbers,
        *operands: Operand,
    ) -> None:
        """One more call; the output last."""
        what = f"{node.name} {node.outputs[0].name}"
        self._calls.append((Call(kernel, struct, numbers, (), what), operands))

    def alias(self, output: Tensor, tensor: Tensor) -> bool:
        """Lets the output be the tensor, under another shape; False where it has to be copied."""
        root = self._root(tensor.index)
        if tensor.values is not None or (root == self._graph.input.index and output == self._graph.output):
            return False
        self._same[output.index] = root
        return True

    def _root(self, index: int) -> int:
        """The tensor whose memory it is."""
        return self._same.get(index, index)

    def program(self) -> Program:
        """All of it, with places for tensors."""
        graph = self._graph
        source, sink = graph.input.index, self._root(graph.output.index)
        if sink == source or sink not in self._sizes:
            raise AotError(f"The model's output {graph.output.name!r} is not computed from its input.")
        lives: dict[int, memory.Life] = {}
        for at, (_, operands) in enumerate(self._calls):
            for operand in operands:
                root = None if isinstance(operand, Place) else self._root(operand[0])
                if root is not None and root not in (source, sink):
                    first = lives[root].first if root in lives else at
                    lives[root] = memory.Life(self._sizes[root], first, at)
        offsets, arena = memory.arrange(lives)

        def placed(operand: Operand) -> Place:
            if isinstance(operand, Place):
                return operand
            root, offset = self._root(operand[0]), operand[1]
            if root in (source, sink):
                return Place(INPUT if root == source else OUTPUT, offset)
            return Place(ARENA, offsets[root] + offset)

        calls = (
            Call(call.kernel, call.struct, call.numbers, tuple(map(placed, operands)), call.what)
            for call, operands in self._calls
        )
        if 4 * max(arena, self._n_weights, graph.input.size) > _MAX_BYTES:
            raise AotError(
                f"The model needs {4 * arena} bytes of arena and {4 * self._n_weights} of weights: too much."
            )
        weights = np.concatenate([np.zeros(0, np.float32), *self._weights])
        return Program(tuple(calls), weights, self._lanes, arena, graph.input.size, graph.output.size)
