"""One recording to its feature file. Run in worker processes, so it imports little."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import numpy as np

from labous.errors import RecordingError, SamplesError
from labous.frontend import Frontend
from labous.recordings import read, read_blocks, windows
from training.features import LibrosaMel, Mel, mel_spectrogram, native_library
from training.files import code_digest, sha256_of_file, written_beside


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one recording: its feature file and length, or the reason why there is none."""

    recording_id: str
    feature: str = ""
    seconds: float = float("nan")
    reason: str = ""


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


def feature_of(recording_id: str, path: str, frontend: Frontend, backend: str, code: str, place: Path) -> Outcome:
    """Compute one recording's feature file, or find it where an earlier run left it."""
    try:
        identity = json.dumps([frontend.to_dict(), backend, code, sha256_of_file(Path(path))], sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()
        feature = f"features/{digest[:2]}/{digest[2:24]}.npy"
        samples = read(path, frontend.sample_rate)
        if not _is_whole(place / feature):
            segments = segments_of(samples, frontend, backend)
            with written_beside(place / feature) as beside, beside.open("wb") as file:
                np.save(file, segments.astype(np.float16))
    except (RecordingError, SamplesError) as error:
        return Outcome(recording_id, reason=str(error))
    except OSError as error:
        return Outcome(recording_id, reason=f"{error.filename} cannot be read: {error.strerror}.")
    return Outcome(recording_id, feature, len(samples) / frontend.sample_rate)


def readable_of(recording_id: str, path: str, sample_rate: int) -> Outcome:
    """Read a recording to its end."""
    try:
        samples = sum(len(block) for block in read_blocks(path, sample_rate))
    except RecordingError as error:
        return Outcome(recording_id, reason=str(error))
    return Outcome(recording_id, seconds=samples / sample_rate)


def _is_whole(feature: Path) -> bool:
    try:
        np.load(feature, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return True


@functools.lru_cache(maxsize=1)
def _mel(frontend: Frontend, backend: str) -> Mel:
    """Set up once per worker, not once per recording.

    librosa works in float64 here: with float32 it is so coarse that one value in a thousand would be another float16.
    """
    return LibrosaMel(frontend, np.float64) if backend == "librosa" else mel_spectrogram(frontend, backend)


def segments_of(samples: np.ndarray, frontend: Frontend, backend: str) -> np.ndarray:
    """Features, float32 [segments, n_mels, n_frames], of a recording's samples [n_samples].

    Where frames depend on their own samples alone, that is one segment as long as the recording, from which windows
    can be cut anywhere; otherwise one segment a window. A recording shorter than a window is padded with zeros.
    """
    mel = _mel(frontend, backend)
    if frontend.frames_are_local and len(samples) >= frontend.window_samples:
        return mel(samples)[None].astype(np.float32)
    return np.stack([mel(window.samples) for window in windows([samples], frontend)]).astype(np.float32)
