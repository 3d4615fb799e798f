"""The closing table of a run, read from the bundle and what the stages left."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from training.config import Settings
from training.console import console, say
from training.report_page import kind_name, kinds_in, shown_alarms
from training.results import read_json, read_metrics

_ROWS = (
    ("macro ROC-AUC", "macro_roc_auc"),
    ("cmAP", "cmap"),
    ("padded cmAP", "padded_cmap"),
    ("top-1", "top1"),
    ("F1, row-wise", "row_f1"),
    ("ECE", "ece"),
)
_IN_NOISE = _ROWS[:2] + _ROWS[3:4]
_ENGINE_COLUMNS: dict[str, Literal["left", "right"]] = {
    "engine": "left",
    "version": "left",
    "file": "left",
    "logits to Keras": "right",
    "same top-1": "right",
    "status": "left",
}
_COLUMNS = (("Keras", "keras"), ("TFLite float32", "float32"), ("TFLite int8", "int8"), ("wheel", "wheel"))


def show(settings: Settings) -> None:
    """Print what was trained on, how good each file is, what it costs, and where the bundle is."""
    place = settings.bundle.dir
    metrics = read_metrics(settings.paths)
    manifest, prepared = read_json(place / "manifest.json"), read_json(settings.paths.prepared / "summary.json")
    split = ", ".join(f"{n} {name}" for name, n in prepared["recordings_by_split"].items())
    say(f"\n{manifest['name']} {manifest['version']}", style="bold")
    if prepared["synthetic"]:
        say("synthetic: made by a generator; these figures say nothing about birds", style="yellow")
    skipped = f", {prepared['skipped']} skipped" if prepared["skipped"] else ""
    counts = f"{prepared['species']} species, {prepared['recordings']} recordings, {prepared['hours']:.2f} hours"
    say(f"{counts} ({split}){skipped}")
    if metrics["rows_of"] is None:
        say("quality not measured: nothing was held out to test on", style="yellow")
    _figures(metrics, manifest["models"])
    _parity(metrics)
    _engines(pd.read_csv(settings.paths.validate / "engines.csv"))
    say(f"report {settings.paths.report / 'report.html'}")
    say(f"bundle {place}", style="bold")


def _parity(metrics: dict[str, Any]) -> None:
    parity, phase = metrics["parity"], metrics["phase"]
    if parity is not None:
        say("parity, largest difference on every held-out window:")
        say(f"  mel wasm to librosa {parity['mel_decibels']:.1e} dB")
        say(
            f"  logits float32 to Keras {parity['float32_logit']:.1e}, int8 to Keras {parity['int8_logit']:.2f} "
            f"(median {parity['int8_logit_median']:.2f}, same top-1 in {100 * parity['int8_top1_equal']:.1f} %)"
        )
    if phase is not None:
        int8 = phase["int8"]
        say(
            f"a window begun a little later moves int8's top logit by {int8['median']:.2f} (median), "
            f"{int8['percentile_95']:.2f} (95th percentile); another species first in {100 * int8['flips']:.1f} %"
        )


def _figures(metrics: dict[str, Any], models: dict[str, Any]) -> None:
    """How good each file is, and what it costs; of nothing measured, the costs alone."""
    kinds = kinds_in(metrics)
    columns = _COLUMNS if kinds else [column for column in _COLUMNS if column[1] in models]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for title, _ in columns:
        table.add_column(title, justify="right")
    if kinds:
        table.add_column(f"{100 * metrics['interval_level']:g} %, int8", justify="right")
    alarms = tuple((title, name) for name, title in shown_alarms(metrics).items())
    for kind in kinds:
        background, noisy = kind == "background", "_" in kind
        name = kind_name(kind).removeprefix("recordings, ") if noisy else f"held-out {kind_name(kind)}"
        table.add_row(f"[bold]{name}[/], {metrics['int8'][kind]['rows']} rows")
        for title, name in alarms if background else _IN_NOISE if noisy else _ROWS:
            values = [metrics.get(engine, {}).get(kind, {}).get(name) for _, engine in columns]
            form = ".1f" if background else ".3f"
            ends = metrics["int8"][kind]["intervals"][name]
            shown = ["–" if v is None else format(v, form) for v in (*values, *ends)]
            table.add_row(f"  {title}", *shown[:-2], "–" if ends[0] is None else f"{shown[-2]} – {shown[-1]}")
    table.add_row("[bold]cost[/]")
    for title, name in (("parameters", "parameters"), ("MACs per window", "macs"), ("bytes", "bytes")):
        # the converter folds batch normalisation, so what Keras counts is not what is shipped
        costs = (f"{models[engine][name]:,}" if engine in models else "" for _, engine in columns)
        table.add_row(f"  {title}", *costs)
    console.print(table)
    if metrics["wheel_status"] != "ok":
        say(f"installed wheel {metrics['wheel_status']}", style="yellow")


def _engines(engines: pd.DataFrame) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, justify in _ENGINE_COLUMNS.items():
        table.add_column(column, justify=justify, no_wrap=column != "status")
    for row in engines.to_dict("records"):
        difference = "" if pd.isna(row["max_abs_difference"]) else f"{row['max_abs_difference']:.1e}"
        agreeing = "" if pd.isna(row["argmax_equal"]) else f"{100 * row['argmax_equal']:.0f} %"
        version = "" if pd.isna(row["version"]) else str(row["version"])
        table.add_row(row["engine"], version, row["file"], difference, agreeing, escape(row["status"]))
    console.print(table)
