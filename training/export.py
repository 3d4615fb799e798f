"""Export: the trained model as .tflite (float32 and int8) and ONNX, each through the gate before it takes its place.

``python -m training.export`` fills ``paths.export``: model.tflite, model_int8.tflite, model.onnx, export.json.
"""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from training.config import Settings, stage_main
from training.console import say
from training.crops import random_window
from training.export_tflite import export_float32, export_int8, export_onnx
from training.files import write_bytes, write_text
from training.gate import write_gated
from training.prepared import load_fitted, read_prepared
from training.stages import EXPORT, run_stage


def training_windows(settings: Settings, at_most: int) -> list[NDArray[np.float32]]:
    """Model inputs [n_mels, n_frames] cut from the training share, species by species, the same at every call."""
    recordings, _, _ = read_prepared(settings.paths.prepared, settings.dataset.root)
    train = recordings[recordings.split == "train"]
    # the n-th recording of every species before the (n+1)-th of any
    order = train.assign(turn=train.groupby("primary_label").cumcount()).sort_values(["turn", "recording_id"])
    rng = np.random.default_rng(settings.fit.seed)
    return [
        random_window(np.load(settings.paths.prepared / name, mmap_mode="r"), settings.frontend.n_frames, rng)
        for name in order.feature[:at_most]
    ]


def export(settings: Settings) -> None:
    """Write the files that pass the gate.

    Raises:
        GateError: a file must not be shipped; what stood at its place still does.
        ExportError: the model cannot be converted.
    """
    model, place, told = load_fitted(settings.paths.fit), settings.paths.export, settings.export
    mels = training_windows(settings, told.representative_windows)
    probe = np.stack(mels[: told.gate_windows])
    reference = np.asarray(model(probe[..., None], training=False), np.float32)
    record = {}
    for name, data in (("model.tflite", export_float32(model)), ("model_int8.tflite", export_int8(model, mels))):
        report = write_gated(place / name, data, probe, reference, told)
        record[name] = report.to_dict()
        say(f"          {name:<18} {len(data):>9,} bytes  largest difference to Keras {report.difference:.2g}")
    onnx = export_onnx((place / "model.tflite").read_bytes(), told.onnx_opset)
    write_bytes(place / "model.onnx", onnx)
    write_text(place / "export.json", json.dumps(record, indent=1, sort_keys=True) + "\n")


def run(settings: Settings) -> None:
    """The stage: :func:`export` unless its result is up to date."""
    run_stage(EXPORT, settings, export)


main = stage_main(run)

if __name__ == "__main__":
    main()
