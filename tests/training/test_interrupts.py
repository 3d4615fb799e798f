"""An interrupt that Python drops is raised again at the next step."""

import signal
import sys

import pytest

from training import interrupts
from training.config import told_in_a_sentence
from training.console import progress


class Dropped:
    """Whose finalizer is interrupted, as Python then reports and forgets."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_a_dropped_interrupt_ends_the_work_at_the_next_step(capsys, monkeypatch):
    done, reported = [], []
    monkeypatch.setattr(sys, "unraisablehook", hook := reported.append)
    with pytest.raises(SystemExit) as end, told_in_a_sentence():
        for n in progress(range(5), "work"):
            done.append(n)
            if n == 1:
                Dropped()
    assert end.value.code == 130 and done == [0, 1]
    assert "interrupted; the same command continues" in capsys.readouterr().err
    assert not reported  # Python would print a traceback
    interrupts.heed()  # it is told once
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and sys.unraisablehook is hook
