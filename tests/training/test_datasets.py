"""Data sets as people have them: complete, partial, untidy, or not there at all."""

import csv
import os
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from labous.recordings import SUFFIXES
from training.datasets import remembered
from training.datasets.backgrounds import readable_suffixes
from training.datasets.base import (
    BOX_COLUMNS,
    RECORDING_COLUMNS,
    SOUNDSCAPE_COLUMNS,
    TABLES,
    Box,
    DatasetError,
    find_table,
    one_spelling,
    read_aliases,
    read_boxes,
    read_species_table,
)
from training.datasets.birdclef import METADATA_COLUMNS, BirdClef2021
from training.datasets.folder import _FOREIGN_SUFFIXES, FolderDataset
from training.datasets.remembered import HASHES, durations, hash_files

NAMES = ("ebird_code", "scientific_name", "common_name", "french_name")


def write_table(path: Path, *codes: str, header: tuple[str, ...] = NAMES) -> Path:
    lines = [",".join(header), *(f"{code},Genus {code},English {code},Français {code}" for code in codes)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_sound(path: Path, **how: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(800, np.float32), 8000, **how)


def write_metadata(root: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = METADATA_COLUMNS) -> None:
    blank = {"secondary_labels": "[]", "author": "Ana", "rating": "4.0", "time": "?"}
    with (root / "train_metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(blank | row for row in rows)


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    """Of its own for each test: revisions leave their cache of hashes there."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def birdclef(tmp_path):
    """A root with three recordings of two species, and one more in the metadata that is not on disk."""
    root = tmp_path / "birdclef-2021"
    rows = [
        {"primary_label": "houspa", "filename": "XC1.ogg", "secondary_labels": "['rocpig1', 'eursta', 'nobird']"},
        {
            "primary_label": "houspa",
            "filename": "XC2.ogg",
            "rating": "1.5",
            "time": "06:30:00 AM",
            "date": "2020-00-00",
        },
        {"primary_label": "rocpig", "filename": "XC3.ogg", "author": "", "time": "xx:xx", "rating": ""},
        {"primary_label": "rocpig", "filename": "XC4.ogg"},
        {"primary_label": "other", "filename": "XC5.ogg"},
    ]
    for row in rows[:3]:
        write_sound(root / "train_short_audio" / row["primary_label"] / row["filename"])
    write_metadata(root, rows)
    return root


@pytest.fixture
def two(tmp_path):
    table = tmp_path / "two.csv"
    lines = [
        ",".join((*NAMES, "aliases", *BOX_COLUMNS)),
        "rocpig,Columba livia,Rock Pigeon,Pigeon biset,rocpig1,,,,",
        "houspa,Passer domesticus,House Sparrow,Moineau domestique,,34,72,-25,45",
    ]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


# Species tables


@pytest.mark.parametrize("table", sorted(TABLES.glob("*.csv")), ids=lambda path: path.stem)
def test_committed_tables_are_sound(table):
    species = read_species_table(table)
    assert [label.ebird_code for label in species] == sorted({label.ebird_code for label in species})
    for names in zip(*[(s.scientific_name, s.common_name, s.french_name) for s in species], strict=True):
        assert len(set(names)) == len(species)
    assert all(label.scientific_name.count(" ") == 1 for label in species)


def test_tables_are_found_by_name_and_by_path_and_tiers_are_kept(two):
    assert find_table("brittany") == TABLES / "brittany.csv"
    assert find_table(two) == two
    assert len(read_species_table("brittany", ["A", "B"])) == 32
    assert len(read_species_table("brittany", ["A"])) == 22


def test_the_demo_and_the_thirty_share_their_names():
    thirty = set(read_species_table("common30"))
    assert set(read_species_table("demo")) <= thirty


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ebird_code,scientific_name,common_name\na,A a,A\n", "no column french_name"),
        ("", "no columns ebird_code"),
        ("ebird_code,scientific_name,common_name,french_name\n", "no species"),
        (
            "ebird_code,scientific_name,common_name,french_name\na,A,B,C\nb,B,C,D\na,A,B,C\n",
            "lines 2 and 4: a is there twice",
        ),
        ("ebird_code,scientific_name,common_name,french_name\na,A,,C\n", "line 2: no common_name"),
        ("ebird_code,scientific_name,common_name,french_name\na,A,B\n", "line 2: no french_name"),
        ("ebird_code,scientific_name,common_name,french_name\na,A,B,\xe9\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_bad_table_is_refused_in_one_sentence(tmp_path, text, said):
    table = tmp_path / "mine.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DatasetError, match=said) as error:
        read_species_table(table)
    assert str(table) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_table_and_an_unknown_tier_are_refused(two):
    with pytest.raises(DatasetError, match=r"no species table at nowhere.csv.*brittany"):
        read_species_table("nowhere.csv")
    with pytest.raises(DatasetError, match="no column tier"):
        read_species_table(two, ["A"])
    with pytest.raises(DatasetError, match=r"no species of tier Z: its tiers are A, B, C, X"):
        read_species_table("brittany", ["A", "Z"])


def test_the_table_of_brittany_serves_both_data_sets():
    table = pd.read_csv(TABLES / "brittany.csv", dtype=str, keep_default_na=False).set_index("ebird_code")
    beyond = read_species_table("brittany", ["X"])
    thirty = {label.ebird_code: label for label in read_species_table("common30")}
    assert all(thirty.get(label.ebird_code, label) == label for label in beyond)
    assert set(table["recordings_in_birdclef2021"][table["tier"] == "X"]) == {"0"}
    robin, blackbird, owl = "eurrob1", "eurbla", "tawowl1"
    assert {robin, blackbird, owl, "gretit1", "winwre4", "comchi1", "comcuc", "eurmag1", "cowpig1"} <= {
        label.ebird_code for label in beyond
    }
    assert read_aliases("brittany") == {"rocpig1": "rocpig"}
    assert read_boxes("brittany") == dict.fromkeys(("hergul", "redcro", "tunswa"), Box(34.0, 72.0, -25.0, 45.0))
    assert read_boxes("demo") == read_aliases("demo") == {}


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("34,72,-25,", "line 2: the box of houspa needs a number"),
        ("34,72,-25,east", "line 2: the box of houspa needs a number"),
        ("72,34,-25,45", "the wrong way round"),
    ],
)
def test_a_bad_box_is_refused(tmp_path, cells, said):
    table = tmp_path / "mine.csv"
    table.write_text(f"{','.join((*NAMES, *BOX_COLUMNS))}\nhouspa,P d,HS,MD,{cells}\n")
    with pytest.raises(DatasetError, match=said):
        read_boxes(table)


@pytest.mark.parametrize("aliases", [("y x", "x"), ("b", "")])
def test_an_alias_means_one_species(tmp_path, aliases):
    table = tmp_path / "mine.csv"
    lines = [f"{code},G {code},E {code},F {code},{other}" for code, other in zip("ab", aliases, strict=True)]
    table.write_text("\n".join([",".join((*NAMES, "aliases")), *lines]))
    with pytest.raises(DatasetError, match="already means another species"):
        read_aliases(table)


# BirdCLEF's layout


def test_birdclef_reads_untidy_metadata(birdclef, two):
    dataset = BirdClef2021(birdclef, two)
    assert [label.ebird_code for label in dataset.species()] == ["houspa", "rocpig"]
    recordings = dataset.recordings()
    assert tuple(recordings.columns) == RECORDING_COLUMNS
    assert list(recordings["recording_id"]) == [
        f"train_short_audio/{name}" for name in ("houspa/XC1.ogg", "houspa/XC2.ogg", "rocpig/XC3.ogg")
    ]
    assert recordings["secondary_labels"].tolist() == [["rocpig"], [], []]  # rocpig1 is the same bird
    assert recordings["rating"].tolist() == [4.0, 1.5, 0.0]
    assert recordings["author"].tolist() == ["Ana", "Ana", "unknown train_short_audio/rocpig/XC3.ogg"]
    assert all(Path(path).is_file() and Path(path).is_absolute() for path in recordings["path"])
    notes = dataset.notes()
    assert notes.missing == ["train_short_audio/rocpig/XC4.ogg"]
    assert notes.dropped_labels == {"eursta": 1, "nobird": 1}
    assert notes.unknown_recordists == 1
    assert notes.unreadable == []
    assert list(dataset.soundscapes().columns) == list(SOUNDSCAPE_COLUMNS)
    assert dataset.soundscapes().empty


def test_birdclef_reads_soundscapes(birdclef, two):
    write_sound(birdclef / "train_soundscapes" / "7_COR_20190904.ogg")
    labels = [
        "row_id,site,audio_id,seconds,birds",
        "7_COR_10,COR,7,10,rocpig1 other houspa",
        "7_COR_5,COR,7,5,nocall",
        "7_COR_15,COR,7,15,other",
    ]
    (birdclef / "train_soundscape_labels.csv").write_text("\n".join(labels))
    dataset = BirdClef2021(birdclef, two)
    windows = dataset.soundscapes()
    assert windows["row_id"].tolist() == ["7_COR_5", "7_COR_10", "7_COR_15"]
    assert windows["recording_id"].unique().tolist() == ["train_soundscapes/7_COR_20190904.ogg"]
    assert windows["start_seconds"].tolist() == [0.0, 5.0, 10.0]
    assert windows["end_seconds"].tolist() == [5.0, 10.0, 15.0]
    assert windows["labels"].tolist() == [[], ["houspa", "rocpig"], []]
    assert dataset.notes().dropped_labels["other"] == 2
    (birdclef / "train_soundscapes" / "7_COR_20190904.ogg").unlink()
    with pytest.raises(DatasetError, match=r"line 2: there is no 7_COR_\*\.ogg"):
        BirdClef2021(birdclef, two).soundscapes()


def test_ratings_and_coordinates_choose_recordings(birdclef, two):
    rated = BirdClef2021(birdclef, two, codes=["houspa"], min_rating=2.0).recordings()
    assert rated["recording_id"].tolist() == ["train_short_audio/houspa/XC1.ogg"]
    said = r"all recordings left out by min_rating: houspa \(line 3\), rocpig \(line 2\)"
    with pytest.raises(DatasetError, match=said):
        BirdClef2021(birdclef, two, min_rating=4.5).recordings()

    places = [("48.1", "-3.0"), ("42.0", "-76.0"), ("", "")]
    rows = [
        {"primary_label": "houspa", "filename": f"XC{k}.ogg", "latitude": a, "longitude": o}
        for k, (a, o) in enumerate(places, 1)
    ]
    write_sound(birdclef / "train_short_audio/houspa/XC3.ogg")
    write_metadata(birdclef, rows)
    dataset = BirdClef2021(birdclef, two, codes=["houspa"])
    kept = dataset.recordings()
    assert [Path(path).stem for path in kept["path"]] == ["XC1", "XC3"]  # without coordinates nobody can tell
    removed = dataset.removed().to_dict("records")
    detail = "at latitude 42, longitude -76, outside the box of houspa"
    assert removed == [{"recording_id": "train_short_audio/houspa/XC2.ogg", "rule": "box", "detail": detail}]
    assert len(BirdClef2021(birdclef, write_table(two, "houspa")).recordings()) == 3  # a table without boxes


def test_revision_changes_with_the_data_and_not_with_its_place(birdclef, two, tmp_path):
    before = BirdClef2021(birdclef, two).revision()
    assert len(before) == 64
    assert BirdClef2021(birdclef, two).revision() == before
    moved = birdclef.rename(tmp_path / "elsewhere")
    assert BirdClef2021(moved, two).revision() == before
    assert BirdClef2021(moved, two, codes=["houspa"]).revision() != before
    with (moved / "train_short_audio/houspa/XC1.ogg").open("ab") as file:
        file.write(b"more")
    assert BirdClef2021(moved, two).revision() != before


def test_revision_sees_other_samples_of_the_same_length(birdclef, two):
    path = birdclef / "train_short_audio/houspa/XC1.ogg"
    data = path.read_bytes()
    before = BirdClef2021(birdclef, two).revision()
    times = path.stat()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert BirdClef2021(birdclef, two).revision() != before
    path.write_bytes(data)
    os.utime(path, (0, 0))
    assert BirdClef2021(birdclef, two).revision() == before


def test_revision_takes_an_unreadable_file_as_it_is(birdclef, two):
    path = birdclef / "train_short_audio/houspa/XC1.ogg"
    before = BirdClef2021(birdclef, two).revision()
    path.unlink()
    path.symlink_to("nowhere.ogg")
    without = BirdClef2021(birdclef, two).revision()
    path.unlink()
    path.mkdir()
    assert BirdClef2021(birdclef, two).revision() == without != before


# Hashes and their cache


@pytest.fixture
def settled(monkeypatch):
    """As if every file had been written some time ago."""
    monkeypatch.setattr(remembered, "_SETTLED_NS", -1_000_000_000)


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were read to be hashed."""
    names, real = [], remembered.sha256_of_file
    monkeypatch.setattr(remembered, "sha256_of_file", lambda path: names.append(path.name) or real(path))
    return names


def some_files(folder: Path) -> list[str]:
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(f"the file {name}")
    return [str(folder / name) for name in ("a", "b", "c")]


def test_only_new_and_changed_files_are_read(tmp_path, settled, reads):
    paths, cache = some_files(tmp_path / "some"), Path("deep/hashes.json")
    hashes = hash_files(paths, cache)
    assert hash_files(paths, cache) == hashes
    assert reads == ["a", "b", "c"]
    Path(paths[1]).write_text("other   b "[:10])
    Path(tmp_path / "some" / "d").write_text("new")
    again = hash_files([*paths, str(tmp_path / "some" / "d")], cache)
    assert reads[3:] == ["b", "d"]
    assert again.pop(str(tmp_path / "some" / "d"))
    assert [again[path] == hashes[path] for path in paths] == [True, False, True]


def test_files_that_may_still_change_unseen_are_not_remembered(tmp_path, reads):
    paths, cache = some_files(tmp_path / "some"), Path("hashes.json")
    assert hash_files(paths, cache) == hash_files(paths, cache)
    assert reads == ["a", "b", "c"] * 2
    assert not cache.exists()


def test_files_that_are_gone_are_forgotten_and_other_data_sets_are_not(tmp_path, settled, reads):
    mine, yours, cache = some_files(tmp_path / "mine"), some_files(tmp_path / "yours"), Path("hashes.json")
    hash_files(mine, cache)
    Path(mine[0]).unlink()
    hash_files(yours, cache)
    assert mine[0] not in cache.read_text()
    hash_files(mine[1:], cache)
    assert len(reads) == 6


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"p": 3}', '{"p": [1, 2, 3]}', '{"p": [1, 2, 3, "x"]}', '{"p": {"q": 1}}', "\xff"]
)
def test_a_damaged_cache_is_ignored_and_replaced(tmp_path, settled, reads, text):
    paths, cache = some_files(tmp_path / "some"), Path("hashes.json")
    hashes = hash_files(paths, Path("other.json"))
    cache.write_bytes(text.encode("latin-1").replace(b"p", paths[0].encode()))
    assert hash_files(paths, cache) == hashes
    assert hash_files(paths, cache) == hashes
    assert len(reads) == 6


