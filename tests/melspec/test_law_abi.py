"""The C ABI of the power law, called as a stranger would: layout, codes, pointers."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from by_hand import CODES, HEADER, create, offsets
from laws import SHORT

from labous.errors import EngineError, FrontendError
from labous.mel import WasmEngine, law
from labous.power_law import PowerLawFrontend

NAN, INF = float("nan"), float("inf")
OFFSETS = offsets("melspec_law_channel") | offsets("melspec_law_config")
CHANNELS_AT = 40


def packed(frontend: PowerLawFrontend = SHORT, **changes: float) -> bytes:
    """The bytes with some fields replaced, by their offsets in the header; those of a channel as name_0 … name_3."""
    data = bytearray(law.pack_config(frontend))
    for field, value in changes.items():
        name, _, channel = field.rpartition("_") if field[-1].isdigit() else (field, "", "")
        offset, kind = OFFSETS[name]
        if channel:
            offset += CHANNELS_AT + 32 * int(channel)
        struct.pack_into("<d" if kind == "double" else "<i", data, offset, value)
    return bytes(data)


def test_header_and_python_agree(wasm: WasmEngine) -> None:
    assert law.CONFIG_SIZE == wasm.call("melspec_law_config_size") == 168
    assert f"#define MELSPEC_LAW_CHANNELS {law.MOST_CHANNELS}\n" in HEADER
    constants = {**SHORT.to_dict(), "abi_version": 1, "n_channels": 2}
    for name, (offset, kind) in OFFSETS.items():
        form = "<d" if kind == "double" else "<i"
        if name in constants:
            assert struct.unpack_from(form, packed(), offset)[0] == constants[name], name
            continue
        for i, channel in enumerate(SHORT.to_dict()["channels"]):
            assert struct.unpack_from(form, packed(), CHANNELS_AT + 32 * i + offset)[0] == channel[name], name
    assert len(OFFSETS) == 12 and not any(packed()[CHANNELS_AT + 64 :])


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("ABI_VERSION", {"abi_version": 0}),
        ("ABI_VERSION", {"abi_version": 2}),
        ("SAMPLE_RATE", {"sample_rate": 7999}),
        ("SAMPLE_RATE", {"sample_rate": 96001}),
        ("N_MELS", {"n_mels": 0}),
        ("N_MELS", {"n_mels": 257}),
        ("CHANNELS", {"n_channels": 0}),
        ("CHANNELS", {"n_channels": 5}),
        ("CHANNELS", {"n_channels": -(2**31)}),
        ("CHANNELS", {"n_channels": 1}),
        ("CHANNELS", {"f_min_2": 1e-300}),
        ("CHANNELS", {"hop_length_3": 1}),
        ("PEAK", {"peak_epsilon": 0.0}),
        ("PEAK", {"peak_epsilon": -1.0}),
        ("PEAK", {"peak_epsilon": 9.9e-16}),
        ("PEAK", {"peak_epsilon": 1.1e30}),
        ("PEAK", {"peak_offset": -9.9e-7}),
        ("PEAK", {"peak_offset": 1e-300}),
        ("PEAK", {"peak_epsilon": NAN}),
        ("PEAK", {"peak_epsilon": INF}),
        ("PEAK", {"peak_offset": NAN}),
        ("PEAK", {"peak_offset": INF}),
        ("PEAK", {"peak_scale": 0.0}),
        ("PEAK", {"peak_scale": NAN}),
        ("PEAK", {"peak_scale": 1e12}),
        ("PEAK", {"peak_scale": -1e-13}),
        ("PEAK", {"peak_scale": 1e-50, "peak_offset": 1e50}),
        ("N_FFT", {"n_fft_0": 128}),
        ("N_FFT", {"n_fft_1": 8192}),
        ("N_FFT", {"n_fft_0": 1000}),
        ("N_FFT", {"n_channels": 3}),
        ("HOP_LENGTH", {"hop_length_0": 0}),
        ("FREQUENCIES", {"f_min_0": -1.0}),
        ("FREQUENCIES", {"f_min_1": 15000.0}),
        ("FREQUENCIES", {"f_max_1": 24000.1}),
        ("FREQUENCIES", {"f_min_1": NAN}),
        ("FREQUENCIES", {"f_max_0": NAN}),
        ("FREQUENCIES", {"f_min_0": 2999.9999999999995}),
        ("EXPONENT", {"exponent_0": 0.0}),
        ("EXPONENT", {"exponent_1": 1.0000001}),
        ("EXPONENT", {"exponent_1": NAN}),
    ],
)
def test_impossible_constants_are_refused_inside(wasm: WasmEngine, code: str, changes: dict[str, float]) -> None:
    found, made = create(wasm, packed(**changes), "melspec_law_create")
    assert (found, made) == (CODES[f"ERROR_{code}"], 0)
    with pytest.raises((FrontendError, EngineError), match=r"mel stage"):
        wasm.check(found)


def test_bad_pointers_and_sizes(wasm: WasmEngine) -> None:
    code, made = create(wasm, packed(), "melspec_law_create")
    assert code == 0
    n, count = SHORT.window_samples, int(np.prod(SHORT.mel_shape))
    samples, out = wasm.allocate(4 * n), wasm.allocate(4 * count)
    wasm.view(samples, (n,), np.float32)[:] = 0
    end = wasm.memory_bytes
    error = {name.removeprefix("ERROR_"): value for name, value in CODES.items()}

    def run(
        *, made: int = made, samples: int = samples, n: int = n, first: int = 0, out: int = out, room: int = count
    ) -> int:
        return wasm.call("melspec_law_run", made, samples, n, first, out, room)

    assert run() == SHORT.n_frames
    for bad in (0, 2, 4, end - 4, samples, -16):
        assert run(made=bad) == error["LAW"]
        assert wasm.call("melspec_law_frames", bad, n) == wasm.call("melspec_law_bytes", bad, n) == error["LAW"]
        assert wasm.call("melspec_law_bad_sample", bad) == wasm.call("melspec_law_filters", bad, 0, out, 1) == -31
        if bad:
            assert wasm.call("melspec_law_destroy", bad) == error["LAW"]
    for bad in (0, samples + 2, end - 4 * (n - 1), out - 4 * (n - 1), -4):
        assert run(samples=bad) == error["POINTER"]
    for bad in (0, out + 1, end - 4, samples, made):
        assert run(out=bad) == error["POINTER"]
    assert run(room=count - 1) == run(room=0) == run(room=-1) == error["CAPACITY"]
    assert run(n=-1) == error["N_SAMPLES"]
    assert run(n=2047) == run(first=n - 2047) == error["N_SAMPLES"]
    assert run(first=-1) == run(first=n + 1) == run(first=2**31 - 1) == error["FIRST_SAMPLE"]
    assert wasm.call("melspec_law_frames", made, -1) == error["N_SAMPLES"]
    assert wasm.call("melspec_law_bytes", made, 2**31 - 1) == error["TOO_LONG"]
    assert wasm.call("melspec_law_bytes", made, n) == 4 * count
    weights = 96 * 1025
    for bad in (-1, 2, 2**31 - 1):
        assert wasm.call("melspec_law_filters", made, bad, out, weights) == error["CHANNELS"]
    assert wasm.call("melspec_law_filters", made, 0, out, weights - 1) == error["CAPACITY"]
    assert wasm.call("melspec_law_filters", made, 0, 0, weights) == error["POINTER"]
    assert wasm.call("melspec_law_create", 0, out) == wasm.call("melspec_law_create", out, 0) == error["POINTER"]
    assert wasm.call("melspec_law_destroy", made) == 0 == wasm.call("melspec_law_destroy", 0)
    assert wasm.call("melspec_law_destroy", made) == error["LAW"], "destroyed twice"
    wasm.call("melspec_free", samples)
    wasm.call("melspec_free", out)
