"""The classifier: a plain depthwise-separable CNN over a log-mel window.

Enters: settings from conf/model and the shape of the mel array. Leaves: an untrained ``keras.Model`` that gives logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from labous.errors import LabousError
from training.batch_norm import fused_batch_normalization

if TYPE_CHECKING:
    import keras


class ModelError(LabousError, ValueError):
    """Settings that no model can be built from."""


class Block(NamedTuple):
    """One depthwise-separable block: output channels, and its stride over both mel rows and frames.

    One stride for both axes, because TensorFlow's depthwise convolution has no other.
    """

    channels: int
    stride: int


@dataclass(frozen=True)
class PlainCnn:
    """Settings of a depthwise-separable CNN made only of convolution, batch normalisation and ReLU6.

    The blocks are those of MobileNet v1 (Howard et al. 2017, arXiv:1704.04861), without residual adds, linear
    bottlenecks, squeeze-excite or swish: what is left folds into CONV_2D and DEPTHWISE_CONV_2D with a fused ReLU6 and
    survives int8. What becomes of the rows (mel) that remain is a choice. Weighed, by a depthwise convolution as tall
    as they are, each counts by itself, and only time is pooled. Pooled together with time, what was learnt in one row
    holds in the others, and the head is computed for each of them.

    Attributes:
        stem: channels of the first convolution, which has stride 2 over frames.
        rows: of the stem's output, about, whatever the number of mel bands: its stride over them is the whole number
            nearest to n_mels / rows, and its kernel covers what it strides over. So more bands hardly cost more.
        blocks: rows of (channels, stride over mel bands and frames alike); any sequence of pairs will do.
        pool_mel: whether the remaining rows are pooled with time; they are weighed otherwise.
        head: channels of the last convolution.
        dropout: share of the pooled features dropped in training, in [0, 1).
        batch_norm_momentum: momentum of the moving statistics, in (0, 1).
    """

    stem: int
    rows: int
    blocks: tuple[Block, ...]
    pool_mel: bool
    head: int
    dropout: float
    batch_norm_momentum: float

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ModelError: a count below 1, a block that is not two numbers, or a share outside its interval.
        """
        if not self.blocks or any(len(block) != len(Block._fields) for block in self.blocks):
            raise ModelError(f"model.blocks is {list(self.blocks)}: give at least one row of [channels, stride].")
        object.__setattr__(self, "blocks", tuple(Block(*block) for block in self.blocks))
        counts = {"stem": self.stem, "rows": self.rows, "head": self.head}
        for i, block in enumerate(self.blocks):
            counts |= {f"blocks[{i}].{key}": value for key, value in block._asdict().items()}
        for key, value in counts.items():
            if not isinstance(value, int) or value < 1:
                raise ModelError(f"model.{key} is {value!r}: give a whole number of at least 1.")
        if not isinstance(self.pool_mel, bool):
            raise ModelError(f"model.pool_mel is {self.pool_mel!r}: give true or false.")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"model.dropout is {self.dropout}: give a share of at least 0 and below 1.")
        if not 0 < self.batch_norm_momentum < 1:
            raise ModelError(f"model.batch_norm_momentum is {self.batch_norm_momentum}: give a number between 0 and 1.")

    def build(self, input_shape: tuple[int, int, int], n_labels: int, *, fused: bool = False) -> keras.Model:
        """Build the untrained model.

        Args:
            input_shape: (n_mels, n_frames, 1), the mel array with a channel axis.
            n_labels: number of logits.
            fused: whether batches are normalised by TensorFlow's fused kernel; not for a model that is to be kept.

        Returns:
            A model from ``mel`` float32 [batch, n_mels, n_frames, 1] to ``logits`` float32 [batch, n_labels].

        Raises:
            ModelError: ``n_labels`` below 1, or an input that the strides shrink to a single row or column.
        """
        import keras

        if n_labels < 1:
            raise ModelError(f"A model needs at least one label, not {n_labels}.")
        rows, columns = self._map_size(input_shape)
        if min(rows, columns) < 2:
            raise ModelError(
                f"The strides of model.blocks leave {rows} x {columns} of a {input_shape[0]} x {input_shape[1]} "
                "mel window: use fewer strides, more mel bands or a longer window."
            )
        norm = fused_batch_normalization() if fused else keras.layers.BatchNormalization
        mel = keras.Input(shape=input_shape, name="mel")
        stride = self._stem_stride(input_shape[0])
        x = self._conv(
            mel, self.stem, kernel=(max(3, 2 * (stride // 2) + 1), 3), stride=(stride, 2), name="stem", norm=norm
        )
        for i, block in enumerate(self.blocks):
            x = self._depthwise(x, (3, 3), block.stride, "same", name=f"block{i}_depthwise", norm=norm)
            x = self._conv(x, block.channels, name=f"block{i}_pointwise", norm=norm)
        if not self.pool_mel:
            x = self._depthwise(x, (rows, 1), 1, "valid", name="mel_collapse", norm=norm)
        x = self._conv(x, self.head, name="head", norm=norm)
        # A call may fill the window or last for a tenth of it: the mean hears the one, the maximum the other.
        pooled = [
            keras.layers.GlobalAveragePooling2D(name="mean")(x),
            keras.layers.GlobalMaxPooling2D(name="max")(x),
        ]
        features = keras.layers.Concatenate(name="features")(pooled)
        features = keras.layers.Dropout(self.dropout, name="dropout")(features)
        # float32 whatever the mixed-precision policy: the logits' contract
        logits = keras.layers.Dense(n_labels, dtype="float32", name="logits")(features)
        return keras.Model(mel, logits, name="plain_cnn")

    def _map_size(self, input_shape: tuple[int, int, int]) -> tuple[int, int]:
        """Rows (mel) and columns (time) of the last feature map: 'same' convolutions divide, rounding up."""
        rows, columns = ceil(input_shape[0] / self._stem_stride(input_shape[0])), ceil(input_shape[1] / 2)
        for block in self.blocks:
            rows, columns = ceil(rows / block.stride), ceil(columns / block.stride)
        return rows, columns

    def _stem_stride(self, n_mels: int) -> int:
        return max(1, round(n_mels / self.rows))

    def _conv(
        self,
        x: keras.KerasTensor,
        channels: int,
        *,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        name: str,
        norm: type[keras.layers.BatchNormalization],
    ) -> keras.KerasTensor:
        import keras

        layer = keras.layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False, name=name)
        return self._normalise(layer(x), name, norm)

    def _depthwise(
        self,
        x: keras.KerasTensor,
        kernel: tuple[int, int],
        stride: int,
        padding: str,
        *,
        name: str,
        norm: type[keras.layers.BatchNormalization],
    ) -> keras.KerasTensor:
        import keras

        layer = keras.layers.DepthwiseConv2D(kernel, strides=stride, padding=padding, use_bias=False, name=name)
        return self._normalise(layer(x), name, norm)

    def _normalise(
        self, x: keras.KerasTensor, name: str, norm: type[keras.layers.BatchNormalization]
    ) -> keras.KerasTensor:
        import keras

        x = norm(momentum=self.batch_norm_momentum, name=f"{name}_norm")(x)
        return keras.layers.ReLU(6.0, name=f"{name}_relu6")(x)


def of_parts(model: keras.Model, parts: Sequence[tuple[float, float]]) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """What a network of :class:`PlainCnn` makes of parts of its window, by the layers that the whole goes through.

    Args:
        parts: where each begins and ends, in shares of the window.

    Returns:
        Logits [batch, n_parts, n_labels] and the features that they come from, [batch, n_parts, n_features].
    """
    import keras

    def through(name: str, x: Any) -> Any:
        return model.get_layer(name)(x)

    frames = model.get_layer("head_relu6").output
    found = []
    for begin, end in parts:
        part = frames[:, :, round(begin * frames.shape[2]) : round(end * frames.shape[2])]
        found.append(through("features", [through("mean", part), through("max", part)]))
    logits = [through("logits", through("dropout", features)) for features in found]
    return keras.ops.stack(logits, axis=1), keras.ops.stack(found, axis=1)
