"""The C ABI without labous: what melspec.h says, and a handle made by calls of one's own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from labous.mel import WasmEngine

HEADER = (Path(__file__).parents[2] / "melspec_cpp" / "include" / "melspec.h").read_text(encoding="utf-8")
CODES = {name: int(value) for name, value in re.findall(r"MELSPEC_(\w+) = (-?\d+)", HEADER)}


def offsets(struct_name: str) -> dict[str, tuple[int, str]]:
    """Of a structure's fields: where each lies, and its type."""
    body = HEADER.partition(f"typedef struct {struct_name} {{")[2].partition("}")[0]
    return {name: (int(at), kind) for kind, name, at in re.findall(r"(double|int32_t) (\w+); +/\* +(\d+)  ", body)}


def create(engine: WasmEngine, config: bytes, function: str) -> tuple[int, int]:
    """A function like melspec_create: its code, and the address of what it made."""
    address = engine.allocate(len(config) + 8)
    engine.view(address, (len(config) + 8,), np.uint8)[:] = np.frombuffer(config + b"\xff" * 8, np.uint8)
    code = engine.call(function, address, address + len(config))
    made = int(engine.view(address + len(config), (1,), np.uint32)[0])
    engine.call("melspec_free", address)
    return code, made
