"""Weekly occurrence: what eBird's bar charts tell reaches the station's confirm node, and no mistake gets that far."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labous.detect import Label
from labous.nodes.confirm import Confirm
from labous.station.occurrence import FILE, WEEKS, Occurrence
from tests.runtime import bundles
from tests.station import middle
from tests.training.export_fixtures import edited
from training import bundle, train
from training.config import Settings, compose
from training.errors import ConfigError
from training.metrics import NAMES
from training.model_card import licence_line, model_card
from training.occurrence import BarChart, Source, read_all, read_bar_chart, rows_of, sources, table, weekly
from training.stages import EXPORT, FIT, PREPARE, ROOT, TEACH, VALIDATE, Stage, run_stage

LABELS = tuple(Label(*row) for row in bundles.LABELS)
BREST = (48.4, -4.5)
MANY = [200.0] * WEEKS
SUMMER = [0.0] * 16 + [0.25] * 16 + [0.0] * 16  # May to August
ALWAYS = [0.5] * WEEKS
INTRODUCTION = "\n\n\nFrequency of observations in the selected location(s).:\nNumber of taxa: \t{}\n\n"
MONTHS = "\t" + "".join(
    f"{name}\t\t\t\t"
    for name in ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
)  # fmt: skip


def italic(common: str, scientific: str) -> str:
    return f'{common} (<em class="sci">{scientific}</em>)'


def bar_chart(*rows: tuple[str, list[float]], checklists: list[float] = MANY, end: str = "\t\n\n") -> bytes:
    """A file as eBird writes it: a tab at the end of each line, and an empty line behind it."""
    lines = [MONTHS, *(f"{name}\t" + "\t".join(map(str, weeks)) for name, weeks in rows)]
    lines.insert(1, "Sample Size:\t" + "\t".join(map(str, checklists)))
    return (INTRODUCTION.format(len(rows)) + end.join(lines) + end).encode()


BRITTANY = bar_chart(
    ("duck sp.", ALWAYS),
    (italic("Common Cuckoo", "Cuculus canorus"), SUMMER),
    (italic("European Herring Gull", "Larus argentatus"), ALWAYS),
    (italic("European Robin", "Erithacus rubecula"), ALWAYS),
)


def read(content: bytes, least: int = 1) -> BarChart:
    return read_bar_chart(content, "chart.txt", least)


def test_a_file_as_ebird_writes_it():
    chart = read(BRITTANY)
    assert chart.checklists.tolist() == MANY
    assert chart.names[:2] == (("duck sp.", ""), ("Common Cuckoo", "Cuculus canorus"))
    assert chart.frequency.tolist() == [ALWAYS, SUMMER, ALWAYS, ALWAYS]
    assert chart.frequency.dtype == chart.checklists.dtype == np.float64


@pytest.mark.parametrize(
    "changed",
    [
        BRITTANY.replace(b"\t\n\n", b"\n"),
        BRITTANY.replace(b"\t\n\n", b"\t\t\t\n"),
        BRITTANY.replace(b"\n", b"\r\n"),
        BRITTANY.replace(b"\n", b"\r"),
        BRITTANY.strip(),
        BRITTANY.replace(b"Sample Size:", b" SAMPLE SIZE"),
        BRITTANY.replace(b"\t0.5", b"\t 5.0E-1 ").replace(b"\t0.0\t", b"\t0\t"),
        BRITTANY.replace(b"Common Cuckoo (", b"Common\xc2\xa0 Cuckoo ( "),
        BRITTANY.replace(b'Common Cuckoo (<em class="sci">Cuculus canorus</em>)',
                         b'"Common Cuckoo (<em class=""sci"">Cuculus canorus</em>)"'),
        b"\xef\xbb\xbf" + BRITTANY[BRITTANY.index(b"Sample") :],
    ],
    ids=["no tab", "many tabs", "CRLF", "CR", "stripped", "Sample Size", "numbers", "blanks", "quoted", "BOM"],
)  # fmt: skip
def test_other_ways_to_write_the_same(changed):
    assert changed != BRITTANY
    chart, expected = read(changed), read(BRITTANY)
    assert chart.names == expected.names
    np.testing.assert_array_equal(chart.frequency, expected.frequency)
    np.testing.assert_array_equal(chart.checklists, expected.checklists)


def test_where_nobody_looked_a_frequency_may_be_missing():
    nobody = [0.0, *MANY[1:]]
    for cell in ("", "NaN"):
        row = bar_chart((italic("Robin", "Erithacus rubecula"), [cell, *ALWAYS[1:]]), checklists=nobody)
        assert read(row).frequency[0, 0] == 0
        with pytest.raises(ConfigError, match="frequency of 0 to 1"):
            read(bar_chart(("Robin", [cell, *ALWAYS[1:]])))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no bar chart of eBird's"),
        (b"ebird_code,latitude\neurrob1,48\n", "no bar chart of eBird's"),
        (BRITTANY.decode().encode("utf-16"), "not UTF-8 text"),
        (BRITTANY.replace(b"Common Cuckoo", b"Coucou \xe9"), "not UTF-8 text"),
        (BRITTANY.replace(b"duck", b"d" * 200_000), "not UTF-8 text with tabs .*field"),
        (bar_chart(), "tells of no species"),
        (bar_chart(("Robin", ALWAYS[1:]), end="\n"), r"line 9 \('Robin'\) has 47 numbers, not 48"),
        (bar_chart(("Robin", [*ALWAYS, 0.5])), r"\('Robin'\) has 49 numbers"),
        (bar_chart(("Robin", [])), r"\('Robin'\) has \d numbers"),
        (bar_chart(("", ALWAYS)), "line 11 names no species"),
        (bar_chart(("Robin", [*ALWAYS[1:], 1.01])), "has '1.01' where a frequency"),
        (bar_chart(("Robin", [*ALWAYS[1:], -0.1])), "has '-0.1' where a frequency"),
        (bar_chart(("Robin", [*ALWAYS[1:], "1_0"])), "has '1_0' where a frequency"),
        (bar_chart(("Robin", [*ALWAYS[1:], "nan"])), "has 'nan' where a frequency"),
        (bar_chart(("Robin", [*ALWAYS[1:], "\x1b[31m"])), r"has '\\x1b\[31m' where"),
        (bar_chart(("Robin", ALWAYS), checklists=[*MANY[1:], 1.5]), "has '1.5' where a number of checklists"),
        (bar_chart(("Robin", ALWAYS), checklists=[*MANY[1:], -1]), "has '-1' where a number of checklists"),
        (bar_chart(("Robin", ALWAYS), checklists=[*MANY[1:], "1e999"]), "has '1e999' where a number of checklists"),
        (bar_chart(("Robin", ALWAYS), checklists=[*MANY[1:], "nan"]), "has 'nan' where a number of checklists"),
        (bar_chart(("Robin", ALWAYS), checklists=MANY[1:], end="\n"), r"\('Sample Size:'\) has 47 numbers"),
        (bar_chart(("Robin", ALWAYS), checklists=[0.0] * 47 + [9.0]), r"9 checklists in all, fewer than .* \(10\)"),
        (BRITTANY + BRITTANY[BRITTANY.index(b"Sample") :], "second 'Sample Size:'"),
        (BRITTANY.replace(b"\tJan\t", b"\tJun\t").replace(b"\tDec\t", b"\tJan\t"), "begins the year with 'Jun'"),
        (BRITTANY[: BRITTANY.index(b"Robin") + 60], r"line 17 .* has \d numbers"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_told_in_a_sentence(content, told):
    with pytest.raises(ConfigError, match=told) as caught:
        read(content, least=10)
    assert str(caught.value).startswith("chart.txt")
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith((".", "larger region."))


JUNK = st.one_of(
    st.binary(max_size=400),
    st.text(max_size=400).map(lambda text: text.encode("utf-8", "surrogatepass")),
    # a good file, damaged: some bytes of it replaced, or a part left out
    st.builds(
        lambda start, length, other: BRITTANY[:start] + other + BRITTANY[start + length :],
        st.integers(0, len(BRITTANY)), st.integers(0, 300), st.binary(max_size=12),
    ),
    st.lists(
        st.tuples(
            st.text(max_size=20),
            st.lists(st.sampled_from(["0.0", "1", ".5", "", "NaN", "2", "x", '"', "1e-400"]), min_size=46, max_size=50),
        ),
        max_size=4,
    ).map(lambda rows: "\n".join("\t".join(["Sample Size:" if n == 0 else name, *cells])
                                 for n, (name, cells) in enumerate(rows)).encode("utf-8", "replace")),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(JUNK, st.integers(1, 10_000))
@example(BRITTANY, 200 * WEEKS)
@example(b'Sample Size:"\x00', 1)
def test_whatever_a_file_holds_it_is_read_or_refused(content, least):
    try:
        chart = read(content, least)
        rows_of(LABELS, chart.names, "chart.txt")
    except ConfigError as error:
        assert str(error).isprintable()
        return
    frequency = weekly(chart, least)
    assert frequency.shape == (len(chart.names), WEEKS)
    assert ((frequency >= chart.frequency) & (frequency <= 1 + 1e-12)).all()


def chart_of(checklists: list[float], *frequency: list[float]) -> BarChart:
    return BarChart(np.array(checklists), (("", ""),) * len(frequency), np.array(frequency))


def test_weeks_with_enough_checklists_stand_alone():
    assert weekly(chart_of(MANY, SUMMER, ALWAYS), 200).tolist() == [SUMMER, ALWAYS]


def test_a_week_with_few_checklists_leans_on_as_many_around_it_as_it_takes():
    checklists = [100.0] * 48
    checklists[10] = 4.0
    checklists[46:] = checklists[:2] = [3.0] * 2
    frequency = [0.0] * 48
    frequency[9], frequency[11], frequency[2] = 0.2, 0.1, 0.4
    found = weekly(chart_of(checklists, frequency), 100)[0]
    assert found[10] == pytest.approx((100 * 0.2 + 100 * 0.1) / 204)
    assert found[9] == 0.2  # with enough of its own
    assert found[8] == found[12] == 0
    # around the turn of the year: weeks 46, 47, 0, 1 have 12 together, 45 and 2 a hundred each
    assert found[1] == pytest.approx(40 / (3 + 3 + 100))
    assert found[0] == pytest.approx(40 / (3 + 3 + 3 + 3 + 100))
    assert found[46] == 0
    assert found[47] == pytest.approx(0.0)


def test_a_sighting_counts_however_few_looked_and_however_many_did_not_beside():
    checklists, frequency = [10_000.0] * 48, [0.0] * 48
    checklists[20], frequency[20] = 5.0, 0.2
    checklists[30], frequency[30] = 0.0, 0.0015  # eBird tells so of birds on incomplete checklists only
    found = weekly(chart_of(checklists, frequency), 100)[0]
    assert (found[20], found[30]) == (0.2, 0.0015)
    assert found[[19, 21, 29, 31]].tolist() == [0] * 4


def test_all_of_the_year_where_it_takes_that():
    checklists = [0.0] * 48
    checklists[3], checklists[30] = 60.0, 40.0
    found = weekly(chart_of(checklists, [0.5] * 4 + [0.0] * 44), 100)[0]
    assert found[17] == found[47] == pytest.approx(0.3)
    assert found[3] == 0.5


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=48, max_size=48).filter(any),
    st.lists(st.floats(0, 1), min_size=48, max_size=48),
    st.integers(0, 47),
    st.data(),
)
def test_the_turn_of_the_year_is_like_any_other(checklists, frequency, turn, data):
    least = data.draw(st.integers(1, sum(checklists)))
    plain = weekly(chart_of(checklists, frequency), least)
    turned = weekly(chart_of(list(np.roll(checklists, turn)), list(np.roll(frequency, turn))), least)
    np.testing.assert_allclose(np.roll(plain, turn), turned, atol=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        italic("European Robin", "Erithacus rubecula"),
        italic("Something Else", "ERITHACUS RUBECULA"),
        italic("European Robin", "Newgenus rubecula"),
        "Rougegorge familier",
        "european robin",
        "Robin (Erithacus rubecula)",
        "<em>Erithacus rubecula</em>",
        "European&nbsp;Robin",
    ],
)
def test_a_species_by_any_of_its_names(name):
    assert rows_of(LABELS, read(bar_chart((name, ALWAYS))).names, "chart.txt") == [0, None, None, None]


@pytest.mark.parametrize(
    "name",
    [
        "duck sp.",
        italic("robin sp.", "Erithacus sp."),
        italic("European/Other Robin", "Erithacus rubecula/alia"),
        italic("European x Other Robin (hybrid)", "Erithacus rubecula x alia"),
        italic("European Robin (Domestic type)", "Erithacus rubecula (Domestic type)"),
        italic("European Robin (Canary Is.)", "Erithacus rubecula [superbus Group]"),
        "European Robin (Domestic type)",
        "European Robin (hybrid)",
        "(<em></em>)",
    ],
)
def test_what_is_no_species_is_nobodys(name):
    chart = read(bar_chart((name, ALWAYS)))
    nameless = Label("other1", "", "", "")
    assert rows_of((*LABELS, nameless), chart.names, "chart.txt") == [None] * 5


def test_the_scientific_name_goes_before_the_common_one():
    labels = (
        Label("hergul", "Larus argentatus", "Herring Gull", ""),
        Label("amhgul", "Larus smithsonianus", "American Gull", ""),
    )
    names = (("Herring Gull", "Larus smithsonianus"), ("European Herring Gull", "Larus argentatus"))
    assert rows_of(labels, names, "chart.txt") == [1, 0]
    assert rows_of(labels, names[:1], "chart.txt") == [None, 0]  # a row is one label's
    twice = (("Herring Gull", ""), ("Herring Gull", "Larus novus"))
    with pytest.raises(ConfigError, match=r"chart\.txt tells of Herring Gull 2 times"):
        rows_of(labels, twice, "chart.txt")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_the_table_is_what_a_station_reads(tmp_path):
    robins = bar_chart((italic("Robin", "Erithacus rubecula"), [1 / 3] * 48))
    given = (
        Source(write(tmp_path / "brittany.txt", BRITTANY), *BREST),
        Source(write(tmp_path / "islands.txt", robins), 49.5, -2.5),
    )
    content, told = table(given, LABELS, 100)
    near, far = (Occurrence.read(content, LABELS, place) for place in (BREST, (49.5, -2.0)))
    codes = [label.ebird_code for label in LABELS]
    expected = dict(zip(codes, (ALWAYS, SUMMER, [1.0] * 48, ALWAYS), strict=True))
    for n, code in enumerate(codes):
        np.testing.assert_allclose(near.frequency[:, n], expected[code])
    np.testing.assert_allclose(far.frequency[:, 0], 1 / 3, atol=1e-6)
    assert (far.frequency[:, 1:] == 1).all()
    assert near.kilometers == 0
    assert [(t.species, t.checklists, t.unknown) for t in told] == [
        (3, 9600, ("Eurasian Wren",)),
        (1, 9600, ("Common Cuckoo", "Eurasian Wren", "European Herring Gull")),
    ]
    assert told[0].sentence().endswith("brittany.txt: 9,600 checklists, 3 of 4 species; reported all year, as it has "
                                       "no line of them: Eurasian Wren")  # fmt: skip
    assert table(given, LABELS, 100)[0] == content


def test_a_chart_of_other_birds_is_told(tmp_path):
    ducks = write(tmp_path / "ducks.txt", bar_chart(("duck sp.", ALWAYS)))
    with pytest.raises(ConfigError, match=r"ducks\.txt tells of none of the model's 4 species"):
        table((Source(ducks, *BREST),), LABELS, 1)


def one(**changed: Any) -> dict[str, Any]:
    return {"file": "a.txt", "latitude": 48.4, "longitude": -4} | changed


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("chart.txt", r"bundle\.occurrence is 'chart\.txt'; give a list"),
        (one(), r"bundle\.occurrence is \{.*; give a list"),
        (None, r"bundle\.occurrence is None; give a list"),
        (["chart.txt"], r"bundle\.occurrence\[0\] is 'chart\.txt'; give it file, latitude and longitude"),
        ([one(), {"file": "b.txt"}], r"bundle\.occurrence\[1\] is"),
        ([one(week=3)], "nothing else"),
        ([one(file="")], r"occurrence\[0\]\.file is ''; write a path"),
        ([one(file=3)], r"occurrence\[0\]\.file is 3"),
        ([one(latitude=90.5)], r"occurrence\[0\]\.latitude is 90\.5; write degrees of -90 to 90"),
        ([one(latitude=float("nan"))], r"\.latitude is nan"),
        ([one(latitude="48")], r"\.latitude is '48'"),
        ([one(longitude=True)], r"\.longitude is True"),
        ([one(longitude=-180.1)], r"\.longitude is -180\.1; write degrees of -180 to 180"),
        ([one(), one(file="b.txt", longitude=-4.0)], r"has 2 files for the place 48\.4, -4"),
    ],
)
def test_places_that_cannot_be(given, told):
    with pytest.raises(ConfigError, match=told) as caught:
        sources(given)
    assert str(caught.value).isprintable()


def test_the_configuration_tells_files_and_places():
    assert compose().bundle.occurrence == ()
    documented = re.search(r"'(bundle\.occurrence=.*)'\n", (ROOT / "docs/bundle.md").read_text())
    found = compose([documented[1]]).bundle.occurrence
    assert found == (Source(Path("data/occurrence/ebird_FR-BRE_barchart.txt"), 48.2, -2.9),)
    with pytest.raises(ConfigError, match="latitude is 98"):
        compose(["bundle.occurrence=[{file: a.txt, latitude: 98, longitude: 0}]"])
    with pytest.raises(ConfigError, match="least_checklists is 0"):
        compose(["bundle.least_checklists=0"])


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    for name in ("missing.txt", "\x1b[31m", "nul\0", "."):
        with pytest.raises(ConfigError, match=r"there is no such file; see docs/bundle\.md") as caught:
            read_all([Source(tmp_path / name, *BREST)], 1)
        assert str(caught.value).isprintable()
    with pytest.raises(ConfigError, match=r"cannot be read \(File name too long\)"):
        read_all([Source(tmp_path / ("x" * 300), *BREST)], 1)
    monkeypatch.setattr("training.occurrence._MAX_BYTES", 100)
    with pytest.raises(ConfigError, match="more than 100 bytes"):
        read_all([Source(write(tmp_path / "large.txt", BRITTANY), *BREST)], 1)


def test_the_whole_run_tells_of_a_mistake_before_it_begins(tmp_path):
    broken = write(tmp_path / "broken.txt", b"<html>please log in</html>")
    root = tmp_path / "recordings"
    values = [f"bundle.occurrence=[{{file: '{broken}', latitude: 48, longitude: -4}}]", f"dataset.root={root}"]
    with pytest.raises(ConfigError, match=r"broken\.txt is no bar chart"):
        train.run(compose(values))
    assert not root.exists()


def test_dvc_looks_at_the_folder_for_such_files():
    assert "data/occurrence" in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["bundle"]["deps"]
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", "data/occurrence/a.txt", "data/occurrence/README.md"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ignored.stdout.split() == ["data/occurrence/a.txt"]


TOLD = {
    "least_checklists": 100,
    "sources": [{"file": "a|`b.txt", "latitude": 48.4, "longitude": -4.5, "checklists": 9600, "species": 3}],
}


def test_the_card_and_the_licences_tell_where_it_is_from():
    figures = {"rows_of": None, "keras": {"rows": 0}, "int8": {"ece": None}}
    given = (figures, per_label(), pd.Series({"CC0": 3}), 0)
    card = model_card(bundles.manifest() | {"occurrence": TOLD}, *given)
    for part in (
        "| `a/'b.txt` | 48.4, -4.5 | 9,600 | 3 of 4 |",
        "fewer than 100 checklists",
        "Cite it",
        "see\neBird's terms",
    ):
        assert part in card
    for manifest in (bundles.manifest(), bundles.manifest() | {"occurrence": None}):
        assert "eBird" not in model_card(manifest, *given)
    line = licence_line(pd.Series({"CC0": 3}), None, TOLD)
    assert line == "recordings trained on: CC0 (3); weekly occurrence: eBird, under its terms of use"


def per_label() -> pd.DataFrame:
    table = pd.DataFrame(bundles.LABELS, columns=["ebird_code", "scientific_name", "common_name", "french_name"])
    return table.assign(
        train_recordings=1,
        test_rows=0,
        threshold=0.5,
        average_precision_int8=np.nan,
        ap_low_int8=np.nan,
        ap_high_int8=np.nan,
    )


def with_steps(tflite: bytes) -> bytes:
    """The test bundle's model with its logits in int8 at the end, as an int8 model's are."""

    def edit(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        graph = model.subgraphs[0]
        logits = graph.outputs[0]
        steps, result = schema.TensorT(), schema.TensorT()
        for tensor, name, kind in (
            (steps, b"steps", schema.TensorType.INT8), (result, b"result", schema.TensorType.FLOAT32)
        ):  # fmt: skip
            tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [1, len(LABELS)], kind, 0
            graph.tensors.append(tensor)
        steps.quantization = schema.QuantizationParametersT()
        steps.quantization.scale, steps.quantization.zeroPoint = [0.25], [0]
        end = len(graph.tensors)
        for builtin, taken, made in (
            (schema.BuiltinOperator.QUANTIZE, logits, end - 2),
            (schema.BuiltinOperator.DEQUANTIZE, end - 2, end - 1),
        ):
            code, operator = schema.OperatorCodeT(), schema.OperatorT()
            code.builtinCode = code.deprecatedBuiltinCode = builtin
            code.version = 1
            operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes), [taken], [made]
            model.operatorCodes.append(code)
            graph.operators.append(operator)
        graph.outputs = [end - 1]

    return edited(tflite, edit)


@pytest.fixture
def validated(tmp_path, monkeypatch) -> Settings:
    """What the stages before the bundle leave, without their work, and the settings to go on with."""
    import dataclasses

    values = [f"paths.{name}={tmp_path / name}" for name in ("prepared", "taught", "fit", "export", "validate")]
    chart = write(tmp_path / "brittany.txt", BRITTANY)
    values.append(f"bundle.occurrence=[{{file: '{chart}', latitude: {BREST[0]}, longitude: {BREST[1]}}}]")
    composed = compose([*values, f"bundle.dir={tmp_path / 'bundle'}", "evaluate.golden_windows=1"])
    composed = dataclasses.replace(composed, frontend=bundles.FRONTEND)
    float32, other = (bundles.tflite_model(*bundles.weights(n), bundles.FRONTEND.n_frames) for n in range(2))
    labels = per_label()
    figures = dict.fromkeys(NAMES)
    told = bundles.manifest(synthetic=True)
    left: dict[Stage, dict[str, bytes]] = {
        PREPARE: {
            "summary.json": json.dumps(told["dataset"] | {"dataset": "test", "recordists_unknown": 0}).encode(),
            "labels.csv": labels.iloc[:, :4].to_csv(index=False).encode(),
            "recordings.csv": b"recording_id,secondary_labels,split,license\na.wav,,train,CC0\n",
            "soundscapes.csv": b"recording_id,labels\n",
        },
        TEACH: {"result.txt": b""},
        FIT: {"fit.json": b"{}"},
        EXPORT: {"model.tflite": float32, "model_int8.tflite": with_steps(other), "model.onnx": b"not read"},
        VALIDATE: {
            "metrics.json": json.dumps(
                {"rows_of": None} | dict.fromkeys(("keras", "float32", "int8"), figures | {"rows": 0})
            ).encode(),
            "detection.json": json.dumps(told["detection"]).encode(),
            "per_label.csv": labels.to_csv(index=False).encode(),
        },
    }  # fmt: skip
    for stage, files in left.items():
        place = stage.place(composed)
        place.mkdir()
        run_stage(stage, composed, lambda _, files=files, place=place: [write(place / n, c) for n, c in files.items()])
    return composed


@pytest.mark.slow
def test_from_the_bar_chart_to_what_a_station_reports(validated, tmp_path, capsys):
    bundle.run(validated)
    said = capsys.readouterr().out
    assert "3 of 4 species; reported all year, as it has no line of them: Eurasian Wren" in said
    place = validated.bundle.dir
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["occurrence"]["sources"][0] == {
        "file": "brittany.txt", "latitude": 48.4, "longitude": -4.5, "checklists": 9600, "species": 3
    }  # fmt: skip
    assert "eBird" in manifest["licence"]
    assert f"  {FILE}\n" in (place / "SHA256SUMS").read_text()
    assert "`brittany.txt`" in (place / "MODEL_CARD.md").read_text()
    info = subprocess.run(
        [sys.executable, "-m", "labous", "info", str(place)], capture_output=True, text=True, check=True
    )
    assert FILE in info.stdout

    context = middle.context(place, tmp_path, latitude=BREST[0], longitude=BREST[1])
    assert in_month(context, 6) == {"eurrob1", "comcuc", "winwre4", "hergul"}
    assert in_month(context, 12) == {"eurrob1", "winwre4", "hergul"}

    bundle.run(validated)
    assert "up to date" in capsys.readouterr().out
    chart = validated.bundle.occurrence[0].file
    chart.write_bytes(BRITTANY.replace(b"Common Cuckoo", b"Cuckoo").replace(b"\t0.25", b"\t0.0"))
    bundle.run(validated)
    assert "up to date" not in capsys.readouterr().out
    assert in_month(middle.context(place, tmp_path, latitude=48.0, longitude=-4.0), 6) == {
        "eurrob1",
        "winwre4",
        "hergul",
    }

    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    chart.write_bytes(BRITTANY[:-20])
    with pytest.raises(ConfigError, match=r"brittany\.txt: line 17 .* has \d+ numbers, not 48"):
        bundle.run(validated)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    chart.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        bundle.run(validated)


def in_month(context: Any, month: int) -> set[str]:
    """Which species confirm lets through of a window, in the middle of a month, in which all are heard."""
    said = middle.predicted([5.0] * len(LABELS), middle.classifier())
    record = middle.at(0, audio=np.zeros(middle.SIZE, np.float32), predictions=said)
    record.time = datetime.datetime(2026, month, 15, tzinfo=datetime.timezone.utc)
    (found,) = middle.through([Confirm().open(context)], [record])
    return {seen.detection.ebird_code for seen in found.columns["observations"]}


@pytest.mark.slow
def test_without_such_files_a_bundle_tells_nothing(validated):
    import dataclasses

    plain = dataclasses.replace(validated, bundle=dataclasses.replace(validated.bundle, occurrence=()))
    bundle.run(plain)
    assert not (plain.bundle.dir / FILE).exists()
    assert json.loads((plain.bundle.dir / "manifest.json").read_text())["occurrence"] is None
    assert "eBird" not in (plain.bundle.dir / "MODEL_CARD.md").read_text()
