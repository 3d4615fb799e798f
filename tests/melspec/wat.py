"""Modules in WebAssembly's text."""

from __future__ import annotations

from labous.mel import abi


def functions(**others: str) -> str:
    """The exports of a mel module, as WAT, some of them others."""
    return " ".join(
        others.get(name, f'(func (export "{name}") {"(param i32)" * len(kinds)} (result i32) i32.const 1)')
        for name, kinds in abi.FUNCTIONS.items()
    )
