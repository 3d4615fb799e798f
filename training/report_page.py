"""The report as one HTML page with its pictures inside: no file beside it, no request to anywhere."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import pandas as pd

_STYLE = """
:root { --ink: #1d2a33; --quiet: #5b6b78; --line: #d6dde3; --accent: #1b6f8a }
* { box-sizing: border-box }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink) }
body { margin: 0 auto; max-width: 66rem; padding: 2rem 1.25rem 5rem }
h1 { font-size: 1.9rem; margin: 0 } h1, h2 { font-weight: 600; line-height: 1.25; letter-spacing: -.01em }
h2 { margin: 3.2rem 0 .4rem; padding-top: .8rem; border-top: 1px solid var(--line); font-size: 1.3rem }
h3 { font-size: 1rem; margin: 1.6rem 0 .2rem }
p { max-width: 48rem; margin: .5rem 0 } .quiet { color: var(--quiet) } .scroll { overflow-x: auto }
nav { margin: 1rem 0; font-size: 14px } nav a { color: var(--accent); margin-right: 1.1rem; text-decoration: none }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.4rem 0 }
.card { flex: 1 1 9.5rem; border: 1px solid var(--line); border-radius: .5rem; padding: .7rem .9rem }
.card b { display: block; font-size: 1.6rem; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums }
.card span { font-size: 13px; color: var(--quiet); display: block }
table { border-collapse: collapse; margin: .6rem 0; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: .22rem 1.2rem .22rem 0; text-align: left; white-space: nowrap } td:last-child { white-space: normal }
th { border-bottom: 1px solid #889; font-weight: 600 } .n { text-align: right }
tbody tr:hover td { background: #f3f6f8 }
tr.kind td { font-weight: 600; padding-top: .9rem; border-bottom: 1px solid var(--line) }
img { max-width: 100%; display: block; margin: 1rem 0 }
.warn { background: #fff3d6; padding: .6rem 1rem; border-radius: .4rem }
@media print { nav { display: none } h2 { break-after: avoid } img, table { break-inside: avoid } }
"""
ENGINE_NAMES = {"keras": "Keras", "float32": "TFLite float32", "int8": "TFLite int8", "wheel": "installed wheel"}
METRICS = {
    "macro_roc_auc": "macro ROC-AUC",
    "cmap": "cmAP",
    "cmap5": "cmAP, species with 5 rows or more",
    "padded_cmap": "padded cmAP",
    "top1": "top-1",
    "row_f1": "F1, row-wise",
    "ece": "ECE",
}
ALARMS = {
    "false_alarms_per_hour": "false alarms per hour",
    "confirmed_false_alarms_per_hour": "the same, confirmed",
}
_PARITY = (
    ("mel, wasm to librosa", "mel_decibels", "{:.1e} dB"),
    ("float32 file to Keras, largest difference of a logit", "float32_logit", "{:.1e}"),
    ("float32 file to Keras, median of the windows' largest", "float32_logit_median", "{:.1e}"),
    ("float32 file and Keras name the same species first", "float32_top1_equal", "{:.1%}"),
    ("int8 file to Keras, largest difference of a logit", "int8_logit", "{:.2f}"),
    ("int8 file to Keras, median of the windows' largest", "int8_logit_median", "{:.2f}"),
    ("int8 file and Keras name the same species first", "int8_top1_equal", "{:.1%}"),
)


def interval_title(metrics: Mapping[str, Any]) -> str:
    """What a column of the int8 file's intervals is called."""
    return f"{100 * metrics['interval_level']:g} % interval, int8"


def kind_name(kind: str) -> str:
    """A kind of rows as a reader knows it: ``recordings_10db`` is recordings with background at 10 dB."""
    plain, _, level = kind.partition("_")
    return f"{plain}, background at {level.removesuffix('db')} dB" if level else plain


def kinds_in(metrics: Mapping[str, Any]) -> list[str]:
    """The kinds of held-out sound in metrics.json: soundscapes, recordings, those in ever more noise, background."""
    found = [kind for kind, values in metrics["int8"].items() if isinstance(values, dict) and kind != "intervals"]
    noisy = sorted((kind for kind in found if "_" in kind), key=_level, reverse=True)
    return [kind for kind in ("soundscapes", "recordings", *noisy, "background") if kind in found]


def _level(kind: str) -> float:
    return float(kind.partition("_")[2].removesuffix("db"))


def shown_alarms(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Titles of the figures on background, by name; those of the confirmation rule only where there is one."""
    at_once = metrics["detection"]["confirmation"]["windows"] == 1
    return {name: title for name, title in ALARMS.items() if not (at_once and name.startswith("confirmed"))}


def quality_table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """metrics.json as a table: a row a kind of held-out sound and metric, a column an engine, the interval of int8."""
    engines = [engine for engine in ENGINE_NAMES if engine in metrics]
    rows = []
    for kind in kinds_in(metrics):
        for name, title in (shown_alarms(metrics) if kind == "background" else METRICS).items():
            values = [metrics[engine].get(kind, {}).get(name) for engine in engines]
            low, high = metrics["int8"][kind]["intervals"][name]
            interval = (
                "" if low is None else f"{low:.3f} – {high:.3f}" if kind != "background" else f"{low:.1f} – {high:.1f}"
            )
            rows.append((kind_name(kind), metrics["int8"][kind]["rows"], title, *values, interval))
    names = [ENGINE_NAMES[engine] for engine in engines]
    return pd.DataFrame(rows, columns=["held-out", "rows", "metric", *names, interval_title(metrics)])


def page(
    summary: Mapping[str, Any],
    metrics: Mapping[str, Any],
    manifest: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    images: Mapping[str, str],
) -> str:
    """The whole page.

    Args:
        summary: what prepare left.
        metrics: of validate, with the wheel's.
        manifest: of the bundle.
        tables: ``per_label``, ``engines``, ``confusions``.
        images: PNG files in base64 by name.
    """
    measured = metrics["rows_of"] is not None
    sections = {
        "Quality": _quality(metrics)
        if measured
        else '<p class="warn">Nothing was held out to test on: quality was not measured.</p>',
        "Species": _species(tables["per_label"], images),
        "Precision, recall and calibration": _curves(metrics, images) if measured else "",
        "Taken for another": _confusions(tables["confusions"], images) if "pairs" in images else "",
        "Missed": _pictures(
            "Species that are there and stay below their threshold: the lowest probability first.", images, "misses"
        ),
        "Heard, and not there": _pictures(
            "Species above their threshold that no label names: the highest probability first. Some are birds that "
            "nobody labelled.",
            images,
            "false_alarms",
        ),
        "Shifts and parity": _parity(metrics),
        "Engines and sizes": _engines(tables["engines"], manifest),
        "Training": _image(images["training"], "loss and validation scores by epoch"),
    }
    shown = {title: body for title, body in sections.items() if body}
    links = "".join(f'<a href="#s{i}">{html.escape(title)}</a>' for i, title in enumerate(shown))
    body = "".join(
        f'<section id="s{i}"><h2>{html.escape(title)}</h2>{text}</section>'
        for i, (title, text) in enumerate(shown.items())
    )
    name = f"{manifest['name']} {manifest['version']}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(name)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><header>{_head(name, summary, metrics, manifest)}<nav>{links}</nav></header>{body}</body></html>\n"
    )


def _head(name: str, summary: Mapping[str, Any], metrics: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    skipped = f"; {summary['skipped']} skipped" if summary["skipped"] else ""
    split = ", ".join(f"{n} {part}" for part, n in summary["recordings_by_split"].items())
    said = (
        f"{summary['species']} species, {summary['recordings']} recordings ({split}), {summary['hours']:.2f} hours"
        f"{skipped}. Data set {html.escape(summary['dataset'])}."
    )
    parts = [f"<h1>{html.escape(name)}</h1>", f'<p class="quiet">{said}</p>']
    if summary["synthetic"]:
        parts.append(
            '<p class="warn">Synthetic data: these recordings were made by a generator. The figures show that the path '
            "works, and say nothing about birds.</p>"
        )
    teacher = manifest.get("teacher")
    if teacher:
        told = f"Learned from {teacher['name']} ({teacher['licence']}). {teacher['consequence']}"
        parts.append(f'<p class="warn">{html.escape(told)}</p>')
    if metrics["rows_of"] is not None:
        int8 = metrics["int8"]
        cards = [_card(METRICS[key], int8[key], int8["intervals"][key]) for key in ("macro_roc_auc", "cmap", "top1")]
        if "background" in int8:
            name, background = "false_alarms_per_hour", int8["background"]
            cards.append(_card("false alarms per hour", background[name], background["intervals"][name], ".1f"))
        size = manifest["models"]["int8"]
        cards.append(f"<div class=card><span>int8 file</span><b>{size['bytes'] / 1000:.0f} kB</b>"
                     f"<span>{size['macs'] / 1e6:.1f} million MACs a window</span></div>")  # fmt: skip
        parts.append(f'<div class="cards">{"".join(cards)}</div>')
        level = f"{100 * metrics['interval_level']:g} %"
        parts.append(f'<p class="quiet">int8 on held-out {kind_name(metrics["rows_of"])}, with {level} intervals.</p>')
    return "".join(parts)


def _card(title: str, value: float | None, ends: Any, form: str = ".3f") -> str:
    if value is None:
        return f'<div class="card"><span>{title}</span><b>–</b><span>cannot be told</span></div>'
    interval = "" if ends[0] is None else f"{ends[0]:{form}} – {ends[1]:{form}}"
    return f'<div class="card"><span>{title}</span><b>{value:{form}}</b><span>{interval}</span></div>'


def _quality(metrics: Mapping[str, Any]) -> str:
    table = quality_table(metrics)
    engines = [name for name in ENGINE_NAMES.values() if name in table]
    interval = interval_title(metrics)
    columns = ["metric", *engines, interval]
    head = "".join(f'<th class="{"" if column == "metric" else "n"}">{column}</th>' for column in columns)
    rows = []
    for (kind, count), part in table.groupby(["held-out", "rows"], sort=False):
        hours = f", {metrics['int8']['background']['hours']:.2f} hours" if kind == "background" else ""
        rows.append(
            f'<tr class="kind"><td colspan="{len(columns)}">{html.escape(str(kind))}, {count} rows{hours}</td></tr>'
        )
        form = ".1f" if kind == "background" else ".4f"
        for row in part.to_dict("records"):
            cells = "".join(f'<td class="n">{"–" if pd.isna(row[e]) else format(row[e], form)}</td>' for e in engines)
            rows.append(f'<tr><td>{row["metric"]}</td>{cells}<td class="n">{row[interval]}</td></tr>')
    wheel = metrics["wheel_status"]
    heard = "" if wheel == "ok" else f"<p>Installed wheel: {html.escape(wheel)}</p>"
    detection = metrics["detection"]
    rule, weight = detection["confirmation"], detection["smoothing"]["neighbor_weight"]
    smoothing = f"each window is smoothed with {weight:g} of its neighbors" if weight else "windows are not smoothed"
    believed = f"{rule['hits']} of {rule['windows']} windows" if rule["windows"] > 1 else "a single window"
    return (
        "<p>Rows are recordings (the highest of their windows), labelled stretches of soundscapes, and the recordings "
        "again with held-out background sound over them. Whole recordists or files are drawn for the intervals. "
        f"As was chosen on the validation share, if there was one: {smoothing}; a station believes {believed}.</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{heard}'
    )


def _species(per_label: pd.DataFrame, images: Mapping[str, str]) -> str:
    numbers = {
        "train_recordings": ("trained on", "d"),
        "test_rows": ("rows", "d"),
        "average_precision_int8": ("AP int8", ".3f"),
        "ap_low_int8": ("from", ".2f"),
        "ap_high_int8": ("to", ".2f"),
        "roc_auc_int8": ("AUC int8", ".3f"),
        "threshold": ("threshold", ".2f"),
        "calibration_offset": ("offset", ".2f"),
        "false_alarms_per_hour": ("alarms / h", ".1f"),
    }
    names = {"common_name": "species"}
    shown = per_label[[*names, *numbers]].dropna(axis="columns", how="all")  # what was not measured
    shown = shown.rename(columns=names | {key: title for key, (title, _) in numbers.items()})
    picture = _image(images["species"], "average precision by species") if "species" in images else ""
    return picture + _table(shown, dict(numbers.values()))


def _curves(metrics: Mapping[str, Any], images: Mapping[str, str]) -> str:
    ece = metrics["int8"]["ece"]
    told = "" if ece is None else f" The expected calibration error of the int8 file is {ece:.3f}."
    return f"<p>On held-out {kind_name(metrics['rows_of'])}.{told}</p>" + _image(images["curves"], "curves")


def _confusions(table: pd.DataFrame, images: Mapping[str, str]) -> str:
    told = (
        "<p>Rows with one species, for which the int8 file names another first. Left: the window that was mistaken; "
        "right: the clearest held-out window of the species it was taken for.</p>"
    )
    return told + _table(table, {"rows": "d"}) + _image(images["pairs"], "spectrograms of confused pairs")


def _pictures(told: str, images: Mapping[str, str], name: str) -> str:
    return f"<p>{told}</p>" + _image(images[name], "spectrograms") if name in images else ""


def _parity(metrics: Mapping[str, Any]) -> str:
    parts = []
    if metrics["phase"] is not None:
        phase = metrics["phase"]
        rows = [
            (ENGINE_NAMES[engine], phase[engine]["median"], phase[engine]["percentile_95"], phase[engine]["flips"])
            for engine in ("float32", "int8")
        ]
        table = pd.DataFrame(rows, columns=["", "median", "95th percentile", "another species first"])
        parts.append(
            f"<p>{phase['windows']} held-out windows begun a little later: how far the top logit moves.</p>"
            + _table(table, {"median": ".3f", "95th percentile": ".3f", "another species first": ".1%"})
        )
    if metrics["parity"] is not None:
        told = [(name, text.format(metrics["parity"][key])) for name, key, text in _PARITY]
        parts.append(
            "<p>Over every held-out window. Keras hears librosa's features; the files hear the wasm's, as on a device."
            "</p>" + _table(pd.DataFrame(told, columns=["", "value"]), {"value": "s"})
        )
    return "".join(parts)


def _engines(engines: pd.DataFrame, manifest: Mapping[str, Any]) -> str:
    renamed = {
        "max_abs_difference": "to Keras",
        "max_abs_difference_to_litert": "to LiteRT",
        "argmax_equal": "same top-1",
    }
    sizes = pd.DataFrame(
        [(name, m["file"], m["parameters"], m["macs"], m["bytes"]) for name, m in manifest["models"].items()],
        columns=["", "file", "parameters", "MACs a window", "bytes"],
    )
    return (
        "<p>Largest difference of a logit from Keras, and from the same file in LiteRT.</p>"
        + _table(engines.rename(columns=renamed), {"to Keras": ".1e", "to LiteRT": ".1e", "same top-1": ".0%"})
        + _table(sizes, dict.fromkeys(("parameters", "MACs a window", "bytes"), ",d"))
    )


def _table(table: pd.DataFrame, formats: Mapping[str, str]) -> str:
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
