"""The main job, end to end on a small demo: it ends with a bundle, skips, continues, and tells mistakes plainly."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pandas as pd
import pytest
import soundfile

import labous
from tests.whole.checkout import Checkout

pytestmark = pytest.mark.slow

STAGES = ("prepare", "fit", "export", "validate", "bundle", "report")


def test_it_ends_with_a_table_and_a_bundle(trained):
    told = trained.first_output
    for wanted in (
        "macro ROC-AUC",
        "cmAP",
        "top-1",
        "F1, row-wise",
        "Keras",
        "TFLite float32",
        "TFLite int8",
        "parameters",
        "MACs",
        "bytes",
        "parity",
        "species",
        "recordings",
        "hours",
        "outputs/bundle",
    ):
        assert wanted in told, f"the closing table does not show {wanted}"
    for engine in ("litert", "tflite_runtime", "tflite_micro", "onnxruntime", "tract"):
        assert engine in told
    assert "synthetic" in told


def test_the_bundle_loads_and_says_that_it_is_synthetic(trained, caplog):
    bundle = labous.load(trained.place / "outputs/bundle", precision="int8")
    assert "synthetic" in caplog.text
    assert [label.ebird_code for label in bundle.labels] == ["comcuc", "cowpig1", "gretit1"]
    recording = next((trained.place / "data/raw/demo/train_short_audio").rglob("*.ogg"))
    found = bundle.predict(recording)
    assert found.logits.shape == (len(found.starts), 3)


def test_splits_are_written_down_and_keep_recordists_together(trained):
    splits = pd.read_csv(trained.place / "data/prepared/splits.csv", keep_default_na=False)
    people = splits[splits.author != ""]
    assert set(people.split) == {"train", "valid", "test"}
    assert (people.groupby("author").split.nunique() == 1).all()
    assert set(splits[splits.author == ""].split) == {"valid", "test"}


def test_metrics_are_where_tools_look_for_them(trained):
    metrics = json.loads((trained.place / "outputs/bundle/metrics.json").read_text())
    for engine in ("keras", "float32", "int8"):
        assert {"macro_roc_auc", "cmap", "top1", "row_f1"} <= set(metrics[engine])
    wheel = json.loads((trained.place / "outputs/report/wheel.json").read_text())
    assert wheel["status"] == "ok"
    assert wheel["soundscapes"]["rows"] == metrics["int8"]["soundscapes"]["rows"]


def test_a_second_run_does_nothing(trained):
    before = trained.bundle()
    told = trained.train()
    for stage in STAGES:
        assert f"{stage:<9} up to date" in told
    assert trained.bundle() == before


def test_a_damaged_result_is_made_again(trained):
    before = trained.bundle()
    (trained.place / "outputs/bundle/labels.csv").write_text("damaged")
    told = trained.train()
    assert "validate  up to date" in told
    assert "bundle    …" in told
    assert trained.bundle() == before


def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(trained, checkout):
    shutil.copytree(trained.place / "data", checkout.place / "data", dirs_exist_ok=True)
    process = checkout.start("training.train")
    seen = ""
    for line in process.stdout:
        seen += line
        if "epoch   1" in line:
            break
    else:
        pytest.fail(seen + process.stderr.read())
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, seen + errors
    assert "Traceback" not in errors
    assert not (checkout.place / "outputs/bundle").exists()
    assert "continues after epoch" in checkout.train()
    assert checkout.bundle() == trained.bundle()


@pytest.mark.parametrize(("sign", "wait"), [("prepare", 0.0), ("prepare", 0.5), ("prepare", 2.0), ("validate", 0.3)])
def test_ctrl_c_in_a_terminal_reaches_every_process_and_leaves_no_traceback(trained, checkout, sign, wait):
    shutil.copytree(trained.place / "data/raw", checkout.place / "data/raw", dirs_exist_ok=True)
    process = checkout.start("training.train")
    for line in process.stdout:
        if line.startswith(sign):
            break
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "interrupted; the same command continues" in errors
    assert not (checkout.place / "outputs/bundle").exists()


def test_a_lost_or_damaged_feature_is_computed_again(trained, checkout):
    shutil.copytree(trained.place / "data", checkout.place / "data", dirs_exist_ok=True)
    lost, cut, *_ = sorted((checkout.place / "data/prepared/features").rglob("*.npy"))
    whole = [path.read_bytes() for path in (lost, cut)]
    lost.unlink()
    cut.write_bytes(whole[1][:-100])
    done = checkout.run("training.prepare")
    assert "prepare   …" in done.stdout, done.stdout + done.stderr
    assert [path.read_bytes() for path in (lost, cut)] == whole


def test_a_checkout_can_be_moved(trained, tmp_path):
    moved = tmp_path / "elsewhere é"
    shutil.copytree(trained.place, moved)
    shutil.rmtree(moved / "outputs/validate")
    (trained.place / "data").rename(trained.place / "hidden")
    try:
        done = Checkout.at(moved).run("training.train")
    finally:
        (trained.place / "hidden").rename(trained.place / "data")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fit       up to date" in done.stdout


def test_a_folder_per_label_with_labels_that_look_like_something_else(trained, checkout):
    root = checkout.place / "garden"
    for label, code in (("01", "comcuc"), ("NA", "cowpig1"), ("Mésange [bleue]", "gretit1")):
        shutil.copytree(trained.place / "data/raw/demo/train_short_audio" / code, root / label)
    (root / "01" / "phone.m4a").write_bytes(b"not for soundfile")
    done = checkout.run("training.train", "dataset=folder", f"dataset.root={root}", "experiment=quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    bundle = labous.load(checkout.place / "outputs/bundle")
    assert [label.ebird_code for label in bundle.labels] == ["01", "Mésange [bleue]", "NA"]
    card = (checkout.place / "outputs/bundle/MODEL_CARD.md").read_text()
    assert "| NA | *NA* |" in card
    assert "the recordist is not known" in card


def test_recordings_that_cannot_be_used_are_skipped_and_listed(trained, checkout):
    # as a data set of its own: the demo would make a damaged file again
    root = checkout.place / "recordings"
    shutil.copytree(trained.place / "data/raw/demo", root)
    audio = sorted((root / "train_short_audio").rglob("*.ogg"))
    truncated, silent, not_finite, absent = audio[0], audio[11], audio[12], audio[22]
    truncated.write_bytes(truncated.read_bytes()[:-2000])
    soundfile.write(silent, np.zeros(32_000 * 6, np.float32), 32_000)
    not_finite.unlink()
    soundfile.write(not_finite, np.full(32_000 * 6, np.nan, np.float32), 32_000, format="WAV", subtype="FLOAT")
    absent.unlink()
    scene = min((root / "train_soundscapes").iterdir())
    scene.write_bytes(scene.read_bytes()[:-2000])
    lines = (checkout.place / "data/species/demo.csv").read_text().splitlines()
    kept = [line for line in lines if line.split(",")[0] in ("ebird_code", "comcuc", "cowpig1", "gretit1")]
    assert len(kept) == 4
    (checkout.place / "three.csv").write_text("\n".join(kept) + "\n")
    done = checkout.run(
        "training.prepare",
        "~experiment",
        "dataset=birdclef2021",
        f"dataset.root={root}",
        "dataset.species=three.csv",
        "dataset.tiers=null",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 skipped" in done.stdout
    skipped = (checkout.place / "data/prepared/skipped.csv").read_text().splitlines()
    assert len(skipped) == 6
    for path, said in (
        (truncated, "cut short"),
        (silent, "silent"),
        (not_finite, "not finite"),
        (absent, "not on disk"),
    ):
        (line,) = [line for line in skipped if path.name in line]
        assert said in line
    prepared = pd.read_csv(checkout.place / "data/prepared/recordings.csv")
    assert len(prepared) == len(audio) - 4


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["experiment=common30", "dataset.root=nowhere"], "nowhere"),
        (["~experiment", "dataset=folder", "dataset.root=conf"], "conf"),
        (["split.test=1.5"], "split.test"),
        (["dataset.codes=[dodo1]"], "dodo1"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(checkout, overrides, said):
    done = checkout.run("training.train", *overrides)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (checkout.place / "outputs").exists()


def test_a_stage_out_of_turn_says_what_to_run_first(checkout):
    done = checkout.run("training.fit")
    assert done.returncode == 1
    assert "training.prepare" in done.stderr
    assert done.stderr.count("\n") == 1
