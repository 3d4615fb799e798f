"""The mel stage: samples in, log-mel out, by whatever engine runs melspec_cpp.

docs/frontend-spec.md says step by step what is computed.
"""

from __future__ import annotations

import numpy as np

from labous.frontend import Frontend
from labous.mel.abi import Output
from labous.mel.engine import MelEngine, MelPlan
from labous.mel.native import NativeEngine
from labous.mel.stream import MelStream
from labous.mel.wasm import WasmEngine

__all__ = ["MelEngine", "MelPlan", "MelSpectrogram", "MelStream", "NativeEngine", "Output", "WasmEngine"]


class MelSpectrogram:
    """librosa's mel spectrogram, computed by the mel stage. Used by one thread at a time.

    Samples are mono float32 [n_samples] with full scale ±1, at least one frame of them; results are float32
    [n_mels, n_frames] of the caller's own.

    Args:
        frontend: the constants.
        engine: where to compute; by default the packaged melspec.wasm in Wasmtime.

    Raises:
        EngineError: the engine cannot be had, or fails.
        FrontendError: the mel stage cannot compute this front end.
        SamplesError: (from the methods) samples of the wrong shape or type, too few, NaN or infinite.
    """

    def __init__(self, frontend: Frontend, engine: MelEngine | None = None) -> None:
        self.frontend = frontend
        self._plan = (WasmEngine() if engine is None else engine).plan(frontend)

    def power(self, samples: np.ndarray) -> np.ndarray:
        """Mel power as of librosa.feature.melspectrogram (mel magnitude where the front end's power is 1)."""
        return self._plan.run(Output.POWER, samples)

    def decibels(self, samples: np.ndarray) -> np.ndarray:
        """The same in dB, as of librosa.power_to_db (librosa.amplitude_to_db where the front end's power is 1)."""
        return self._plan.run(Output.DECIBELS, samples)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """What the model sees: ``(decibels + db_offset) * db_scale``."""
        return self._plan.run(Output.SCALED, samples)

    def filters(self) -> np.ndarray:
        """The mel filter bank, float32 [n_mels, 1 + n_fft // 2], as of librosa.filters.mel."""
        return self._plan.filters()

    def window(self) -> np.ndarray:
        """The analysis window, zero-padded to n_fft: float64 [n_fft]."""
        return self._plan.window()

    def close(self) -> None:
        """Frees the plan; the object cannot be used again."""
        self._plan.close()
