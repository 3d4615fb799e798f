"""PCM on standard input, as ``arecord`` writes it."""

from __future__ import annotations

import dataclasses
import os
import stat
import sys

from labous.errors import NodeError
from labous.formats import printable
from labous.nodes import Context
from labous.options import option
from labous.station import pipe
from labous.station.buffer import Buffer
from labous.station.capture import LIVE, Live, LiveOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stdin(LiveOptions):
    """Sound from standard input: raw PCM, or a WAV file's header and what follows it.

    So ``arecord -t raw -f S16_LE -r 48000 | labous run pipeline.toml`` listens. (Without ``-t raw``, arecord writes a
    WAV file, which is taken as well but ends after 2 GB.) What comes faster than sound does, as from a file, waits
    until it is taken; what does not is dropped, the oldest first, when it cannot be taken in time.

    A recording that is piped in has no time, and a detection's ``id`` comes of its samples instead: the same recording
    gives the same ones again. Give each a ``name`` of its own, by which people can tell them apart.
    """

    format: str = option("of the samples, as ffmpeg names it", "s16le", choices=tuple(pipe.FORMATS))
    sample_rate: int = option("Hz; a WAV header's own goes before", 48_000, minimum=1_000, maximum=1_000_000)
    channels: int = option("averaged; a WAV header's own go before", 1, minimum=1, maximum=64)
    live: str = option("whether the sound goes on while nobody listens", "auto", choices=tuple(LIVE))

    def untried(self) -> str:
        """All: what it is given to a check is not what it is given to a run."""
        return "whether it gives sound"

    def check(self, context: Context) -> None:
        """Nothing can be tried."""

    def open(self, context: Context) -> Live:
        """The source.

        Raises:
            NodeError: standard input is closed, or a terminal.
        """
        try:
            fd = sys.stdin.fileno()
            kind = os.fstat(fd).st_mode
        except (AttributeError, OSError, ValueError) as error:
            raise NodeError("Standard input is closed; pipe sound into it.") from error
        if os.isatty(fd):
            raise NodeError("Standard input is a terminal; pipe sound into it.")
        live = False if stat.S_ISREG(kind) else LIVE[self.live]

        def capture(buffer: Buffer) -> None:
            decoder = pipe.Pcm(self.format, self.sample_rate, self.channels)
            pieces = decoder.decode(pipe.read(fd, context.stopping))
            for number, samples in enumerate(pieces):
                if number == 0:
                    buffer.begin(decoder.sample_rate)
                buffer.put(samples)

        return Live(context, "stdin", self, printable(self.name or "stdin"), live, capture)
