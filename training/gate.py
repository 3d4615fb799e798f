"""The gate: what a .tflite file must satisfy before it stands at a path that others read.

Enters: a file's bytes, mel arrays, Keras's logits, the settings of conf/export. Leaves: a report, or a
:class:`GateError` that lists everything found. That a file runs on a desktop proves nothing about boards, so the
operators are read from the file and held against an allow-list before anything is run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous.errors import EngineError, LabousError
from training.engines import Engine
from training.errors import ConfigError
from training.export_tflite import INPUT_NAME, OUTPUT_NAME
from training.files import written_beside
from training.tflite_file import Operator, Tensor, TfliteFile, read_tflite

# bytes that one quantised channel adds: a float32 scale and an int64 zero point
_BYTES_PER_SCALE = 12


class GateError(LabousError):
    """A file that must not be shipped; ``findings`` has a sentence for each reason."""

    def __init__(self, name: str, findings: Sequence[str]) -> None:
        """Args: name of the file, what was found."""
        super().__init__(f"{name} does not pass the gate: " + " ".join(findings))
        self.findings = tuple(findings)


@dataclass(frozen=True)
class ExportSettings:
    """What conf/export says of the files and of the gate.

    Attributes:
        representative_windows: training windows that int8's ranges are read from.
        gate_windows: windows that the gate compares with Keras on.
        onnx_opset: operator set of the ONNX twin.
        allowed_ops: builtin operators with the highest version allowed of each.
        allowed_dtypes: element types that a tensor may have.
        overhead_bytes_per_tensor: what a file may hold for each tensor beside weights and scales.
        max_difference: largest difference to Keras's logits, as a share of their range over the windows, by precision.
    """

    representative_windows: int
    gate_windows: int
    onnx_opset: int
    allowed_ops: Mapping[str, int]
    allowed_dtypes: Sequence[str]
    overhead_bytes_per_tensor: int
    max_difference: Mapping[str, float]

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: too few windows to compare on, or a precision without its bound.
        """
        if self.representative_windows < self.gate_windows or self.gate_windows < 2:
            raise ConfigError(
                f"export.gate_windows is {self.gate_windows} and export.representative_windows "
                f"{self.representative_windows}: the first must be at least 2, the second no fewer than the first."
            )
        if set(self.max_difference) - {"float16"} != {"float32", "int8"}:
            raise ConfigError("export.max_difference needs exactly the keys float32 and int8, and may have float16.")


@dataclass(frozen=True)
class GateReport:
    """What the gate measured on a file that passed.

    Attributes:
        precision: of the weights, ``float32``, ``float16`` or ``int8``.
        input, output: name, shape and dtype, as the bundle's manifest lists them.
        ops: name, version and count of each operator.
        parameters: kernels and biases, batch normalisation folded.
        macs: multiply-adds of one window.
        bytes: size of the file.
        difference: largest absolute difference to Keras's logits.
        reference_range: largest minus smallest of Keras's logits.
        argmax_equal: share of windows with the same largest logit as Keras.
    """

    precision: str
    input: dict[str, Any]
    output: dict[str, Any]
    ops: list[dict[str, Any]]
    parameters: int
    macs: int
    bytes: int
    difference: float
    reference_range: float
    argmax_equal: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dataclasses.asdict(self)


def gate(
    data: bytes,
    mels: NDArray[np.float32],
    reference: NDArray[np.float32],
    settings: ExportSettings,
    name: str = "the model",
    origin: str = "Keras",
) -> GateReport:
    """Hold a file against the rules, first as it lies there, then by running it in LiteRT.

    Args:
        data: the .tflite file.
        mels: float32 [n, n_mels, n_frames] or [n, n_mels, n_frames, n_channels], at least two different windows.
        reference: Keras's logits for them, float32 [n, n_labels].
        settings: the rules.
        name: what to call the file in messages.
        origin: what to call there what the reference is of.

    Raises:
        GateError: the file breaks at least one rule.
        TfliteFileError: the bytes are no .tflite file.
        EngineError: LiteRT is not installed.
    """
    file = read_tflite(data)
    findings = list(static_findings(file, settings))
    inputs = mels[..., np.newaxis] if mels.ndim == 3 else mels
    expected = {INPUT_NAME: (1, *inputs.shape[1:]), OUTPUT_NAME: (1, reference.shape[1])}
    findings += _interface_findings(file, expected)
    if findings:
        raise GateError(name, findings)
    try:
        outputs = Engine("litert").run(data, inputs)
    except EngineError as error:
        raise GateError(name, [f"LiteRT cannot run it: {error}"]) from error
    allowed = settings.max_difference.get(precision_of(file), settings.max_difference["float32"])
    findings = list(_output_findings(outputs, reference, allowed, origin))
    if findings:
        raise GateError(name, findings)
    return GateReport(
        precision=precision_of(file),
        input=_interface(file.inputs[0]),
        output=_interface(file.outputs[0]),
        ops=file.op_counts(),
        parameters=file.parameters,
        macs=file.macs,
        bytes=file.bytes,
        difference=float(np.abs(outputs - reference).max()),
        reference_range=float(np.ptp(reference)),
        argmax_equal=float((outputs.argmax(axis=1) == reference.argmax(axis=1)).mean()),
    )


