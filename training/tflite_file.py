"""What is in a .tflite file, read from its flatbuffer without TensorFlow and without running it.

Enters: the bytes of a file. Leaves: its operators with versions, tensors, parameter count and multiply-adds.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from labous.errors import LabousError

FILE_IDENTIFIER = b"TFL3"
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


class TfliteFileError(LabousError, ValueError):
    """Bytes that are no readable .tflite file."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph.

    Attributes:
        name: as in the file.
        shape: static shape.
        dtype: numpy's name of the element type, or TFLite's where numpy has none.
        scales: quantisation scales, one per tensor or per channel; empty when not quantised.
        zero_points: as many as ``scales``.
        is_dynamic: whether a dimension is unknown before running.
        is_variable: whether it keeps its value between runs.
        buffer: index of its constant data, None when it is computed.
        stored: the constant that a DEQUANTIZE makes it of, where it is smaller in the file than when it is used.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    is_dynamic: bool
    is_variable: bool
    buffer: int | None
    stored: Tensor | None = None

    @property
    def is_constant(self) -> bool:
        """Whether its values are in the file."""
        return self.buffer is not None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Operator:
    """One operator, in order of execution; ``name`` is the builtin's, or ``CUSTOM(…)`` with the custom code."""

    index: int
    name: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def is_custom(self) -> bool:
        """Whether it needs code that no builtin resolver has (Flex operators are custom ones too)."""
        return self.name.startswith("CUSTOM(")

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """Constant kernels and biases of a convolution or a dense layer, as the file holds them, else nothing."""
        if self.name not in _WEIGHTED:
            return ()
        return tuple(t.stored or t for t in self.inputs[1:] if t.is_constant or t.stored is not None)

    @property
    def macs(self) -> int:
        """Multiply-adds of one run: each output element takes one kernel's worth of them."""
        if self.name not in _WEIGHTED:
            return 0
        kernel = self.inputs[1].shape
        per_output = math.prod(kernel[1:3]) if self.name == "DEPTHWISE_CONV_2D" else math.prod(kernel[1:])
        return self.outputs[0].size * per_output


@dataclass(frozen=True)
class TfliteFile:
    """A parsed file. ``operators`` and ``tensors`` are those of every subgraph, the main one first."""

    bytes: int
    subgraphs: int
    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @cached_property
    def parameters(self) -> int:
        """Elements of all kernels and biases, shared ones counted once."""
        return sum({t.buffer: t.size for op in self.operators for t in op.weights}.values())

    @cached_property
    def weight_dtypes(self) -> frozenset[str]:
        """Element types of the kernels."""
        return frozenset(op.weights[0].dtype for op in self.operators if op.weights)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of one run, over convolutions and dense layers."""
        return sum(op.macs for op in self.operators)

    def op_counts(self) -> list[dict[str, Any]]:
        """``[{"name": …, "version": …, "count": …}, …]``, sorted by name, as the manifest lists them."""
        counts = Counter((op.name, op.version) for op in self.operators)
        return [{"name": name, "version": version, "count": n} for (name, version), n in sorted(counts.items())]


def read_tflite(data: bytes) -> TfliteFile:
    """Parse a .tflite file.

    Args:
        data: the whole file.

    Raises:
        TfliteFileError: not a TFLite flatbuffer, or one that ends too early.
    """
    from ai_edge_litert import schema_py_generated as schema  # a heavy module, only needed here

    if data[4:8] != FILE_IDENTIFIER:
        raise TfliteFileError(f"These {len(data)} bytes are no .tflite file: they lack the mark {FILE_IDENTIFIER!r}.")
    try:
        model = schema.ModelT.InitFromPackedBuf(bytes(data), 0)
        tables = [[_tensor(model, t) for t in graph.tensors] for graph in model.subgraphs]
        operators = [op for g, table in zip(model.subgraphs, tables, strict=True) for op in _operators(model, g, table)]
        main = model.subgraphs[0]
        return TfliteFile(
            bytes=len(data),
            subgraphs=len(model.subgraphs),
            operators=tuple(operators),
            tensors=tuple(t for table in tables for t in table),
            inputs=tuple(tables[0][i] for i in main.inputs),
            outputs=tuple(tables[0][i] for i in main.outputs),
        )
    except (IndexError, TypeError, ValueError, AttributeError, KeyError, OverflowError, struct.error) as error:
        # the generated parser checks nothing: a broken offset ends in whatever Python makes of it
        raise TfliteFileError(
            f"These {len(data)} bytes are a damaged .tflite file ({type(error).__name__})."
        ) from error


def _tensor(model: Any, tensor: Any) -> Tensor:
    signature = tensor.shapeSignature
    quantization = tensor.quantization
    scales = () if quantization is None or quantization.scale is None else tuple(map(float, quantization.scale))
    zero_points = tuple(map(int, quantization.zeroPoint)) if scales else ()
    content = model.buffers[tensor.buffer].data
    return Tensor(
        name=tensor.name.decode(),
        shape=() if tensor.shape is None else tuple(map(int, tensor.shape)),
        dtype=_names("TensorType")[tensor.type].lower(),
        scales=scales,
        zero_points=zero_points,
        is_dynamic=signature is not None and any(n < 0 for n in signature),
        is_variable=bool(tensor.isVariable),
        buffer=None if content is None or len(content) == 0 else int(tensor.buffer),
    )


def _operators(model: Any, graph: Any, tensors: list[Tensor]) -> Iterator[Operator]:
    for index, operator in enumerate(graph.operators):
        code = model.operatorCodes[operator.opcodeIndex]
        name = builtin_name(code)
        if name == "CUSTOM":
            name = f"CUSTOM({(code.customCode or b'').decode()})"
        # -1 marks an optional input that is not there
        inputs = () if operator.inputs is None else tuple(tensors[i] for i in operator.inputs if i >= 0)
        if name == "DEQUANTIZE" and inputs and inputs[0].is_constant:
            made = int(operator.outputs[0])
            tensors[made] = dataclasses.replace(tensors[made], stored=inputs[0])
        outputs = () if operator.outputs is None else tuple(tensors[i] for i in operator.outputs)
        yield Operator(index, name, int(code.version), inputs, outputs)


def builtin_name(code: Any) -> str:
    """The builtin operator of an entry of a model's table of operator codes (an OperatorCodeT)."""
    # files of before 2020 hold the code in the deprecated field only; both are written today
    return _names("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]


def packed(model: Any) -> bytes:
    """The file of a model (a ModelT), its buffers on 16 bytes, as engines that read them in place expect."""
    import flatbuffers

    class AlignedBuilder(flatbuffers.Builder):
        """The schema asks for buffers on 16 bytes, which its Python builder does not do."""

        def CreateNumpyVector(self, x: Any) -> int:
            self.Prep(16, x.nbytes)
            return super().CreateNumpyVector(x)

    builder = AlignedBuilder(1024)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


@lru_cache
def _names(enum: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: key for key, value in vars(getattr(schema, enum)).items() if isinstance(value, int)}
