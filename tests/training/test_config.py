"""Every conf file composes and becomes typed settings; every mistake in one is told in a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from labous import Frontend
from labous.errors import LabousError
from tests.few import few
from training.config import CONF_DIR, compose

GROUPS = ("dataset", "frontend", "augment", "model", "fit", "export", "evaluate")
GIVEN = {
    name: ["dataset.root=."] for name in ("birdclef2021", "folder", "common30", "common30_plain", "common30_teacher")
}


def files(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in files(group)])
def test_every_conf_file_becomes_settings(group, name):
    settings = compose([f"{group}={name}", *GIVEN.get(name, [])])
    assert getattr(settings, group) is not None


@pytest.mark.parametrize("name", files("experiment"))
def test_every_experiment_becomes_settings(name):
    compose([f"experiment={name}", *GIVEN.get(name, [])])


def test_the_front_end_is_one_typed_object():
    settings = compose(["frontend.n_mels=40"])
    assert isinstance(settings.frontend, Frontend)
    assert settings.frontend.n_mels == 40


@pytest.mark.parametrize(
    ("override", "named"),
    few(
        [
            ("fit.epoks=3", "fit.epoks"),
            ("+fit.epoks=3", "fit.epoks"),
            ("dataset=nowhere", "nowhere"),
            ("frontend.n_mels=0", "n_mels"),
            ("frontend.n_fft=1000", "n_fft"),
            ("frontend.f_max=20000", "f_max"),
            ("+frontend.colour=blue", "frontend.colour"),
            ("features.backend=fft", "features.backend"),
            ("features.engine=cloud", "features.engine"),
            ("dask.timeout=0", "dask.timeout"),
            ("split.folds=1", "split.folds"),
            ("split={folds:5,fold:5}", "split.fold"),
            ("split.valid=-0.1", "split.valid"),
            ("split={valid:0.5,test:0.5}", "split.test"),
            ("augment.gain_db=[3,-3]", "augment.gain_db"),
            ("evaluate.threshold_grid=[0.5]", "evaluate.threshold_grid"),
            ("fit.epochs=0", "fit.epochs"),
            ("~model", "model"),
            ("+colour=blue", "colour"),
            ("fit.epochs=many", "fit"),
        ],
        6,
    ),
)
def test_a_mistake_is_named_in_one_sentence(override, named):
    with pytest.raises(LabousError) as caught:
        compose([override])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_that_must_be_given_is_asked_for():
    with pytest.raises(LabousError, match=r"dataset\.root"):
        compose(["dataset=birdclef2021"])


@pytest.mark.slow
def test_the_command_line_says_it_without_a_traceback():
    told = subprocess.run(
        [sys.executable, "-m", "training.prepare", "fit.epoks=3"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert told.returncode == 1
    assert told.stderr.startswith("labous: error: ")
    assert told.stderr.count("\n") == 1
    assert "Traceback" not in told.stdout + told.stderr
