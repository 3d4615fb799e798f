"""A bundle in TFLite Micro, on its golden windows: python with_tflite_micro.py BUNDLE [float32|int8]

Prints what a C++ program has to know, the operators to register and the arena's size, and how far the logits lie from
the golden ones at most; exits with 1 where that is over the bundle's tolerance. It needs tflite-micro, wasmtime and
numpy. docs/engines.md has the C++ side.
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from melspec import Mel
from tflite_micro.python.tflite_micro import runtime

bundle, precision = Path(sys.argv[1]), (sys.argv[2:] or ["int8"])[0]
manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
golden = np.load(bundle / manifest["golden"]["file"])
tolerance, model = manifest["golden"]["tolerance"][precision], manifest["models"][precision]

mel = Mel(bundle / manifest["mel"]["file"], manifest["frontend"])
interpreter = runtime.Interpreter.from_file(str(bundle / model["file"]), arena_size=16 * 2**20)

worst = 0.0
for window, right in zip(golden["samples"], golden[f"logits_{precision}"], strict=True):
    spectrum = mel(window.astype(np.float32) / 32768)
    interpreter.set_input(spectrum[np.newaxis, :, :, np.newaxis], 0)  # [1, n_mels, n_frames, 1]
    interpreter.invoke()
    worst = np.maximum(worst, np.abs(interpreter.get_output(0)[0] - right).max())  # of a NaN, NaN

with tempfile.TemporaryFile() as told:  # the interpreter tells of its arena on standard error alone
    kept = os.dup(2)
    os.dup2(told.fileno(), 2)
    interpreter.print_allocations()
    os.dup2(kept, 2)
    told.seek(0)
    found = re.search(rb"Arena allocation total (\d+) bytes", told.read())
assert found, "this tflite-micro does not tell of its arena"
# CONV_2D is AddConv2D of MicroMutableOpResolver
names = ["Add" + op["name"].title().replace("_", "") for op in model["ops"]]
print(f"operators ({len(names)}): {' '.join(names)}")
print(f"arena: {int(found[1]):,} bytes; model: {(bundle / model['file']).stat().st_size:,} bytes")
print(f"{precision}: at most {worst:.1e} from the golden windows, {tolerance:.1e} is allowed")
sys.exit(not worst <= tolerance)
