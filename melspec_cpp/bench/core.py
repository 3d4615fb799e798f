"""How fast this core does a mixture of vector operations in Wasmtime when nothing else is to be done.

A mixture becomes a loop in WebAssembly text, its operations spread evenly, with no load, store or index in it unless
the mixture asks for some. The operations form short chains: each begins at a value that takes one operation from chain
to chain and ends in a sum of all chains, so that the core finds several independent ones at any time, more than there
are registers. (As many accumulators as fit into 16 registers are not enough: a core that does four operations in a
cycle, each ready after three, waits for them half the time.) Values stay finite and normal. Operands come out of the
memory before the loop, and no operation occurs twice on the same values, so that the compiler can leave none out.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import wasmtime
from operations import Operations

LENGTHS = (8, 10, 12)
"""Operations in a chain. Which is best depends on the mixture and on the core."""

BODY = 320
"""Operations in a loop's body, about."""

ROUNDS = 20_000
"""Of a loop in one run: about half a millisecond."""

_BEGINNINGS = 3  # values at which chains begin, in turn
_REGISTERS = ("$end", *(f"$begin{i}" for i in range(_BEGINNINGS)), "$a")
_VALUES = {
    # 1 and a little: sums and products with the next two are, as two float32, small and normal, and can be promoted
    "start": struct.pack("<II", 0x3F800000, 0x3FF00000) * 2,
    "little": struct.pack("<d", 2.0**-45) * 2,  # the operands of a chain's first operation
    "turn": struct.pack("<d", -1.0) * 2,
    "factor": struct.pack("<d", -1.0) * 2,
    "summand": struct.pack("<II", 0x3F800000, 0x3FF00000) * 2,
    "divisor": struct.pack("<d", 1 + 2**-30) * 2,
    "zero": bytes(16),
}
_PAGE = 4096  # bytes
_LOADED = (
    3072  # of a page; stores go to the rest of one, for a core takes equal last 12 bits for the same address at first
)
_PAGES = {"summand": 0, "little": _PAGE, "factor": 2 * _PAGE, "turn": 2 * _PAGE}  # of operands to load, in memory
_OPERANDS, _STORED = 3 * _PAGE, 4 * _PAGE  # where what is in _VALUES lies, where stores go: all in the first cache
_WITH_OPERAND = ("additions", "multiplications")
_FIRSTS = " ".join(str(byte) for byte in (*range(8), *range(16, 24)))  # the first lanes of two vectors


class Mixture(NamedTuple):
    """Operations, and what is done beside them."""

    operations: Operations
    loads: int = 0  # of operands of additions and multiplications, as far as these go
    stores: int = 0
    integers: int = 0  # additions of 32-bit integers


