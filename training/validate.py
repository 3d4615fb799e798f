"""Validate: what the exported files are worth on held-out sound, and whether every engine agrees about them.

``python -m training.validate`` fills ``paths.validate``: metrics.json, thresholds.json, per_label.csv,
predictions.csv, engines.csv, report.html and plots/.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labous.detect import sigmoid
from labous.frontend import Frontend
from training.config import Settings, stage_main
from training.console import say
from training.engines import compare
from training.errors import StageError
from training.evaluate import (
    ENGINES,
    Heard,
    Listener,
    Rows,
    first_window,
    hear_all,
    join,
    recording_rows,
    soundscape_rows,
)
from training.features import mel_spectrogram
from training.files import write_text, written_beside
from training.metrics import best_threshold, measure, per_label_average_precision, per_label_roc_auc
from training.prepared import load_fitted, read_prepared
from training.report import Example, write_report
from training.stages import VALIDATE, run_stage


def validate(settings: Settings) -> None:
    """Measure, compare and report.

    Raises:
        StageError: nothing was held out, or an earlier stage is missing.
    """
    recordings, soundscapes, labels = read_prepared(settings.paths.prepared, settings.dataset.root)
    codes = list(labels.ebird_code)
    model, files = load_fitted(settings.paths.fit), _exported(settings.paths.export)
    listener = Listener(model, files["model.tflite"], files["model_int8.tflite"], settings.frontend)
    asked = recordings[recordings.split.isin(["valid", "test"])]
    heard = hear_all([*asked.path, *soundscapes.path], listener, settings.evaluate.overlap_seconds)

    def rows(split: str) -> dict[str, Rows]:
        kinds = {
            "recordings": recording_rows(recordings[recordings.split == split], heard, codes),
            "soundscapes": soundscape_rows(
                soundscapes[soundscapes.split == split], heard, codes, settings.frontend.window_seconds
            ),
        }
        return {name: kind for name, kind in kinds.items() if kind.names}

    valid, test = rows("valid"), rows("test")
    if not test:
        raise StageError("Nothing was held out to validate on; raise split.test or add recordists.")
    chosen = join(*valid.values())
    threshold = best_threshold(chosen.truth, chosen.scores["float32"], settings.evaluate.thresholds)
    primary = "soundscapes" if "soundscapes" in test else "recordings"
    metrics = _metrics(test, primary, threshold)
    metrics["parity"] = _parity(heard, settings.frontend)
    per_label = _per_label(recordings, test[primary], labels)

    shown = _spread(recordings[recordings.split == "test"], settings.evaluate.engine_windows)
    mel = mel_spectrogram(settings.frontend, "librosa")
    mels = np.stack([mel(first_window(path, settings.frontend)) for path in shown.path])
    engines = compare(files, mels, np.asarray(model(mels[..., None], training=False)))

    place = settings.paths.validate
    for name, table in (
        ("per_label", per_label),
        ("predictions", _predictions(test, codes)),
        ("engines", engines),
    ):
        with written_beside(place / f"{name}.csv") as beside:
            table.to_csv(beside, index=False, float_format="%.6g")
    write_text(place / "thresholds.json", json.dumps(dict.fromkeys(codes, threshold), indent=1) + "\n")
    write_text(place / "metrics.json", json.dumps(_without_nan(metrics), indent=1, sort_keys=True) + "\n")
    examples = [
        Example(window, _heard_title(code, heard[path].logits["int8"][0], labels))
        for window, code, path in zip(mels, shown.primary_label, shown.path, strict=True)
    ]
    summary = json.loads((settings.paths.prepared / "summary.json").read_text())
    history = pd.read_csv(settings.paths.fit / "history.csv")
    write_report(place, settings.frontend, summary, metrics, history, per_label, engines, examples)
    said = "  ".join(f"{engine} {metrics[engine]['macro_roc_auc']:.3f}" for engine in ENGINES)
    say(f"          macro ROC-AUC on held-out {primary}: {said}; report: {place / 'report.html'}")


def _spread(recordings: pd.DataFrame, at_most: int) -> pd.DataFrame:
    """Up to ``at_most`` rows, evenly spread over the species."""
    ordered = recordings.sort_values(["primary_label", "recording_id"])
    return ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, min(at_most, len(ordered))).round().astype(int))]


def _heard_title(code: str, logits: np.ndarray, labels: pd.DataFrame) -> str:
    names = labels.set_index("ebird_code").common_name
    best = np.argsort(logits)[::-1][:2]
    heard = ", ".join(f"{labels.common_name[i]} {p:.2f}" for i, p in zip(best, sigmoid(logits[best]), strict=True))
    return f"{names[code]}; heard (int8): {heard}"


def _exported(place: Path) -> dict[str, bytes]:
    try:
        return {name: (place / name).read_bytes() for name in ("model.tflite", "model_int8.tflite", "model.onnx")}
    except FileNotFoundError as error:
        raise StageError(f"{error.filename} is not there; run python -m training.export first.") from None


def _metrics(test: dict[str, Rows], primary: str, threshold: float) -> dict[str, Any]:
    """Per engine: the primary set's metrics, and every set's under its name."""
    found: dict[str, Any] = {"rows_of": primary, "threshold": threshold}
    for engine in ENGINES:
        sets = {
            name: dataclasses.asdict(measure(rows.truth, rows.scores[engine], threshold)) for name, rows in test.items()
        }
        found[engine] = {**sets[primary], **sets}
    return found


def _parity(heard: dict[str, Heard], frontend: Frontend) -> dict[str, float]:
    """Largest differences over every held-out window: of the front ends, and of each file from Keras."""
    found = {"mel_decibels": max(h.mel_difference for h in heard.values()) / abs(frontend.db_scale)}
    for name in ("float32", "int8"):
        differences = np.concatenate([np.abs(h.logits[name] - h.logits["keras"]).max(axis=1) for h in heard.values()])
        found[f"{name}_logit"] = float(differences.max())
        found[f"{name}_logit_median"] = float(np.median(differences))
        found[f"{name}_top1_equal"] = float(
            np.mean(
                np.concatenate(
                    [h.logits[name].argmax(axis=1) == h.logits["keras"].argmax(axis=1) for h in heard.values()]
                )
            )
        )
    return found


def _per_label(recordings: pd.DataFrame, rows: Rows, labels: pd.DataFrame) -> pd.DataFrame:
    trained = recordings[recordings.split == "train"].primary_label.value_counts()
    table = labels.copy()
    table["train_recordings"] = table.ebird_code.map(trained).fillna(0).astype(int)
    table["test_rows"] = rows.truth.sum(axis=0)
    for engine in ("float32", "int8"):
        table[f"average_precision_{engine}"] = per_label_average_precision(rows.truth, rows.scores[engine])
        table[f"roc_auc_{engine}"] = per_label_roc_auc(rows.truth, rows.scores[engine])
    return table


def _predictions(test: dict[str, Rows], codes: list[str]) -> pd.DataFrame:
    """Every held-out row with its truth, and each engine's best label and its probability."""
    tables = []
    for kind, rows in test.items():
        table = pd.DataFrame(
            {
                "kind": kind,
                "row": rows.names,
                "truth": [" ".join(np.array(codes)[t]) or "nocall" for t in rows.truth],
            }
        )
        for engine in ENGINES:
            best = rows.scores[engine].argmax(axis=1)
            table[f"best_{engine}"] = np.array(codes)[best]
            table[f"score_{engine}"] = rows.scores[engine].max(axis=1)
        tables.append(table)
    return pd.concat(tables)


def _without_nan(value: Any) -> Any:
    """NaN is not JSON: what could not be measured is null."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def run(settings: Settings) -> None:
    """The stage: :func:`validate` unless its result is up to date."""
    run_stage(VALIDATE, settings, validate)


main = stage_main(run)

if __name__ == "__main__":
    main()
