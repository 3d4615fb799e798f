"""Validate: what the exported files are worth on held-out sound, and whether every engine agrees about them.

``python -m training.validate`` chooses, on the validation share, how probabilities are made and where they count, and
measures on the test share. It fills ``paths.validate``:

======================  ==================================================================
metrics.json            every figure, with intervals
detection.json          what was chosen, as the bundle's manifest has it
scores.npz              every held-out row with its scores (training/scores.py)
per_label.csv           a row a species
predictions.csv         a row a held-out row: its truth, and each engine's best label
precision_recall.csv    a curve for each engine
reliability.csv         the int8 file's probabilities against what was there
engines.csv             the same files in every engine
======================  ==================================================================
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labous.detect import Scoring, smoothed
from training.calibration import (
    Detection,
    choose_confirmation,
    choose_smoothing,
    choose_thresholds,
    fit_calibration,
)
from training.conditions import Backgrounds, hear_in_noise, hear_shifted
from training.config import Settings, stage_main
from training.console import say
from training.engines import compare
from training.errors import StageError
from training.evaluate import ENGINES, FILES, Evaluate, Heard, Listener, first_window, hear_all
from training.features import mel_spectrogram
from training.files import write_text, written_beside
from training.metrics import Scores, measure
from training.prepared import load_fitted, read_backgrounds, read_prepared
from training.quality import (
    BACKGROUND,
    Kind,
    nothing_measured,
    of_background,
    of_rows,
    parity,
    shifts,
    species_table,
)
from training.rows import Alarms, RowSet, Times, alarms, held_out, whole
from training.scores import Arrays, write_scores
from training.stages import VALIDATE, run_stage
from training.tables import calibration_table, curves, predictions, without_nan


def validate(settings: Settings) -> None:
    """Choose, measure, compare.

    Raises:
        StageError: an earlier stage is missing.
    """
    told, frontend, root = settings.evaluate, settings.frontend, settings.dataset.root
    recordings, soundscapes, labels = read_prepared(settings.paths.prepared, root)
    backgrounds = whole(read_backgrounds(settings.paths.prepared, root))
    codes = list(labels.ebird_code)
    model, files = load_fitted(settings.paths.fit), _exported(settings.paths.export)
    listener = Listener(model, files["model.tflite"], files["model_int8.tflite"], frontend)
    asked = [table[table.split.isin(["valid", "test"])] for table in (recordings, soundscapes, backgrounds)]
    heard = hear_all([path for table in asked for path in table.path], listener, told.overlap_seconds)
    times = {path: (h.starts, h.ends) for path, h in heard.items()}
    valid, test = (
        held_out(split, recordings, soundscapes, backgrounds, times, codes, frontend.window_seconds)
        for split in ("valid", "test")
    )
    detection = _decide(told, valid, heard, len(codes))
    shown = _Scored(detection, heard)
    alarms_of = {engine: shown.alarms(test[BACKGROUND], engine) for engine in ENGINES if BACKGROUND in test}
    kinds = {name: {e: shown.kind(rows, e) for e in ENGINES} for name, rows in test.items() if name != BACKGROUND}
    if "recordings" in test and BACKGROUND in test:
        behind = Backgrounds(backgrounds[backgrounds.split == "test"], frontend, told.noise_seed)
        for snr_db in told.noise_snr_db:
            noisy = hear_in_noise(
                recordings[recordings.split == "test"], behind, snr_db, listener, told.overlap_seconds
            )
            in_noise = _Scored(detection, noisy)
            kinds[f"recordings_{snr_db:g}db"] = {e: in_noise.kind(test["recordings"], e) for e in FILES}

    chosen = detection.to_manifest(codes)
    metrics: dict[str, Any] = _metrics(kinds, alarms_of, detection, told, test)
    metrics["detection"] = {name: chosen[name] for name in ("smoothing", "confirmation")}
    logits = {engine: [h.logits[engine] for h in heard.values()] for engine in ENGINES}
    difference = max((h.mel_difference for h in heard.values()), default=0.0) / abs(frontend.db_scale)
    metrics["parity"] = parity(logits, difference) if heard else None
    spread = _spread(recordings[recordings.split == "test"], told.phase_windows)
    before, after = hear_shifted(list(spread.path), listener, told.phase_shift_ms)
    windows = len(before["float32"])
    metrics["phase"] = {"windows": windows, **shifts(before, after)} if windows and told.phase_shift_ms else None
    primary = kinds.get(metrics["rows_of"], {})
    trained = recordings[recordings.split == "train"].primary_label.value_counts()
    tables = {
        "per_label": species_table(labels, trained, primary, chosen, alarms_of.get("int8"), told.bootstrap),
        "predictions": predictions(kinds, codes),
        "precision_recall": curves(primary),
        "reliability": calibration_table(primary.get("int8")),
        "engines": _engines(recordings, settings, model, files),
    }
    place = settings.paths.validate
    for name, table in tables.items():
        with written_beside(place / f"{name}.csv") as beside:
            table.to_csv(beside, index=False, float_format="%.6g")
    write_scores(place / "scores.npz", _arrays(kinds, alarms_of, test, shown, codes))
    write_text(place / "detection.json", json.dumps(chosen, indent=1) + "\n")
    write_text(place / "metrics.json", json.dumps(without_nan(metrics), indent=1, sort_keys=True) + "\n")
    _tell(metrics)


@dataclasses.dataclass(frozen=True)
class _Scored:
    """What was heard, smoothed and calibrated as was decided."""

    detection: Detection
    heard: Mapping[str, Heard]

    @property
    def times(self) -> dict[str, Times]:
        """Starts and ends of the windows by path."""
        return {path: (h.starts, h.ends) for path, h in self.heard.items()}

    def smoothed(self, rows: RowSet, engine: str) -> dict[str, Scores]:
        """Smoothed logits [n_windows, n_labels] of the rows' recordings, by path."""
        return _smooth({p: self.heard[p].logits[engine] for p in rows.paths}, self.detection.scoring.neighbor_weight)

    def kind(self, rows: RowSet, engine: str) -> Kind:
        """Rows with their logits and probabilities."""
        logits = rows.highest(self.smoothed(rows, engine))
        return Kind(rows, logits, self.detection.scoring.calibrated(logits))

    def alarms(self, rows: RowSet, engine: str) -> Alarms:
        """False alarms on background."""
        told = self.detection
        probabilities = {path: told.scoring.calibrated(z) for path, z in self.smoothed(rows, engine).items()}
        return alarms(rows, probabilities, self.times, told.thresholds, told.confirmation)


