"""Several sources as one: no recording twice, no recordist on two sides, every path below one root."""

import csv
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from labous.errors import LabousError
from tests.few import few
from training.config import compose
from training.datasets.backgrounds import background_files, silent_stretches
from training.datasets.base import BACKGROUND_COLUMNS, RECORDING_COLUMNS, REMOVED_COLUMNS, TABLES, DatasetError
from training.datasets.birdclef import METADATA_COLUMNS, BirdClef2021
from training.datasets.composed import ComposedDataset, xeno_canto_number
from training.datasets.folder import FolderDataset
from training.splits import split


def write_sound(path: Path, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(8000 * seconds), np.float32), 8000)


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    lines = ["ebird_code,scientific_name,common_name,french_name"]
    lines += [f"{code},G {code},E {code},F {code}" for code in ("eurrob1", "houspa")]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def birdclef(tmp_path):
    """Two recordings, and a soundscape with a bird in its third window."""
    root = tmp_path / "clef"
    rows = [("XC11.ogg", "Ana Le Goff", "['eurrob1', 'other']"), ("XC12.ogg", "", "[]")]
    for name, _, _ in rows:
        write_sound(root / "train_short_audio/houspa" / name)
    write_sound(root / "train_soundscapes/7_COR_20190904.ogg")
    with (root / "train_metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, METADATA_COLUMNS, restval="")
        writer.writeheader()
        for name, author, secondary in rows:
            writer.writerow(
                {"primary_label": "houspa", "filename": name, "author": author, "secondary_labels": secondary}
                | {"url": f"https://www.xeno-canto.org/{name[2:-4]}", "rating": "4.0"}
            )
    windows = ["nocall", "nocall", "houspa", "other", "nocall"]
    labels = [f"7_COR_{5 * k},COR,7,{5 * k},{birds}" for k, birds in enumerate(windows, 1)]
    (root / "train_soundscape_labels.csv").write_text("\n".join(["row_id,site,audio_id,seconds,birds", *labels]))
    return root


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "mine"
    for name in ("eurrob1/XC21 - Robin.wav", "eurrob1/mine.wav", "houspa/XC011.wav", "houspa/b.wav"):
        write_sound(root / name)
    authors = {"eurrob1/XC21 - Robin.wav": "ana  le goff", "houspa/XC011.wav": "Ana le Goff"}
    lines = [f"{name},{author}" for name, author in authors.items()]
    (root / "metadata.csv").write_text("\n".join(["filename,author", *lines]))
    return root


@pytest.fixture
def composed(tmp_path, table, birdclef, folder):
    def made(root: Path = tmp_path / "all", **changes) -> ComposedDataset:
        sources = {
            "clef": BirdClef2021(birdclef, table, require_all=False, **changes.pop("clef", {})),
            "mine": FolderDataset(folder, table, require_all=False),
            "none": None,
        }
        return ComposedDataset(root, table, sources, **changes)

    return made


def test_sources_are_one_table_below_one_root(composed):
    data = composed()
    data.fetch()
    recordings = data.recordings()
    assert tuple(recordings.columns) == RECORDING_COLUMNS
    assert recordings["recording_id"].tolist() == [
        "clef/train_short_audio/houspa/XC11.ogg",
        "clef/train_short_audio/houspa/XC12.ogg",
        "mine/eurrob1/XC21 - Robin.wav",
        "mine/eurrob1/mine.wav",
        "mine/houspa/b.wav",
    ]
    for row in recordings.itertuples():
        assert (data.root / row.recording_id).resolve() == Path(row.path).resolve()
        assert Path(row.path).is_file()
    assert recordings["secondary_labels"].tolist() == [["eurrob1"], [], [], [], []]
    assert data.soundscapes()["recording_id"].unique().tolist() == ["clef/train_soundscapes/7_COR_20190904.ogg"]
    assert data.soundscapes()["labels"].tolist() == [[], [], ["houspa"], [], []]
    assert [label.ebird_code for label in data.species()] == ["eurrob1", "houspa"]
    assert not data.synthetic


def test_a_recording_of_two_sources_is_used_once(composed, table, birdclef, folder, tmp_path):
    data = composed()
    removed = data.removed()
    assert tuple(removed.columns) == REMOVED_COLUMNS
    assert removed.to_dict("records") == [
        {
            "recording_id": "mine/houspa/XC011.wav",
            "rule": "duplicate",
            "detail": "the recording at xeno-canto that is used as clef/train_short_audio/houspa/XC11.ogg",
        }
    ]
    assert data.notes().removed == {"duplicate": {"houspa": 1}}
    other = {"mine": FolderDataset(folder, table), "clef": BirdClef2021(birdclef, table, require_all=False)}
    turned = ComposedDataset(tmp_path / "turned", table, other).removed()
    assert turned["recording_id"].tolist() == ["clef/train_short_audio/houspa/XC11.ogg"]


def test_a_recordist_of_two_sources_is_on_one_side(composed):
    recordings = composed().recordings().set_index("recording_id")
    ana = recordings["author"][["clef/train_short_audio/houspa/XC11.ogg", "mine/eurrob1/XC21 - Robin.wav"]]
    assert ana.nunique() == 1
    nobody = recordings["author"].drop(ana.index)
    assert nobody.tolist() == [f"unknown {name}" for name in nobody.index]
    assert composed().notes().unknown_recordists == 3
    table = recordings.reset_index()
    for seed in range(5):
        parts = split(table, seed, 0.3, 0.3)
        assert parts[table["author"] == ana.iloc[0]].nunique() == 1


def test_pieces_of_a_recording_stay_together(composed, folder):
    for name in ("XC21_b.wav", "XC31_a.wav", "XC31_b.wav", "XC11_b.wav"):
        write_sound(folder / "eurrob1" / name)
    data = composed()
    authors = data.recordings().set_index("recording_id")["author"]
    assert authors["mine/eurrob1/XC31_a.wav"] == authors["mine/eurrob1/XC31_b.wav"] == "unknown mine/eurrob1/XC31_a.wav"
    assert "mine/eurrob1/XC21_b.wav" in authors.index
    assert data.removed()["recording_id"].tolist() == ["mine/eurrob1/XC11_b.wav", "mine/houspa/XC011.wav"]


def test_removals_of_the_sources_are_told_with_theirs(composed):
    data = composed(clef={"min_rating": 4.5})
    assert data.recordings()["recording_id"].str.startswith("mine/").all()
    assert data.removed()["rule"].tolist() == ["min_rating", "min_rating"]
    assert data.removed()["recording_id"].str.startswith("clef/").all()
    assert data.notes().removed == {"min_rating": {"houspa": 2}}
    assert data.notes().dropped_labels["other"] == 1


def test_the_revision_moves_with_the_data_and_not_with_its_place(composed, tmp_path, folder):
    before = composed().revision()
    assert composed(root=tmp_path / "elsewhere").revision() == before
    write_sound(folder / "houspa/b.wav", 1.5)
    assert composed().revision() != before


def test_backgrounds_come_from_soundscapes_and_folders(composed, tmp_path):
    write_sound(tmp_path / "noise/rain/a.ogg")
    write_sound(tmp_path / "noise/wind/b.wav")
    data = composed(backgrounds=[str(tmp_path / "noise/rain")], clef={"backgrounds": [str(tmp_path / "noise")]})
    table = data.backgrounds()
    assert tuple(table.columns) == BACKGROUND_COLUMNS
    rain, wind, scape = str(tmp_path / "noise/rain/a.ogg"), str(tmp_path / "noise/wind/b.wav"), data.soundscapes()
    assert table["recording_id"].tolist() == [rain, wind, *[scape["recording_id"][0]] * 2]  # rain once
    assert table["start_seconds"].tolist() == [0, 0, 0, 20]
    assert table["end_seconds"].isna().tolist() == [True, True, False, False]
    assert table["end_seconds"].tolist()[2:] == [10, 25]
    assert (table["author"] == table["recording_id"]).all()
    assert all((data.root / name).is_file() for name in table["recording_id"])
    without = composed().revision()
    assert data.revision() != without
    with_noise = composed(backgrounds=[str(tmp_path / "noise")]).revision()
    (tmp_path / "noise").rename(tmp_path / "moved")
    assert composed(backgrounds=[str(tmp_path / "moved")]).revision() == with_noise
    write_sound(tmp_path / "moved/wind/b.wav", 2.0)
    assert composed(backgrounds=[str(tmp_path / "moved")]).revision() != with_noise


def test_a_species_that_no_source_has_is_named(composed, tmp_path):
    path = tmp_path / "more.csv"
    path.write_text("ebird_code,scientific_name,common_name,french_name\nhouspa,P d,HS,MD\nwinwre4,T t,EW,TM\n")
    data = ComposedDataset(tmp_path / "more", path, composed().sources)
    with pytest.raises(DatasetError, match=r"does not have: winwre4 \(line 3\)"):
        data.recordings()
    one = tmp_path / "one.csv"
    one.write_text("ebird_code,scientific_name,common_name,french_name\nhouspa,P d,HS,MD\n")
    fewer = ComposedDataset(tmp_path / "one", one, composed().sources).recordings()
    assert set(fewer["primary_label"]) == {"houspa"}
    assert fewer["secondary_labels"].tolist() == [[], [], []]  # the robin is a label of the source, not of the whole


def test_what_is_in_the_way_of_a_link_is_left_alone(composed, tmp_path, folder):
    (tmp_path / "all/mine").mkdir(parents=True)
    with pytest.raises(DatasetError, match="is in the way of the source mine"):
        composed().fetch()
    (tmp_path / "all/mine").rmdir()
    (tmp_path / "all/mine").symlink_to(tmp_path)
    composed().fetch()
    assert (tmp_path / "all/mine").resolve() == folder.resolve()
    folder.rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match=r"mine does not exist"):
        composed().recordings()
    assert len(composed().backgrounds()) == 2  # of the other source


