"""The report of a run: one HTML file with its pictures inside, to open in a browser; the pictures also as PNG."""

from __future__ import annotations

import base64
import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.frontend import Frontend
from training.evaluate import ENGINES
from training.files import write_text, written_beside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1d2a33 }
h1, h2 { font-weight: 600 } h2 { margin-top: 2.5rem }
table { border-collapse: collapse; margin: .5rem 0 } th, td { padding: .2rem .8rem; text-align: right }
th { border-bottom: 1px solid #889 } td:first-child, th:first-child { text-align: left }
tr:hover td { background: #f2f5f7 }
img { max-width: 100% } .warn { background: #fff3d6; padding: .5rem 1rem; border-radius: .4rem }
"""
_INK, _SECOND = "#1b6f8a", "#e08e45"


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
        "species": _species(per_label),
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
        _table(_quality(metrics)),
        "<h2>Parity</h2>",
        "<p>Largest differences over every held-out window. Keras hears librosa's features; the files hear the "
        "wasm's, as on a device.</p>",
        _table(
            pd.DataFrame(
                [(name.replace("_", " "), f"{value:.3g}") for name, value in metrics["parity"].items()],
                columns=["", "value"],
            )
        ),
        "<h2>The same files in every engine</h2>",
        _table(engines),
        "<h2>Training</h2>",
        _image(images["training"], "loss and validation scores by epoch"),
        "<h2>Species</h2>",
        _image(images["species"], "average precision by species"),
        _table(per_label),
        "<h2>What it heard</h2>",
        _image(images["examples"], "spectrograms of held-out windows"),
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Labous: {html.escape(summary["dataset"])}</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def _quality(metrics: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for kind in ("soundscapes", "recordings"):
        for name in ("macro_roc_auc", "cmap", "top1", "row_f1"):
            if kind in metrics["keras"]:
                values = [metrics[engine][kind][name] for engine in ENGINES]
                count = metrics["keras"][kind]["rows"]
                rows.append((f"{kind} ({count} rows): {name}", *(f"{value:.4f}" for value in values)))
    return pd.DataFrame(rows, columns=["", *ENGINES])


def _table(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, float_format=lambda v: f"{v:.3g}", na_rep="–")


def _image(data: str, alt: str) -> str:
    return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _training(history: pd.DataFrame) -> Figure:
    figure = _figure(9, 3)
    loss, score = figure.subplots(1, 2)
    loss.plot(history.epoch, history.loss, color=_INK)
    loss.set(xlabel="epoch", ylabel="training loss")
    for name, color in (("macro_roc_auc", _INK), ("cmap", _SECOND)):
        score.plot(history.epoch, history[name], color=color, label=name)
    score.set(xlabel="epoch", ylabel="validation", ylim=(min(0.5, history["cmap"].min()), 1.01))
    score.legend(frameon=False)
    _plain(loss, score)
    return figure


def _species(per_label: pd.DataFrame) -> Figure:
    table = per_label.dropna(subset=["average_precision_int8"]).sort_values("average_precision_int8")
    figure = _figure(9, 0.8 + 0.26 * max(1, len(table)))
    axis = figure.subplots()
    axis.barh(table.common_name, table.average_precision_int8, color=_INK, height=0.7)
    axis.plot(table.average_precision_float32, table.common_name, "|", color=_SECOND, markersize=9, label="float32")
    for position, (value, count) in enumerate(zip(table.average_precision_int8, table.test_rows, strict=True)):
        axis.text(min(value, 0.985) + 0.01, position, f"{count} rows", va="center", fontsize=8, color="#556")
    axis.set(xlabel="average precision, int8 (bar) and float32 (mark)", xlim=(0, 1.1))
    _plain(axis)
    return figure


def _examples(examples: Sequence[Example], frontend: Frontend) -> Figure:
    columns = 2
    rows = max(1, -(-len(examples) // columns))
    figure = _figure(9, 2.1 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, example in zip(axes, examples, strict=False):
        axis.imshow(
            example.mel,
            origin="lower",
            aspect="auto",
            cmap="magma",
            extent=(0, frontend.window_seconds, 0, frontend.n_mels),
        )
        axis.set_title(example.title, fontsize=8, loc="left")
        axis.set(xlabel="s", ylabel="mel band")
    for axis in axes[len(examples) :]:
        axis.set_axis_off()
    return figure


def _plain(*axes: Any) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
