"""A small bundle whose front end is a power law: two channels or one, several shifts, weights of 16 bits, no birds.

Its sound is BirdNET's, 3 s at 48 kHz, and so are its frames; its model is small, and weighs each channel by itself.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from pathlib import Path
from typing import Any

import numpy as np

from labous.archive import write_checksums
from labous.mel import MelSpectrogram
from labous.models import open_model
from labous.models.inputs import averaged
from labous.power_law import PowerLawChannel, PowerLawFrontend
from tests.runtime import bundles
from tests.training.tflite_graphs import Graph

FRONTEND = PowerLawFrontend(
    sample_rate=48_000,
    window_seconds=3.0,
    n_mels=16,
    peak_epsilon=1e-6,
    peak_offset=0.5,
    peak_scale=2.0,
    channels=(
        PowerLawChannel(n_fft=2048, hop_length=278, f_min=0.0, f_max=3000.0, exponent=0.22952),
        PowerLawChannel(n_fft=1024, hop_length=280, f_min=500.0, f_max=15_000.0, exponent=0.19053),
    ),
    shifts=(0,),
)
LABELS = (
    ("eurrob1", "Erithacus rubecula", "European Robin", "Rougegorge familier"),
    ("dog", "Dog", "Dog", "Chien"),
    ("comcuc", "Cuculus canorus", "Common Cuckoo", "Coucou gris"),
    ("human1", "Human vocal", "Human vocal", "Voix humaine"),
    ("winwre4", "Troglodytes troglodytes", "Eurasian Wren", "Troglodyte mignon"),
)
NOT_BIRDS = ("dog", "human1")
FILES = {"float32": "model.tflite", "float16": "model_float16.tflite", "int8": "model_int8.tflite"}
SOURCE = {"name": "Owl 4", "licence": "CC BY-NC-SA 4.0", "consequence": "Not for commercial use."}


def weights(frontend: PowerLawFrontend = FRONTEND) -> tuple[np.ndarray, np.ndarray]:
    """[n_labels, n_mels * n_channels], another for each channel, and bias; exact in 16 bits."""
    rng = np.random.default_rng(3)
    values = rng.normal(0, 2, (len(LABELS), frontend.n_mels * len(frontend.channels)))
    return values.astype(np.float16).astype(np.float32), np.zeros(len(LABELS), np.float32)


def tflite_model(weights: np.ndarray, bias: np.ndarray, frontend: PowerLawFrontend, half: bool = False) -> bytes:
    """A .tflite file: mel [1, M, T, C] → mean over time [1, M, C] → weights [n_labels, M * C] → logits.

    With half, the weights are float16 and made float32 by a DEQUANTIZE, as converters write them.
    """
    graph, n_channels = Graph(frontend.input_shape), len(frontend.channels)
    axes = graph.constant(np.array([2], np.int32), "axes")
    mean = graph.op("MEAN", [graph.input, axes], [1, frontend.n_mels, n_channels])
    if half:
        stored = graph.constant(weights.astype(np.float16), "w16")
        w = graph.op("DEQUANTIZE", [stored], weights.shape, version=2, called="w")
    else:
        w = graph.constant(weights.astype(np.float32), "w")
    b = graph.constant(bias.astype(np.float32), "b")
    return graph.bytes(graph.op("FULLY_CONNECTED", [mean, w, b], [1, len(bias)], called="logits"))


def manifest(
    frontend: PowerLawFrontend = FRONTEND, precisions: tuple[str, ...] = ("float32", "float16")
) -> dict[str, Any]:
    """A manifest of such a bundle, ready for JSON: of the third schema, without ONNX."""
    values = bundles.manifest()
    described = values["models"]["float32"]
    tensors = {
        "input": {"name": "mel", "shape": list(frontend.input_shape), "dtype": "float32"},
        "output": {"name": "logits", "shape": [1, len(LABELS)], "dtype": "float32"},
    }
    values |= {
        "schema_version": 3,
        "name": "owl-test",
        "dataset": {
            "name": "owl 4", "synthetic": False, "revision": hashlib.sha256(b"").hexdigest(),
            "recordings": 0, "hours": 0.0,
        },
        "frontend": frontend.to_dict(),
        "models": {name: described | tensors | {"file": FILES[name]} for name in precisions},
        "golden": {
            "file": "golden/golden.npz", "tolerance": {"mel": 1e-5, **dict.fromkeys(precisions, 1e-3)},
        },
        "detection": {
            "thresholds": {code: 0.5 for code, *_ in LABELS},
            "calibration": {code: {"scale": 1.0, "offset": 0.0} for code, *_ in LABELS},
            "smoothing": {"neighbor_weight": 0.0},
            "confirmation": {"hits": 1, "windows": 1},
            "not_birds": list(NOT_BIRDS),
        },
        "licence": "CC BY-NC-SA 4.0",
        "source": dict(SOURCE),
        "metrics": {},
    }  # fmt: skip
    del values["onnx"], values["teacher"]
    return dict(json.loads(json.dumps(values)))  # nothing of it shared


def write_bundle(
    directory: Path, frontend: PowerLawFrontend = FRONTEND, precisions: tuple[str, ...] = ("float32", "float16")
) -> Path:
    """Write such a bundle; its logits lie around 0, so that each label is now heard and now not."""
    (directory / "golden").mkdir(parents=True)
    rng, mel = np.random.default_rng(7), MelSpectrogram(frontend)
    samples = (rng.normal(0, 0.1, (3, frontend.window_samples)).clip(-1, 1) * 32767).astype(np.int16)
    mels = np.stack([mel(window.astype(np.float32) / 32768) for window in samples])
    w, _ = weights(frontend)
    heard = mels.reshape(-1, *frontend.input_shape[1:]).mean(axis=(0, 2)).ravel()
    models = {name: tflite_model(w, -w @ heard, frontend, half=name == "float16") for name in precisions}
    logits = {}
    for name, content in models.items():
        (directory / FILES[name]).write_bytes(content)
        model = averaged(open_model(content), frontend.n_inputs)
        logits[f"logits_{name}"] = np.stack([model.predict(m) for m in mels])
    np.savez_compressed(directory / "golden/golden.npz", samples=samples, mel=mels, **logits)
    wasm = importlib.resources.files("labous").joinpath("melspec.wasm").read_bytes()
    (directory / "melspec.wasm").write_bytes(wasm)
    header = "ebird_code,scientific_name,common_name,french_name\n"
    (directory / "labels.csv").write_text(header + "".join(f"{','.join(row)}\n" for row in LABELS), encoding="utf-8")
    (directory / "metrics.json").write_text("{}\n", encoding="utf-8")
    (directory / "MODEL_CARD.md").write_text("# A test bundle\n", encoding="utf-8")
    bundles.write_manifest(directory, manifest(frontend, precisions))
    return directory


def write_beside(directory: Path, folder: str, frontend: PowerLawFrontend) -> None:
    """Add such a bundle's files to another bundle, in a folder of it, for manifests that name them there."""
    write_bundle(directory / folder, frontend)
    for name in ("manifest.json", "SHA256SUMS"):
        (directory / folder / name).unlink()
    write_checksums(directory)


def manifest_beside(folder: str, frontend: PowerLawFrontend) -> dict[str, Any]:
    """The manifest of a bundle whose files are in a folder of it."""
    values = manifest(frontend)
    values["labels"] = f"{folder}/{values['labels']}"
    for holder in (values["mel"], values["golden"], *values["models"].values()):
        holder["file"] = f"{folder}/{holder['file']}"
    return values
