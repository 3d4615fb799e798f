"""The report of a run: one HTML file with its pictures inside, to open in a browser; the pictures also as PNG."""

from __future__ import annotations

import base64
import dataclasses
import html
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.frontend import Frontend
from training.evaluate import ENGINES
from training.features import librosa_arguments
from training.files import write_text, written_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: #1d2a33 }
h1, h2 { font-weight: 600; line-height: 1.25 } h2 { margin-top: 2.5rem }
p { max-width: 46rem } .scroll { overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: .2rem 1.1rem .2rem 0; text-align: left; white-space: nowrap } td:last-child { white-space: normal }
.n { text-align: right } th { border-bottom: 1px solid #889 }
tbody tr:hover td { background: #f2f5f7 }
img { max-width: 100%; display: block; margin: 1rem 0 }
.warn { background: #fff3d6; padding: .5rem 1rem; border-radius: .4rem }
"""
_INK, _SECOND, _QUIET = "#1b6f8a", "#e08e45", "#556"
_TICKS_KHZ = (0.5, 1, 2, 4, 8, 16)
_FAINT_PERCENT = 5.0
_TITLE_WIDTH = 68
_METRICS = (("macro ROC-AUC", "macro_roc_auc"), ("cmAP", "cmap"), ("top-1", "top1"), ("F1, row-wise", "row_f1"))
_ENGINE_NAMES = {"keras": "Keras", "float32": "TFLite float32", "int8": "TFLite int8"}
_PARITY = (
    ("mel, wasm to librosa", "mel_decibels", "{:.1e} dB"),
    ("float32 file to Keras, largest difference of a logit", "float32_logit", "{:.1e}"),
    ("float32 file to Keras, median of the windows' largest", "float32_logit_median", "{:.1e}"),
    ("float32 file and Keras name the same species first", "float32_top1_equal", "{:.1%}"),
    ("int8 file to Keras, largest difference of a logit", "int8_logit", "{:.2f}"),
    ("int8 file to Keras, median of the windows' largest", "int8_logit_median", "{:.2f}"),
    ("int8 file and Keras name the same species first", "int8_top1_equal", "{:.1%}"),
)


@dataclasses.dataclass(frozen=True)
class Example:
    """One held-out window to show: its model input [n_mels, n_frames], and a line above it."""

    mel: NDArray[np.float32]
    title: str


def write_report(
    place: Path,
    frontend: Frontend,
    summary: dict[str, Any],
    metrics: dict[str, Any],
    history: pd.DataFrame,
    per_label: pd.DataFrame,
    engines: pd.DataFrame,
    examples: Sequence[Example],
) -> None:
    """Write report.html and plots/*.png below ``place``."""
    figures = {
        "training": _training(history),
        "species": species_figure(per_label),
        "examples": _examples(examples, frontend),
    }
    images = {}
    for name, figure in figures.items():
        with written_beside(place / "plots" / f"{name}.png") as beside:
            # no software version in the file, so that the same run gives the same bytes
            figure.savefig(beside, dpi=110, bbox_inches="tight", metadata={"Software": None})
            images[name] = base64.b64encode(beside.read_bytes()).decode()
    write_text(place / "report.html", _page(summary, metrics, per_label, engines, images))


def _page(
    summary: dict[str, Any],
    metrics: dict[str, Any],
    per_label: pd.DataFrame,
    engines: pd.DataFrame,
    images: dict[str, str],
) -> str:
    synthetic = (
        '<p class="warn">Synthetic data: these recordings were made by a generator. The figures show that the path '
        "works, and say nothing about birds.</p>"
        if summary["synthetic"]
        else ""
    )
    parts = [
        f"<h1>{html.escape(summary['dataset'])}: {summary['species']} species</h1>{synthetic}",
        f"<p>{summary['recordings']} recordings, {summary['hours']:.2f} hours; {summary['skipped']} skipped. "
        f"Threshold {metrics['threshold']:.2f}, chosen on the validation share.</p>",
        "<h2>Quality on held-out sound</h2>",
        _table(quality_table(metrics), {"rows": "d"} | dict.fromkeys(_ENGINE_NAMES.values(), ".4f")),
        "<h2>Parity</h2>",
        "<p>Over every held-out window. Keras hears librosa's features; the files hear the wasm's, as on a device.</p>",
        _table(
            pd.DataFrame(
                [(name, text.format(metrics["parity"][key])) for name, key, text in _PARITY], columns=["", "value"]
            ),
            {"value": "s"},
        ),
        "<h2>The same files in every engine</h2>",
        "<p>Largest difference of a logit from Keras, and from the same file in LiteRT.</p>",
        _table(
            engines.rename(
                columns={
                    "max_abs_difference": "to Keras",
                    "max_abs_difference_to_litert": "to LiteRT",
                    "argmax_equal": "same top-1",
                }
            ),
            {"to Keras": ".1e", "to LiteRT": ".1e", "same top-1": ".0%"},
        ),
        "<h2>Training</h2>",
        _image(images["training"], "loss and validation scores by epoch"),
        "<h2>Species</h2>",
        _image(images["species"], "average precision by species"),
        _table(*_species_table(per_label)),
        "<h2>What it heard</h2>",
        "<p>The first window of some held-out recordings: its species, then what the int8 file hears in it.</p>",
        _image(images["examples"], "spectrograms of held-out windows"),
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Labous: {html.escape(summary["dataset"])}</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def quality_table(metrics: dict[str, Any]) -> pd.DataFrame:
    """metrics.json as a table: a row a kind of held-out sound and metric, a column an engine."""
    rows = [
        (kind, metrics["keras"][kind]["rows"], title, *(metrics[engine][kind][name] for engine in ENGINES))
        for kind in ("soundscapes", "recordings")
        if kind in metrics["keras"]
        for title, name in _METRICS
    ]
    return pd.DataFrame(rows, columns=["held-out", "rows", "metric", *(_ENGINE_NAMES[engine] for engine in ENGINES)])


def _species_table(per_label: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    numbers = {
        "train_recordings": ("trained on", "d"),
        "test_rows": ("rows", "d"),
        "average_precision_float32": ("AP float32", ".3f"),
        "average_precision_int8": ("AP int8", ".3f"),
        "roc_auc_float32": ("AUC float32", ".3f"),
        "roc_auc_int8": ("AUC int8", ".3f"),
    }
    names = {"common_name": "species", "scientific_name": "scientific name", "french_name": "French name"}
    table = per_label[[*names, *numbers]].rename(columns=names | {key: title for key, (title, _) in numbers.items()})
    return table, dict(numbers.values())


def _table(table: pd.DataFrame, formats: dict[str, str]) -> str:
    """A table in HTML; the columns with a format are numbers, set to the right."""

    def cell(tag: str, column: str, text: str) -> str:
        number = ' class="n"' if column in formats else ""
        return f"<{tag}{number}>{html.escape(text)}</{tag}>"

    def shown(column: str, value: Any) -> str:
        return "–" if pd.isna(value) else format(value, formats.get(column, ""))

    columns = [str(column) for column in table]
    head = "".join(cell("th", column, column) for column in columns)
    rows = (
        "".join(cell("td", column, shown(column, value)) for column, value in zip(columns, row, strict=True))
        for row in table.itertuples(index=False, name=None)
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _image(data: str, alt: str) -> str:
    return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _training(history: pd.DataFrame) -> Figure:
    figure = _figure(9, 3)
    loss, score = figure.subplots(1, 2)
    loss.plot(history.epoch, history.loss, color=_INK)
    loss.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    for (title, name), color in zip(_METRICS[:2], (_INK, _SECOND), strict=True):
        score.plot(history.epoch, history[name], color=color, label=title)
    score.set(xlabel="epoch", ylabel="on the validation share", ylim=(0, 1.03))
    score.legend(frameon=False, loc="lower right")
    for axis in (loss, score):
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(axis="y", color=_QUIET, alpha=0.15)
    _plain(loss, score)
    return figure


def species_figure(per_label: pd.DataFrame) -> Figure:
    """Average precision of each species that was held out, from per_label.csv: bars for int8, marks for float32."""
    table = per_label.dropna(subset=["average_precision_int8"]).sort_values("average_precision_int8")
    figure = _figure(9, 1.2 + 0.26 * max(1, len(table)))
    axis = figure.subplots()
    axis.barh(table.common_name, table.average_precision_int8, color=_INK, height=0.7, label="int8")
    axis.plot(
        table.average_precision_float32, table.common_name, "D", color=_SECOND, markersize=5, markeredgecolor="white",
        markeredgewidth=0.7, label="float32", clip_on=False,
    )  # fmt: skip
    for position, count in enumerate(table.test_rows):
        axis.text(1.03, position, str(count), va="center", fontsize=8, color=_QUIET)
    axis.text(1.03, len(table) - 0.3, "rows", va="bottom", fontsize=8, color=_QUIET)
    axis.set(xlabel="average precision", xlim=(0, 1.0), ylim=(-0.6, len(table) - 0.4))
    axis.grid(axis="x", color=_QUIET, alpha=0.15)
    axis.set_axisbelow(True)
    axis.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    axis.tick_params(axis="y", length=0)
    _plain(axis)
    return figure


def _examples(examples: Sequence[Example], frontend: Frontend) -> Figure:
    columns = 2
    rows = max(1, -(-len(examples) // columns))
    figure = _figure(9, 2.2 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis, example in zip(axes.ravel(), examples, strict=False):
        draw_mel(axis, example.mel, frontend)
        lines = (textwrap.fill(part, _TITLE_WIDTH) for part in example.title.split("; "))
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


def _plain(*axes: Axes) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
