"""What each part of ``labous analyze`` takes: ``python parts.py BUNDLE SOUND`` prints CPU seconds as JSON."""

from __future__ import annotations

import collections
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import labous
from labous import recordings

T = TypeVar("T")


class Spent(collections.defaultdict[str, float]):
    """CPU seconds by part; each part's own, without those of the parts that it draws from."""

    def __init__(self) -> None:
        super().__init__(float)
        self._now = "rest"
        self._since = time.process_time()

    def into(self, part: str) -> str:
        """From now on it is this part's time; gives whose it was."""
        before, now = self._now, time.process_time()
        self[before] += now - self._since
        self._now, self._since = part, now
        return before

    def drawn(self, part: str, items: Iterable[T]) -> Iterator[T]:
        """The items; making them is this part's time."""
        source = iter(items)
        while True:
            before = self.into(part)
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.into(before)
            yield item


def main() -> None:
    """Hear the sound as ``labous analyze`` does, and say what took how long."""
    import soundfile

    bundle = labous.load(sys.argv[1], "int8")
    rate = bundle.frontend.sample_rate
    with soundfile.SoundFile(sys.argv[2]) as file:
        own = file.samplerate
    spent = Spent()
    blocks = spent.drawn("decoding", recordings.read_blocks(sys.argv[2], own))
    samples = spent.drawn("resampling", recordings.resampled(blocks, own, rate))
    windows = spent.drawn("windows", recordings.windows(samples, bundle.frontend))
    mels = spent.drawn("mel", (bundle.mel(window.samples) for window in windows))
    for _ in spent.drawn("model", (bundle.model.predict(mel) for mel in mels)):
        pass
    spent.into("rest")
    print(json.dumps(spent))


main()
