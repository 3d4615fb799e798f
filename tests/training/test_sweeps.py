"""Each job of a sweep has its own place, whoever launches it."""

import json
import subprocess
import sys

import pytest

from tests.whole.checkout import Checkout
from training.config import CONF_DIR
from training.sweeps import is_sweep, places


def placed(*words: str) -> dict[str, str]:
    return dict(place.split("=", 1) for place in places(words, CONF_DIR))


def test_what_is_varied_names_the_place_and_what_is_common_stays():
    found = placed("fit.seed=1,2", "model=small,medium", "fit.epochs=3")
    folder = "outputs/sweep/fit.seed=${fit.seed},model=${hydra:runtime.choices.model}"
    assert found == {
        "paths.fit": f"'{folder}/fit'",
        "paths.export": f"'{folder}/export'",
        "paths.validate": f"'{folder}/validate'",
        "bundle.dir": f"'{folder}/bundle'",
        "paths.report": f"'{folder}/report'",
    }


@pytest.mark.parametrize("word", ["frontend=mel64,mel128", "split.seed=1,2", "experiment=a,b", "split.fold=range(5)"])
def test_features_that_differ_have_their_own_place(word):
    assert {"paths.prepared", "paths.taught", "paths.fit"} <= set(placed(word))


def test_mixtures_of_another_teacher_have_their_own_place():
    assert "paths.taught" in placed("teacher.seed=1,2")
    assert "paths.prepared" not in placed("teacher.seed=1,2")


def test_a_place_that_is_given_is_kept():
    assert "paths.fit" not in placed("fit.seed=1,2", "paths.fit=here")


@pytest.mark.parametrize("words", [(), ("fit.seed=1",), ("augment.gain_db=[-3,3]",), ("-m", "--cfg", "job")])
def test_nothing_varied_needs_no_place(words):
    assert places(words, CONF_DIR) == []


def test_lists_are_values_and_not_sweeps():
    assert (
        placed("augment.gain_db=[-3,3],[0,0]")["paths.fit"] == "'outputs/sweep/augment.gain_db=${augment.gain_db}/fit'"
    )


def test_a_sweep_is_known_by_its_flag():
    assert is_sweep(["-m", "fit.seed=1,2"])
    assert not is_sweep(["fit.seed=1"])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "basic"])
def test_two_jobs_leave_two_results(tmp_path, launcher):
    checkout = Checkout(tmp_path / "checkout")
    for stage in ("prepare", "teach"):
        done = checkout.run(f"training.{stage}", "features.backend=wasm")
        assert done.returncode == 0, done.stderr
    jobs = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    small = ["fit.epochs=2", "fit.steps_per_epoch=2", "features.backend=wasm"]
    done = checkout.run("training.fit", "-m", "fit.seed=1,2", "augment.gain_db=[-3.0,3.0],[0.0,0.0]", *small, *jobs)
    assert done.returncode == 0, done.stdout + done.stderr
    found = sorted((checkout.place / "outputs/sweep").glob("*/fit/fit.json"))
    assert [path.parents[1].name for path in found] == [
        f"augment.gain_db={gain},fit.seed={seed}" for gain in ("[-3.0, 3.0]", "[0.0, 0.0]") for seed in (1, 2)
    ]
    assert len({json.loads(path.read_text())["model_sha256"] for path in found}) == 4
    assert not (checkout.place / "outputs/fit").exists()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], []])
def test_a_job_that_fails_is_told_in_a_sentence(tmp_path, launcher):
    done = subprocess.run(
        [sys.executable, "-m", "training.fit", "-m", "fit.seed=1,2", f"paths.prepared={tmp_path}", *launcher],
        capture_output=True,
        text=True,
        check=False,
        cwd=CONF_DIR.parent,
    )
    assert done.returncode == 1
    assert "labous: error: " in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
