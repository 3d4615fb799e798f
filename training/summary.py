"""The closing table of a run, read from the bundle and what the stages left."""

from __future__ import annotations

import json
from typing import Any, Literal

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from training.config import Settings
from training.console import console, say

_ROWS = (("macro ROC-AUC", "macro_roc_auc"), ("cmAP", "cmap"), ("top-1", "top1"), ("F1, row-wise", "row_f1"))
_ENGINE_COLUMNS: dict[str, Literal["left", "right"]] = {
    "engine": "left",
    "version": "left",
    "file": "left",
    "logits to Keras": "right",
    "same top-1": "right",
    "status": "left",
}
_COLUMNS = (("Keras", "keras"), ("TFLite float32", "float32"), ("TFLite int8", "int8"))


def show(settings: Settings) -> None:
    """Print what was trained on, how good each file is, what it costs, and where the bundle is."""
    place = settings.bundle.dir
    metrics = json.loads((place / "metrics.json").read_text())
    manifest = json.loads((place / "manifest.json").read_text())
    prepared = json.loads((settings.paths.prepared / "summary.json").read_text())
    split = ", ".join(f"{n} {name}" for name, n in prepared["recordings_by_split"].items())
    say(f"\n{manifest['name']} {manifest['version']}", style="bold")
    if prepared["synthetic"]:
        say("synthetic: made by a generator; these figures say nothing about birds", style="yellow")
    skipped = f", {prepared['skipped']} skipped" if prepared["skipped"] else ""
    counts = f"{prepared['species']} species, {prepared['recordings']} recordings, {prepared['hours']:.2f} hours"
    say(f"{counts} ({split}){skipped}")
    _quality(metrics, manifest)
    parity = metrics["parity"]
    say("parity, largest difference on every held-out window:")
    say(f"  mel wasm to librosa {parity['mel_decibels']:.1e} dB")
    say(
        f"  logits float32 to Keras {parity['float32_logit']:.1e}, int8 to Keras {parity['int8_logit']:.2f} "
        f"(median {parity['int8_logit_median']:.2f}, same top-1 in {100 * parity['int8_top1_equal']:.1f} %)"
    )
    _engines(pd.read_csv(settings.paths.validate / "engines.csv"))
    say(f"report {settings.paths.validate / 'report.html'}")
    say(f"bundle {place}", style="bold")


def _quality(metrics: dict[str, Any], manifest: dict[str, Any]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for title, _ in _COLUMNS:
        table.add_column(title, justify="right")
    for kind in ("soundscapes", "recordings"):
        if kind not in metrics["keras"]:
            continue
        table.add_row(f"[bold]held-out {kind}[/], {metrics['keras'][kind]['rows']} rows")
        for title, name in _ROWS:
            values = [metrics[engine][kind][name] for _, engine in _COLUMNS]
            table.add_row(f"  {title}", *("–" if v is None else f"{v:.4f}" for v in values))
    models = manifest["models"]
    table.add_row("[bold]cost[/]")
    table.add_row("  parameters", *_costs(models, "parameters"))
    table.add_row("  MACs per window", *_costs(models, "macs"))
    table.add_row("  bytes", "", *(f"{models[name]['bytes']:,}" for name in ("float32", "int8")))
    console.print(table)


def _costs(models: dict[str, Any], name: str) -> list[str]:
    # the converter folds batch normalisation, so what Keras counts is not what is shipped
    return ["", *(f"{models[engine][name]:,}" for engine in ("float32", "int8"))]


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
