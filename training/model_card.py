"""The model card a bundle carries, generated from the run: data, licences, measured quality, honest limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from training.metrics import NAMES

_ENGINES = ("keras", "float32", "int8")
_TITLES = {
    "macro_roc_auc": "macro ROC-AUC",
    "cmap": "cmAP",
    "cmap5": "cmAP of species with 5 rows or more",
    "padded_cmap": "padded cmAP",
    "top1": "top-1",
    "row_f1": "row-wise micro F1",
    "ece": "calibration error (ECE)",
}
_LICENCES_SHOWN = 6


def licence_line(
    licences: pd.Series, teacher: Mapping[str, str] | None, occurrence: Mapping[str, Any] | None = None
) -> str:
    """What the manifest says of licences, in a line: the recordings', a teacher's and eBird's, which may bind more."""
    most = licences.sort_values(ascending=False, kind="stable")
    shown = [f"{licence or 'not stated'} ({count})" for licence, count in most.head(_LICENCES_SHOWN).items()]
    more = f" and {len(most) - _LICENCES_SHOWN} others" if len(most) > _LICENCES_SHOWN else ""
    recordings = f"recordings trained on: {', '.join(shown)}{more}"[:700] if shown else "recordings: not stated"
    taught = f"; teacher {teacher['name']}: {teacher['licence']}" if teacher else ""
    return f"{recordings}{taught}{'; weekly occurrence: eBird, under its terms of use' if occurrence else ''}"


def model_card(
    manifest: Mapping[str, Any], metrics: Mapping[str, Any], per_label: pd.DataFrame, licences: pd.Series, unknown: int
) -> str:
    """Markdown.

    Args:
        manifest: of the bundle.
        metrics: as validate wrote them.
        per_label: one row a species, as validate wrote it.
        licences: how many training recordings came under each licence.
        unknown: how many recordings nobody is named for.
    """
    dataset, small = manifest["dataset"], manifest["models"]["int8"]
    synthetic = (
        "\n> **Synthetic.** These recordings were made by a generator, to show that the whole path works. The figures\n"
        "> below say nothing about birds, and the model must not be used to survey them.\n"
        if dataset["synthetic"]
        else ""
    )
    granted = "\n".join(f"- {licence or 'not stated'}: {count} recordings" for licence, count in licences.items())
    unnamed = f"; of {unknown} the recordist is not known, and they were split one by one" if unknown else ""
    return f"""# {manifest["name"]} {manifest["version"]}
{synthetic}
A classifier of {len(per_label)} bird species, for windows of {manifest["frontend"]["window_seconds"]:g} s. It hears a
log-mel spectrogram (computed by `melspec.wasm`, or by anything that follows the front end in `manifest.json`) and
gives one logit a species; {small["parameters"]:,} parameters, {small["macs"] / 1e6:.1f} million multiply-accumulates
a window, {small["bytes"] / 1000:.0f} kB in int8.

## Data

{dataset["recordings"]} recordings, {dataset["hours"]:.2f} hours, data set `{dataset["name"]}`, revision
`{dataset["revision"][:16]}`. Recordings of one recordist are all on one side of the split{unnamed}.
Licences of the recordings trained on:

{granted}
{_teacher(manifest.get("teacher"))}{_occurrence(manifest.get("occurrence"), len(per_label))}
{_quality(metrics)}

## Species

{_decisions(manifest["detection"])}

| code | scientific name | name | nom français | trained on | tested on | average precision, int8 | threshold |
| --- | --- | --- | --- | --- | --- | --- | --- |
{_species(per_label)}

## Limits

- {_meaning(metrics, manifest["detection"])}
- Species that are not in the table are heard as one that is, or as nothing.
- Labels of whole recordings were taken to hold for their liveliest windows.
{_few_and_alike(metrics)}"""


def _teacher(teacher: Mapping[str, str] | None) -> str:
    if not teacher:
        return ""
    return f"\n## Teacher: {teacher['name']}, {teacher['licence']}\n\n{teacher['consequence']}\n"


def _occurrence(occurrence: Mapping[str, Any] | None, species: int) -> str:
    if not occurrence:
        return ""
    rows = "\n".join(
        f"| {_code(source['file'])} | {source['latitude']:g}, {source['longitude']:g} | {source['checklists']:,} "
        f"| {source['species']} of {species} |"
        for source in occurrence["sources"]
    )
    return f"""
## Place and season

A station reports a species only in weeks in which it is met near it, as `occurrence.csv` tells. That is made from
eBird's bar charts:

| file | taken for (latitude, longitude) | checklists | species |
| --- | --- | --- | --- |
{rows}

A week with fewer than {occurrence["least_checklists"]} checklists leans on the weeks around it. Species without a row
are reported all year. How often people list a bird is not how often a microphone hears it.

Cite it: eBird, an online database of bird distribution and abundance, Cornell Lab of Ornithology, Ithaca, New York,
https://ebird.org. eBird's data are under terms of use of their own and are not to be passed on as data: see
eBird's terms before this bundle goes to anybody else.
"""


