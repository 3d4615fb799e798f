"""The mel stage: samples in, log-mel out, by whatever engine runs melspec_cpp.

docs/frontend-spec.md says step by step what is computed.
"""

from __future__ import annotations

import math

import numpy as np

from labous.mel.abi import Output
from labous.mel.engine import MelEngine, MelLaw, MelPlan
from labous.mel.law import other_output
from labous.mel.native import NativeEngine
from labous.mel.stream import MelStream
from labous.mel.wasm import WasmEngine
from labous.power_law import AnyFrontend, PowerLawFrontend

__all__ = [
    "MelEngine",
    "MelLaw",
    "MelPlan",
    "MelSpectrogram",
    "MelStream",
    "MelWindows",
    "NativeEngine",
    "Output",
    "WasmEngine",
]

_MOST_GRIDS = 16


class MelSpectrogram:
    """librosa's mel spectrogram, or a power law's, computed by the mel stage. Used by one thread at a time.

    Samples are mono float32 [n_samples] with full scale ±1, at least one frame of them; results are float32
    [n_mels, n_frames] of the caller's own. A power-law front end takes whole windows, float32 [window_samples], and
    gives float32 [n_mels, n_frames, n_channels], the highest band first; with several shifts, one of these for each,
    [n_shifts, n_mels, n_frames, n_channels]. It has neither power nor decibels nor a single window function.

    Args:
        frontend: the constants.
        engine: where to compute; by default the packaged melspec.wasm in Wasmtime.

    Raises:
        EngineError: the engine cannot be had, or fails.
        FrontendError: the mel stage cannot compute this front end.
        SamplesError: (from the methods) samples of the wrong shape or type, too few, NaN or infinite.
    """

    def __init__(self, frontend: AnyFrontend, engine: MelEngine | None = None) -> None:
        self.frontend = frontend
        engine = WasmEngine() if engine is None else engine
        self._plan: MelPlan | None = None
        self._law: MelLaw | None = None
        if isinstance(frontend, PowerLawFrontend):
            self._law = engine.law(frontend)
        else:
            self._plan = engine.plan(frontend)

    def power(self, samples: np.ndarray) -> np.ndarray:
        """Mel power as of librosa.feature.melspectrogram (mel magnitude where the front end's power is 1)."""
        return self._of_plan("mel power").run(Output.POWER, samples)

    def decibels(self, samples: np.ndarray) -> np.ndarray:
        """The same in dB, as of librosa.power_to_db (librosa.amplitude_to_db where the front end's power is 1)."""
        return self._of_plan("decibels").run(Output.DECIBELS, samples)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """What the model sees: ``(decibels + db_offset) * db_scale``, or the power law's maps."""
        if self._law is not None:
            return self._law.run(samples)
        return self._of_plan("scaled decibels").run(Output.SCALED, samples)

    def filters(self, channel: int = 0) -> np.ndarray:
        """The mel filter bank, float32 [n_mels, 1 + n_fft // 2], as of librosa.filters.mel or of a channel."""
        if self._law is not None:
            return self._law.filters(channel)
        return self._of_plan("filters").filters()

    def window(self) -> np.ndarray:
        """The analysis window, zero-padded to n_fft: float64 [n_fft]."""
        return self._of_plan("analysis window of its own").window()

    def _of_plan(self, what: str) -> MelPlan:
        if self._plan is None:
            raise other_output(what)
        return self._plan

    def close(self) -> None:
        """Frees the plan; the object cannot be used again."""
        for plan in (self._plan, self._law):
            if plan is not None:
                plan.close()


class MelWindows:
    """What a :class:`MelSpectrogram` gives for windows one after another, the frames that they share computed once.

    Args:
        mel: the spectrogram.
        engine: its engine, in which streams are opened too.
        step: samples from one window to the next, where that is known; else it is seen from the windows.
    """

    def __init__(self, mel: MelSpectrogram, engine: MelEngine, step: int | None = None) -> None:
        self._mel, self._engine = mel, engine
        self._stream: MelStream | None = None
        self._following = False  # whether the stream ends with the window before
        self._seen = 0
        if step is not None:
            self._open(step)

    def __call__(self, samples: np.ndarray, fresh: int) -> np.ndarray:
        """What the model sees of the next window, to the last bit what ``mel(samples)`` is.

        Args:
            samples: float32 [window_samples].
            fresh: how many of them, its last, the window before had not; all, where it does not touch that one.

        Raises:
            SamplesError: a sample is not finite; the next window need not be a new beginning.
        """
        if fresh < len(samples) and fresh == self._seen:
            self._open(fresh)  # twice in a row: not only the last window of a recording
        self._seen = fresh
        stream, following = self._stream, self._following
        self._following = False
        if stream is None or fresh not in (stream.step_samples, len(samples)):
            return self._mel(samples)
        if not following or fresh == len(samples):
            stream.reset()
            fresh = len(samples)
        (window,) = stream.push(samples[len(samples) - fresh :])
        self._following = True
        return window

    def _open(self, step: int) -> None:
        if self._stream is not None and self._stream.step_samples == step:
            return
        self.close()
        frontend = self._mel.frontend
        if isinstance(frontend, PowerLawFrontend):
            return  # the scale of a window is in every frame of it: there is none to share
        hop = frontend.hop_length
        # where windows lie on many grids of frames, there is little to share, and memory to lose
        if hop // math.gcd(step, hop) <= _MOST_GRIDS:
            self._stream = MelStream(frontend, step, self._engine)

    def close(self) -> None:
        """Frees the stream."""
        if self._stream is not None:
            self._stream.close()
        self._stream, self._following = None, False
