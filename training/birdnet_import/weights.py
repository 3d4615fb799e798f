"""The same model with smaller weights: kept as float16 or int8 in the file, and made float32 again when it is loaded.

Activations and arithmetic stay float32: an engine makes the weights large once, and is as fast as before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.birdnet_import.errors import BirdNetImportError
from training.tflite_file import builtin_name, packed

WEIGHTS = ("float32", "float16", "int8")
"""What weights may be kept as."""

# kernel's axis of the channels that each have a scale
_CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
# DEQUANTIZE's versions: of float16, and of int8 by channel
_VERSIONS = {"float16": 3, "int8": 5}
_MOST = 127


def with_weights(data: bytes, kind: str) -> bytes:
    """A file whose kernels are of another kind, behind a DEQUANTIZE each.

    Args:
        data: a float32 .tflite file.
        kind: of WEIGHTS.

    Raises:
        BirdNetImportError: a weight is too large for float16.
    """
    if kind == "float32":
        return data
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = _VERSIONS[kind]
    made: dict[int, Any] = {}
    for kernel, name in _kernels(schema, model).items():
        stored = _MAKERS[kind](_values(model, kernel), _CHANNELS[name])
        made[kernel] = _dequantize(schema, model, kernel, stored)
    for operator in made.values():
        operator.opcodeIndex = len(model.operatorCodes)
    model.operatorCodes.append(code)
    graph.operators = [*made.values(), *graph.operators]
    return packed(model)


def rounded_to_float16(data: bytes) -> bytes:
    """The same float32 file with its kernels rounded to float16: what ``with_weights(data, "float16")`` computes.

    Raises:
        BirdNetImportError: a weight is too large for float16.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for kernel, name in _kernels(schema, model).items():
        stored, _, _ = _half(_values(model, kernel), _CHANNELS[name])
        buffer = model.buffers[model.subgraphs[0].tensors[kernel].buffer]
        buffer.data = np.frombuffer(stored.astype(np.float32).tobytes(), np.uint8)
    return packed(model)


def _kernels(schema: Any, model: Any) -> dict[int, str]:
    """The float32 constants that are the kernels of operators, with an operator's name each."""
    graph, found = model.subgraphs[0], {}
    for operator in graph.operators:
        name = builtin_name(model.operatorCodes[operator.opcodeIndex])
        kernel = int(operator.inputs[1]) if name in _CHANNELS else -1
        if kernel < 0 or kernel in found or graph.tensors[kernel].type != schema.TensorType.FLOAT32:
            continue
        if model.buffers[graph.tensors[kernel].buffer].data is not None:
            found[kernel] = name
    return found


def _values(model: Any, kernel: int) -> NDArray[np.float32]:
    tensor = model.subgraphs[0].tensors[kernel]
    return np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(np.float32).reshape(tensor.shape)


def _dequantize(schema: Any, model: Any, kernel: int, stored: tuple[NDArray[Any], NDArray[Any] | None, int]) -> Any:
    """An operator that makes the kernel, which was a constant, of what is stored in its place."""
    values, scales, axis = stored
    graph = model.subgraphs[0]
    tensor, source, buffer = graph.tensors[kernel], schema.TensorT(), schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    source.name, source.shape, source.buffer = tensor.name + b":stored", list(values.shape), len(model.buffers)
    source.type = schema.TensorType.FLOAT16 if scales is None else schema.TensorType.INT8
    if scales is not None:
        source.quantization = schema.QuantizationParametersT()
        source.quantization.scale = np.asarray(scales, np.float32)
        source.quantization.zeroPoint = np.zeros(len(scales), np.int64)
        source.quantization.quantizedDimension = axis
    model.buffers.append(buffer)
    graph.tensors.append(source)
    model.buffers[tensor.buffer].data = None
    tensor.buffer = 0
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [len(graph.tensors) - 1], [kernel]
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    return operator


def _half(values: NDArray[np.float32], axis: int) -> tuple[NDArray[Any], None, int]:
    if not np.abs(values).max() <= np.finfo(np.float16).max:
        raise BirdNetImportError(
            f"A weight of {np.abs(values).max():.3g} is too large for float16; take weights=float32."
        )
    return values.astype(np.float16), None, axis


def _bytes(values: NDArray[np.float32], axis: int) -> tuple[NDArray[Any], NDArray[Any], int]:
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scales = np.where(largest > 0, largest / _MOST, 1).astype(np.float32)
    return np.clip(np.round(values / scales), -_MOST, _MOST).astype(np.int8), scales.ravel(), axis


_MAKERS: dict[str, Callable[[NDArray[np.float32], int], tuple[NDArray[Any], NDArray[Any] | None, int]]] = {
    "float16": _half,
    "int8": _bytes,
}