def _smooth(logits: Mapping[str, Scores], weight: float) -> dict[str, Scores]:
    return {path: np.array([row for _, row in smoothed(((None, r) for r in z), weight)]) for path, z in logits.items()}


def _decide(told: Evaluate, valid: dict[str, RowSet], heard: dict[str, Heard], n_labels: int) -> Detection:
    """Smoothing, calibration, thresholds and confirmation, from the float32 file on the validation share."""
    if not any(rows.truth.any() for rows in valid.values()):
        say(
            f"          no bird is held out to choose by: every threshold is {told.plain_threshold:g}, and "
            "probabilities are the model's own",
            style="yellow",
        )
        return Detection.plain(n_labels, told.plain_threshold)
    logits = {path: h.logits["float32"] for path, h in heard.items()}
    birds = [rows for kind, rows in valid.items() if kind != BACKGROUND]
    scenes = set(valid["soundscapes"].paths) if "soundscapes" in valid else set()
    # a soundscape's own empty stretches are rows already
    silent = [rows.without(scenes) for kind, rows in valid.items() if kind == BACKGROUND]

    def joined(weight: float, sets: list[RowSet]) -> tuple[Any, Scores]:
        values = _smooth({path: logits[path] for rows in sets for path in rows.paths}, weight)
        return np.concatenate([r.truth for r in sets]), np.concatenate([r.highest(values) for r in sets])

    def cmap(weight: float) -> float:
        return measure(*joined(weight, birds), 0.0).cmap

    weight = choose_smoothing(told.smoothing_weights, cmap, told.least_gain)
    truth, highest = joined(weight, birds + silent)
    scoring = dataclasses.replace(Scoring.plain(n_labels), neighbor_weight=weight)
    if told.calibration_offset_sd is not None:
        fitted = fit_calibration(truth, highest, told.calibration_offset_sd, told.calibration_scale_sd)
        scoring = Scoring(*fitted, weight)
    thresholds = choose_thresholds(truth, scoring.calibrated(highest), told.thresholds, told.threshold_shrinkage)
    there: dict[str, Any] = {}
    for rows in birds + silent:
        for path, present in zip(rows.paths, rows.truth, strict=True):
            there[path] = there.get(path, False) | present
    least = thresholds.astype(np.float32)  # as a device compares them
    reports = [(scoring.probabilities(logits[path]) >= least, present) for path, present in there.items()]
    return Detection(scoring, thresholds, choose_confirmation(told.confirmation_rules, reports, told.least_gain))


