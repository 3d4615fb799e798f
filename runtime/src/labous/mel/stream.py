"""Overlapping windows of an endless signal, with the frames that they share computed once."""

from __future__ import annotations

from typing import Any

import numpy as np

from labous.errors import SamplesError
from labous.frontend import Frontend
from labous.mel import abi
from labous.mel.abi import Output
from labous.mel.engine import MelEngine
from labous.mel.wasm import WasmEngine


class MelStream:
    """Samples in chunks of any size in, a window every ``step_samples`` out. Used by one thread at a time.

    A window is, to the last bit, what :class:`labous.mel.MelSpectrogram` computes from its samples alone. Frames are
    shared where windows meet on one grid of frames: always with a step that is a multiple of hop_length.

    Args:
        frontend: the constants; a window has ``frontend.window_samples`` samples.
        step_samples: from the beginning of one window to that of the next.
        engine: where to compute; by default the packaged melspec.wasm in Wasmtime.
        output: what to compute; by default what the model sees.

    Raises:
        EngineError: the engine cannot be had, or fails.
        FrontendError: the mel stage cannot compute this front end.
        SamplesError: step_samples is less than 1, or 2^31 or more.
    """

    def __init__(
        self,
        frontend: Frontend,
        step_samples: int,
        engine: MelEngine | None = None,
        output: Output = Output.SCALED,
    ) -> None:
        if not 1 <= step_samples < 1 << 31:
            raise SamplesError(f"A step of {step_samples} samples cannot be; it must be at least 1 and below 2^31.")
        self.frontend = frontend
        self.step_samples = step_samples
        self._stream = (WasmEngine() if engine is None else engine).stream(frontend, output, step_samples)
        self._taken = 0

    def push(self, samples: Any) -> list[np.ndarray]:
        """Takes the next samples.

        Args:
            samples: mono float [n_samples], full scale ±1; any number of them, none included.

        Returns:
            the windows that they complete, in order, each float32 [n_mels, n_frames].

        Raises:
            SamplesError: samples of the wrong shape or type, NaN or infinite. Where one is not finite, the stream may
                have taken samples before it: reset it.
        """
        left = abi.float32_array(samples)
        windows = []
        while left.size:
            taken, window = self._stream.run(left[: self.frontend.window_samples], self._taken)
            if window is not None:
                windows.append(window)
            self._taken += taken
            left = left[taken:]
        return windows

    def reset(self) -> None:
        """Forgets all samples; the next one begins a new stream."""
        self._stream.reset()
        self._taken = 0

    def close(self) -> None:
        """Frees what the stream holds; it cannot be used again."""
        self._stream.close()
