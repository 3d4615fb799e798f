"""PCM from a pipe: bytes as they come to mono samples."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np

from labous.errors import NodeError
from labous.recordings import Samples

FORMATS = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
"""Bytes of one sample of each format that :class:`Pcm` takes; named as ffmpeg names them."""

_READ_BYTES = 2**16  # what a pipe holds
_POLL_SECONDS = 0.25  # how late the end of the station is seen
_WAV_FORMATS = {(1, 8): "u8", (1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le", (3, 32): "f32le"}
_EXTENSIBLE = 0xFFFE
_MOST_HEADER_BYTES = 2**16
_UNKNOWN_BYTES = 0x7FFF0000  # and more: what writers that cannot seek back put for the length of the sound


def read(
    fd: int,
    stopping: threading.Event,
    patience: float = math.inf,
    aside: tuple[int, bytearray] | None = None,
) -> Iterator[bytes]:
    """What comes through a pipe, as it comes, until it ends or the station is stopping.

    Args:
        fd: of the pipe, or of a file.
        patience: for how long nothing need come, s.
        aside: another pipe, of what a program says on stderr, and where its last bytes go.

    Raises:
        NodeError: nothing has come for longer than that.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if aside is not None:
        poll.register(aside[0], select.POLLIN)
    heard = time.monotonic()
    while not stopping.is_set():
        ready = [number for number, _ in poll.poll(1000 * _POLL_SECONDS)]
        if aside is not None and aside[0] in ready and not _keep(*aside):
            poll.unregister(aside[0])
        if fd in ready:
            data = os.read(fd, _READ_BYTES)
            if not data:
                return
            yield data
            heard = time.monotonic()  # after the reader, who may have waited, so that only the writer's time counts
        elif time.monotonic() - heard > patience:
            raise NodeError(f"no sound has come for {patience:g} s")


def _keep(fd: int, kept: bytearray) -> bool:
    """Add what is there, forgetting all but the end; False where the pipe has ended."""
    data = os.read(fd, _READ_BYTES)
    kept += data
    del kept[:-4096]
    return bool(data)


class Pcm:
    """Decodes a stream of PCM, which may begin with the header of a WAV file; that overrides what was told.

    Attributes:
        format, sample_rate, channels: of the stream; final once :meth:`decode` has given samples.
    """

    def __init__(self, format: str, sample_rate: int, channels: int) -> None:
        self.format, self.sample_rate, self.channels = format, sample_rate, channels
        self._left: float = math.inf  # bytes of sound that are still to come

    def decode(self, pieces: Iterable[bytes]) -> Iterator[Samples]:
        """Mono samples, float32 [n], of bytes in pieces of any sizes; what is not finite becomes 0.

        Bytes at the end that make no whole sample of all channels are left out.

        Raises:
            NodeError: the header is of a WAV file that is not PCM, or has no end.
        """
        held, begun = b"", False
        for piece in pieces:
            held += piece
            if not begun:
                length = self._header(held)
                if length is None:
                    continue
                held, begun = held[length:], True
            size = self.channels * FORMATS[self.format]
            whole = int(min(len(held), self._left)) // size * size
            if whole:
                yield self._mono(held[:whole])
            self._left -= whole
            held = held[whole:] if self._left else b""

    def _header(self, data: bytes) -> int | None:
        """The header's length; 0 where there is none, None where more must be seen."""
        if not b"RIFF".startswith(data[:4]) or (len(data) >= 12 and data[8:12] != b"WAVE"):
            return 0
        at, found = 12, None
        while len(data) >= at + 8:
            name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
            if name == b"data":
                if found is None:
                    raise NodeError("The WAV header has no format before its sound; send raw PCM.")
                self.format, self.sample_rate, self.channels = found
                frame = self.channels * FORMATS[self.format]
                self._left = length // frame * frame if 0 < length < _UNKNOWN_BYTES else math.inf
                return at + 8
            if name == b"fmt " and len(data) >= at + 8 + length:
                found = _wav_format(data[at + 8 : at + 8 + length])
            at += 8 + length + length % 2
            if at > _MOST_HEADER_BYTES:
                raise NodeError("The WAV header has no end; send raw PCM.")
        return None

    def _mono(self, data: bytes) -> Samples:
        values: Samples
        if self.format == "u8":
            values = (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
        elif self.format == "s16le":
            values = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
        elif self.format == "s24le":
            # as the upper three bytes of 32 bits, so that the sign comes along
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            values = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
        elif self.format == "s32le":
            values = np.frombuffer(data, "<i4").astype(np.float32) / np.float32(2**31)
        else:
            values = np.nan_to_num(np.frombuffer(data, "<f4").astype(np.float32), posinf=0, neginf=0)
        return values if self.channels == 1 else values.reshape(-1, self.channels).mean(axis=1, dtype=np.float32)


def _wav_format(chunk: bytes) -> tuple[str, int, int]:
    """Format, sample rate and channels that a WAV header's fmt chunk tells."""
    tag, channels, rate, bits = (
        int.from_bytes(chunk[start:end], "little") for start, end in ((0, 2), (2, 4), (4, 8), (14, 16))
    )
    if tag == _EXTENSIBLE:
        tag = int.from_bytes(chunk[24:26], "little")
    name = _WAV_FORMATS.get((tag, bits))
    if name is None or not 1 <= channels <= 64 or not 1_000 <= rate <= 1_000_000:
        raise NodeError(
            f"The WAV header tells of {channels} channels at {rate} Hz, {bits} bits, format {tag}; "
            f"send PCM: {', '.join(FORMATS)}."
        )
    return name, rate, channels
