"""What a WebAssembly module really executes: the module rewritten so that it counts its own instructions.

Before every instruction goes the increment of a 64-bit global of its opcode's own, which is exported. Nothing else
changes, and the result runs in any engine. What is known is WebAssembly 2.0, SIMD128 included; a module with imports,
which could shift the indices of globals, is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import wasmtime

from labous.frontend import Frontend
from labous.mel import abi

Opcode = tuple[int, ...]
"""An instruction's first byte, and the number behind it where that is a prefix."""

PREFIX = "executed "
"""Of the exported globals' names; the opcode follows, in hexadecimal."""

LOADS, STORES = range(0x28, 0x36), range(0x36, 0x3F)
INTEGERS, BRANCHES = range(0x67, 0x8B), (0x04, 0x0C, 0x0D, 0x0E)
SIMD = 0xFD  # the prefix byte of SIMD128
SIMD_LOADS, SIMD_STORES = (*range(11), *range(84, 88), 92, 93), (11, *range(88, 92))

_CODE, _GLOBALS, _EXPORTS, _IMPORTS = 10, 6, 7, 2
_I64, _MUTABLE, _GLOBAL = b"\x7e", b"\x01", b"\x03"


def counting(module: bytes) -> bytes:
    """The module, counting.

    Raises:
        ValueError: not a module, or one with something in it that this cannot rewrite.
    """
    if module[:8] != b"\0asm\1\0\0\0":
        raise ValueError("not a WebAssembly module")
    sections = dict(_sections(module))
    if _IMPORTS in sections:
        raise ValueError("a module with imports is not rewritten")
    old_globals, globals_at = _unsigned(sections.get(_GLOBALS, b"\0"), 0)
    indices: dict[Opcode, int] = {}
    code = bytearray()
    functions, at = _unsigned(sections[_CODE], 0)
    for _ in range(functions):
        size, at = _unsigned(sections[_CODE], at)
        body = sections[_CODE][at : at + size]
        at += size
        start = _after_locals(body)
        counted = bytearray(body[:start])
        for opcode, begin, end in _instructions(body, start):
            # what only marks a block's end or its other half is no place for code, and nothing to count
            if opcode not in {(0x05,), (0x0B,)}:
                index = _leb(indices.setdefault(opcode, old_globals + len(indices)))
                counted += b"\x23" + index + b"\x42\x01\x7c\x24" + index  # global.get, i64.const 1, i64.add, global.set
            counted += body[begin:end]
        code += _leb(len(counted)) + counted
    new_globals = (_I64 + _MUTABLE + b"\x42\0\x0b") * len(indices)
    old_exports, exports_at = _unsigned(sections.get(_EXPORTS, b"\0"), 0)
    exports = bytearray()
    for opcode, number in indices.items():
        name = (PREFIX + _hexadecimal(opcode)).encode()
        exports += _leb(len(name)) + name + _GLOBAL + _leb(number)
    sections[_CODE] = _leb(functions) + bytes(code)
    sections[_GLOBALS] = _leb(old_globals + len(indices)) + sections.get(_GLOBALS, b"\0")[globals_at:] + new_globals
    sections[_EXPORTS] = _leb(old_exports + len(indices)) + sections.get(_EXPORTS, b"\0")[exports_at:] + bytes(exports)
    order = sorted(sections, key=[0, 1, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11].index)
    return module[:8] + b"".join(bytes([i]) + _leb(len(sections[i])) + sections[i] for i in order)


class Counting:
    """A module's instance that counts. Its exports are called by name.

    Args:
        module: WebAssembly without imports.
    """

    def __init__(self, module: bytes) -> None:
        self._store = wasmtime.Store()
        compiled = wasmtime.Module(self._store.engine, counting(module))
        exports: Any = wasmtime.Instance(self._store, compiled, []).exports(self._store)
        names = [export.name for export in compiled.exports]
        self._exports = {name: exports[name] for name in names if not name.startswith(PREFIX)}
        self._counters = {_opcode(name): exports[name] for name in names if name.startswith(PREFIX)}

    def call(self, name: str, *arguments: int) -> Any:
        """Calls an exported function."""
        return self._exports[name](self._store, *arguments)

    def write(self, address: int, data: bytes) -> None:
        """Puts bytes into the exported memory."""
        self._exports["memory"].write(self._store, data, address)

    def read(self, address: int, size: int) -> bytes:
        """Takes bytes out of the exported memory."""
        return bytes(self._exports["memory"].read(self._store, address, address + size))

    def executed(self) -> Counter[Opcode]:
        """How often each instruction has been executed until now."""
        return Counter({opcode: counter.value(self._store) for opcode, counter in self._counters.items()})


