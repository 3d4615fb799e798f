"""From an audio file to the windows that the model sees, in bounded memory whatever the file's length.

``read_blocks`` gives mono samples at the front end's rate; ``windows`` cuts them. Training and the device both go
this way, so that a model meets on the device what it was trained on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labous.errors import LabousError, RecordingError
from labous.power_law import AnyFrontend

SUFFIXES = (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".w64", ".wav")
"""What a file in a folder must end with to be taken for a recording."""

_BLOCK_VALUES = 2**17  # samples times channels read at once
_RATES = (1_000, 1_000_000)
_INSTALL = "run: pip install 'labous[audio]'"
_CUT_SHORT = r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)"  # libsndfile's log
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # what a writer that cannot seek back leaves in a WAV header

Samples = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Window:
    """One window of a recording.

    Attributes:
        start, end: samples from the recording's beginning, at the front end's rate. ``end`` is the recording's end
            where the window was padded.
        samples: float32 [window_samples]; may share memory with other windows, so do not write into it.
    """

    start: int
    end: int
    samples: Samples


def find(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are given, and folders' recordings at any depth, sorted; each once. Hidden files are left out.

    Raises:
        RecordingError: a folder holds no recording.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            found[path] = None
            continue
        inside = inside_folder(path)
        if not inside:
            raise RecordingError(f"Folder {str(path)!r} holds no recordings; they end in {', '.join(SUFFIXES)}.")
        found.update(dict.fromkeys(inside))
    return list(found)


def inside_folder(folder: Path) -> list[Path]:
    """A folder's recordings at any depth, sorted; perhaps none. Hidden files are left out."""
    return sorted(
        Path(above, name)
        for above, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
    )


def read_blocks(path: str | Path, sample_rate: int) -> Iterator[Samples]:
    """Read a recording, averaged to mono and resampled (soxr, HQ), in blocks.

    The resampler is a stream; its output does not depend on the blocks' sizes and equals
    ``soxr.resample(..., quality="HQ")`` bit for bit.

    Args:
        path: any format that soundfile reads; without soundfile, 16-bit PCM WAV.
        sample_rate: of the samples wanted, Hz.

    Yields:
        float32 [n], n differing from block to block.

    Raises:
        RecordingError: the file is missing, empty, not audio, damaged, cut short, silent (every sample the same) or
            not finite. What is only seen at the end is raised after the last block.
    """
    path = Path(path)
    with _open(path) as source:
        lowest, highest = _RATES
        if not lowest <= source.sample_rate <= highest:
            raise _error(path, f"has a sample rate of {source.sample_rate} Hz; it must be {lowest} to {highest} Hz.")
        yield from resampled(_mono(path, source), source.sample_rate, sample_rate)


def duration(path: str | Path) -> float:
    """The length that a recording's header tells, s.

    Raises:
        RecordingError: the file is missing, empty, not audio, or shorter than its header says.
    """
    with _open(Path(path)) as source:
        return source.frames / source.sample_rate


def read(path: str | Path, sample_rate: int) -> Samples:
    """A whole recording, float32 [n_samples]; see :func:`read_blocks`."""
    return np.concatenate(list(read_blocks(path, sample_rate)))


def resampled(blocks: Iterable[Samples], rate: int, wanted: int) -> Iterator[Samples]:
    """Resample a stream of mono blocks with soxr's HQ quality; nothing is done where the rates are the same.

    Raises:
        RecordingError: the rates differ and soxr is not installed.
    """
    if rate == wanted:
        yield from blocks
        return
    try:
        import soxr
    except ImportError as error:
        raise RecordingError(f"Resampling from {rate} to {wanted} Hz needs soxr; {_INSTALL}") from error
    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def windows(blocks: Iterable[Samples], frontend: AnyFrontend, overlap: float = 0.0) -> Iterator[Window]:
    """Cut mono samples at the front end's rate into windows.

    Windows start at 0, step, 2·step …, where step is the window less the overlap. The last window that would run
    past the end starts earlier, so that it ends with the recording; a tail of fewer than the longest frame is left out.
    A recording shorter than one window is padded with zeros at its end.

    Args:
        blocks: float32 [n] each, of any sizes; together the recording.
        frontend: gives the window's length and the sample rate.
        overlap: of one window with the next, s; at least 0 and less than a window.

    Raises:
        LabousError: the overlap is out of range.
    """
    size = frontend.window_samples
    step = size - check_overlap(overlap, frontend)
    kept = np.zeros(0, np.float32)  # from sample `origin` of the recording on
    origin = start = 0
    for block in blocks:
        kept = np.concatenate((kept, block)) if len(kept) else block
        while start + size <= origin + len(kept):
            # samples before the newest window are never needed again, not even by the last one
            kept, origin = kept[start - origin :], start
            yield Window(start, start + size, kept[:size])
            start += step
    total = origin + len(kept)
    if 0 < total < size:
        yield Window(0, total, np.pad(kept, (0, size - total)))
    elif total - (start - step + size) >= frontend.longest_frame:
        yield Window(total - size, total, kept[-size:])