def test_impossible_compositions_are_refused(table, folder):
    with pytest.raises(DatasetError, match="names no data set"):
        ComposedDataset("all", table, {"mine": None})
    with pytest.raises(DatasetError, match=r"calls a data set '\.\./mine'"):
        ComposedDataset("all", table, {"../mine": FolderDataset(folder)})


@pytest.mark.parametrize(
    ("name", "url", "number"),
    [
        ("a/XC123.ogg", "", "123"),
        ("a/xc0123 - Robin.mp3", "", "123"),
        ("XC9/other.wav", "https://www.xeno-canto.org/77", "77"),
        ("a/b.wav", "//xeno-canto.org/78", "78"),
        ("a/b.wav", "https://example.org/79", None),
        ("a/XCalibur.wav", "", None),
    ],
)
def test_numbers_at_xeno_canto(name, url, number):
    assert xeno_canto_number(name, url) == number


# Backgrounds


def test_background_folders_are_checked_and_hidden_files_left_out(tmp_path):
    write_sound(tmp_path / "data/noise/a.wav")
    write_sound(tmp_path / "data/noise/.trash/b.wav")
    (tmp_path / "data/noise/notes.txt").touch()
    (tmp_path / "void").mkdir()
    table = background_files([tmp_path / "data/noise"], tmp_path / "data")
    assert table["recording_id"].tolist() == ["noise/a.wav"]
    assert table["author"].tolist() == ["noise/a.wav"]
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin" / os.fsdecode(b"\xe9tang.wav")).touch()
    with pytest.raises(DatasetError, match=r"not UTF-8, '\\udce9tang\.wav': rename it"):
        background_files([tmp_path / "latin"], tmp_path)
    for bad, said in (("nowhere", "which is no folder"), ("void", "no recording that soundfile reads")):
        with pytest.raises(DatasetError, match=said):
            background_files([tmp_path / bad], tmp_path)
    assert background_files(None, tmp_path).empty


