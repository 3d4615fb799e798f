"""The graph behind its spectrogram as a file of its own: shapes folded to constants, the last layer cut to classes.

What does not depend on samples is taken from what the graph itself computed (trace.py), so that no operator on shapes
is left; nothing else is touched, and the numbers that remain are those of the source, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.birdnet_import.graph import DTYPES, Graph, Node
from training.birdnet_import.recognise import Found
from training.export_tflite import INPUT_NAME, OUTPUT_NAME
from training.tflite_file import packed

_TYPES = {np.dtype(dtype): number for number, dtype in DTYPES.items()}


def last_layer(graph: Graph) -> tuple[Node, int]:
    """The operator that makes the logits, and how many there are.

    Raises:
        GraphError: it is no plain fully connected layer of constant weights.
    """
    node = graph.maker(graph.output)
    if node is None or node.name != "FULLY_CONNECTED" or node.options.fusedActivationFunction:
        told = "nothing" if node is None else node.name
        raise graph.differs(f"it should end in a FULLY_CONNECTED layer that gives logits, and ends in {told}")
    if not all(t < 0 or t in graph.settled for t in node.inputs[1:]):
        raise graph.differs("the weights of its last layer are no constants")
    return node, int(graph.graph.tensors[node.inputs[1]].shape[0])


def cut_graph(graph: Graph, found: Found, rows: Sequence[int] | NDArray[np.int64]) -> bytes:
    """The file: input ``mel`` float32 [1, n_mels, n_frames, n_channels], output ``logits`` float32 [1, n_rows].

    Args:
        graph: the whole.
        found: its front end.
        rows: the classes kept, in the order of the logits.

    Raises:
        GraphError: what follows the spectrogram is not a graph of its own.
    """
    last, _ = last_layer(graph)
    return _Cutting(graph, found).file(_needed(graph, found.cut), last, np.asarray(rows, np.int64))


def _needed(graph: Graph, cut: int) -> list[Node]:
    """The operators between the cut and the logits."""
    wanted, kept = {graph.output}, []
    for node in reversed(graph.nodes):
        if (
            wanted.isdisjoint(node.outputs)
            or cut in node.outputs
            or wanted.isdisjoint(set(node.outputs) - graph.settled)
        ):
            continue
        kept.append(node)
        wanted.update(t for t in node.inputs if t >= 0)
    if graph.input in wanted:
        raise graph.differs("what follows the spectrogram takes the samples as well")
    if cut not in wanted:
        raise graph.differs("its logits do not come from the spectrogram")
    return kept[::-1]


class _Cutting:
    """A model in the making."""

    def __init__(self, graph: Graph, found: Found) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._source, self._found = graph, found
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.description = 3, b"labous"
        self._model.subgraphs, self._model.operatorCodes = [self._graph], []
        self._model.buffers = [schema.BufferT()]
        self._model.metadata = []
        self._graph.tensors, self._graph.operators = [], []
        self._numbers: dict[int, int] = {}
        self._codes: dict[int, int] = {}
        self._names: set[str] = set()

    def file(self, nodes: Sequence[Node], last: Node, rows: NDArray[np.int64]) -> bytes:
        """The finished file."""
        self._graph.inputs = [self._tensor(self._found.cut)]
        for node in nodes:
            self._operator(node, rows if node == last else None)
        output = self._numbers[self._source.output]
        self._graph.tensors[output].shape = [1, len(rows)]
        self._graph.outputs = [output]
        for number, name in ((self._graph.inputs[0], INPUT_NAME), (output, OUTPUT_NAME)):
            self._graph.tensors[number].name = name.encode()
        self._model.signatureDefs = [self._signature()]
        return packed(self._model)

    def _operator(self, node: Node, rows: NDArray[np.int64] | None) -> None:
        source = self._source.graph.operators[node.index]
        made = self._schema.OperatorT()
        made.opcodeIndex = self._code(source.opcodeIndex)
        made.inputs = [-1 if t < 0 else self._tensor(t, None if i == 0 else rows) for i, t in enumerate(node.inputs)]
        made.outputs = [self._tensor(t) for t in node.outputs]
        made.builtinOptionsType, made.builtinOptions = source.builtinOptionsType, source.builtinOptions
        if node.name == "RESHAPE":  # which holds the shape a second time, and may hold another
            made.builtinOptions = self._schema.ReshapeOptionsT()
            made.builtinOptions.newShape = list(self._found.trace.shapes[node.output])
            made.builtinOptionsType = self._schema.BuiltinOptions.ReshapeOptions
        self._graph.operators.append(made)

    def _code(self, index: int) -> int:
        if index not in self._codes:
            self._codes[index] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(self._source.model.operatorCodes[index])
        return self._codes[index]

    def _tensor(self, source: int, rows: NDArray[np.int64] | None = None) -> int:
        """The number of a tensor of the source here; ``rows`` are those kept of a constant."""
        if source in self._numbers:
            return self._numbers[source]
        told = self._source.graph.tensors[source]
        made = self._schema.TensorT()
        made.name, made.type, made.quantization = self._name(source), told.type, told.quantization
        made.isVariable = told.isVariable
        values = self._value(source)
        if values is None:
            made.shape = list(self._shape(source))
        else:
            values = values if rows is None else values[rows]
            buffer = self._schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
            made.type, made.shape, made.buffer = _TYPES[values.dtype], list(values.shape), len(self._model.buffers)
            self._model.buffers.append(buffer)
        self._numbers[source] = len(self._graph.tensors)
        self._graph.tensors.append(made)
        return self._numbers[source]

    def _shape(self, source: int) -> tuple[int, ...]:
        shape = self._found.trace.shapes.get(source)
        if shape is None:
            raise self._source.differs(f"the shape of {self._source.tensor_name(source)!r} is not known")
        return shape

    def _value(self, source: int) -> NDArray[Any] | None:
        """What a tensor that does not depend on the samples holds; None for the others."""
        if source not in self._source.settled:
            return None
        if self._source.is_constant(source):
            values = self._source.constant(source)
            if values is None:
                raise self._source.differs(f"its constant {self._source.tensor_name(source)!r} is of an unknown type")
            return values
        return self._found.trace.values[source][0]

    def _name(self, source: int) -> bytes:
        """Short, and of this tensor alone: tf2onnx tells tensors apart by name."""
        short = self._source.tensor_name(source).split(";", maxsplit=1)[0]
        name, taken = short, 1
        while name in self._names or name in (INPUT_NAME, OUTPUT_NAME):
            taken += 1
            name = f"{short}:{taken}"
        self._names.add(name)
        return name.encode()

    def _signature(self) -> Any:
        signature = self._schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
        for side, name, number in (
            ("inputs", INPUT_NAME, self._graph.inputs[0]),
            ("outputs", OUTPUT_NAME, self._graph.outputs[0]),
        ):
            entry = self._schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), number
            setattr(signature, side, [entry])
        return signature
