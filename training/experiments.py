"""Experiments: files of conf/experiment over the folds, pooled into the rows of the results table.

``python -m training.experiments NAME… [--folds K] [--jobs N] [KEY=VALUE…]`` runs the stages up to validate for each
name and fold, in places of their own below outputs/experiments, continues what was interrupted, and prints the table,
which is written to outputs/experiments/results.csv as well. ``--peers`` adds the teacher itself on the same recordings.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import subprocess
import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from training.config import CONF_DIR, compose, told_in_a_sentence
from training.console import console, say
from training.errors import ConfigError, StageError
from training.files import written_beside
from training.scores import pooled
from training.teacher.settings import BirdNetTeacher

PLACE = Path("outputs/experiments")
PEERS = "teacher"
_ENGINES = {"float32": "float32", "int8": "int8", "birdnet": "BirdNET", "logistic_regression": "regression"}
_METRICS = {"macro_roc_auc": "macro ROC-AUC", "cmap": "cmAP", "top1": "top-1"}
_LAST_LINES = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.experiments", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME | KEY=VALUE", help="a file of conf/experiment; or overrides")
    parser.add_argument("--folds", type=int, default=5, help="of a grouped cross-validation (default: 5)")
    parser.add_argument("--jobs", type=int, default=1, help="folds that run at once, each in a process (default: 1)")
    parser.add_argument("--peers", action="store_true", help="add the teacher itself, on the same recordings")
    told = parser.parse_intermixed_args(arguments)  # options may stand between names
    with told_in_a_sentence():
        overrides = [word for word in told.names if "=" in word]
        names = [word for word in told.names if "=" not in word]
        table = run(names, told.folds, told.jobs, overrides, peers=told.peers)
        show(table)


def run(names: Sequence[str], folds: int, jobs: int, overrides: Sequence[str], *, peers: bool = False) -> pd.DataFrame:
    """Run what has not been run, and pool the folds.

    Returns:
        A row per experiment, engine and condition: experiment, engine, kind, rows, and each metric with the ends of its
        95 % interval.

    Raises:
        ConfigError: there is no such experiment, or an override is wrong.
        StageError: a run failed.
    """
    known = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
    if not names:
        raise ConfigError(f"Which experiment? name one of {', '.join(known)}.")
    for name in names:
        if name not in known:
            raise ConfigError(f"There is no experiment {name}; conf/experiment has {', '.join(known)}.")
    work = [(name, fold) for name in names for fold in range(folds)]
    told = {name: _meant_for(name, overrides) for name in names}
    for name, fold in work:
        compose(_overrides(name, fold, folds, told[name]))  # what is wrong is told before anything is run
    for name, fold in work:  # one after another: folds share what the teacher says, and each uses all cores for it
        _stages(("prepare", "teach"), name, fold, folds, told[name])
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(
            pool.map(
                lambda job: _stages(("fit", "export", "validate"), job[0], job[1], folds, told[job[0]], threads), work
            )
        )
        if peers:
            list(pool.map(lambda fold: _peers(names[-1], fold, folds, told[names[-1]]), range(folds)))
    rows = [row for name in names for row in _rows(name, folds, told[name], "scores.npz")]
    if peers:
        rows += _rows(names[-1], folds, told[names[-1]], "peers.npz", title=PEERS)
    table = pd.DataFrame(rows)
    with written_beside(PLACE / "results.csv") as beside:
        table.to_csv(beside, index=False, float_format="%.4f")
    return table


def _meant_for(name: str, overrides: Sequence[str]) -> list[str]:
    """Those of the overrides that an experiment can be told: what is of a teacher, only where it has one."""
    others = [word for word in overrides if not word.startswith("teacher.")]
    taught = isinstance(compose([f"experiment={name}", *others]).teacher, BirdNetTeacher)
    return list(overrides) if taught else others


def _overrides(name: str, fold: int, folds: int, overrides: Sequence[str]) -> list[str]:
    place = PLACE / name / f"fold{fold}"
    places = [f"paths.{part}={place / part}" for part in ("prepared", "fit", "export", "validate", "report")]
    return [
        f"experiment={name}",
        f"split.folds={folds}",
        f"split.fold={fold}",
        f"fit.seed={fold + 1}",
        *places,
        f"paths.taught={PLACE / name / 'taught'}",  # shared by folds, not with experiments without a teacher
        f"bundle.dir={place / 'bundle'}",
        "evaluate.wheel=false",
        *overrides,
    ]


def _stages(
    stages: Sequence[str], name: str, fold: int, folds: int, overrides: Sequence[str], threads: str | None = None
) -> None:
    for stage in stages:
        title = f"{name}, fold {fold}: {stage}"
        _python(f"training.{stage}", _overrides(name, fold, folds, overrides), title, threads)


def _peers(name: str, fold: int, folds: int, overrides: Sequence[str]) -> None:
    if not (PLACE / name / f"fold{fold}" / "validate" / "peers.npz").exists():
        _python("training.teacher.peers", _overrides(name, fold, folds, overrides), f"{PEERS}, fold {fold}")


def _python(module: str, overrides: list[str], title: str, threads: str | None = None) -> None:
    say(f"{title} …")
    few = {} if threads is None else {"TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-m", module, *overrides]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env={**os.environ, **few}
    )
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-_LAST_LINES:]).removeprefix("labous: error: ")
        raise StageError(f"{title}: {last or f'exit status {done.returncode}'}")


def _rows(name: str, folds: int, overrides: Sequence[str], file: str, title: str | None = None) -> list[dict[str, Any]]:
    settings = [compose(_overrides(name, fold, folds, overrides)) for fold in range(folds)]
    found = pooled([s.paths.validate / file for s in settings], settings[0].evaluate.bootstrap)
    rows = []
    for engine, kinds in found.items():
        if engine not in _ENGINES:
            continue
        for kind, metrics in kinds.items():
            row = {"experiment": title or name, "engine": engine, "kind": kind, "rows": metrics["rows"]}
            for metric in _METRICS:
                low, high = metrics["intervals"][metric]
                row |= {metric: metrics[metric], f"{metric}_low": low, f"{metric}_high": high}
            rows.append(row)
    return rows


def show(table: pd.DataFrame) -> None:
    """Print the table: a line per experiment and engine, a column per condition."""
    kinds = list(dict.fromkeys(table.kind))
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=" / ".join(_METRICS.values()), title_justify="left")
    for column in ("experiment", "engine", *(kind.replace("recordings_", "").replace("db", " dB") for kind in kinds)):
        shown.add_column(column)
    pairs = table[["experiment", "engine"]].drop_duplicates()
    for name, engine in zip(pairs.experiment, pairs.engine, strict=True):
        rows = table[(table.experiment == name) & (table.engine == engine)]
        cells = {row["kind"]: row for row in rows.to_dict("records")}
        values = [_cell(cells.get(kind)) for kind in kinds]
        shown.add_row(str(name), _ENGINES[str(engine)], *(value for value, _ in values))
        shown.add_row("", "  95 %", *(interval for _, interval in values), style="dim")
    console.print(shown)


def _cell(row: Mapping[Hashable, Any] | None) -> tuple[str, str]:
    if row is None:
        return "–", ""
    values = [f"{row[metric]:.3f}" for metric in _METRICS]
    ends = [f"{row[f'{metric}_low']:.2f}–{row[f'{metric}_high']:.2f}" for metric in _METRICS]
    return " / ".join(values), " / ".join(ends)


if __name__ == "__main__":
    main()