def _code(text: str) -> str:
    """As code in a cell of a table."""
    return "`" + text.replace("`", "'").replace("|", "/") + "`"


def _quality(metrics: Mapping[str, Any]) -> str:
    if metrics["rows_of"] is None:
        return "## Quality\n\nNot measured: nothing was held out to test on."
    int8 = metrics["int8"]
    rows = "\n".join(
        f"| {_TITLES[name]} | " + " | ".join(_number(metrics[engine][name]) for engine in _ENGINES)
        + f" | {_ends(int8['intervals'][name])} |"
        for name in NAMES
    )  # fmt: skip
    parts = [
        f"## Quality on held-out {metrics['rows_of']} ({metrics['keras']['rows']} rows)",
        f"| | Keras | TFLite float32 | TFLite int8 | {100 * metrics['interval_level']:g} % interval, int8 |\n"
        f"| --- | --- | --- | --- | --- |\n{rows}",
    ]
    noisy = [kind for kind in int8 if kind.startswith("recordings_")]
    if noisy:
        lines = "\n".join(
            f"| {kind.removeprefix('recordings_').removesuffix('db')} dB | "
            + " | ".join(_number(int8[kind][name]) for name in ("macro_roc_auc", "cmap", "top1")) + " |"
            for kind in sorted(noisy, key=lambda kind: -float(kind.removeprefix("recordings_").removesuffix("db")))
        )  # fmt: skip
        parts.append(
            f"The int8 file on the {int8[noisy[0]]['rows']} held-out recordings with held-out background over them:\n\n"
            f"| signal over background | macro ROC-AUC | cmAP | top-1 |\n| --- | --- | --- | --- |\n{lines}"
        )
    if "background" in int8:
        background = int8["background"]
        parts.append(
            f"On {background['hours']:.2f} hours without any bird of the table, the int8 file gives "
            f"{background['false_alarms_per_hour']:.1f} false alarms an hour "
            f"({_ends(background['intervals']['false_alarms_per_hour'], '.1f')}), "
            f"{background['confirmed_false_alarms_per_hour']:.1f} with the confirmation rule."
        )
    return "\n\n".join(parts)


def _decisions(detection: Mapping[str, Any]) -> str:
    weight, rule = detection["smoothing"]["neighbor_weight"], detection["confirmation"]
    smoothing = f"Logits are smoothed with {weight:g} of each neighboring window. " if weight else ""
    confirmation = (
        f"A station believes a species when {rule['hits']} of {rule['windows']} windows detect it."
        if rule["windows"] > 1
        else "A station believes a single window."
    )
    if not _is_calibrated(detection):
        return f"{smoothing}Probabilities are the model's own, not calibrated. {confirmation}"
    return (
        f"{smoothing}Probabilities are calibrated, and thresholds set, for each species on the validation share, "
        f"pulled towards what holds for all. {confirmation}"
    )


def _is_calibrated(detection: Mapping[str, Any]) -> bool:
    return any(entry != {"scale": 1.0, "offset": 0.0} for entry in detection["calibration"].values())


def _species(per_label: pd.DataFrame) -> str:
    return "\n".join(
        f"| {row['ebird_code']} | *{row['scientific_name']}* | {row['common_name']} | {row['french_name']} "
        f"| {row['train_recordings']} | {row['test_rows']} | {_precision(row)} | {row['threshold']:.2f} |"
        for row in per_label.to_dict("records")
    )


def _precision(row: Mapping[Any, Any]) -> str:
    value = _number(row["average_precision_int8"])
    return value if value == "–" else f"{value} ({_ends((row['ap_low_int8'], row['ap_high_int8']), '.2f')})"


def _meaning(metrics: Mapping[str, Any], detection: Mapping[str, Any]) -> str:
    if not _is_calibrated(detection):
        return "A score is not a probability that the bird was there: nothing was calibrated."
    ece = metrics["int8"]["ece"]
    measured = "" if ece is None else f" (on the held-out rows they are off by {ece:.3f} on average)"
    return (
        "Probabilities were calibrated on the validation share, where the highest window stands for a whole "
        f"recording{measured}. Where birds are rarer than there, a probability overstates."
    )


def _few_and_alike(metrics: Mapping[str, Any]) -> str:
    if metrics["rows_of"] is None:
        return "- How good it is, nobody has measured: try it on recordings of your own first.\n"
    return (
        "- Held-out recordings come from the same collection as the training ones; a new place, microphone or season "
        "is harder.\n"
        "- Where a species was tested on few rows, its figures say little: read the intervals, not the third digit.\n"
    )


def _ends(ends: Any, form: str = ".3f") -> str:
    low, high = ends
    return "–" if low is None or math.isnan(low) else f"{low:{form}} to {high:{form}}"


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"