def _metrics(
    kinds: dict[str, dict[str, Kind]],
    alarms_of: dict[str, Alarms],
    detection: Detection,
    told: Evaluate,
    test: dict[str, RowSet],
) -> dict[str, Any]:
    """Figures by engine and kind of rows; those of the soundscapes, or else of the recordings, at the top as well."""
    primary = next((kind for kind in ("soundscapes", "recordings") if kind in kinds), None)
    found: dict[str, Any] = {"rows_of": primary, "interval_level": told.bootstrap_level}
    for engine in ENGINES:
        sets = {
            name: of_rows(kind[engine].rows, kind[engine].probabilities, detection.thresholds, told.bootstrap)
            for name, kind in kinds.items()
            if engine in kind
        }
        if engine in alarms_of:
            sets[BACKGROUND] = of_background(alarms_of[engine], test[BACKGROUND].groups, told.bootstrap)
        found[engine] = {**(nothing_measured() if primary is None else sets[primary]), **sets}
    return found


def _engines(recordings: pd.DataFrame, settings: Settings, model: Any, files: dict[str, bytes]) -> pd.DataFrame:
    """Every engine on some held-out windows; on some trained ones where nothing was held out."""
    among = recordings[recordings.split == "test"]
    shown = _spread(among if len(among) else recordings, settings.evaluate.engine_windows)
    mel = mel_spectrogram(settings.frontend, "librosa")
    mels = np.stack([mel(first_window(path, settings.frontend)) for path in shown.path])
    return compare(files, mels, np.asarray(model(mels[..., None], training=False)))


def _spread(recordings: pd.DataFrame, at_most: int) -> pd.DataFrame:
    """Up to ``at_most`` rows, evenly spread over the species."""
    ordered = recordings.sort_values(["primary_label", "recording_id"])
    return ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, min(at_most, len(ordered))).round().astype(int))]


def _exported(place: Path) -> dict[str, bytes]:
    names = ("model.tflite", "model_int8.tflite", "model.onnx")
    try:
        return {name: (place / name).read_bytes() for name in names}
    except FileNotFoundError as error:
        raise StageError(f"{error.filename} is not there; run python -m training.export first.") from None


def _arrays(
    kinds: dict[str, dict[str, Kind]],
    alarms_of: dict[str, Alarms],
    test: dict[str, RowSet],
    shown: _Scored,
    codes: list[str],
) -> Arrays:
    """As training/scores.py describes them."""
    found: Arrays = {"labels": np.array(codes), "thresholds": shown.detection.thresholds}

    def named(kind: str, rows: RowSet) -> None:
        for part, texts in (("names", rows.names), ("groups", rows.groups), ("sources", rows.sources)):
            found[f"{kind}/{part}"] = np.array(texts)

    for kind, engines in kinds.items():
        rows = engines["int8"].rows
        named(kind, rows)
        found[f"{kind}/truth"] = rows.truth
        for engine, values in engines.items():
            found[f"{kind}/probabilities/{engine}"] = values.probabilities
            found[f"{kind}/logits/{engine}"] = values.logits
        if kind in test:
            found[f"{kind}/starts"] = rows.where(shown.smoothed(rows, "int8"), shown.times)
    if alarms_of:
        named(BACKGROUND, test[BACKGROUND])
        found[f"{BACKGROUND}/hours"] = alarms_of["int8"].hours
        for engine, counted in alarms_of.items():
            found[f"{BACKGROUND}/detected/{engine}"] = counted.detected
            found[f"{BACKGROUND}/confirmed/{engine}"] = counted.confirmed
    return found


def _tell(metrics: dict[str, Any]) -> None:
    if metrics["rows_of"] is None:
        say("          nothing was held out to test on: quality is not measured", style="yellow")
        return
    said = "  ".join(f"{engine} {metrics[engine]['macro_roc_auc']:.3f}" for engine in ENGINES)
    say(f"          macro ROC-AUC on held-out {metrics['rows_of']}: {said}")


def run(settings: Settings) -> None:
    """The stage: :func:`validate` unless its result is up to date."""
    run_stage(VALIDATE, settings, validate)


main = stage_main(run)

if __name__ == "__main__":
    main()
