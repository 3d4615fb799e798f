"""One file to its feature files. Run in worker processes, so it imports little.

Whatever the length of a recording, no more of it is held than a block of samples, the frames of one run and
``SPOOL_BYTES`` of features: they are computed while it is decoded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import platform
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labous.errors import RecordingError, SamplesError
from labous.frontend import Frontend
from labous.recordings import read_blocks, windows
from training.errors import StageError
from training.features import LibrosaMel, Mel, mel_spectrogram, native_library
from training.files import code_digest, sha256_of_file, written_beside

FRAMES_AT_ONCE = 1024  # in one call of the mel stage
SPOOL_BYTES = 2**24  # of one stretch's features, half an hour of mel64; more of them goes to disk
_FEATURE = np.dtype("<f2")

Samples = NDArray[np.float32]
Frames = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, order=True)
class Stretch:
    """Part of a recording, in seconds of it; ``end`` is infinite for its end."""

    start: float = 0.0
    end: float = float("inf")


WHOLE = Stretch()


@dataclasses.dataclass(frozen=True)
class Feature:
    """What became of one stretch: its feature file and length, or the reason why there is none."""

    stretch: Stretch
    name: str = ""
    seconds: float = 0.0
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one file: the features of its stretches and its length, or the reason why it cannot be used."""

    path: str
    sha256: str = ""
    seconds: float = 0.0
    reason: str = ""
    features: tuple[Feature, ...] = ()


@dataclasses.dataclass(frozen=True)
class Job:
    """A file to read to its end, and the stretches of it to compute.

    Attributes:
        size: of the file in bytes as the submitting process sees it, -1 where it sees none.
        known: outcomes of files like it; should the contents be the same, nothing is computed.
    """

    path: str
    stretches: tuple[Stretch, ...]
    size: int
    known: tuple[Outcome, ...] = ()


@dataclasses.dataclass(frozen=True)
class Extraction:
    """How files become features: called in a worker with one :class:`Job` after the other.

    Attributes:
        code: :func:`feature_code` of the backend.
        place: absolute; names of features are relative to it.
    """

    frontend: Frontend
    backend: str
    code: str
    place: Path

    @property
    def key(self) -> str:
        """Digest of all that decides features, but for the file."""
        return _digest(self._identity)

    @property
    def _identity(self) -> list[object]:
        return [self.frontend.to_dict(), self.backend, self.code]

    def __call__(self, job: Job) -> Outcome:
        """Compute a file's features.

        Raises:
            StageError: this process does not see the file that the one that submitted the job does.
            OSError: a feature cannot be written.
        """
        check_seen(job)
        try:
            sha256 = sha256_of_file(Path(job.path))
        except OSError as error:
            return Outcome(job.path, reason=f"{job.path} cannot be read: {error.strerror}.")
        for known in job.known:
            if known.sha256 == sha256 and (kept := self.kept(known, job.stretches)):
                return dataclasses.replace(kept, path=job.path)
        try:
            features: list[Feature] = []
            for row in _in_passes(job.stretches):
                samples = _Reader(read_blocks(job.path, self.frontend.sample_rate))
                features += [self._feature(samples, stretch, sha256) for stretch in row]
                samples.skip_to(None)  # what is wrong with a file may be seen at its end only
        except (RecordingError, SamplesError) as error:
            return Outcome(job.path, sha256, reason=str(error))
        return Outcome(job.path, sha256, samples.position / self.frontend.sample_rate, features=tuple(features))

    def kept(self, outcome: Outcome, stretches: Sequence[Stretch]) -> Outcome | None:
        """An earlier outcome, cut down to what is asked for, if it says all of that and its feature files are whole."""
        found = {feature.stretch: feature for feature in outcome.features}
        if outcome.reason or not found.keys() >= set(stretches):
            return None
        asked = tuple(found[stretch] for stretch in sorted(stretches))
        if not all(feature.reason or is_whole(self.place / feature.name) for feature in asked):
            return None
        return dataclasses.replace(outcome, features=asked)

    def _feature(self, samples: _Reader, stretch: Stretch, sha256: str) -> Feature:
        rate = self.frontend.sample_rate
        samples.skip_to(round(stretch.start * rate))
        begun = samples.position
        digest = _digest([*self._identity, sha256, *([] if stretch == WHOLE else [stretch.start, stretch.end])])
        name = f"features/{digest[:2]}/{digest[2:24]}.npy"
        until = None if stretch.end == float("inf") else round(stretch.end * rate)
        runs = runs_of_frames(samples.take(until), self.frontend, self.backend)
        written = write_features(runs, self.place / name, joined=self.frontend.frames_are_local)
        if not written:
            end = f"The recording ends at {begun / rate:.1f} s"
            return Feature(stretch, reason=f"{end}; there is no stretch of it from {stretch.start:g} s on.")
        return Feature(stretch, name, (samples.position - begun) / rate)