def test_neighbouring_windows_are_joined_within_a_file():
    rows = [("b", 5, 10), ("a", 0, 5), ("a", 5, 10), ("a", 15, 20), ("b", 0, 5)]
    windows = pd.DataFrame(rows, columns=["recording_id", "start_seconds", "end_seconds"]).assign(path="x")
    table = silent_stretches(windows)
    found = list(zip(table["recording_id"], table["start_seconds"], table["end_seconds"], strict=True))
    assert found == [("a", 0, 10), ("a", 15, 20), ("b", 0, 10)]


@given(st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, 30))))
def test_stretches_cover_what_the_windows_cover(cells):
    rows = [(name, 5.0 * k, 5.0 * k + 5.0) for name, k in sorted(cells)]
    windows = pd.DataFrame(rows, columns=["recording_id", "start_seconds", "end_seconds"]).assign(path="x")
    table = silent_stretches(windows)
    columns = zip(table["recording_id"], table["start_seconds"], table["end_seconds"], strict=True)
    stretches = [(name, int(start / 5), int(end / 5)) for name, start, end in columns]
    assert {(name, k) for name, start, end in stretches for k in range(start, end)} == cells
    assert not {(name, end) for name, _, end in stretches} & cells  # nothing that touches is left apart


def test_backgrounds_below_a_folders_root_are_no_labels(folder):
    write_sound(folder / "noise/rain/a.wav")
    assert "noise" in {label.ebird_code for label in FolderDataset(folder).species()}
    (folder.parent / "link").symlink_to(folder)
    for named in ([str(folder / "noise")], ["noise"], "noise", [folder.parent / "link" / "noise"]):
        data = FolderDataset(folder, backgrounds=named)
        assert "noise" not in {label.ebird_code for label in data.species()}
        assert [Path(path).resolve() for path in data.backgrounds()["path"]] == [folder.resolve() / "noise/rain/a.wav"]
    with pytest.raises(DatasetError, match="names nosie, which is no folder"):
        FolderDataset(folder, backgrounds=["nosie"]).species()


