"""``dvc repro`` gives the same bundle as ``python -m training.train``, and its metrics and plots can be shown."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.whole.checkout import Checkout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    checkout = Checkout(tmp_path_factory.mktemp("reproduced"))
    dvc(checkout, "repro")
    return checkout


def dvc(checkout, *words):
    # dvc.yaml says python: the one of this environment
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=checkout.place,
        text=True,
        capture_output=True,
        check=False,
        env=checkout.environment() | {"PATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_bundle_is_the_same(trained, reproduced):
    ours, theirs = trained.bundle(), reproduced.bundle()
    assert set(ours) == set(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_a_second_repro_does_nothing(reproduced):
    assert "Data and pipelines are up to date" in dvc(reproduced, "repro")


def test_metrics_can_be_shown(reproduced):
    shown = json.loads(dvc(reproduced, "metrics", "show", "--json"))
    data = shown[""]["data"]
    assert data["outputs/validate/metrics.json"]["data"]["int8"]["macro_roc_auc"] is not None
    assert "best_epoch" in data["outputs/fit/fit.json"]["data"]


def test_plots_can_be_shown(reproduced):
    dvc(reproduced, "plots", "show", "--out", "plots-page")
    page = (reproduced.place / "plots-page/index.html").read_text()
    for drawn in ("loss", "cmap", "average_precision_int8", "species.png"):
        assert drawn in page