def test_without_a_place_for_the_cache_hashes_are_still_right(tmp_path, settled):
    paths = some_files(tmp_path / "some")
    (tmp_path / "file").touch()
    assert hash_files(paths, tmp_path / "file" / "hashes.json") == hash_files(paths, Path("hashes.json"))


def test_lengths_come_from_headers_and_are_remembered(tmp_path, settled, monkeypatch):
    paths = [str(tmp_path / name) for name in ("a.wav", "b.wav", "gone.wav")]
    for path in paths[:2]:
        write_sound(Path(path))
    Path(paths[1]).write_bytes(b"not a sound")
    assert durations(paths, Path("lengths.json")) == {paths[0]: 0.1}
    info = remembered.soundfile.info
    asked = []
    monkeypatch.setattr(remembered.soundfile, "info", lambda path: asked.append(path.name) or info(path))
    assert durations(paths, Path("lengths.json")) == {paths[0]: 0.1}
    assert asked == ["b.wav"]
    assert durations(paths, HASHES) == {paths[0]: 0.1}


def test_what_was_read_before_an_interruption_is_kept(tmp_path, settled, monkeypatch):
    paths, cache, real = some_files(tmp_path / "some"), Path("hashes.json"), remembered.sha256_of_file
    with monkeypatch.context() as patch:

        def interrupted(path):
            if path.name == "c":
                raise KeyboardInterrupt
            return real(path)

        patch.setattr(remembered, "sha256_of_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            hash_files(paths, cache)
    assert [path in cache.read_text() for path in paths] == [True, True, False]


def test_the_cache_lies_outside_the_data_set(birdclef, two, settled):
    BirdClef2021(birdclef, two).revision()
    assert HASHES.is_file()
    assert not [path for path in birdclef.rglob("*") if path.name.startswith(".")]


# Recordists


def test_a_recordist_has_one_spelling():
    composed, apart = (unicodedata.normalize(form, "José Ñ") for form in ("NFC", "NFD"))
    timo = ["Timo Schnabel ", "Timo  Schnabel", "timo schnabel", "Timo\u00a0Schnabel"]
    given = [*timo, "Timo Schnabl", composed, apart, " "]
    found = one_spelling(pd.Series(given, index=range(5, 13)))
    assert found.tolist() == ["Timo Schnabel"] * 4 + ["Timo Schnabl", composed, composed, ""]
    assert found.index.tolist() == list(range(5, 13))


def test_spellings_of_a_recordist_are_one_in_birdclef(birdclef, two):
    spelled = ["Timo Schnabel", "Timo Schnabel ", " timo  schnabel"]
    files = [("houspa", "XC1.ogg"), ("houspa", "XC2.ogg"), ("rocpig", "XC3.ogg")]
    write_metadata(
        birdclef,
        [
            {"primary_label": code, "filename": name, "author": author}
            for (code, name), author in zip(files, spelled, strict=True)
        ],
    )
    assert BirdClef2021(birdclef, two).recordings()["author"].tolist() == ["Timo Schnabel"] * 3
    assert BirdClef2021(birdclef, two).notes().unknown_recordists == 0


def test_a_species_without_recordings_is_named_with_its_line(birdclef, tmp_path):
    table = write_table(tmp_path / "typo.csv", "rocpig", "huospa")
    with pytest.raises(DatasetError, match=r"typo\.csv asks .*the data set does not have: huospa \(line 3\)"):
        BirdClef2021(birdclef, table).recordings()


def test_a_species_whose_files_are_all_gone_is_named(birdclef, two):
    (birdclef / "train_short_audio/rocpig/XC3.ogg").unlink()
    with pytest.raises(DatasetError, match=r"no file below .*train_short_audio: rocpig \(line 2\)"):
        BirdClef2021(birdclef, two).recordings()


def test_a_missing_root_says_how_to_get_it(tmp_path, two):
    with pytest.raises(DatasetError, match=r"does not exist: .*kaggle competitions download -c birdclef-2021"):
        BirdClef2021(tmp_path / "nowhere", two).fetch()
    with pytest.raises(DatasetError, match=r"is empty: .*kaggle"):
        BirdClef2021(tmp_path.joinpath("void").mkdir() or tmp_path / "void", two).fetch()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DatasetError, match="is a file, not a folder"):
        BirdClef2021(file, two).fetch()


