"""Experiments over folds: what is run, in which order, and what the table says of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from training import experiments
from training.errors import ConfigError, StageError
from training.scores import write_scores
from training.stages import ROOT

TABLE = ROOT / "data" / "species" / "common30.csv"
OVERRIDES = ["dataset.root=.", "evaluate.bootstrap_resamples=50"]


class Runs:
    """Stands for the stages: writes down what is asked for, and leaves scores where validate would."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.taught: set[str] = set()

    def __call__(self, module: str, overrides: list[str], title: str, threads: str | None = None) -> None:
        told = dict(word.split("=", 1) for word in overrides if "=" in word)
        self.asked.append((module.removeprefix("training."), f"{told['experiment']} {told['split.fold']}"))
        if "teacher.path" in told:
            self.taught.add(told["experiment"])
        place, fold = Path(told["paths.validate"]), int(told["split.fold"])
        if module == "training.validate":
            self._leave(place / "scores.npz", fold, ("int8", "float32"), right=fold == 0)
        if module == "training.teacher.peers":
            self._leave(place / "peers.npz", fold, ("birdnet",), right=True)

    def _leave(self, path: Path, fold: int, engines: tuple[str, ...], right: bool) -> None:
        truth = np.eye(2, dtype=bool)[[0, 1, 0, 1]]
        scores = np.where(truth == right, 0.9, 0.1).astype(np.float32)
        arrays = {
            "labels": np.array(["a", "b"]),
            "thresholds": np.array([0.5, 0.5]),
            "recordings/names": np.array([f"{fold}/{n}" for n in range(4)]),
            "recordings/groups": np.array([f"{fold}/{n}" for n in range(4)]),
            "recordings/truth": truth,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_scores(path, arrays | {f"recordings/probabilities/{engine}": scores for engine in engines})


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Runs:
    monkeypatch.chdir(tmp_path)
    found = Runs()
    monkeypatch.setattr(experiments, "_python", found)
    return found


@pytest.mark.slow
def test_what_is_told_of_the_teacher_is_for_those_that_have_one(runs):
    experiments.run(["common30", "common30_teacher"], 2, 1, [*OVERRIDES, "teacher.path=birdnet"])
    assert runs.taught == {"common30_teacher"}


def test_folds_are_pooled_into_a_row_an_engine(runs):
    table = experiments.run(["common30"], 2, 1, OVERRIDES)
    assert list(table.engine) == ["int8", "float32"] and set(table.kind) == {"recordings"}
    assert (table.rows == 8).all()
    # one fold all right, the other all wrong
    assert list(table.top1) == [0.5, 0.5]
    assert ((table.top1_low <= table.top1) & (table.top1 <= table.top1_high)).all()
    assert experiments.PLACE.joinpath("results.csv").exists()


def test_what_folds_share_is_made_before_any_is_trained(runs):
    experiments.run(["common30", "common30_plain"], 2, 2, OVERRIDES, peers=True)
    stages = [stage for stage, _ in runs.asked]
    first_fit = stages.index("fit")
    assert set(stages[:first_fit]) == {"prepare", "teach"} and "teach" not in stages[first_fit:]
    assert stages.count("validate") == 4
    # two jobs: which fold's is asked first is the threads' affair
    peers = sorted(run for stage, run in runs.asked if stage == "teacher.peers")
    assert peers == ["common30_plain 0", "common30_plain 1"]


def test_the_teacher_gets_rows_of_its_own(runs):
    table = experiments.run(["common30"], 2, 1, OVERRIDES, peers=True)
    teacher = table[table.experiment == experiments.PEERS]
    assert list(teacher.engine) == ["birdnet"] and list(teacher.cmap) == [1.0]


def test_the_table_is_printed(runs, capsys):
    experiments.main(["common30", "--folds", "2", *OVERRIDES, "evaluate.bootstrap_level=0.8"])
    printed = capsys.readouterr().out
    assert "common30" in printed and "int8" in printed and "0.500" in printed
    assert "80 %" in printed and "95 %" not in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["common31"], r"no experiment common31; conf/experiment has common30, "),
        (["common30", "fit.epoch=3"], r"no key fit\.epoch in conf/"),
        (["common30", "--folds", "1"], r"split\.folds is 1"),
    ],
)
def test_mistakes_are_told_before_anything_is_run(runs, capsys, arguments, said):
    with pytest.raises(SystemExit) as end:
        experiments.main([*arguments, "dataset.root=."])
    assert end.value.code == 1 and re.search(said, capsys.readouterr().err)
    assert runs.asked == []


@pytest.mark.slow
def test_a_run_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(StageError, match=r"^common30, fold 0: prepare: .*nowhere does not exist"):
        experiments.run(["common30"], 2, 1, [f"dataset.root={tmp_path / 'nowhere'}", f"dataset.species={TABLE}"])


def test_no_experiment_without_a_name(runs):
    with pytest.raises(ConfigError, match="name one of"):
        experiments.run([], 2, 1, OVERRIDES)
