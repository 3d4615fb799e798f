"""From what the front end gives of a window to a model's input, and to one vector of logits, whatever its shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labous.errors import EngineError

if TYPE_CHECKING:
    from labous.models import Model


def fits(shape: tuple[int, ...], input_shape: tuple[int, ...]) -> bool:
    """Whether a mel array of one shape is what a model of an input shape takes.

    A model's input is [1, n_mels, n_frames, n_channels]; the array need not tell of one input alone, nor of one channel
    alone.
    """
    wanted = input_shape[1:] if input_shape[0] == 1 else input_shape
    return shape == wanted or (wanted[-1] == 1 and shape == wanted[:-1])


def mel_shape(input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shortest shape that :func:`fits` an input."""
    wanted = input_shape[1:] if input_shape[0] == 1 else input_shape
    return wanted[:-1] if wanted[-1] == 1 else wanted


def as_input(mel: NDArray[np.float32], input_shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A mel array, float32 [n_mels, n_frames] or [n_mels, n_frames, n_channels], as a model's input.

    Raises:
        EngineError: it has another shape.
    """
    if not fits(mel.shape, input_shape):
        raise EngineError(
            f"The model failed to run: its input is {list(mel.shape)}, and must be {list(mel_shape(input_shape))}."
        )
    return np.asarray(mel, np.float32).reshape(input_shape)


class Averaged:
    """A model that is asked about a window at each of several shifts of it, and gives the mean of its logits.

    Whoever runs the model of a bundle whose front end has several shifts runs this, so that all get the same.

    Args:
        model: of one input.
        n_shifts: how many arrays the front end gives for a window.
    """

    def __init__(self, model: Model, n_shifts: int) -> None:
        self._model = model
        self.input_shape = (n_shifts, *model.input_shape[1:])
        self.input_dtype, self.output_dtype = model.input_dtype, model.output_dtype
        self.output_shape, self.n_labels = model.output_shape, model.n_labels

    def predict(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean logits, float32 [n_labels], of float32 [n_shifts, n_mels, n_frames, n_channels].

        Raises:
            EngineError: the array has another shape, a logit is NaN or infinite, or the engine failed.
        """
        logits = [self._model.predict(shifted) for shifted in as_input(mel, self.input_shape)]
        return np.asarray(np.mean(logits, axis=0, dtype=np.float64), np.float32)


def averaged(model: Model, n_shifts: int) -> Model:
    """The model itself where there is one shift, and :class:`Averaged` where there are several."""
    return model if n_shifts == 1 else Averaged(model, n_shifts)