@pytest.mark.parametrize("part", ["train_metadata.csv", "train_short_audio"])
def test_a_root_without_its_parts_is_refused(birdclef, two, part):
    (birdclef / part).rename(birdclef / "away")
    with pytest.raises(DatasetError, match=f"has no {part}: it is not a BirdCLEF 2021 folder"):
        BirdClef2021(birdclef, two).recordings()


def test_damaged_metadata_is_refused(birdclef, two):
    write_metadata(birdclef, [], tuple(column for column in METADATA_COLUMNS if column != "author"))
    with pytest.raises(DatasetError, match="no column author"):
        BirdClef2021(birdclef, two).recordings()
    write_metadata(birdclef, [])
    with pytest.raises(DatasetError, match="lists no recording"):
        BirdClef2021(birdclef, two).recordings()
    write_metadata(
        birdclef, [{"primary_label": "houspa", "filename": "XC1.ogg", "secondary_labels": "__import__('os')"}]
    )
    with pytest.raises(DatasetError, match="line 2: secondary_labels is"):
        BirdClef2021(birdclef, two, codes=["houspa"]).recordings()
    (birdclef / "train_metadata.csv").write_text("")
    with pytest.raises(DatasetError, match="cannot be read as CSV"):
        BirdClef2021(birdclef, two).recordings()