def test_lengths_are_limited(folder, birdclef, table):
    write_sound(folder / "houspa/long.wav", 3.0)
    write_sound(folder / "houspa/short.wav", 0.2)
    (folder / "houspa/broken.wav").write_bytes(b"RIFF")
    data = FolderDataset(folder, min_seconds=0.5, max_seconds=2.0)
    kept = set(data.recordings()["recording_id"])
    assert "houspa/broken.wav" in kept  # preparation lists it with the reason
    assert kept.isdisjoint({"houspa/long.wav", "houspa/short.wav"})
    assert data.removed().to_dict("records") == [
        {"recording_id": "houspa/long.wav", "rule": "max_seconds", "detail": "3.0 s, longer than 2 s"},
        {"recording_id": "houspa/short.wav", "rule": "min_seconds", "detail": "0.2 s, shorter than 0.5 s"},
    ]
    assert data.notes().removed == {"max_seconds": {"houspa": 1}, "min_seconds": {"houspa": 1}}
    with pytest.raises(DatasetError, match=r"all recordings left out by min_seconds: houspa"):
        BirdClef2021(birdclef, table, codes=["houspa"], min_seconds=5.0).recordings()


# As conf/ composes it


def test_brittany_is_birdclef_xeno_canto_and_folders():
    mine = "{_target_: training.datasets.folder.FolderDataset, root: /data/mine, species: brittany, require_all: false}"
    table = str(TABLES / "brittany.csv")
    data = compose(["dataset=brittany", f"+dataset.sources.mine={mine}", f"dataset.species={table}"]).dataset
    assert list(data.sources) == ["birdclef2021", "xeno_canto", "mine"]
    assert len(data.species()) == 32 + 54
    assert len(data.sources["birdclef2021"].species()) == len(data.species())  # the rest are labels heard beside
    assert data.sources["birdclef2021"].download.recordings == 62874
    without = compose(["dataset=brittany", "dataset.sources.xeno_canto=null"]).dataset
    assert list(without.sources) == ["birdclef2021"]


@pytest.mark.parametrize(
    ("override", "said"),
    few(
        [
            ("+dataset.sources.mine={_target_: training.nowhere.Nothing}", r"dataset\.sources\.mine\._target_ is"),
            (
                "+dataset.sources.mine={_target_: training.datasets.folder.FolderDataset}",
                r"dataset\.sources\.mine\.root",
            ),
            ("dataset.sources.xeno_canto.api.per_page=many", r"dataset\.sources\.xeno_canto\.api\.per_page is 'many'"),
            ("+dataset.sources.xeno_canto.api.colour=blue", r"unknown key dataset\.sources\.xeno_canto\.api\.colour"),
            ("+dataset.sources.mine=3", r"dataset\.sources\.mine is 3"),
            ("dataset.sources=3", r"dataset\.sources is 3"),
            ("dataset.sources.xeno_canto.api.timeout=0", r"api\.timeout 0"),
            ("dataset.sources.xeno_canto.api.retries=-1", r"api\.retries is -1"),
        ],
        3,
    ),
)
def test_a_mistake_in_a_source_is_named_where_it_is(override, said):
    with pytest.raises(LabousError, match=said) as error:
        compose(["dataset=brittany", override])
    assert "\n" not in str(error.value)
