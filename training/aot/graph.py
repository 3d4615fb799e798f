"""A .tflite file as operators with their options and constants.

Enters: the bytes of a file. Leaves: a :class:`Graph`. What a file must satisfy to be shipped is gate.py's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous.formats import printable
from training.aot.errors import AotError
from training.tflite_file import read_tflite

_DTYPES = {"float32": np.float32, "int32": np.int32}


@dataclass(frozen=True)
class Tensor:
    """One tensor.

    Attributes:
        index: its place in the file.
        name: as in the file, fit to print.
        shape: static shape.
        dtype: numpy's name of the element type, or TFLite's.
        values: its constant content, None when it is computed.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    values: NDArray[Any] | None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Node:
    """One operator, in order of execution.

    Attributes:
        index: its place in the file.
        name: the builtin's.
        inputs: None stands for an optional input that is not there.
        outputs: what it computes.
        options: the schema's object of its options, None where it has none.
    """

    index: int
    name: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Any

    def error(self, reason: str) -> AotError:
        """The error that this operator cannot be built, for ``reason``, a clause."""
        written = f", which writes {self.outputs[0].name!r}," if self.outputs else ""
        return AotError(f"{self.name} at operator {self.index}{written} cannot be built ahead of time: {reason}.")


@dataclass(frozen=True)
class Graph:
    """The main subgraph, with its only input and its only output."""

    nodes: tuple[Node, ...]
    input: Tensor
    output: Tensor


def read_graph(data: bytes) -> Graph:
    """Read a .tflite file.

    Raises:
        TfliteFileError: not a TFLite flatbuffer, or a damaged one.
        AotError: it has several subgraphs, inputs or outputs, or a shape that is not fixed.
    """
    from ai_edge_litert import schema_py_generated as schema  # a heavy module, only needed here

    file = read_tflite(data)
    if file.subgraphs != 1 or len(file.inputs) != 1 or len(file.outputs) != 1:
        raise AotError(
            f"A model to be built ahead of time has one subgraph with one input and one output; this one has "
            f"{file.subgraphs}, {len(file.inputs)} and {len(file.outputs)}."
        )
    for tensor in file.tensors:
        if tensor.is_dynamic or tensor.is_variable:
            what = "has a dynamic shape" if tensor.is_dynamic else "keeps state"
            raise AotError(f"The tensor {printable(tensor.name)!r} {what}, which cannot be built ahead of time.")
    model = schema.ModelT.InitFromPackedBuf(bytes(data), 0)
    graph = model.subgraphs[0]
    tensors = []
    for index, tensor in enumerate(file.tensors):
        values = None
        if tensor.is_constant and tensor.dtype in _DTYPES:
            content = np.frombuffer(np.asarray(model.buffers[tensor.buffer].data, np.uint8), _DTYPES[tensor.dtype])
            if content.size != tensor.size:
                raise AotError(
                    f"The constant {printable(tensor.name)!r} holds {content.size} values; its shape "
                    f"{list(tensor.shape)} asks for {tensor.size}."
                )
            values = content.reshape(tensor.shape)
        tensors.append(Tensor(index, printable(tensor.name), tensor.shape, tensor.dtype, values))
    nodes = []
    for told, operator in zip(file.operators, graph.operators, strict=True):
        inputs = tuple(tensors[i] if i >= 0 else None for i in _indices(operator.inputs))
        outputs = tuple(tensors[i] for i in _indices(operator.outputs))
        nodes.append(Node(told.index, printable(told.name), inputs, outputs, operator.builtinOptions))
    return Graph(tuple(nodes), tensors[graph.inputs[0]], tensors[graph.outputs[0]])


def _indices(found: Any) -> list[int]:
    return [] if found is None else [int(i) for i in found]
