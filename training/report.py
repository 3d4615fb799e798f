"""Report: what the installed wheel makes of the held-out sound, and one page with every figure of the run.

``python -m training.report`` fills ``paths.report``: wheel.json, wheel.npz, report.html (to open in a browser) and
plots/. The wheel is installed in an environment of its own at ``paths.wheel``.
"""

from __future__ import annotations

import base64
import json
import shutil
from typing import Any

import pandas as pd

from labous.detect import Confirmation
from training.config import Settings, stage_main
from training.console import say
from training.files import write_text, written_beside
from training.prepared import read_backgrounds, read_prepared
from training.quality import BACKGROUND, of_background, of_rows
from training.report_examples import find_examples
from training.report_figures import curves_figure, species_figure, spectrograms_figure, training_figure
from training.report_page import page
from training.results import read_json, read_metrics, read_per_label
from training.rows import alarms, held_out, whole
from training.scores import Arrays, read_scores, write_scores
from training.stages import REPORT, run_stage
from training.tables import without_nan
from training.wheel import WheelUnavailable, hear, installed


def report(settings: Settings) -> None:
    """Hear by the wheel, and write the page.

    Raises:
        StageError: an earlier stage is missing, or the installed wheel cannot use the bundle.
    """
    place = settings.paths.report
    told, arrays_of_wheel = _wheel(settings)
    write_text(place / "wheel.json", json.dumps(without_nan(told), indent=1, sort_keys=True) + "\n")
    write_scores(place / "wheel.npz", arrays_of_wheel)
    metrics = read_metrics(settings.paths)
    validated, prepared = settings.paths.validate, settings.paths.prepared
    recordings, soundscapes, labels = read_prepared(prepared, settings.dataset.root)
    paths = dict(zip(recordings.recording_id, recordings.path, strict=True))
    paths |= dict(zip(soundscapes.recording_id, soundscapes.path, strict=True))
    arrays = read_scores(validated / "scores.npz")
    examples = find_examples(
        arrays, paths, list(labels.common_name), settings.frontend, settings.evaluate.overlap_seconds
    )
    per_label = read_per_label(validated / "per_label.csv")
    figures = {"training": training_figure(pd.read_csv(settings.paths.fit / "history.csv"))}
    if metrics["rows_of"] is not None:
        curves, reliability = (pd.read_csv(validated / f"{n}.csv") for n in ("precision_recall", "reliability"))
        figures |= {"species": species_figure(per_label), "curves": curves_figure(curves, reliability)}
    for name, shown in (
        ("pairs", examples.pairs),
        ("misses", examples.misses),
        ("false_alarms", examples.false_alarms),
    ):
        if shown:
            figures[name] = spectrograms_figure(shown, settings.frontend)
    images = {}
    shutil.rmtree(place / "plots", ignore_errors=True)
    for name, figure in figures.items():
        with written_beside(place / "plots" / f"{name}.png") as beside:
            # no software version in the file, so that the same run gives the same bytes
            figure.savefig(beside, dpi=110, bbox_inches="tight", metadata={"Software": None})
            images[name] = base64.b64encode(beside.read_bytes()).decode()
    tables = {
        "per_label": per_label,
        "engines": pd.read_csv(validated / "engines.csv"),
        "confusions": examples.confusions,
    }
    manifest, summary = read_json(settings.bundle.dir / "manifest.json"), read_json(prepared / "summary.json")
    write_text(place / "report.html", page(summary, metrics, manifest, tables, images))
    say(f"          {place / 'report.html'}")


def _wheel(settings: Settings) -> tuple[dict[str, Any], Arrays]:
    """The wheel's figures, or why there are none, under ``status``; and the rows' names and probabilities by kind."""
    told, root, prepared = settings.evaluate, settings.dataset.root, settings.paths.prepared
    if not told.wheel:
        return {"status": "not run: evaluate.wheel is false."}, {}
    recordings, soundscapes, labels = read_prepared(prepared, root)
    backgrounds = whole(read_backgrounds(prepared, root))
    asked = [table[table.split == "test"] for table in (recordings, soundscapes, backgrounds)]
    paths = list(dict.fromkeys(path for table in asked for path in table.path))
    if not paths:
        return {"status": "not run: nothing was held out."}, {}
    try:
        python = installed(settings.paths.wheel)
    except WheelUnavailable as error:
        say(f"          installed wheel not run: {error}", style="yellow")
        return {"status": f"not run: {error}"}, {}
    predictions = hear(python, settings.bundle.dir, told.wheel_precision, paths, told.overlap_seconds)
    heard = dict(zip(paths, predictions, strict=True))
    times = {path: (p.starts, p.ends) for path, p in heard.items()}
    codes, seconds = list(labels.ebird_code), settings.frontend.window_seconds
    detection = read_json(settings.bundle.dir / "manifest.json")["detection"]
    thresholds = pd.Series(detection["thresholds"]).loc[codes].to_numpy()
    found: dict[str, Any] = {}
    arrays: Arrays = {}
    for name, rows in held_out("test", recordings, soundscapes, backgrounds, times, codes, seconds).items():
        probabilities = {path: heard[path].probabilities for path in rows.paths}
        if name == BACKGROUND:
            counted = alarms(rows, probabilities, times, thresholds, Confirmation(**detection["confirmation"]))
            found[name] = of_background(counted, rows.groups, told.bootstrap)
        else:
            highest = rows.highest(probabilities)
            arrays |= {f"{name}/names": rows.names, f"{name}/probabilities": highest}
            found[name] = of_rows(rows, highest, thresholds, told.bootstrap)
    return {"status": "ok", "precision": told.wheel_precision, **found}, arrays


def run(settings: Settings) -> None:
    """The stage: :func:`report` unless its result is up to date."""
    run_stage(REPORT, settings, report)


main = stage_main(run)

if __name__ == "__main__":
    main()
