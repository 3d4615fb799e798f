"""The page, the card and the examples, from figures made up here; the whole path makes real ones in tests/whole."""

import re

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.runtime import bundles
from training import summary, wheel
from training.model_card import licence_line, model_card
from training.report_examples import find_examples
from training.report_page import kind_name, kinds_in, page, quality_table
from training.results import read_per_label

FIGURES = dict.fromkeys(("macro_roc_auc", "cmap", "cmap5", "padded_cmap", "top1", "row_f1", "ece"), 0.8)
ENDS = {name: [0.7, 0.9] for name in FIGURES}
ALARMS = ("false_alarms_per_hour", "confirmed_false_alarms_per_hour")
KIND = FIGURES | {"rows": 60, "intervals": ENDS}
BACKGROUND = dict.fromkeys(ALARMS, 3.25) | {"rows": 9, "hours": 0.5, "intervals": {name: [1.0, 9.0] for name in ALARMS}}
ENGINE = {**KIND, "recordings": KIND, "recordings_10db": KIND, "recordings_0db": KIND, "background": BACKGROUND}
PARITY = dict.fromkeys(
    ("mel_decibels", *(f"{e}_{p}" for e in ("float32", "int8") for p in ("logit", "logit_median", "top1_equal"))), 1e-3
)
SHIFTS = {"median": 0.1, "percentile_95": 0.4, "flips": 0.02}
METRICS = {
    "rows_of": "recordings",
    "interval_level": 0.9,
    **dict.fromkeys(("keras", "float32", "int8"), ENGINE),
    "wheel": {"recordings": KIND, "background": BACKGROUND},
    "wheel_status": "ok",
    "parity": PARITY,
    "phase": {"windows": 9, "float32": SHIFTS, "int8": SHIFTS},
    "detection": {"smoothing": {"neighbor_weight": 0.2}, "confirmation": {"hits": 2, "windows": 3}},
}
NOTHING = METRICS | {
    "rows_of": None,
    **{e: dict.fromkeys(FIGURES) | {"rows": 0} for e in ("keras", "float32", "int8")},
    "parity": None,
    "phase": None,
    "wheel_status": "not run: nothing was held out.",
}
NOTHING.pop("wheel")
SUMMARY = {
    "dataset": "a <b>", "species": 4, "recordings": 3, "hours": 0.1, "skipped": 1, "synthetic": True,
    "recordings_by_split": {"test": 1, "train": 2},
}  # fmt: skip


def per_label(measured=True):
    table = pd.DataFrame(bundles.LABELS, columns=["ebird_code", "scientific_name", "common_name", "french_name"])
    values = dict.fromkeys(("average_precision_float32", "average_precision_int8", "ap_low_int8", "ap_high_int8",
                            "roc_auc_float32", "roc_auc_int8", "false_alarms_per_hour"),
                           0.5 if measured else np.nan)  # fmt: skip
    return table.assign(train_recordings=3, test_rows=2, threshold=0.4, calibration_offset=-0.1, **values)


TABLES = {
    "per_label": per_label(),
    "engines": pd.DataFrame(
        {"engine": ["litert"], "version": ["2"], "file": ["model.tflite"], "max_abs_difference": [1e-6],
         "max_abs_difference_to_litert": [0.0], "argmax_equal": [1.0], "status": ["ok"]}
    ),
    "confusions": pd.DataFrame([("Robin", "Wren <i>", 2)], columns=["species", "heard as", "rows"]),
}  # fmt: skip
IMAGES = dict.fromkeys(("training", "species", "curves", "pairs", "misses", "false_alarms"), "AAAA")


def test_the_page_stands_alone_and_takes_no_name_for_markup():
    shown = page(SUMMARY, METRICS, bundles.manifest(), TABLES, IMAGES)
    assert not re.search(r"(src|href)=[\"'](?!data:image/png;base64,|#)", shown)
    assert "url(" not in shown
    assert "a &lt;b&gt;" in shown
    assert "Wren &lt;i&gt;" in shown
    for part in ("installed wheel", "padded cmAP", "background at 10 dB", "false alarms per hour", "2 of 3 windows",
                 "90 % interval", "Synthetic", "Not for commercial use.", "95th percentile"):  # fmt: skip
        assert part in shown


def test_a_page_where_nothing_was_held_out():
    tables = TABLES | {"per_label": per_label(measured=False), "confusions": TABLES["confusions"].head(0)}
    shown = page(SUMMARY, NOTHING, bundles.manifest(), tables, {"training": "AAAA"})
    assert "not measured" in shown
    assert "nan" not in shown
    assert "threshold" in shown and not any(title in shown for title in ("AP int8", "AUC int8", "alarms / h"))


def test_the_closing_table_claims_no_figure_where_nothing_was_held_out(capsys):
    models = {name: {"parameters": 1234, "macs": 5678, "bytes": 910} for name in ("float32", "int8")}
    summary._figures(METRICS, models)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("Keras", "90 %, int8", "0.800", "1,234"))
    summary._figures(NOTHING, models)
    shown = capsys.readouterr().out
    assert "1,234" in shown and "nothing was held out" in shown
    assert not any(word in shown for word in ("Keras", "wheel  ", "%", "–", "cmAP"))


