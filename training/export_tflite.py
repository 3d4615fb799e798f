"""A Keras model as files: TFLite float32, TFLite int8, and the ONNX twin.

Enters: a trained ``keras.Model`` from mel to logits. Leaves: bytes; whether they may be shipped is gate.py's business.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labous.errors import LabousError
from training.tflite_file import packed

if TYPE_CHECKING:
    import keras
    import onnx
    from numpy.typing import NDArray

INPUT_NAME = "mel"
OUTPUT_NAME = "logits"


class ExportError(LabousError):
    """A model that cannot be converted, or conversion inputs that make no sense."""


def export_float32(model: keras.Model) -> bytes:
    """Convert to a float32 .tflite with a static batch of one.

    Args:
        model: from [batch, n_mels, n_frames, 1] to [batch, n_labels].

    Returns:
        The file: input ``mel`` float32 [1, n_mels, n_frames, 1], output ``logits`` float32 [1, n_labels].

    Raises:
        ExportError: the converter refused the model.
    """
    return _convert(_converter(model))


def export_int8(model: keras.Model, representative: Iterable[NDArray[np.float32]]) -> bytes:
    """Convert to a full-integer int8 .tflite (weights per channel) whose input and output stay float32.

    Args:
        model: as for :func:`export_float32`.
        representative: mel arrays, float32 [n_mels, n_frames], as the model sees them on real recordings; the ranges
            of all activations are read from them. A hundred or more is sensible.

    Returns:
        The file, with the same input and output as the float32 one.

    Raises:
        ExportError: no representative array, one of the wrong shape or with NaN, or a model the converter refused.
    """
    import tensorflow as tf  # takes seconds

    shape = tuple(model.input_shape[1:3])
    samples = [_checked(mel, shape, i) for i, mel in enumerate(representative)]
    if not samples:
        raise ExportError("int8 needs representative mel arrays to read the ranges of activations from, and got none.")
    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # without this set, operators with no int8 kernel would quietly stay float32
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([mel] for mel in samples)
    return _convert(converter)


def export_onnx(tflite: bytes, opset: int = 17) -> bytes:
    """Convert a float32 .tflite to its ONNX twin, with the same names, layout (NHWC) and static shapes.

    Args:
        tflite: a file of :func:`export_float32`; taken from the file rather than from Keras, so that the two hold the
            very same folded weights.
        opset: ONNX operator set; tf2onnx 1.17 refuses 20 and above.

    Raises:
        ExportError: tf2onnx refused the file, or made an invalid one or one with a dynamic shape.
    """
    import onnx
    import tf2onnx.convert  # imports TensorFlow

    with tempfile.TemporaryDirectory(prefix="labous-onnx-") as folder, _quiet():
        path = Path(folder) / "model.tflite"
        path.write_bytes(tflite)
        try:
            model, _ = tf2onnx.convert.from_tflite(str(path), opset=opset)
        except Exception as error:  # tf2onnx raises whatever its handlers run into
            raise ExportError(f"tf2onnx could not convert the .tflite to ONNX: {_first_line(error)}") from error
    _rename_nodes(model.graph)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"tf2onnx made an invalid ONNX file: {_first_line(error)}") from error
    for value in [*model.graph.input, *model.graph.output]:
        if any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim):
            raise ExportError(f"The ONNX file's {value.name} has a dynamic shape; export from a static .tflite.")
    return model.SerializeToString(deterministic=True)


def _rename_nodes(graph: onnx.GraphProto) -> None:
    """Name nodes and values by their place in the graph: tf2onnx numbers them with a counter that never restarts."""
    names = {value.name: value.name for value in [*graph.input, *graph.output]}
    constants = {constant.name for constant in graph.initializer}
    for i, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{i}"
        for j, name in enumerate(node.input):
            if name in constants:
                names.setdefault(name, f"{node.name}_constant_{j}")
        for j, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}_output_{j}")
        node.input[:] = [names[name] if name else "" for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for constant in graph.initializer:
        constant.name = names[constant.name]
    graph.initializer.sort(key=lambda constant: constant.name)
    graph.name = "labous"


def _checked(mel: NDArray[np.float32], shape: tuple[int, ...], index: int) -> NDArray[np.float32]:
    array = np.asarray(mel, dtype=np.float32)
    if array.shape != shape:
        raise ExportError(f"Representative mel array {index} is {array.shape}; the model takes {shape}.")
    if not np.isfinite(array).all():
        raise ExportError(f"Representative mel array {index} holds NaN or infinite values.")
    return array[np.newaxis, :, :, np.newaxis]


def _converter(model: keras.Model) -> Any:
    """A converter for ``model`` behind a static batch of one."""
    import keras
    import tensorflow as tf

    mel = keras.Input(batch_shape=(1, *model.input_shape[1:]), name=INPUT_NAME)
    # from_concrete_functions would leave the weights out, as VAR_HANDLE operators that read NaN
    return tf.lite.TFLiteConverter.from_keras_model(keras.Model(mel, model(mel, training=False), name="labous"))


def _convert(converter: Any) -> bytes:
    try:
        with _quiet():
            converted = converter.convert()
    except Exception as error:  # the converter raises its own, TensorFlow's and plain RuntimeErrors
        raise ExportError(f"TensorFlow could not convert the model to TFLite: {_first_line(error)}") from error
    return _tidied(converted)


def _tidied(converted: bytes) -> bytes:
    """Rewrite a converted file with readable names, and without what changes from one conversion to the next.

    The converter names tensors after Keras's counters and Python's ids and stamps the file with a hash of a temporary
    folder. With these gone, the same model gives the same bytes.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(converted, 0)
    graph = model.subgraphs[0]
    taken: Counter[str] = Counter()
    for tensor in graph.tensors:
        name = _short_name(tensor.name.decode())
        taken[name] += 1
        # tf2onnx tells tensors apart by name
        tensor.name = (name if taken[name] == 1 else f"{name}:{taken[name]}").encode()
    for indices, name in ((graph.inputs, INPUT_NAME), (graph.outputs, OUTPUT_NAME)):
        for i in indices:
            graph.tensors[i].name = name.encode()
    for signature in model.signatureDefs or []:
        for entries, name in ((signature.inputs, INPUT_NAME), (signature.outputs, OUTPUT_NAME)):
            for entry in entries:
                entry.name = name.encode()
    for entry in model.metadata or []:
        if entry.name == b"CONVERSION_METADATA":
            model.buffers[entry.buffer].data = None
    model.metadata = [entry for entry in model.metadata or [] if entry.name != b"CONVERSION_METADATA"]
    model.description = b"labous"
    return packed(model)


def _short_name(name: str) -> str:
    """``labous/plain_cnn_1/stem_relu6_1/Relu6;labous/…`` → ``stem_relu6/Relu6``."""
    path = [re.sub(r"_\d+$", "", part) for part in name.split(";", maxsplit=1)[0].split("/")]
    return "/".join(path[2:]) if len(path) > 2 else path[-1]


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Turn Keras's export notes and the converters' information lines off; warnings and errors still come through."""
    import keras

    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow", "tf2onnx")]
    levels = [logger.level for logger in loggers]
    was_interactive = keras.config.is_interactive_logging_enabled()
    keras.config.disable_interactive_logging()
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # the converter warns of its own use of tf.lite.Interpreter, and of ranges that float32 inputs do not need
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
            warnings.filterwarnings("ignore", message="Statistics for quantized inputs were expected")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if was_interactive:
            keras.config.enable_interactive_logging()
