"""A bundle in onnxruntime, on its golden windows: python with_onnxruntime.py BUNDLE

From samples to logits with melspec.wasm and model.onnx. Prints how far mel and logits lie from the golden ones at most,
and exits with 1 where that is over the bundle's tolerance. It needs onnxruntime, wasmtime and numpy.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from melspec import Mel

bundle = Path(sys.argv[1])
manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
golden = np.load(bundle / manifest["golden"]["file"])
tolerance = manifest["golden"]["tolerance"]

mel = Mel(bundle / manifest["mel"]["file"], manifest["frontend"])
session = onnxruntime.InferenceSession(bundle / manifest["onnx"]["file"], providers=["CPUExecutionProvider"])
(source,) = session.get_inputs()

worst = {"mel": 0.0, "float32": 0.0}
for window, golden_mel, golden_logits in zip(golden["samples"], golden["mel"], golden["logits_float32"], strict=True):
    spectrum = mel(window.astype(np.float32) / 32768)
    (logits,) = session.run(None, {source.name: spectrum[np.newaxis, :, :, np.newaxis]})  # [1, n_mels, n_frames, 1]
    for name, found, right in (("mel", spectrum, golden_mel), ("float32", logits[0], golden_logits)):
        worst[name] = np.maximum(worst[name], np.abs(found - right).max())  # of a NaN, NaN
for name, difference in worst.items():
    print(f"{name}: at most {difference:.1e} from the golden windows, {tolerance[name]:.1e} is allowed")
sys.exit(not all(difference <= tolerance[name] for name, difference in worst.items()))
