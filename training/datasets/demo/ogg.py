"""Ogg Vorbis files whose bytes depend on their samples alone.

libsndfile gives each Ogg stream a random serial number, which stands in every page and in every page's checksum
(RFC 3533, section 6): the same samples never give the same file. Here it is replaced, so that a data set made twice
has the same hashes.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
import soundfile

_REVERSE = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_HEADER = 27  # bytes of a page before its segment table
_SERIAL = slice(14, 18)
_CHECKSUM = slice(22, 26)


def encode(samples: npt.NDArray[np.float32], rate: int) -> bytes:
    """Ogg Vorbis file of mono `samples`; reproducible for one version of libsndfile and libvorbis."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, format="OGG", subtype="VORBIS", compression_level=0.9) as file:
        # One long write to Ogg Vorbis overflows libsndfile's stack.
        for start in range(0, len(samples), rate):
            file.write(samples[start : start + rate])
    return _with_serial(buffer.getvalue(), 1)


def _with_serial(data: bytes, serial: int) -> bytes:
    pages = bytearray(data)
    start = 0
    while start < len(pages):
        segments = pages[start + 26]
        body = start + _HEADER + segments
        end = body + sum(pages[start + _HEADER : body])
        page = pages[start:end]
        page[_SERIAL] = struct.pack("<I", serial)
        page[_CHECKSUM] = bytes(4)
        page[_CHECKSUM] = struct.pack("<I", _checksum(bytes(page)))
        pages[start:end] = page
        start = end
    return bytes(pages)


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32 (polynomial 0x04c11db7, most significant bit first, no inversion) by way of zlib's.

    zlib's is the same polynomial with the bits of every byte and of the result in the opposite order, and inverted.
    """
    mirrored = zlib.crc32(page.translate(_REVERSE), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_REVERSE), "big")