def write_gated(
    path: Path,
    data: bytes,
    mels: NDArray[np.float32],
    reference: NDArray[np.float32],
    settings: ExportSettings,
) -> GateReport:
    """Write a file if, and only if, it passes :func:`gate`; a refused one leaves what stood at ``path`` untouched.

    Raises:
        GateError, TfliteFileError, EngineError: as :func:`gate`.
    """
    report = gate(data, mels, reference, settings, name=path.name)
    with written_beside(path) as beside:
        beside.write_bytes(data)
    return report


def precision_of(file: TfliteFile) -> str:
    """``int8`` or ``float16`` when every kernel is, else ``float32``."""
    return next((kind for kind in ("int8", "float16") if file.weight_dtypes == {kind}), "float32")


def static_findings(file: TfliteFile, settings: ExportSettings) -> Iterator[str]:
    """What is wrong with a file before it is run: a sentence each, naming the operator or tensor."""
    if file.subgraphs != 1:
        yield f"It has {file.subgraphs} subgraphs; only one can be run everywhere."
    for op in file.operators:
        yield from _operator_findings(op, settings.allowed_ops)
    for tensor in file.tensors:
        if tensor.is_dynamic:
            yield f"Tensor {tensor.name!r} has a dynamic shape; every shape must be fixed."
        if tensor.is_variable:
            yield f"Tensor {tensor.name!r} is a variable; the model must not keep state."
        if tensor.dtype not in settings.allowed_dtypes:
            yield f"Tensor {tensor.name!r} is {tensor.dtype}; only {', '.join(settings.allowed_dtypes)} are allowed."
    yield from _size_findings(file, settings.overhead_bytes_per_tensor)


def _operator_findings(op: Operator, allowed: Mapping[str, int]) -> Iterator[str]:
    place = f"{op.name} version {op.version} at operator {op.index}"
    if op.is_custom:
        yield f"{place} is not a builtin: no device runtime has it."
    elif op.name not in allowed:
        yield f"{place} is not on the allow-list: {', '.join(sorted(allowed))}."
    elif op.version > allowed[op.name]:
        yield f"{place} is newer than version {allowed[op.name]}, the newest that every device runtime knows."
    if op.weights and op.inputs[1].dtype != op.inputs[0].dtype:
        # dynamic-range quantisation; TFLite Micro has no kernel for it
        yield f"{place} has {op.inputs[1].dtype} weights and {op.inputs[0].dtype} activations; they must be the same."


def _size_findings(file: TfliteFile, overhead_per_tensor: int) -> Iterator[str]:
    if file.parameters == 0:
        yield "It holds no weights."
        return
    weights = {t.buffer: t for op in file.operators for t in op.weights}.values()
    stored = sum(t.size * np.dtype(t.dtype).itemsize for t in weights)
    scales = sum(len(t.scales) for t in file.tensors) * _BYTES_PER_SCALE
    allowed = stored + scales + overhead_per_tensor * len(file.tensors)
    if file.bytes > allowed:
        yield (
            f"It is {file.bytes} bytes, and {file.parameters} parameters in {len(file.tensors)} tensors account for "
            f"{allowed} at most: it carries something else."
        )


def _interface_findings(file: TfliteFile, expected: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    for kind, tensors, (name, shape) in zip(
        ("input", "output"), (file.inputs, file.outputs), expected.items(), strict=True
    ):
        found = [(t.name, t.shape, t.dtype) for t in tensors]
        if found != [(name, shape, "float32")]:
            told = ", ".join(f"{n} {dtype} {list(s)}" for n, s, dtype in found)
            yield f"Its {kind} is {told}; it must be {name} float32 {list(shape)}."


def _output_findings(
    outputs: NDArray[np.float32], reference: NDArray[np.float32], max_share: float, origin: str
) -> Iterator[str]:
    if not np.isfinite(outputs).all():
        yield f"{int((~np.isfinite(outputs)).any(axis=1).sum())} of {len(outputs)} windows give NaN or infinite logits."
        return
    if np.ptp(outputs, axis=0).max() == 0:
        same = f"All {len(outputs)} windows give the same logits"
        yield f"{same}: it does not listen to its input; train it longer, or look at its loss."
    difference, bound = float(np.abs(outputs - reference).max()), max_share * float(np.ptp(reference))
    # written so that a NaN in the reference is a finding too
    if not difference <= bound:
        yield f"Its logits differ from {origin}'s by {difference:.3g}; at most {bound:.3g} is allowed."


def _interface(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype}
