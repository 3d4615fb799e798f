"""The model card a bundle carries, generated from the run: data, licences, measured quality, honest limits."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd


def model_card(
    manifest: dict[str, Any], metrics: dict[str, Any], per_label: pd.DataFrame, licences: pd.Series, unknown: int
) -> str:
    """Markdown.

    Args:
        manifest: of the bundle.
        metrics: as validate wrote them.
        per_label: one row a species, as validate wrote it.
        licences: how many training recordings came under each licence.
        unknown: how many recordings nobody is named for.
    """
    dataset = manifest["dataset"]
    synthetic = (
        "\n> **Synthetic.** These recordings were made by a generator, to show that the whole path works. The figures\n"
        "> below say nothing about birds, and the model must not be used to survey them.\n"
        if dataset["synthetic"]
        else ""
    )
    rows = "\n".join(
        f"| {title} | " + " | ".join(_number(metrics[engine][name]) for engine in ("keras", "float32", "int8")) + " |"
        for title, name in (
            ("macro ROC-AUC", "macro_roc_auc"),
            ("cmAP", "cmap"),
            ("top-1", "top1"),
            ("row-wise micro F1", "row_f1"),
        )
    )
    species = "\n".join(
        f"| {row['ebird_code']} | *{row['scientific_name']}* | {row['common_name']} | {row['french_name']} "
        f"| {row['train_recordings']} | {row['test_rows']} | {_number(row['average_precision_int8'])} |"
        for row in per_label.to_dict("records")
    )
    granted = "\n".join(f"- {licence or 'not stated'}: {count} recordings" for licence, count in licences.items())
    unnamed = f"; of {unknown} the recordist is not known, and they were split one by one" if unknown else ""
    small = manifest["models"]["int8"]
    return f"""# {manifest["name"]} {manifest["version"]}
{synthetic}
A classifier of {len(per_label)} bird species, for windows of {manifest["frontend"]["window_seconds"]:g} s. It hears a
log-mel spectrogram (computed by `melspec.wasm`, or by anything that follows the front end in `manifest.json`) and
gives one logit a species; {small["parameters"]:,} parameters, {small["macs"] / 1e6:.1f} million multiply-accumulates
a window.

## Data

{dataset["recordings"]} recordings, {dataset["hours"]:.2f} hours, data set `{dataset["name"]}`, revision
`{dataset["revision"][:16]}`. Recordings of one recordist are all on one side of the split{unnamed}.
Licences of the recordings trained on:

{granted}

## Quality on held-out {metrics["rows_of"]} ({metrics["keras"]["rows"]} rows)

| | Keras | TFLite float32 | TFLite int8 |
| --- | --- | --- | --- |
{rows}

One threshold for all species, {metrics["threshold"]:.2f}, chosen on the validation share.

| code | scientific name | name | nom français | trained on | tested on | average precision, int8 |
| --- | --- | --- | --- | --- | --- | --- |
{species}

## Limits

- A score is not a probability that the bird was there: nothing was calibrated in the field.
- Species that are not in the table are heard as one that is, or as nothing.
- Labels of whole recordings were taken to hold for their liveliest windows.
- Held-out recordings come from the same collection as the training ones; a new place, microphone or season is harder.
"""


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"