class Loop:
    """A mixture's loop, compiled.

    Args:
        mixture: with at least one addition, multiplication or shuffle in ``length`` operations.
        length: of a chain.

    Attributes:
        share: of the mixture, in one time round the loop.
        module: its WebAssembly.
    """

    def __init__(self, mixture: Mixture, length: int) -> None:
        # rounding takes or adds one here and there
        wanted = BODY / sum(mixture.operations)
        counts = Operations(*(round(count * wanted) for count in mixture.operations))
        self.share = sum(counts) / sum(mixture.operations)
        beside = {name: round(getattr(mixture, name) * self.share) for name in ("loads", "stores", "integers")}
        self._store = wasmtime.Store()
        self.module = bytes(wasmtime.wat2wasm(_module(_body(Mixture(counts, **beside), length))))
        compiled = wasmtime.Module(self._store.engine, self.module)
        exports: Any = wasmtime.Instance(self._store, compiled, []).exports(self._store)
        self._run = exports["run"]
        self._memory = exports["memory"]
        for name, address in _PAGES.items():
            self._memory.write(self._store, _VALUES[name] * (_PAGE // 16), address)
        self._memory.write(self._store, b"".join(_VALUES.values()), _OPERANDS)

    def run(self, rounds: int = ROUNDS) -> None:
        """Goes round the loop so often."""
        self._run(self._store, rounds, 0)

    def values(self) -> np.ndarray:
        """What the last run has left in the registers, float64 [2 * registers]."""
        size = 16 * len(_REGISTERS)
        return np.frombuffer(bytes(self._memory.read(self._store, _STORED, _STORED + size)))


def _body(mixture: Mixture, length: int) -> list[str]:
    """The instructions of one round, which does the mixture once."""
    counts = mixture.operations._asdict()
    with_shuffle = min(counts["promotions"], counts["shuffles"])  # see _instructions
    bare, counts["promotions"] = counts["promotions"] - with_shuffle, with_shuffle
    counts["shuffles"] -= with_shuffle
    counts["integers"] -= 2 * counts["demotions"]
    kinds = [kind for _, kind in sorted(((i + 0.5) / n, kind) for kind, n in counts.items() for i in range(n))]
    chains = max((len(kinds) + bare) // length, bare)
    if counts["integers"] < 0 or 3 * chains > len(kinds):
        raise ValueError(f"no loop can be made of {mixture}")
    steps: list[tuple[str, str, str]] = []  # kind, the local that it changes, the other operand
    for chain in range(chains):
        part = kinds[len(kinds) * chain // chains : len(kinds) * (chain + 1) // chains]
        first = _take(part, "multiplications", "additions", "shuffles")
        last = _take(part, "additions", "shuffles", "multiplications")
        steps.append((first, f"$begin{chain % _BEGINNINGS}", "turn" if first == "multiplications" else "little"))
        steps += [("bare promotions", "$a", "a")] * _due(bare, chains, chain)
        steps += [(kind, "$a", "factor" if kind == "multiplications" else "summand") for kind in part]
        steps.append((last, "$end", "a"))
    loadable = [i for i, (kind, _, with_) in enumerate(steps) if kind in _WITH_OPERAND and with_ in _PAGES]
    loaded = {i for at, i in enumerate(loadable) if _due(mixture.loads, len(loadable), at)}
    lines = []
    for i, (kind, name, with_) in enumerate(steps):
        index, operand = f"$i{i % 4}", f"(local.get ${with_})"
        if i in loaded:
            operand = f"(v128.load offset={_PAGES[with_] + 16 * i % _PAGE} (local.get {index}))"
        lines += _instructions(kind, i, name, operand)
        if name.startswith("$begin"):
            lines.append(f"(local.set $a (local.get {name}))")
        for _ in range(_due(mixture.integers, len(steps), i)):
            lines.append(f"(local.set {index} (i32.add (local.get {index}) (local.get $nowhere)))")
        for _ in range(_due(max(0, mixture.loads - len(loadable)), len(steps), i)):
            # which is done nevertheless
            lines.append(f"(drop (v128.load offset={16 * i % _PAGE} (local.get {index})))")
        for _ in range(_due(mixture.stores, len(steps), i)):
            lines.append(f"(v128.store offset={_STORED + 16 * i % _PAGE} (local.get {index}) (local.get $end))")
    return lines


def _take(kinds: list[str], *wanted: str) -> str:
    """Takes the first that there is of these kinds out of the list."""
    found = next(kind for kind in wanted if kind in kinds)
    kinds.remove(found)
    return found


def _due(count: int, places: int, place: int) -> int:
    """How many of ``count`` things, evenly spread over places, fall on this one."""
    return (place + 1) * count // places - place * count // places


def _instructions(kind: str, number: int, name: str, operand: str) -> list[str]:
    """One operation on a local; where its result would be no float64 of moderate size, with two of another kind."""
    value, summand, zero = f"(local.get {name})", "(local.get $summand)", "(local.get $zero)"
    ways = {
        "additions": [f"f64x2.{'sub' if number % 2 else 'add'} {value} {operand}"],
        "multiplications": [f"f64x2.mul {value} {operand}"],
        "divisions": [f"f64x2.div {value} (local.get $divisor)"],
        # What is promoted comes from a shuffle, as half of it does in the kernel, or else from a chain's beginning.
        "promotions": [f"i8x16.shuffle {_FIRSTS} {summand} {value}", f"f64x2.promote_low_f32x4 {value}"],
        "bare promotions": [f"f64x2.promote_low_f32x4 {value}"],
        "demotions": [f"f32x4.demote_f64x2_zero {value}", f"v128.and {value} {zero}", f"v128.or {value} {summand}"],
        "shuffles": [f"i8x16.shuffle {_FIRSTS} {value} {operand}"],
        "maxima": [f"f64x2.pmax {value} {operand}"],
        "integers": [f"i64x2.add {value} {zero}"],
    }
    return [f"(local.set {name} ({way}))" for way in ways[kind]]


def _module(body: list[str]) -> str:
    return "\n".join(
        [
            '(module (memory (export "memory") 1)',
            '(func (export "run") (param $rounds i32) (param $nowhere i32) (result i32)',
            *(f"(local {name} v128)" for name in (*_REGISTERS, *(f"${name}" for name in _VALUES))),
            *(f"(local $i{i} i32)" for i in range(4)),
            *(f"(local.set ${name} (v128.load offset={_OPERANDS + 16 * i} (local.get $nowhere)))"
              for i, name in enumerate(_VALUES)),
            *(f"(local.set {name} (local.get $start))" for name in _REGISTERS),
            *(f"(local.set $i{i} (local.get $nowhere))" for i in range(4)),
            "(loop $again",
            # Cranelift lays operations out by need, those of the local it meets first in front: so, chain by chain.
            "(drop (local.get $end))",
            *body,
            "(br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))",
            *(f"(v128.store offset={_STORED + 16 * i} (local.get $nowhere) (local.get {name}))"
              for i, name in enumerate(_REGISTERS)),
            "(i32.add (i32.add (local.get $i0) (local.get $i1)) (i32.add (local.get $i2) (local.get $i3)))))",
        ]
    )  # fmt: skip
