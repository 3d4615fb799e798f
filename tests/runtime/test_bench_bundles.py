"""The table of bundles side by side, up to what is measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "runtime" / "bench" / "bench_bundles.py"
RESULTS = """experiment,engine,kind,macro_roc_auc,cmap,top1
common30,int8,recordings,0.9,0.6,0.5
common30,int8,recordings_10db,0.8,0.5,0.4
"""


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import bench_bundles

    return bench_bundles


def test_a_line_has_the_least_and_the_median_cost_and_a_dash_for_what_is_not_known(bench):
    known = bench.Row(
        "ours", [], [], 30, 0.136, 0.5, [3.0, 2.0, 4.0], [80.0], {"macro_roc_auc": 0.9, "cmap": 0.6, "top1": 0.5}
    )
    unknown = bench.Row("theirs", [], [], 6522, 51.7, None, [38.0], [175.0])
    head, rule, *lines = bench.table([known, unknown]).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "ours", "30", "0.14", "0.50", "2.0 (3.0)", "80", "0.900 / 0.600 / 0.500",
    ]  # fmt: skip
    assert [cell.strip() for cell in lines[1].strip("|").split("|")][3] == "–"
    assert lines[1].rstrip(" |").endswith("–")
    assert len({len(line) for line in (head, rule, *lines)}) == 1


def test_quality_is_that_of_the_folds_which_held_the_recordings_out(bench, tmp_path):
    (tmp_path / "results.csv").write_text(RESULTS)
    found = bench.held_out("common30", "int8", tmp_path / "results.csv")
    assert found == {"macro_roc_auc": 0.9, "cmap": 0.6, "top1": 0.5}
    for experiment, file in (("common30_plain", "results.csv"), ("common30", "nothing.csv")):
        with pytest.raises(bench.LabousError, match="run make experiments, or leave --held-out out"):
            bench.held_out(experiment, "int8", tmp_path / file)


def test_truth_is_the_first_label_and_the_others(bench, tmp_path):
    (tmp_path / "train_metadata.csv").write_text(
        "primary_label,secondary_labels,filename\neurrob1,['blutit'],a.ogg\nblutit,[],b.ogg\nnobody,[],c.ogg\n"
    )
    (tmp_path / "species.csv").write_text(
        "ebird_code,scientific_name\nblutit,Cyanistes caeruleus\neurrob1,Erithacus rubecula\n"
    )
    told = bench.Recordings(tmp_path, tmp_path / "species.csv")
    assert told.truth.tolist() == [[True, True], [True, False]]
    assert [path.name for path in told.paths] == ["a.ogg", "b.ogg"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing"], "'nothing' names nothing; write NAME=VALUE."),
        (["ours=/not/there"], "does not exist; give a bundle's directory or .zip."),
        (["ours=/not/there", "--recordings", "/not/there"], "/not/there/train_metadata.csv is not there"),
    ],
)
@pytest.mark.slow
def test_a_mistake_is_told_in_a_sentence(arguments, told):
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert told in done.stderr