@pytest.mark.real
def test_the_real_recordings_are_read(real_audio):
    dataset = BirdClef2021(real_audio, "common30")
    recordings = dataset.recordings()
    assert len(recordings) == 305
    assert recordings["primary_label"].nunique() == 30
    assert dataset.notes().missing == []
    assert recordings["author"].nunique() == 118  # in 119 spellings
    assert all(Path(path).is_file() for path in recordings["path"])
    metadata = pd.read_csv(real_audio / "train_metadata.csv").drop_duplicates("primary_label")
    names = {row.primary_label: (row.scientific_name, row.common_name) for row in metadata.itertuples()}
    assert {s.ebird_code: (s.scientific_name, s.common_name) for s in dataset.species()} == names


# A folder per label


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "mine"
    write_sound(root / "merle" / "a.wav")
    write_sound(root / "merle" / "2024" / "b.flac")
    write_sound(root / "pie" / "c.ogg")
    write_sound(root / "pie" / "d.MP3", format="MP3")
    write_sound(root / "pie" / ".trash" / "e.wav")
    write_sound(root / "stray.wav")
    (root / "pie" / "notes.txt").write_text("not a sound")
    return root


def test_folder_mixes_formats(folder):
    dataset = FolderDataset(folder)
    recordings = dataset.recordings()
    assert tuple(recordings.columns) == RECORDING_COLUMNS
    assert recordings["recording_id"].tolist() == ["merle/2024/b.flac", "merle/a.wav", "pie/c.ogg", "pie/d.MP3"]
    assert recordings["primary_label"].tolist() == ["merle", "merle", "pie", "pie"]
    assert recordings["author"].is_unique  # nobody named: each a recordist of its own
    assert [(s.ebird_code, s.french_name) for s in dataset.species()] == [("merle", "merle"), ("pie", "pie")]
    assert dataset.soundscapes().empty
    assert all(soundfile.info(path).frames for path in recordings["path"])
    assert dataset.notes().unknown_recordists == 4
    assert dataset.notes().unreadable == []


