"""Bundles for the examples of docs/engines.md: one of two operators, and one of a network as training exports it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from labous import Bundle
from tests.runtime import bundles
from tests.training import listening
from tests.training.export_fixtures import mel_like
from tests.training.tflite_graphs import litert
from training.export_tflite import export_float32, export_int8, export_onnx
from training.models import Block, PlainCnn
from training.tflite_file import read_tflite

SHAPE = (bundles.FRONTEND.n_mels, bundles.FRONTEND.n_frames)
N_LABELS = len(bundles.LABELS)


def small(directory: Path, neighbor_weight: float = 0.2) -> Bundle:
    """The bundle of ``listening`` with a twin in ONNX, which takes no TensorFlow to write."""
    listening.write_bundle(directory, neighbor_weight=neighbor_weight)
    (directory / "model.onnx").write_bytes(_twin(*bundles.weights(0)))
    return _rewritten(directory)


def network(directory: Path) -> Bundle:
    """The same with a convolutional network: float32, int8 and ONNX as training.export writes them."""
    listening.write_bundle(directory)
    for name, content in _exported().items():
        (directory / name).write_bytes(content)
    with np.load(directory / "golden" / "golden.npz") as archive:
        golden = dict(archive)
    for precision, name in (("float32", "model.tflite"), ("int8", "model_int8.tflite")):
        golden[f"logits_{precision}"] = np.stack([litert(_exported()[name], mel).ravel() for mel in golden["mel"]])
    np.savez(directory / "golden" / "golden.npz", **golden)  # stored, not compressed: readers must know both
    return _rewritten(directory)


def _rewritten(directory: Path) -> Bundle:
    """The manifest with the operators of the files, and checksums."""
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    for model in manifest["models"].values():
        model["ops"] = read_tflite((directory / model["file"]).read_bytes()).op_counts()
    bundles.write_manifest(directory, manifest)
    return listening.litert(directory)


@cache
def _exported() -> dict[str, bytes]:
    import keras

    keras.utils.set_random_seed(11)
    blocks = (Block(8, 2), Block(12, 1))
    plain = PlainCnn(stem=8, rows=8, blocks=blocks, pool_mel=False, head=24, dropout=0.2, batch_norm_momentum=0.3)
    model = plain.build((*SHAPE, 1), N_LABELS)
    for step in range(5):  # with its first statistics a random network answers the same to everything
        model(mel_like(8, SHAPE, seed=step)[..., np.newaxis], training=True)
    model.get_layer("logits").bias.assign(np.linspace(-2, 2, N_LABELS))
    float32 = export_float32(model)
    int8 = export_int8(model, mel_like(16, SHAPE, seed=9))
    return {"model.tflite": float32, "model_int8.tflite": int8, "model.onnx": export_onnx(float32)}


def _twin(weights: np.ndarray, bias: np.ndarray) -> bytes:
    """ONNX for bundles.tflite_model: the mean over time, then weights and bias."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["mel"], ["mean"], axes=[2, 3], keepdims=0),
            helper.make_node("Gemm", ["mean", "weights", "bias"], ["logits"], transB=1),
        ],
        "small",
        [helper.make_tensor_value_info("mel", float32, [1, *SHAPE, 1])],
        [helper.make_tensor_value_info("logits", float32, [1, N_LABELS])],
        [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(bias, "bias")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()
