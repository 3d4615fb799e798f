"""A station whose bundle has a power-law front end: its windows, its mean over shifts, and what it never reports."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labous.bundle import Bundle
from labous.errors import NodeError
from labous.nodes import Context, Record
from labous.nodes.confirm import Confirm
from labous.nodes.privacy import Privacy
from labous.nodes.tflite import Tflite
from labous.nodes.wasm import Wasm
from labous.recordings import windows
from labous.station.settings import Station
from tests.runtime import audio, bundles, law_bundles
from tests.runtime.law_bundles import FRONTEND, LABELS, NOT_BIRDS
from tests.station import middle, pipelines
from tests.station.pipelines import node

RATE, SIZE = FRONTEND.sample_rate, FRONTEND.window_samples
SECONDS = 9
BIRDS = {code for code, *_ in LABELS} - set(NOT_BIRDS)


@pytest.fixture(params=[(0,), (0, 11, 29)], ids=["one shift", "three shifts"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return law_bundles.write_bundle(tmp_path / "bundle", dataclasses.replace(FRONTEND, shifts=request.param))


@pytest.fixture
def context(place: Path, tmp_path: Path) -> Context:
    return middle.context(place, tmp_path, precision=None)


@pytest.fixture
def sound() -> np.ndarray:
    return audio.noise(SECONDS, RATE)[:, 0]


def records(sound: np.ndarray) -> list[Record]:
    return [Record("garden.wav", w.start, w.end, SIZE, None, {"audio": w.samples}) for w in windows([sound], FRONTEND)]


def reported(found: list[Record]) -> set[str]:
    return {seen.detection.ebird_code for record in found for seen in record.columns["observations"]}


def test_the_nodes_give_what_the_bundle_gives(context: Context, sound: np.ndarray) -> None:
    found = middle.through([Wasm().open(context), Tflite().open(context)], records(sound))
    logits = np.array([record.columns["predictions"].logits for record in found])
    assert (logits == context.bundle.predict(sound).logits).all()


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0.0},
        {"threshold": 0.0, "thresholds": {"dog": 0.0, "Human vocal": 0.0}},
        {"threshold": 0.0, "include": ("Dog", "human1")},
        {"thresholds": dict.fromkeys(("dog", "human1", "eurrob1", "comcuc", "winwre4"), 0.0)},
    ],
)
def test_no_option_of_confirm_reports_what_is_no_bird(
    options: dict[str, Any], context: Context, sound: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [Wasm().open(context), Tflite(top_n=9).open(context), Confirm(**options).open(context)]
    with caplog.at_level(logging.WARNING, "labous"):
        found = middle.through(nodes, records(sound), "garden.wav")
    assert reported(found) == BIRDS
    asked = len(options) > 1 or "thresholds" in options
    assert [name for name in ("Dog", "Human vocal") if f"confirm: {name} is no bird" in caplog.text] == (
        ["Dog", "Human vocal"] if asked else []
    )


def test_a_list_of_species_reports_no_dog(context: Context, tmp_path: Path, sound: np.ndarray) -> None:
    (tmp_path / "species.txt").write_text("Dog\nCuculus canorus\n")
    confirm = Confirm(threshold=0.0, species_list="species.txt")
    nodes = [Wasm().open(context), Tflite(top_n=9).open(context), confirm.open(context)]
    assert reported(middle.through(nodes, records(sound), "garden.wav")) == {"comcuc"}


def test_a_voice_that_the_model_hears_is_withheld(context: Context, sound: np.ndarray) -> None:
    quiet = Privacy(listen=False, probability=0.4).open(context)
    found = middle.through([Wasm().open(context), Tflite().open(context)], records(sound))
    index = [code for code, *_ in LABELS].index("human1")
    probabilities = context.bundle.predict(sound).probabilities[:, index]
    kept = middle.through([quiet], found, "garden.wav")
    assert (probabilities >= 0.4).sum() > 0 and len(kept) < len(found)
    assert all(context.bundle.scoring.calibrated(r.columns["predictions"].logits)[index] < 0.4 for r in kept)


def test_a_model_of_ones_own_must_fit_the_windows(context: Context, tmp_path: Path, sound: np.ndarray) -> None:
    (tmp_path / "own.tflite").write_bytes(bundles.tflite_model(*bundles.weights(0), 62))
    labels = "ebird_code,scientific_name,common_name,french_name\n" + "".join(
        f"{','.join(r)}\n" for r in bundles.LABELS
    )
    (tmp_path / "own.csv").write_text(labels, encoding="utf-8")
    nodes = [Wasm().open(context), Tflite(model="own.tflite", labels="own.csv").open(context)]
    with pytest.raises(NodeError, match=r"the model takes \[16, 62\] and the column mel has \[.*16, 511, 2\]"):
        middle.through(nodes, records(sound))


def test_a_whole_station(place: Path, tmp_path: Path, sound: np.ndarray) -> None:
    audio.write(tmp_path / "in.wav", sound, RATE)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "in.wav").rename(tmp_path / "inbox/garden.wav")
    path = pipelines.write(
        tmp_path,
        node("folder", path='"inbox"'),
        node("wasm"),
        node("tflite", top_n=9),
        node("privacy", listen="false", probability=0.999),
        node("confirm", threshold=0.0, thresholds="{dog = 0.0}"),
        node("clips"),
        node("jsonl", path='"out"'),
        station='[station]\nbundle = "bundle"\nstate = "state"\n',
    )
    checked = pipelines.run("run", "--check", path)
    assert checked.returncode == 0 and "owl-test 0.1.0, float32, 3 species" in checked.stdout, checked.stderr
    done = pipelines.run("run", path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "no spectrogram" not in done.stderr
    lines = [json.loads(line) for file in (tmp_path / "out").rglob("*.jsonl") for line in file.read_text().splitlines()]
    assert {line["ebird_code"] for line in lines} == BIRDS
    probabilities = Bundle.read(place).predict(tmp_path / "inbox/garden.wav").probabilities
    birds = [code not in NOT_BIRDS for code, *_ in LABELS]
    expected = sorted(round(float(score), 6) for row in probabilities for score in row[birds])
    assert sorted(line["score"] for line in lines) == expected
    assert len(list(tmp_path.rglob("*.png"))) == len(lines)


def test_a_label_without_an_ebird_code_claims_none() -> None:
    record = middle.at(0)
    station = Station(bundle="bundle")
    plain = middle.observation(record)
    odd = dataclasses.replace(plain, detection=dataclasses.replace(plain.detection, ebird_code="anthus-spinoletta"))
    assert plain.darwin_core(station)["taxonID"] == "ebird:eurrob1"
    assert "taxonID" not in odd.darwin_core(station)
    assert odd.event(station)["subject"] == "anthus-spinoletta"