def test_folder_takes_recordists_from_metadata(folder):
    before = FolderDataset(folder).revision()
    (folder / "metadata.csv").write_text("filename,author\nmerle/a.wav,Ana\npie/c.ogg, ana  \npie/gone.wav,Bo\n")
    dataset = FolderDataset(folder)
    authors = dataset.recordings().set_index("recording_id")["author"]
    assert authors["merle/a.wav"] == authors["pie/c.ogg"] == "Ana"
    assert authors["pie/d.MP3"] == "unknown pie/d.MP3"
    assert dataset.notes().missing == ["pie/gone.wav"]
    assert dataset.notes().unknown_recordists == 2
    assert dataset.revision() != before
    (folder / "metadata.csv").write_text("filename,author\n")
    assert FolderDataset(folder).revision() == before
    (folder / "metadata.csv").write_text("file,author\n")
    with pytest.raises(DatasetError, match="no column filename"):
        FolderDataset(folder).recordings()


def test_folder_with_a_table_keeps_its_labels_only(folder, tmp_path):
    dataset = FolderDataset(folder, write_table(tmp_path / "one.csv", "merle"))
    assert set(dataset.recordings()["primary_label"]) == {"merle"}
    assert dataset.species()[0].french_name == "Français merle"
    with pytest.raises(DatasetError, match=r"in .*mine: geai \(line 3\)"):
        FolderDataset(folder, write_table(tmp_path / "more.csv", "merle", "geai")).recordings()


