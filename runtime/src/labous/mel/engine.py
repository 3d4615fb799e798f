"""What every engine of the mel stage offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from labous.frontend import Frontend
from labous.mel.abi import Output
from labous.power_law import PowerLawFrontend


class MelPlan(Protocol):
    """A front end set up in an engine."""

    def run(self, output: Output, samples: np.ndarray) -> np.ndarray:
        """float32 [n_mels, n_frames] from float32 [n_samples]."""

    def filters(self) -> np.ndarray:
        """The filter bank, float32 [n_mels, 1 + n_fft // 2]."""

    def window(self) -> np.ndarray:
        """The analysis window, float64 [n_fft]."""

    def close(self) -> None:
        """Frees what the plan holds."""


class MelLaw(Protocol):
    """A power-law front end set up in an engine."""

    def run(self, samples: np.ndarray) -> np.ndarray:
        """float32 ``frontend.mel_shape`` from float32 [window_samples]."""

    def filters(self, channel: int) -> np.ndarray:
        """A channel's filter bank, float32 [n_mels, 1 + n_fft // 2]."""

    def close(self) -> None:
        """Frees what it holds."""


class MelStreamPlan(Protocol):
    """A front end set up in an engine for a stream."""

    def run(self, samples: np.ndarray, before: int) -> tuple[int, np.ndarray | None]:
        """Takes of float32 [n_samples], at most a window's, behind ``before`` others, what completes a window.

        Returns:
            how many samples it took, and the window, float32 [n_mels, n_frames]; or None where it took all of them and
            none is complete.

        Raises:
            SamplesError: one of those to be taken is NaN or infinite; none was.
        """

    def reset(self) -> None:
        """Forgets all samples."""

    def close(self) -> None:
        """Frees what the stream holds."""


class MelEngine(Protocol):
    """Something that runs the mel stage."""

    def plan(self, frontend: Frontend) -> MelPlan:
        """The engine, set up for one front end."""

    def law(self, frontend: PowerLawFrontend) -> MelLaw:
        """The engine, set up for one power-law front end."""

    def stream(self, frontend: Frontend, output: Output, step_samples: int) -> MelStreamPlan:
        """The engine, set up for windows that begin every ``step_samples``."""
