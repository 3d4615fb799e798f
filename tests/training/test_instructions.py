"""Counting instructions in qemu's log."""

from __future__ import annotations

import pytest

from training.bench.instructions import total
from training.errors import StageError

X86 = b"""\
----------------
IN: main
0x01058560:  48 31 ed                 xorq     %rbp, %rbp
0x01058563:  48 b8 00 00 00 00 00 00  movabsq  $0x3ff0000000000000, %rax
0x0105856b:  f0 3f
0x0105856d:  e8 00 00 00 00           callq    0x1058576

Trace 0: 0x7fd1 [0000000000000000/0000000001058560/1040c0b3/00000200] main
Trace 0: 0x7fd1 [0000000000000000/0000000001058560/1040c0b3/00000200] main
----------------
IN:
0x01058576:  c3                       retq

Trace 0: 0x7fd2 [0000000000000000/0000000001058576/1040c0b3/00000200]
Trace 0: 0x7fd1 [0000000000000000/0000000001058560/1040c0b3/00000200] main
"""
ARM = b"""\
IN:
0x00076430:  e3a0b000  mov      fp, #0
0x00076434:  e3a0e000  mov      lr, #0
Trace 0: 0x7fe7 [00000480/00076430/00000000/00000200]
IN:
0x00076430:  e3a0b000  mov      fp, #0
Trace 0: 0x7fe8 [00000480/00076430/00000000/00000200]
"""


def test_each_block_counts_as_often_as_it_is_entered() -> None:
    assert total(X86.splitlines(keepends=True)) == 3 * 3 + 1
    assert total(ARM.splitlines(keepends=True)) == 2 + 1  # translated anew, shorter


def test_a_block_of_which_nothing_is_known() -> None:
    with pytest.raises(StageError, match="qemu enters 00076438"):
        total([b"Trace 0: 0x7fe7 [00000480/00076438/00000000/00000200]\n"])