def test_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="does not exist: make it"):
        FolderDataset(tmp_path / "nowhere").fetch()
    (tmp_path / "void" / "label").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no folder with a recording that soundfile reads"):
        FolderDataset(tmp_path / "void").recordings()


def test_folder_names_recordings_that_soundfile_does_not_read(folder, tmp_path):
    for name in ("pie/phone.M4A", "merle/2024/old.wma", "pie/.trash/f.m4a", "stray.m4a"):
        (folder / name).write_bytes(b"something")
    (folder / "metadata.csv").write_text("filename,author\npie/phone.M4A,Ana\npie/gone.m4a,Ana\n")
    notes = FolderDataset(folder).notes()
    assert notes.unreadable == ["merle/2024/old.wma", "pie/phone.M4A"]
    assert notes.missing == ["pie/gone.m4a"]  # the other one is there
    assert len(FolderDataset(folder).recordings()) == 4
    one = write_table(tmp_path / "one.csv", "merle")
    assert FolderDataset(folder, one).notes().unreadable == ["merle/2024/old.wma"]


def test_folder_does_not_lose_a_label_to_a_format(folder, tmp_path):
    for name in ("geai/a.m4a", "geai/b.AMR", "pinson/c.m4a", "merle/d.wma"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"something")
    said = r"mine has folders .* does not read \(\.amr, \.m4a\): geai, pinson: convert them to FLAC or WAV"
    for asked in (FolderDataset.fetch, FolderDataset.species, FolderDataset.recordings):
        with pytest.raises(DatasetError, match=said):
            asked(FolderDataset(folder))
    with pytest.raises(DatasetError, match=r"only recordings in formats .* to FLAC or WAV: geai \(line 3\)"):
        FolderDataset(folder, write_table(tmp_path / "two.csv", "merle", "geai")).recordings()
    assert len(FolderDataset(folder, write_table(tmp_path / "one.csv", "merle")).recordings()) == 2


def test_soundfile_reads_none_of_the_formats_that_are_called_foreign():
    known = readable_suffixes()
    assert not known & _FOREIGN_SUFFIXES
    assert set(SUFFIXES) <= known
