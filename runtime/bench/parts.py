"""What each part of ``labous analyze`` takes alone: ``python parts.py BUNDLE SOUND`` prints CPU seconds as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import labous
from labous import recordings

T = TypeVar("T")


def main() -> None:
    """Run the parts after each other, each on all that the one before it gave."""
    bundle = labous.load(sys.argv[1], "int8")
    rate = bundle.frontend.sample_rate
    spent: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        began = time.process_time()
        found = work()
        spent[name] = time.process_time() - began
        return found

    import soundfile

    with soundfile.SoundFile(sys.argv[2]) as file:
        own = file.samplerate
    blocks = timed("decoding", lambda: list(recordings.read_blocks(sys.argv[2], own)))
    samples = timed("resampling", lambda: list(recordings.resampled(blocks, own, rate)))
    windows = timed("windows", lambda: list(recordings.windows(samples, bundle.frontend)))
    mels = timed("mel", lambda: [bundle.mel(window.samples) for window in windows])
    timed("model", lambda: [bundle.model.predict(mel) for mel in mels])
    print(json.dumps(spent))


main()
