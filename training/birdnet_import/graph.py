"""A .tflite graph that can be walked from operator to operator, by what they are.

Enters: the bytes of a file. Leaves: its operators, who makes and who takes each tensor, and the constants' values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.birdnet_import.errors import GraphError
from training.tflite_file import TfliteFileError, builtin_name, read_tflite

DTYPES: dict[int, type[np.generic]] = {
    0: np.float32,
    1: np.float16,
    2: np.int32,
    3: np.uint8,
    4: np.int64,
    6: np.bool_,
    8: np.complex64,
    9: np.int8,
}
"""numpy's types of TFLite's, those that a constant of such a graph may have."""


@dataclass(frozen=True)
class Node:
    """One operator: its number in order of execution, its builtin's name, its tensors (-1: left out)."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any

    @property
    def output(self) -> int:
        """The first thing that it makes."""
        return self.outputs[0]


class Graph:
    """The main subgraph of a file.

    Args:
        data: the file.
        name: what to call it in errors.

    Raises:
        TfliteFileError: it is no .tflite file, or a damaged one.
        GraphError: it has not one graph with one input and one output.
    """

    def __init__(self, data: bytes, name: str) -> None:
        from ai_edge_litert import schema_py_generated as schema

        try:
            read_tflite(data)  # finds what is damaged
        except TfliteFileError as error:
            raise TfliteFileError(f"{name}: {error}") from error
        self.data, self.name = data, name
        self.model = schema.ModelT.InitFromPackedBuf(bytes(data), 0)
        self.graph = self.model.subgraphs[0]
        if len(self.model.subgraphs) != 1 or len(self.graph.inputs) != 1 or len(self.graph.outputs) != 1:
            raise self.differs(
                f"it has {len(self.model.subgraphs)} subgraphs, {len(self.graph.inputs)} inputs and "
                f"{len(self.graph.outputs)} outputs, where there should be one of each"
            )
        self.input, self.output = int(self.graph.inputs[0]), int(self.graph.outputs[0])

    def differs(self, what: str) -> GraphError:
        """The error that says in what the file is not as expected."""
        return GraphError(f"{self.name} is no graph of the kind that can be imported: {what} (see docs/birdnet.md).")

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The operators in order of execution."""
        found = []
        for index, operator in enumerate(self.graph.operators):
            name = builtin_name(self.model.operatorCodes[operator.opcodeIndex])
            tensors = _numbers(operator.inputs), _numbers(operator.outputs)
            found.append(Node(index, name, *tensors, operator.builtinOptions))
        return tuple(found)

    @cached_property
    def _makers(self) -> dict[int, Node]:
        return {tensor: node for node in self.nodes for tensor in node.outputs}

    @cached_property
    def _takers(self) -> dict[int, list[Node]]:
        takers: dict[int, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for tensor in dict.fromkeys(node.inputs):
                takers[tensor].append(node)
        return takers

    def maker(self, tensor: int) -> Node | None:
        """The operator that makes a tensor; None for the input and for constants."""
        return self._makers.get(tensor)

    def takers(self, tensor: int) -> Sequence[Node]:
        """The operators that take a tensor."""
        return self._takers.get(tensor, [])

    def constant(self, tensor: int) -> NDArray[Any] | None:
        """A constant's value, in its shape; None where the tensor is computed, or of a type that is not known.

        One that the file keeps as float16 and makes float32 is a constant too.

        Raises:
            GraphError: the file holds more or fewer values than the shape says.
        """
        if tensor < 0:
            return None
        maker = self.maker(tensor)
        if maker is not None and maker.name == "DEQUANTIZE" and self.is_constant(maker.inputs[0]):
            stored = self.constant(maker.inputs[0])
            return stored.astype(np.float32) if stored is not None and stored.dtype == np.float16 else None
        told = self.graph.tensors[tensor]
        content, dtype = self.model.buffers[told.buffer].data, DTYPES.get(told.type)
        if content is None or dtype is None:
            return None
        shape = _numbers(told.shape)
        try:
            values = np.frombuffer(np.asarray(content, np.uint8).tobytes(), dtype).reshape(shape)
        except ValueError as error:
            raise self.differs(f"its constant {self.tensor_name(tensor)!r} is damaged") from error
        return values

    def is_constant(self, tensor: int) -> bool:
        """Whether the file has a tensor's values."""
        return tensor >= 0 and tensor not in self._makers and tensor != self.input

    def tensor_name(self, tensor: int) -> str:
        """As the file calls it."""
        name = self.graph.tensors[tensor].name
        return name.decode(errors="replace") if name else f"tensor {tensor}"

    @cached_property
    def settled(self) -> frozenset[int]:
        """Tensors whose values do not depend on the samples: constants, and what is made of shapes and of such."""
        found = {t for node in self.nodes for t in node.inputs if self.is_constant(t)}
        for node in self.nodes:
            if node.name == "SHAPE" or (node.inputs and all(t < 0 or t in found for t in node.inputs)):
                found.update(node.outputs)
        return frozenset(found)


def _numbers(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(value) for value in values)
