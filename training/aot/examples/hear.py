"""A bundle in one module, in Python: python hear.py hear.wasm samples.f32

Reads mono float32 samples at the module's rate and prints, for each whole window, its start in seconds and the code and
probability of each species heard. It needs wasmtime and numpy.
"""

import sys
from typing import Any

import numpy as np
import wasmtime

store = wasmtime.Store()
module = wasmtime.Module.from_file(store.engine, sys.argv[1])
exports: Any = wasmtime.Instance(store, module, []).exports(store)  # no imports
memory = exports["memory"]


def call(name: str, *arguments: int) -> Any:
    return exports[f"labous_hear{name}"](store, *arguments)


def text(address: int) -> str:
    return bytes(memory.read(store, address, address + 200)).partition(b"\0")[0].decode()


def check(code: int) -> None:
    if code:
        sys.exit(f"{text(call('_message', code))} ({code})")


assert call("_abi_version") == 1, "another ABI version"
check(call("_open"))
rate, size, labels = call("_sample_rate"), call("_window_samples"), range(call("_labels"))
room, logits_at = call("_samples"), call("_logits")
samples = np.fromfile(sys.argv[2], "<f4")
for start in range(0, len(samples) - size + 1, size):
    memory.write(store, samples[start : start + size].tobytes(), room)
    check(call(""))
    logits = np.frombuffer(memory.read(store, logits_at, logits_at + 4 * len(labels)), "<f4")
    for i in labels:
        score = 1 / (1 + np.exp(-(call("_scale", i) * logits[i] + call("_offset", i))))
        if score >= call("_threshold", i):
            print(f"{start / rate:g} {text(call('_label', i, 0))} {score:.5f}")