def executed(module: bytes, frontend: Frontend, samples: np.ndarray, output: abi.Output) -> Counter[Opcode]:
    """How often each instruction is executed in one melspec_run.

    Args:
        module: a melspec.wasm, as it was built.
        frontend: the constants of the plan.
        samples: float32 [n_samples].
        output: what the run computes.

    Raises:
        ValueError: the module refuses them.
    """
    instance = Counting(module)
    config = instance.call("melspec_alloc", abi.CONFIG_SIZE + 4)
    instance.write(config, abi.pack_config(frontend))
    if instance.call("melspec_create", config, config + abi.CONFIG_SIZE) != 0:
        raise ValueError(f"the module refuses {frontend}")
    plan = int.from_bytes(instance.read(config + abi.CONFIG_SIZE, 4), "little")
    size = instance.call("melspec_bytes", plan, samples.size)
    into, out = instance.call("melspec_alloc", samples.nbytes), instance.call("melspec_alloc", size)
    instance.write(into, samples.tobytes())
    before = instance.executed()
    if instance.call("melspec_run", plan, output, into, samples.size, out, size // 4) < 1:
        raise ValueError("the module refuses the samples")
    return instance.executed() - before


def beside(executed: Mapping[Opcode, int]) -> dict[str, int]:
    """What a run executed beside arithmetic on float64: ``loads``, ``stores``, and ``integers``, branches included."""

    def count(plain: Iterable[int], simd: Iterable[int] = ()) -> int:
        return sum(executed.get((n,), 0) for n in plain) + sum(executed.get((SIMD, n), 0) for n in simd)

    return {
        "loads": count(LOADS, SIMD_LOADS),
        "stores": count(STORES, SIMD_STORES),
        # an integer comparison goes with the branch behind it
        "integers": count((*INTEGERS, *BRANCHES)),
    }


def _sections(module: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each section, names and other custom ones left out."""
    at = 8
    while at < len(module):
        number = module[at]
        size, at = _unsigned(module, at + 1)
        if number:
            yield number, module[at : at + size]
        at += size


def _after_locals(body: bytes) -> int:
    groups, at = _unsigned(body, 0)
    for _ in range(groups):
        _, at = _unsigned(body, at)
        at += 1
    return at


def _instructions(body: bytes, at: int) -> Iterator[tuple[Opcode, int, int]]:
    """Opcode, begin and end of each instruction from ``at`` on."""
    while at < len(body):
        begin = at
        opcode: Opcode = (body[at],)
        at += 1
        if opcode[0] in {0xFC, SIMD}:
            second, at = _unsigned(body, at)
            opcode += (second,)
        for immediate in _immediates(opcode):
            if immediate == LEB:
                at = _unsigned(body, at)[1]
            elif immediate == VECTOR:
                count, at = _unsigned(body, at)
                for _ in range(count):
                    at = _unsigned(body, at)[1]
            else:
                at += immediate
        yield opcode, begin, at


LEB, VECTOR = -1, -2
_MEMORY = (LEB, LEB)  # alignment and offset
_PLAIN = {
    **dict.fromkeys((*range(2, 5), 0x0C, 0x0D, 0x10, *range(0x20, 0x27), *range(0x3F, 0x43), 0xD0, 0xD2), (LEB,)),
    **dict.fromkeys(range(0x28, 0x3F), _MEMORY),
    0x0E: (VECTOR, LEB), 0x11: (LEB, LEB), 0x1C: (VECTOR,), 0x43: (4,), 0x44: (8,),
}  # fmt: skip
_BULK = {**dict.fromkeys((9, 11, 13, 15, 16, 17), (LEB,)), **dict.fromkeys((8, 10, 12, 14), (LEB, LEB))}
_VECTOR = {
    **dict.fromkeys((*range(12), 92, 93), _MEMORY), **dict.fromkeys((12, 13), (16,)),
    **dict.fromkeys(range(21, 35), (1,)), **dict.fromkeys(range(84, 92), (*_MEMORY, 1)),
}  # fmt: skip


def _hexadecimal(opcode: Opcode) -> str:
    return " ".join(f"{part:02x}" for part in opcode)


def _opcode(name: str) -> Opcode:
    return tuple(int(part, 16) for part in name.removeprefix(PREFIX).split())


def _immediates(opcode: Opcode) -> tuple[int, ...]:
    """What follows an opcode: numbers of bytes, or LEB or VECTOR (of LEBs, after their number)."""
    if len(opcode) == 1:
        if opcode[0] in _PLAIN:
            return _PLAIN[opcode[0]]
        known = opcode[0] in {0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B, 0xD1, *range(0x45, 0xC5)}
    elif opcode[0] == SIMD:
        if opcode[1] in _VECTOR:
            return _VECTOR[opcode[1]]
        known = opcode[1] < 0x114
    else:
        if opcode[1] in _BULK:
            return _BULK[opcode[1]]
        known = opcode[1] < 8
    if not known:
        raise ValueError(f"unknown instruction {_hexadecimal(opcode)}")
    return ()


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    """The LEB128 number at a position, read as unsigned, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _leb(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
