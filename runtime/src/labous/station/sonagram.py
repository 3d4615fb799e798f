"""A spectrogram as a picture, in PNG, without a library for it."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_HEIGHT = 200  # pixels, at least
_MARK = 4  # pixels
_BACKGROUND = 50  # per cent of all values that are paper


def sonagram(mel: NDArray[np.float32], marked: tuple[float, float]) -> bytes:
    """A PNG of a spectrogram, dark where it is loud, low frequencies below.

    Args:
        mel: float32 [n_mels, n_frames], on a scale of decibels.
        marked: from where to where a bar below marks it, as shares of its length.
    """
    low, high = np.percentile(mel, _BACKGROUND), mel.max()
    dark = np.clip((mel[::-1] - low) / max(float(high - low), 1e-9), 0, 1)
    pixels = np.repeat(255 - np.rint(255 * dark).astype(np.uint8), -(-_HEIGHT // len(mel)), axis=0)
    mark = np.full((_MARK, pixels.shape[1]), 255, np.uint8)
    begin, end = (round(share * pixels.shape[1]) for share in marked)
    mark[1:, begin:end] = 0
    return png(np.concatenate((pixels, mark)))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of gray values, uint8 [height, width], 0 black."""
    height, width = pixels.shape
    rows = np.concatenate((np.zeros((height, 1), np.uint8), pixels), axis=1)  # 0: a row is stored as it is
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
