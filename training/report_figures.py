"""The report's pictures, from the tables that validate left."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.frontend import Frontend
from training.features import librosa_arguments
from training.report_examples import Example

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_INK, _SECOND, _THIRD, _QUIET = "#1b6f8a", "#e08e45", "#7a5c99", "#556"
_COLORS = {"keras": _QUIET, "float32": _SECOND, "int8": _INK}
_TICKS_KHZ = (0.5, 1, 2, 4, 8, 16)
_FAINT_PERCENT = 5.0
_TITLE_WIDTH = 68
_SPECIES_AT_MOST = 80
_COUNTS_SHOWN = 4  # fewer probabilities in a bin say nothing of it


def training_figure(history: pd.DataFrame) -> Figure:
    """Loss and validation scores by epoch, from history.csv."""
    figure = _figure(9, 3)
    loss, score = figure.subplots(1, 2)
    loss.plot(history.epoch, history.loss, color=_INK)
    loss.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    for title, name, color in (("macro ROC-AUC", "macro_roc_auc", _INK), ("cmAP", "cmap", _SECOND)):
        if name in history:
            score.plot(history.epoch, history[name], color=color, label=title)
    score.set(xlabel="epoch", ylabel="on the validation share", ylim=(0, 1.03))
    if score.lines:
        score.legend(frameon=False, loc="lower right")
    else:
        score.text(0.5, 0.5, "nothing was held out for it", ha="center", transform=score.transAxes, color=_QUIET)
    for axis in (loss, score):
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(axis="y", color=_QUIET, alpha=0.15)
    _plain(loss, score)
    return figure


def species_figure(per_label: pd.DataFrame) -> Figure:
    """Average precision of each species that was held out, from per_label.csv: bars for int8 with their intervals,
    marks for float32, and how many rows. Of many species, the worst and the best."""
    table = per_label.dropna(subset=["average_precision_int8"]).sort_values("average_precision_int8")
    if len(table) > _SPECIES_AT_MOST:
        table = pd.concat([table.head(_SPECIES_AT_MOST // 2), table.tail(_SPECIES_AT_MOST // 2)])
    figure = _figure(9, 1.2 + 0.26 * max(1, len(table)))
    axis = figure.subplots()
    value = table.average_precision_int8
    axis.barh(table.common_name, value, color=_INK, height=0.7, label="int8", alpha=0.85)
    reach = np.clip([value - table.ap_low_int8, table.ap_high_int8 - value], 0, None)
    axis.errorbar(
        value, table.common_name, xerr=np.nan_to_num(reach), color="#0c2f3c", linewidth=0.9, capsize=2,
        linestyle="none", label="interval",
    )  # fmt: skip
    axis.plot(
        table.average_precision_float32, table.common_name, "D", color=_SECOND, markersize=4.5, markeredgecolor="white",
        markeredgewidth=0.7, label="float32", clip_on=False,
    )  # fmt: skip
    for position, count in enumerate(table.test_rows):
        axis.text(1.03, position, str(count), va="center", fontsize=8, color=_QUIET)
    axis.text(1.03, len(table) - 0.3, "rows", va="bottom", fontsize=8, color=_QUIET)
    axis.set(xlabel="average precision", xlim=(0, 1.0), ylim=(-0.6, len(table) - 0.4))
    axis.grid(axis="x", color=_QUIET, alpha=0.15)
    axis.set_axisbelow(True)
    axis.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    axis.tick_params(axis="y", length=0)
    _plain(axis)
    return figure


def curves_figure(curves: pd.DataFrame, reliability: pd.DataFrame) -> Figure:
    """Precision against recall of each engine, and what a probability means before and after calibration."""
    figure = _figure(9, 4.1)
    precision, meaning = figure.subplots(1, 2)
    widths = {"keras": 3.2, "float32": 1.8, "int8": 1.3}
    for engine, line in curves.groupby("engine", sort=False):
        color, width = _COLORS.get(str(engine), _THIRD), widths.get(str(engine), 1.2)
        precision.plot(line.recall, line.precision, color=color, linewidth=width, label=engine, alpha=0.9)
    precision.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    precision.set_title("all species' decisions, at every threshold", fontsize=9, loc="left")
    precision.legend(frameon=False, loc="lower left")
    meaning.plot([0, 1], [0, 1], color=_QUIET, linewidth=0.8, linestyle="--")
    colors = {"calibrated": _INK, "the model's own": _SECOND}
    for name, line in reliability[reliability["count"] >= _COUNTS_SHOWN].groupby("probabilities", sort=False):
        color = colors.get(str(name), _THIRD)
        meaning.plot(line.mean_probability, line.share_true, color=color, linewidth=1.2, label=name)
        size = 8 + 90 * np.sqrt(line["count"] / reliability["count"].max())
        meaning.scatter(line.mean_probability, line.share_true, s=size, color=color, alpha=0.75, linewidth=0)
    meaning.set(xlabel="probability (int8)", ylabel="share that is true", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    meaning.set_title("what a probability means; dots by how many there are", fontsize=9, loc="left")
    meaning.legend(frameon=False, loc="upper left")
    for axis in (precision, meaning):
        axis.grid(color=_QUIET, alpha=0.15)
    _plain(precision, meaning)
    return figure


def spectrograms_figure(examples: Sequence[Example], frontend: Frontend, columns: int = 2) -> Figure:
    """Windows side by side, a title above each."""
    rows = max(1, -(-len(examples) // columns))
    figure = _figure(4.5 * columns, 2.2 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis, example in zip(axes.ravel(), examples, strict=False):
        draw_mel(axis, example.mel, frontend)
        lines = (textwrap.fill(part, _TITLE_WIDTH) for part in example.title.split("\n"))
        axis.set_title("\n".join(lines), fontsize=8, loc="left")
    for axis in axes.ravel()[len(examples) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("kHz")
    for axis in axes[-1]:
        axis.set_xlabel("s")
    return figure


def draw_mel(axis: Axes, mel: NDArray[np.floating], frontend: Frontend, **arguments: Any) -> AxesImage:
    """Draw a mel array [n_mels, n_frames] over seconds, with kHz beside it.

    Args:
        axis: where.
        mel: dB or the model's input. Colors begin at its fifth percentile, so that the floor does not take them all.
        frontend: what it was computed with.
        arguments: for ``Axes.imshow``, over what is said here.
    """
    import librosa

    edges = {key: librosa_arguments(frontend)["filters"][key] for key in ("fmin", "fmax", "htk")}
    centers = librosa.mel_frequencies(frontend.n_mels + 2, **edges)[1:-1] / 1000
    ticks = [khz for khz in _TICKS_KHZ if centers[0] <= khz <= centers[-1]]
    seconds = mel.shape[1] * frontend.hop_length / frontend.sample_rate
    defaults = {
        "origin": "lower",
        "aspect": "auto",
        "cmap": "magma",
        "extent": (0, seconds, 0, frontend.n_mels),
        "vmin": np.percentile(mel, _FAINT_PERCENT),
        "interpolation": "nearest",
    }
    image = axis.imshow(mel, **(defaults | arguments))
    axis.set_yticks(np.interp(ticks, centers, np.arange(frontend.n_mels) + 0.5), [f"{khz:g}" for khz in ticks])
    return image


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _plain(*axes: Axes) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