def _digest(identity: list[object]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def check_seen(job: Job) -> None:
    """Raise StageError unless the job's file has here the size that it has where the job was submitted."""
    size = size_of(job.path)
    if size != job.size:
        there, here = ("no such file" if n < 0 else f"{n} bytes" for n in (job.size, size))
        raise StageError(
            f"{job.path} is {here} to a worker on {platform.node()}, and {there} to the process that asked it: every "
            "worker must see the same files under the same paths, and nobody may change them meanwhile."
        )


def size_of(path: str) -> int:
    """Bytes of a file, -1 where there is none."""
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return -1


def feature_code(backend: str) -> str:
    """Digest of the source that decides a feature file, so that another code makes another file."""
    from labous.mel import __file__ as mel

    here, device = Path(__file__).parent, Path(mel).parents[1]
    places = [here / "features.py", here / "segments.py", device / "recordings.py", device / "frontend.py"]
    if backend != "librosa":
        places += [device / "mel", device / "melspec.wasm"]
    if backend == "native":
        places.append(native_library())
    return code_digest(*places)


def is_whole(feature: Path) -> bool:
    """Whether a feature file is there with the length that its header promises."""
    try:
        np.load(feature, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return True


class _Reader:
    """The samples of a recording, taken in order."""

    def __init__(self, blocks: Iterable[Samples]) -> None:
        self._blocks, self._left = iter(blocks), np.zeros(0, np.float32)
        self.position = 0

    def take(self, until: int | None) -> Iterator[Samples]:
        """What there is before sample ``until`` (None: the end), in blocks."""
        while until is None or self.position < until:
            if not len(self._left):
                block = next(self._blocks, None)
                if block is None:
                    return
                self._left = block
            part = self._left if until is None else self._left[: until - self.position]
            self._left = self._left[len(part) :]
            self.position += len(part)
            yield part

    def skip_to(self, until: int | None) -> None:
        for _ in self.take(until):
            pass


def _in_passes(stretches: Sequence[Stretch]) -> list[list[Stretch]]:
    """The stretches in rows of such as follow each other: a row is computed while the file is read once."""
    rows: list[list[Stretch]] = []
    for stretch in sorted(stretches):
        row = next((row for row in rows if row[-1].end <= stretch.start), None)
        if row is None:
            rows.append([stretch])
        else:
            row.append(stretch)
    return rows or [[]]


_own = threading.local()


def _mel(frontend: Frontend, backend: str) -> Mel:
    """Set up once per worker, not once per recording; for each thread its own, as a plan is used by one at a time.

    librosa works in float64 here: with float32 it is so coarse that one value in a thousand would be another float16.
    """
    if getattr(_own, "of", None) != (frontend, backend):
        _own.mel = LibrosaMel(frontend, np.float64) if backend == "librosa" else mel_spectrogram(frontend, backend)
        _own.of = (frontend, backend)
    mel: Mel = _own.mel
    return mel


def runs_of_frames(blocks: Iterable[Samples], frontend: Frontend, backend: str) -> Iterator[Frames]:
    """Features of mono samples, blocks [n] each, as float32 [n_mels, n].

    Where frames depend on their own samples alone, these are the runs of one segment as long as the recording, from
    which windows can be cut anywhere; otherwise each is a segment of its own, one a window. A recording shorter than a
    window is padded with zeros; of no samples there are no features.
    """
    mel = _mel(frontend, backend)
    if frontend.frames_are_local:
        blocks = iter(blocks)
        samples = _at_least(frontend.window_samples, [], blocks)
        if len(samples) >= frontend.window_samples:
            yield from _runs(samples, blocks, frontend, mel)
            return
        blocks = [samples]
    for window in windows(blocks, frontend):
        yield mel(window.samples).astype(np.float32)


def _runs(samples: Samples, blocks: Iterator[Samples], frontend: Frontend, mel: Mel) -> Iterator[Frames]:
    """All frames of ``samples`` and what follows them, FRAMES_AT_ONCE at a time."""
    size = (FRAMES_AT_ONCE - 1) * frontend.hop_length + frontend.n_fft
    step = FRAMES_AT_ONCE * frontend.hop_length
    while True:
        samples = _at_least(max(size, step), [samples], blocks)
        if len(samples) < frontend.n_fft:
            return
        yield mel(samples[:size]).astype(np.float32)
        samples = samples[step:]


def _at_least(n_samples: int, held: list[Samples], blocks: Iterator[Samples]) -> Samples:
    """The samples held, with as many more as make ``n_samples``, or all that there are."""
    count = sum(map(len, held))
    while count < n_samples and (block := next(blocks, None)) is not None:
        held.append(block)
        count += len(block)
    return np.concatenate(held) if held else np.zeros(0, np.float32)


def write_features(runs: Iterable[Frames], path: Path, joined: bool) -> bool:
    """Write runs of frames, [n_mels, n] each, as one .npy; False, and no file, where there are none.

    In a file, a segment lies band by band, and the runs come one after the other: they are kept in a spool, the start
    of which is in memory, until their number is known.

    Args:
        joined: whether they make one segment, float16 [1, n_mels, their frames], or one each, [runs, n_mels, n].
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    widths: list[int] = []
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=str(path.parent)) as spool:
        for run in runs:
            spool.write(run.astype(_FEATURE).tobytes())
            n_mels = len(run)
            widths.append(run.shape[1])
        if not widths:
            return False
        shape = (1, n_mels, sum(widths)) if joined else (len(widths), n_mels, widths[0])
        with written_beside(path) as beside, beside.open("wb") as file:
            header = {"descr": _FEATURE.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            spool.seek(0)
            if not joined:
                shutil.copyfileobj(spool, file)
                return True
            for start, n_bytes in _band_by_band(widths, n_mels):
                spool.seek(start)
                file.write(spool.read(n_bytes))
    return True


def _band_by_band(widths: list[int], n_mels: int) -> Iterator[tuple[int, int]]:
    """Start and length in the spool, in bytes, of each piece of a segment that came in runs."""
    starts = [n_mels * before * _FEATURE.itemsize for before in itertools.accumulate(widths[:-1], initial=0)]
    for band in range(n_mels):
        for start, width in zip(starts, widths, strict=True):
            yield start + band * width * _FEATURE.itemsize, width * _FEATURE.itemsize
