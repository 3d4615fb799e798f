"""One recording to its feature file. Run in worker processes, so it imports little."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np

from labous.errors import LabousError
from labous.frontend import Frontend
from labous.recordings import read, windows
from training.features import mel_spectrogram
from training.files import sha256_of_file, written_beside


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one recording: its feature file and length, or the reason why there is none."""

    recording_id: str
    feature: str = ""
    seconds: float = float("nan")
    reason: str = ""


def feature_of(job: tuple[str, str], frontend: Frontend, backend: str, code: str, place: Path) -> Outcome:
    """Compute one recording's feature file, or find it where an earlier run left it."""
    recording_id, path = job
    try:
        identity = json.dumps([frontend.to_dict(), backend, code, sha256_of_file(Path(path))], sort_keys=True)
    except OSError as error:
        return Outcome(recording_id, reason=f"{path} cannot be read: {error.strerror}.")
    digest = hashlib.sha256(identity.encode()).hexdigest()
    feature = f"features/{digest[:2]}/{digest[2:24]}.npy"
    try:
        samples = read(path, frontend.sample_rate)
        if not (place / feature).exists():
            segments = segments_of(samples, frontend, backend)
            with written_beside(place / feature) as beside, beside.open("wb") as file:
                np.save(file, segments.astype(np.float16))
    except LabousError as error:
        return Outcome(recording_id, reason=str(error))
    return Outcome(recording_id, feature, len(samples) / frontend.sample_rate)


def segments_of(samples: np.ndarray, frontend: Frontend, backend: str) -> np.ndarray:
    """Features [segments, n_mels, n_frames] of a recording's samples [n_samples].

    Where frames depend on their own samples alone, that is one segment as long as the recording, from which windows
    can be cut anywhere; otherwise one segment a window. A recording shorter than a window is padded with zeros.
    """
    mel = mel_spectrogram(frontend, backend)
    if frontend.frames_are_local and len(samples) >= frontend.window_samples:
        return mel(samples)[None]
    return np.stack([mel(window.samples) for window in windows([samples], frontend)])
