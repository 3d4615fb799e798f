"""The mel stage of a bundle in Python, without labous: melspec.wasm in Wasmtime. It needs wasmtime and numpy."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import wasmtime

SCALED = 2  # what a model sees


class Mel:
    """One window after another; ``frontend`` is the manifest's."""

    def __init__(self, wasm: Path, frontend: dict[str, Any]) -> None:
        self.store = wasmtime.Store()
        module = wasmtime.Module.from_file(self.store.engine, str(wasm))
        self.exports: dict[str, Any] = dict(wasmtime.Instance(self.store, module, []).exports(self.store))  # no imports
        assert (self.call("abi_version"), self.call("config_size")) == (1, 112), "another version of the interface"
        config = self.allocate(112 + 4)
        self.exports["memory"].write(self.store, packed(frontend), config)
        self.call("create", config, config + 112)
        (self.plan,) = struct.unpack("<I", self.read(config + 112, 4))
        self.n_samples = round(frontend["window_seconds"] * frontend["sample_rate"])
        self.bytes, self.n_mels = self.call("bytes", self.plan, self.n_samples), frontend["n_mels"]
        self.input, self.output = self.allocate(4 * self.n_samples), self.allocate(self.bytes)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """float32 [window_samples] to float32 [n_mels, n_frames]."""
        assert samples.shape == (self.n_samples,), "one window, mono"
        self.exports["memory"].write(self.store, samples.astype("<f4").tobytes(), self.input)
        self.call("run", self.plan, SCALED, self.input, self.n_samples, self.output, self.bytes // 4)
        return np.frombuffer(self.read(self.output, self.bytes), "<f4").reshape(self.n_mels, -1)

    def call(self, name: str, *arguments: int) -> int:
        """A count, or the module's own sentence for a code below zero."""
        result = self.exports[f"melspec_{name}"](self.store, *arguments)
        if result < 0:
            sentence = self.read(self.exports["melspec_message"](self.store, result), 200).partition(b"\0")[0].decode()
            raise ValueError(f"{sentence} ({result})")
        return result

    def allocate(self, n: int) -> int:
        address = self.exports["melspec_alloc"](self.store, n) & 0xFFFFFFFF
        assert address, f"no room for {n} bytes"
        return address

    def read(self, address: int, n: int) -> bytes:
        return bytes(self.exports["memory"].read(self.store, address, address + n))


def packed(told: dict[str, Any]) -> bytes:
    """melspec_config of melspec.h: seven doubles, fourteen integers."""
    largest, limited = told["ref"] == "max", told["top_db"] is not None
    numbers = [told["f_min"], told["f_max"], told["amin"], 0 if largest else told["ref"], told["top_db"] or 0]
    codes = {"hann": 0, "constant": 0, "reflect": 1, "slaney": 0, "htk": 1}
    norm = {None: 0, "slaney": 1}[told["mel_norm"]]
    return struct.pack(
        "<7d14i", *numbers, told["db_offset"], told["db_scale"], 1,
        *(told[name] for name in ("sample_rate", "n_fft", "win_length", "hop_length")), codes[told["window"]],
        told["center"], codes[told["pad_mode"]], round(told["power"]), told["n_mels"], codes[told["mel_scale"]], norm,
        largest, limited,
    )  # fmt: skip