def check_overlap(overlap: float, frontend: AnyFrontend) -> int:
    """The overlap in samples.

    Raises:
        LabousError: it is negative, not a number, or a window or more.
    """
    samples = round(overlap * frontend.sample_rate) if 0 <= overlap < frontend.window_seconds else -1
    if not 0 <= samples < frontend.window_samples:
        raise LabousError(
            f"An overlap of {overlap} s cannot be; it must be at least 0 and less than a window "
            f"({frontend.window_seconds:g} s)."
        )
    return samples


class _Source(Protocol):
    sample_rate: int
    frames: int

    def blocks(self) -> Iterator[Samples]:
        """float32 [n, channels]."""


def _mono(path: Path, source: _Source) -> Iterator[Samples]:
    """Average the channels, and refuse what no result should be given for."""
    read, lowest, highest = 0, np.inf, -np.inf
    for block in source.blocks():
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            at = (read + int(np.argmin(finite))) / source.sample_rate
            raise _error(path, f"holds a sample that is not finite at {at:.3f} s; export it again from its source.")
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
        read += len(mono)
        lowest, highest = min(lowest, mono.min()), max(highest, mono.max())
        yield mono
    if read < source.frames:
        has, promised = read / source.sample_rate, source.frames / source.sample_rate
        raise _error(path, f"is cut short or damaged: it holds {has:.1f} s of {promised:.1f} s; fetch it again.")
    if read == 0:
        raise _error(path, "holds no samples; record it again.")
    if lowest == highest:
        raise _error(path, "is silent: all its samples are the same; check the microphone.")


def _error(path: Path, what: str) -> RecordingError:
    return RecordingError(f"Recording {str(path)!r} {what}")


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_Source]:
    try:
        if path.is_dir():
            raise _error(path, "is a folder; give a file.")
        if not path.exists():
            raise _error(path, "does not exist; check the path.")
        if not path.is_file():
            raise _error(path, "is not a regular file; save it to one first.")
        if path.stat().st_size == 0:
            raise _error(path, "is empty; fetch it again.")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise _error(path, f"cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: soundfile without libsndfile
        with _open_wave(path) as source:
            yield source
        return
    try:
        # as bytes, since a name need not be UTF-8
        file = soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else path)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a .raw file, whose format cannot be known
        raise _error(path, "is not audio, or in a format that cannot be read; convert it to WAV or FLAC.") from error
    with file:
        yield _SoundFile(path, file, soundfile.LibsndfileError)


class _SoundFile:
    def __init__(self, path: Path, file: Any, error: type[Exception]) -> None:
        self._path, self._file, self._error = path, file, error
        self.sample_rate: int = file.samplerate
        self.frames: int = file.frames
        _check_header(path, file.extra_info)

    def blocks(self) -> Iterator[Samples]:
        n = max(1, _BLOCK_VALUES // self._file.channels)
        read = 0
        while True:
            try:
                block = self._file.read(n, dtype="float32", always_2d=True)
            except self._error as error:
                at = read / self.sample_rate
                raise _error(self._path, f"is cut short or damaged after {at:.1f} s; fetch it again.") from error
            if len(block) == 0:
                return
            read += len(block)
            yield block


def _check_header(path: Path, log: str) -> None:
    """Refuse a file that ends before its header says so.

    libsndfile shortens uncompressed files to what is there and drops an Ogg file's last, incomplete page; that it
    noticed is told only in its log.
    """
    for promised, there in re.findall(_CUT_SHORT, log, re.MULTILINE):
        if int(there) < int(promised) and int(promised) not in _UNKNOWN_SIZES:
            raise _error(path, f"is cut short: it holds {there} of {promised} bytes of sound; fetch it again.")
    if "lacks an end-of-stream bit" in log or "Junk after the last page" in log:
        raise _error(path, "is cut short or damaged at its end: its last Ogg page is not whole; fetch it again.")


@contextlib.contextmanager
def _open_wave(path: Path) -> Iterator[_Source]:
    """The standard library's reader, for where soundfile is not installed."""
    try:
        file = wave.open(str(path), "rb")  # noqa: SIM115
    except (wave.Error, EOFError) as error:
        raise _error(path, f"is not a plain WAV file; for other formats, {_INSTALL}") from error
    with file:
        if file.getsampwidth() != 2:
            raise _error(path, f"is not 16-bit; for other formats, {_INSTALL}")
        yield _Wave(file)


class _Wave:
    def __init__(self, file: wave.Wave_read) -> None:
        self._file = file
        self.sample_rate = file.getframerate()
        self.frames = file.getnframes()

    def blocks(self) -> Iterator[Samples]:
        channels = self._file.getnchannels()
        while data := self._file.readframes(max(1, _BLOCK_VALUES // channels)):
            whole = len(data) // (2 * channels) * 2 * channels
            stored = np.frombuffer(data[:whole], "<i2").reshape(-1, channels)
            yield stored.astype(np.float32) / np.float32(32768)
