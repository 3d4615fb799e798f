"""Detections as text, read back by other readers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labous.detect import Detection, best, sigmoid
from labous.errors import LabousError
from labous.formats import FORMATS, printable, replacing
from tests.runtime.bundles import FRONTEND, LABELS

PLAIN = "a/garden.wav"
HOSTILE = 'x\t"y"\n\x1b[31m,\r;\u2028'
DETECTIONS = [
    Detection(PLAIN, 0.0, 5.0, *LABELS[3], score=0.87654321),
    Detection(PLAIN, 5.0, 10.0, *LABELS[1], score=0.5),
]


def written(name: str, detections: Sequence[Detection], recording: str = PLAIN) -> str:
    out = io.StringIO(newline="")
    writer = FORMATS[name](out, FRONTEND)
    writer.begin()
    writer.write(recording, detections)
    return out.getvalue()


def test_jsonl_round_trip() -> None:
    rows = [json.loads(line) for line in written("jsonl", DETECTIONS).splitlines()]
    assert [Detection(**row) for row in rows] == [
        Detection(PLAIN, 0.0, 5.0, *LABELS[3], score=0.876543),
        DETECTIONS[1],
    ]


def test_csv_round_trip() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", DETECTIONS), newline="")))
    assert rows[0]["french_name"] == "Goéland argenté"
    assert [(r["recording"], float(r["start"]), float(r["end"]), float(r["score"])) for r in rows] == [
        (PLAIN, 0.0, 5.0, 0.876543),
        (PLAIN, 5.0, 10.0, 0.5),
    ]


@pytest.mark.parametrize("name", ["jsonl", "csv"])
@given(text=st.text())
def test_any_recording_name_stays_one_field(name: str, text: str) -> None:
    out = written(name, [Detection(text, 0.0, 1.0, *LABELS[0], score=0.5)])
    if name == "jsonl":
        assert json.loads(out)["recording"] == text
        assert out.count("\n") == 1
    else:
        rows = list(csv.reader(io.StringIO(out, newline="")))
        assert rows[1][0] == printable(text)


def test_raven_selection_table() -> None:
    header, *rows = [line.split("\t") for line in written("raven", DETECTIONS).splitlines()]
    assert header[:7] == [
        "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
    ]  # fmt: skip
    assert [len(row) for row in rows] == [len(header)] * 2
    second = dict(zip(header, rows[1], strict=True))
    assert second["Selection"] == "2"
    assert second["Begin Time (s)"] == "5.000"
    assert second["High Freq (Hz)"] == "7900"
    assert second["Species Code"] == "comcuc"
    assert second["Confidence"] == "0.5000"


def test_audacity_labels() -> None:
    assert written("audacity", DETECTIONS).splitlines() == [
        "0.000000\t5.000000\tEuropean Herring Gull 0.88",
        "5.000000\t10.000000\tCommon Cuckoo 0.50",
    ]


@pytest.mark.fault("labels with control characters", "each line whole, none reaches a terminal")
@pytest.mark.parametrize("name", FORMATS)
def test_no_control_character_breaks_a_line_or_reaches_a_terminal(name: str) -> None:
    hostile = [Detection(HOSTILE, 0.0, 1.0, HOSTILE, HOSTILE, HOSTILE, HOSTILE, score=0.5)]
    out = written(name, hostile, HOSTILE)
    assert set(filter(lambda c: not c.isprintable(), out)) <= {"\n", "\t"}
    assert len(out.splitlines()) == out.count("\n")
    if name in ("raven", "audacity"):
        lines = out.splitlines()
        assert len(lines) == (2 if name == "raven" else 1)
        assert lines[-1].count("\t") == (11 if name == "raven" else 2)


def test_the_table_says_when_there_is_nothing() -> None:
    assert "nothing above the thresholds" in written("table", [])
    table = written("table", DETECTIONS).splitlines()
    assert table[0] == PLAIN
    assert len({len(line) for line in table[1:]}) == 1


def test_printable() -> None:
    assert printable("Goéland, 鳥") == "Goéland, 鳥"
    assert printable("a\n\x1b\udcff") == r"a\n\x1b\udcff"


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new/out.csv"
    with replacing(path) as out:
        out.write("good\n\udcff")
        assert not path.exists()
    assert path.read_bytes() == b"good\n\\udcff"

    def fail() -> None:
        with replacing(path) as out:
            out.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"good\n\\udcff"
    assert [p.name for p in path.parent.iterdir()] == ["out.csv"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabousError, match="Cannot write"), replacing(tmp_path / "file/out.csv"):
        pass


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20))
def test_sigmoid(logits: list[float]) -> None:
    found = sigmoid(np.array(logits, np.float32))
    assert found.dtype == np.float32
    exact = 1 / (1 + np.exp(-np.clip(np.array(logits, np.float64), -700, 700)))
    np.testing.assert_allclose(found, exact, rtol=2e-5, atol=1e-37)


def test_probabilities_are_independent_of_each_other() -> None:
    logits = np.array([[0, 100, -100]], np.float32)
    np.testing.assert_allclose(sigmoid(logits), [[0.5, 1, 3.783506e-44]], rtol=0.1)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=8), st.integers(1, 5))
def test_the_best_are_above_their_threshold_and_sorted(scores: list[float], top_n: int) -> None:
    probabilities = np.array(scores, np.float32)
    thresholds = np.linspace(0.1, 0.9, len(scores), dtype=np.float32)
    chosen = best(probabilities, thresholds, top_n)
    passing = [i for i in range(len(scores)) if probabilities[i] >= thresholds[i]]
    assert len(chosen) == min(top_n, len(passing))
    assert set(chosen) <= set(passing)
    assert list(probabilities[chosen]) == sorted(probabilities[passing], reverse=True)[: len(chosen)]