def test_the_table_has_every_kind_in_order_of_noise():
    assert kinds_in(METRICS) == ["recordings", "recordings_10db", "recordings_0db", "background"]
    assert kind_name("recordings_0db") == "recordings, background at 0 dB"
    table = quality_table(METRICS)
    assert list(table.columns[3:7]) == ["Keras", "TFLite float32", "TFLite int8", "installed wheel"]
    noisy = table[table["held-out"] == "recordings, background at 10 dB"]
    assert noisy["installed wheel"].isna().all()
    assert (noisy["TFLite int8"] == 0.8).all()


def test_the_card_tells_quality_licences_and_the_teacher():
    licences = pd.Series({"CC BY": 2, "": 1})
    card = model_card(bundles.manifest(), METRICS, per_label(), licences, 1)
    for part in ("CC BY: 2 recordings", "not stated: 1", "| cmAP | 0.800 | 0.800 | 0.800 | 0.700 to 0.900 |", "Owl 3",
                 "Not for commercial use.", "3.2 false alarms an hour", "| 10 dB | 0.800 |", "0.500 (0.50 to 0.50)",
                 "single window", "90 % interval", "the third digit"):  # fmt: skip
        assert part in card


def test_a_card_where_nothing_was_held_out_says_so():
    card = model_card(bundles.manifest() | {"teacher": None}, NOTHING, per_label(False), pd.Series({"CC0": 3}), 0)
    assert "Not measured: nothing was held out" in card
    assert "nan" not in card and "Held-out" not in card and "nobody has measured" in card
    assert "Teacher" not in card


def test_the_licence_line_is_short_and_names_the_teacher():
    licences = pd.Series({f"Licence {i} {'x' * 200}": i for i in range(20)})
    line = licence_line(licences, {"name": "Owl", "licence": "NC", "consequence": "…"})
    assert len(line) < 1000
    assert line.endswith("teacher Owl: NC")
    assert licence_line(pd.Series({"CC0": 3, "": 4}), None) == "recordings trained on: not stated (4), CC0 (3)"


def arrays_of(truth, scores, sources):
    return {
        "labels": np.array(["a", "b", "c"]),
        "thresholds": np.full(3, 0.5),
        "recordings/truth": np.array(truth, bool),
        "recordings/probabilities/int8": np.array(scores, np.float32),
        "recordings/starts": np.zeros((len(truth), 3)),
        "recordings/sources": np.array(sources),
        "recordings_10db/truth": np.ones((1, 3), bool),  # has no place in a recording
    }


def test_examples_are_the_worst(tmp_path):
    rng = np.random.default_rng(0)
    paths = {}
    for name in "wxyz":
        paths[name] = str(tmp_path / f"{name}.wav")
        soundfile.write(paths[name], 0.1 * rng.standard_normal(16_000), 16_000)
    truth = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]]
    scores = [[0.1, 0.9, 0.0], [0.4, 0.6, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 0.7]]
    found = find_examples(
        arrays_of(truth, scores, ["w", "x", "y", "z"]), paths, ["Ann", "Bob", "Cid"], bundles.FRONTEND, 0.0
    )
    assert found.confusions.to_numpy().tolist() == [["Ann", "Bob", 2]]
    assert [e.title for e in found.pairs] == ["Ann, heard as Bob 0.90\nw", "Bob 0.80\ny"]
    assert [e.title for e in found.misses] == ["Ann 0.10, needs 0.50; most like Bob 0.90\nw"]
    assert [e.title for e in found.false_alarms] == ["Bob 0.90; there: Ann\nw", "Cid 0.70; there: no bird\nz"]
    assert found.pairs[0].mel.shape == (bundles.FRONTEND.n_mels, bundles.FRONTEND.n_frames)


def test_no_rows_no_examples():
    arrays = {"labels": np.array(["a"]), "thresholds": np.array([0.5])}
    found = find_examples(arrays, {}, ["Ann"], bundles.FRONTEND, 0.0)
    assert found.confusions.empty
    assert found.pairs == found.misses == found.false_alarms == []


def test_per_label_keeps_codes_as_text(tmp_path):
    table = per_label()
    table.loc[0, ["ebird_code", "common_name"]] = ["01", "NA"]
    table.loc[0, "average_precision_int8"] = np.nan
    table.to_csv(tmp_path / "per_label.csv", index=False)
    read = read_per_label(tmp_path / "per_label.csv")
    assert read.ebird_code[0] == "01"
    assert read.common_name[0] == "NA"
    assert np.isnan(read.average_precision_int8[0])
    assert read.threshold.tolist() == [0.4] * 4


def test_a_wheel_that_cannot_be_installed_says_why_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(wheel, "build", lambda dist: dist / "labous-0-py3-none-any.whl")
    monkeypatch.setattr(wheel, "_EXTRAS", "litert")
    with pytest.raises(wheel.WheelUnavailable, match="cannot be installed"):
        wheel.installed(tmp_path / "env")
    assert not (tmp_path / "env").exists()
