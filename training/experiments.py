"""Experiments: files of conf/experiment over the folds, pooled into the rows of the results table.

``python -m training.experiments NAME… [--folds K] [--jobs N] [KEY=VALUE…]`` runs the stages up to validate for each
name and fold, in places of their own below outputs/experiments, continues what was interrupted, and prints the table,
which is written to outputs/experiments/results.csv as well. ``--peers`` adds the teacher itself on the same recordings.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import os
import subprocess
import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from training.config import CONF_DIR, Settings, compose, told_in_a_sentence
from training.console import console, say
from training.errors import ConfigError, StageError
from training.files import written_beside
from training.scores import pooled
from training.teacher.settings import BirdNetTeacher

PLACE = Path("outputs/experiments")
PEERS = "teacher"
_PEERS_FILE = "peers.npz"
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


@dataclasses.dataclass(frozen=True)
class _Fold:
    """One run: a fold of an experiment.

    Attributes:
        title: as it is told.
        overrides: of conf/, which it is run with.
        settings: what they make.
    """

    title: str
    overrides: list[str]
    settings: Settings

    @classmethod
    def of(cls, name: str, fold: int, folds: int, overrides: Sequence[str]) -> _Fold:
        """Compose it.

        Raises:
            ConfigError: an override is wrong.
        """
        words = _overrides(name, fold, folds, overrides)
        return cls(f"{name}, fold {fold}", words, compose(words))

    def run(self, stages: Sequence[str], threads: str | None = None) -> None:
        """Run stages, one after the other.

        Raises:
            StageError: one failed.
        """
        for stage in stages:
            _python(f"training.{stage}", self.overrides, f"{self.title}: {stage}", threads)

    def hear_peers(self) -> None:
        """Let the teacher itself hear what was held out."""
        _python("training.teacher.peers", self.overrides, f"{self.title}: {PEERS}")


def run(names: Sequence[str], folds: int, jobs: int, overrides: Sequence[str], *, peers: bool = False) -> pd.DataFrame:
    """Run what has not been run, and pool the folds.

    Returns:
        A row per experiment, engine and condition: experiment, engine, kind, rows, each metric with the ends of its
        interval, and interval_level.

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
    told = {name: _meant_for(name, overrides) for name in names}
    # all of them first, so that what is wrong is told before anything is run
    runs = {name: [_Fold.of(name, fold, folds, told[name]) for fold in range(folds)] for name in names}
    every = [fold for name in names for fold in runs[name]]
    for fold in every:  # one after another: folds share what the teacher says, and each uses all cores for it
        fold.run(("prepare", "teach"))
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda fold: fold.run(("fit", "export", "validate"), threads), every))
        if peers:
            list(pool.map(_Fold.hear_peers, runs[names[-1]]))
    rows = [row for name in names for row in _rows(name, runs[name], "scores.npz")]
    if peers:
        rows += _rows(PEERS, runs[names[-1]], _PEERS_FILE)
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


def _rows(name: str, runs: Sequence[_Fold], file: str) -> list[dict[str, Any]]:
    bootstrap = runs[0].settings.evaluate.bootstrap
    found = pooled([run.settings.paths.validate / file for run in runs], bootstrap)
    rows = []
    for engine, kinds in found.items():
        if engine not in _ENGINES:
            continue
        for kind, metrics in kinds.items():
            row = {"experiment": name, "engine": engine, "kind": kind, "rows": metrics["rows"]}
            for metric in _METRICS:
                low, high = metrics["intervals"][metric]
                row |= {metric: metrics[metric], f"{metric}_low": low, f"{metric}_high": high}
            rows.append(row | {"interval_level": bootstrap.level})
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
        level = f"  {100 * rows.interval_level.iloc[0]:g} %"
        shown.add_row("", level, *(interval for _, interval in values), style="dim")
    console.print(shown)


def _cell(row: Mapping[Hashable, Any] | None) -> tuple[str, str]:
    if row is None:
        return "–", ""
    values = [f"{row[metric]:.3f}" for metric in _METRICS]
    ends = [f"{row[f'{metric}_low']:.2f}–{row[f'{metric}_high']:.2f}" for metric in _METRICS]
    return " / ".join(values), " / ".join(ends)


if __name__ == "__main__":
    main()
