"""A small bundle for the runtime's tests: a real front end, the real melspec.wasm, and models of two operators.

The models are written operator by operator, so that no test here needs TensorFlow.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from labous.archive import write_checksums
from labous.frontend import Frontend
from labous.mel import MelSpectrogram
from labous.models import open_model

FRONTEND = Frontend(
    sample_rate=16_000,
    window_seconds=1.0,
    n_fft=512,
    win_length=512,
    hop_length=250,
    window="hann",
    center=False,
    pad_mode="constant",
    power=2.0,
    n_mels=16,
    f_min=100.0,
    f_max=7900.0,
    mel_scale="slaney",
    mel_norm="slaney",
    amin=1e-8,
    ref=1.0,
    top_db=None,
    db_offset=40.0,
    db_scale=0.05,
)
LABELS = (
    ("eurrob1", "Erithacus rubecula", "European Robin", "Rougegorge familier"),
    ("comcuc", "Cuculus canorus", "Common Cuckoo", "Coucou gris"),
    ("winwre4", "Troglodytes troglodytes", "Eurasian Wren", "Troglodyte mignon"),
    ("hergul", "Larus argentatus", "European Herring Gull", "Goéland argenté"),
)


def tflite_model(weights: np.ndarray, bias: np.ndarray, n_frames: int, finite: bool = True, inputs: int = 1) -> bytes:
    """A .tflite file: mel [1, n_mels, n_frames, 1] → mean over time → weights [n_labels, n_mels] → logits."""
    n_labels, n_mels = weights.shape
    if not finite:
        bias = np.full_like(bias, np.nan)
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], []
    model.buffers = [schema.BufferT()]
    graph.tensors, graph.operators = [], []

    def tensor(
        name: str, shape: list[int], content: np.ndarray | None = None, kind: int = schema.TensorType.FLOAT32
    ) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, kind, 0
        if content is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content.tobytes(), np.uint8)
            made.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(builtin: int, ins: list[int], outs: list[int], kind: int, options: Any) -> None:
        code, made = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = 1
        made.opcodeIndex = len(model.operatorCodes)
        made.inputs, made.outputs, made.builtinOptionsType, made.builtinOptions = ins, outs, kind, options
        model.operatorCodes.append(code)
        graph.operators.append(made)

    mel = tensor("mel", [1, n_mels, n_frames, 1])
    axes = tensor("axes", [2], np.array([2, 3], np.int32), schema.TensorType.INT32)
    mean = tensor("mean", [1, n_mels])
    w = tensor("w", list(weights.shape), weights.astype(np.float32))
    b = tensor("b", [n_labels], bias.astype(np.float32))
    logits = tensor("logits", [1, n_labels])
    operator(
        schema.BuiltinOperator.MEAN, [mel, axes], [mean], schema.BuiltinOptions.ReducerOptions, schema.ReducerOptionsT()
    )
    operator(
        schema.BuiltinOperator.FULLY_CONNECTED, [mean, w, b], [logits],
        schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT(),
    )  # fmt: skip
    graph.inputs = [mel] + [tensor(f"more{i}", [1]) for i in range(1, inputs)]
    graph.outputs = [logits]
    return _packed(model)


def int8_identity(n_mels: int, n_frames: int, scale: float, zero_point: int) -> bytes:
    """A .tflite file with int8 input and output that gives its input back, flattened to [1, n_mels * n_frames]."""
    model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
    code.version = 1
    options = schema.ReshapeOptionsT()
    options.newShape = [1, n_mels * n_frames]
    operator.inputs, operator.outputs = [0], [1]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.ReshapeOptions, options
    graph.tensors = []
    for name, shape in (("mel", [1, n_mels, n_frames, 1]), ("logits", [1, n_mels * n_frames])):
        tensor, quantization = schema.TensorT(), schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [scale], [zero_point]
        tensor.name, tensor.shape, tensor.type = name, shape, schema.TensorType.INT8
        tensor.quantization, tensor.buffer = quantization, 0
        graph.tensors.append(tensor)
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
    return _packed(model)


def _packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def weights(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias whose logits vary with the sound."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, (len(LABELS), FRONTEND.n_mels)).astype(np.float32), np.zeros(len(LABELS), np.float32)


def manifest(synthetic: bool = False) -> dict[str, Any]:
    """A manifest of the test bundle, ready for JSON."""

    def described(file: str) -> dict[str, Any]:
        return {
            "file": file,
            "input": {"name": "mel", "shape": [1, FRONTEND.n_mels, FRONTEND.n_frames, 1], "dtype": "float32"},
            "output": {"name": "logits", "shape": [1, len(LABELS)], "dtype": "float32"},
            "activation": "sigmoid",
            "ops": [{"name": "MEAN", "version": 1, "count": 1}, {"name": "FULLY_CONNECTED", "version": 1, "count": 1}],
            "parameters": 68,
            "macs": 1064,
            "bytes": 1000,
        }

    scores = {"macro_roc_auc": 0.97, "cmap": 0.8, "top1": 0.75, "row_f1": None}
    return {
        "schema_version": 2,
        "name": "labous-test",
        "version": "0.1.0",
        "min_runtime": "0.1.0",
        "dataset": {
            "name": "test", "synthetic": synthetic, "revision": hashlib.sha256(b"").hexdigest(),
            "recordings": 3, "hours": 0.1,
        },
        "frontend": FRONTEND.to_dict(),
        "mel": {"file": "melspec.wasm", "abi_version": 1},
        "labels": "labels.csv",
        "models": {"float32": described("model.tflite"), "int8": described("model_int8.tflite")},
        "onnx": {"file": "model.onnx", "opset": 17},
        "golden": {"file": "golden/golden.npz", "tolerance": {"mel": 1e-5, "float32": 1e-3, "int8": 0.5}},
        "detection": {
            "thresholds": {code: 0.5 for code, *_ in LABELS},
            "calibration": {code: {"scale": 1.0, "offset": 0.0} for code, *_ in LABELS},
            "smoothing": {"neighbor_weight": 0.0},
            "confirmation": {"hits": 1, "windows": 1},
        },
        "licence": "recordings trained on: CC0 (3)",
        "teacher": {"name": "Owl 3", "licence": "CC BY-NC-SA 4.0", "consequence": "Not for commercial use."},
        "metrics": {engine: dict(scores) for engine in ("keras", "float32", "int8")},
        "revision": {"code": "unknown", "data": hashlib.sha256(b"").hexdigest()},
    }  # fmt: skip


def write_bundle(directory: Path, synthetic: bool = False) -> Path:
    """Write the test bundle."""
    (directory / "golden").mkdir(parents=True)
    wasm = importlib.resources.files("labous").joinpath("melspec.wasm").read_bytes()
    models = {name: tflite_model(*weights(seed), FRONTEND.n_frames) for seed, name in enumerate(("float32", "int8"))}
    rng = np.random.default_rng(7)
    samples = (rng.normal(0, 0.1, (3, FRONTEND.window_samples)).clip(-1, 1) * 32767).astype(np.int16)
    mel = MelSpectrogram(FRONTEND)
    mels = np.stack([mel(window.astype(np.float32) / 32768) for window in samples])
    logits = {name: np.stack([open_model(content).predict(m) for m in mels]) for name, content in models.items()}
    np.savez_compressed(
        directory / "golden/golden.npz", samples=samples, mel=mels,
        logits_float32=logits["float32"], logits_int8=logits["int8"],
    )  # fmt: skip
    (directory / "model.tflite").write_bytes(models["float32"])
    (directory / "model_int8.tflite").write_bytes(models["int8"])
    (directory / "model.onnx").write_bytes(b"not read by this runtime")
    (directory / "melspec.wasm").write_bytes(wasm)
    header = "ebird_code,scientific_name,common_name,french_name\n"
    (directory / "labels.csv").write_text(header + "".join(f"{','.join(row)}\n" for row in LABELS), encoding="utf-8")
    (directory / "metrics.json").write_text("{}\n", encoding="utf-8")
    (directory / "MODEL_CARD.md").write_text("# A test bundle\n", encoding="utf-8")
    write_manifest(directory, manifest(synthetic))
    return directory


def write_manifest(directory: Path, values: dict[str, Any]) -> None:
    """Write (or replace) the manifest, and the checksums after it."""
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    (directory / "manifest.json").write_text(text + "\n", encoding="utf-8")
    write_checksums(directory)
