"""Small .tflite files written by hand, so that an operator can be tested with any options, without a converter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from training.tflite_file import packed

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
NONE, RELU, RELU_N1_TO_1, RELU6, TANH = range(5)
_TYPES = {name: getattr(schema.TensorType, name.upper()) for name in ("float32", "float16", "int32", "int8")}
# builtin → its options
_OPTIONS = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "LOGISTIC": None,
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "PAD": "PadOptions",
    "REDUCE_MAX": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
}


class Graph:
    """A graph in the making. Tensors go by their index; ``input`` is the one to feed."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model = schema.ModelT()
        self.model.version, self.model.subgraphs = 3, [self.graph]
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.input = self.tensor("mel", shape)

    def tensor(self, name: str, shape: Sequence[int], dtype: str = "float32") -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type = name.encode(), list(shape), _TYPES[dtype]
        made.quantization = schema.QuantizationParametersT()
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def constant(self, values: NDArray[Any], name: str = "constant") -> int:
        index = self.tensor(name, values.shape, values.dtype.name)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.graph.tensors[index].buffer = len(self.model.buffers) - 1
        return index

    def op(
        self, name: str, inputs: Sequence[int], shape: Sequence[int], version: int = 1, called: str = "", **options: Any
    ) -> int:
        """An operator and its output of ``shape``, named after it in lower case if nothing else is said."""
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = version
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), [self.tensor(called or name.lower(), shape)]
        kind = _OPTIONS[name]
        if kind is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(schema, f"{kind}T")()
        for key, value in options.items():
            assert hasattr(operator.builtinOptions, key), key
            setattr(operator.builtinOptions, key, value)
        self.graph.operators.append(operator)
        return operator.outputs[0]

    def bytes(self, output: int) -> bytes:
        """The file."""
        self.graph.inputs, self.graph.outputs = [self.input], [output]
        return packed(self.model)


def litert(data: bytes, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """LiteRT's answer, flat."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    interpreter.set_tensor(details["index"], values.reshape(details["shape"]))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).ravel()
