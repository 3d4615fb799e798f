"""A Program of training.aot run call by call, without a compiler for each: kernels.c is built once."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

import numpy as np
from numpy.typing import NDArray

from melspec_cpp import boards
from melspec_cpp import build as mel_build
from training.aot import build
from training.aot.program import ARENA, INPUT, OUTPUT, WEIGHTS, Call, Program
from training.files import written_beside

_INT, _FLOAT, _FOUR = ctypes.c_int32, ctypes.c_float, ctypes.c_int32 * 4
_WINDOW = """in_h in_w in_c out_h out_w out_c kernel_h kernel_w stride_h stride_w pad_top pad_left whole_first whole_end
block"""
_CLAMP = [("low", _FLOAT), ("high", _FLOAT)]
_FIELDS = {
    "window": [*((name, _INT) for name in _WINDOW.split()), *_CLAMP],
    "reduction": [(name, _INT) for name in ("outer", "length", "inner")],
    "elements": [*((name, _FOUR) for name in ("shape", "a", "b", "out")), *_CLAMP],
}
STRUCTS = {name: type(name, (ctypes.Structure,), {"_fields_": fields}) for name, fields in _FIELDS.items()}


@cache
def kernels(lanes: int = 4) -> ctypes.CDLL:
    """kernels.c for this machine."""
    place = mel_build.BUILD / f"libkernels-{lanes}.so"
    flags = ("-shared", "-fPIC", "-nostdlib", "-fvisibility=default", f"-DLABOUS_LANES={lanes}")
    target = ("-target", boards.MACHINES[platform.machine()], "-mcpu=baseline")
    with written_beside(place) as beside:  # other processes of this run want it, too
        build.compile_c(build.HERE, ("kernels.c",), (*flags, *target), beside)
    return ctypes.CDLL(str(place))


def struct_of(call: Call) -> ctypes.Structure:
    """The first argument of a call."""
    made = STRUCTS[call.struct]()
    for name, value in call.numbers.items():
        setattr(made, name, _FOUR(*value) if isinstance(value, tuple) else value)
    return made


def aligned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy that begins on a cache line."""
    room = np.empty(values.size + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    room[start : start + values.size] = values.ravel()
    return room[start : start + values.size]


def run(program: Program, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output, [n]; what lies around the model's memory must stay as it was."""
    guard = 64
    regions = {
        INPUT: aligned(np.concatenate([np.full(guard, np.nan), values.ravel(), np.full(guard, np.nan)])),
        WEIGHTS: aligned(np.concatenate([program.weights, np.full(guard, np.nan)])),
        ARENA: aligned(np.full(program.arena + 2 * guard, np.nan)),
        OUTPUT: aligned(np.full(program.outputs + 2 * guard, np.nan)),
    }
    start = {INPUT: guard, WEIGHTS: 0, ARENA: guard, OUTPUT: guard}
    before = {name: region.copy() for name, region in regions.items()}
    for call in program.calls:
        pointers = [
            ctypes.c_void_p(regions[place.region].ctypes.data + 4 * (start[place.region] + place.offset))
            for place in call.places
        ]
        getattr(kernels(program.lanes), f"labous_{call.kernel}")(ctypes.byref(struct_of(call)), *pointers)
    sizes = {ARENA: program.arena, OUTPUT: program.outputs}
    for name, region in regions.items():
        inside = slice(start[name], start[name] + sizes.get(name, 0))
        now, then = region.copy(), before[name]
        now[inside] = then[inside] = 0
        assert now.tobytes() == then.tobytes(), f"{name} was written to where it may not be"
    return regions[OUTPUT][guard : guard + program.outputs].copy()
