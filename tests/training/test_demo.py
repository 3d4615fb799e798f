"""The synthetic data set: made again alike, read back by BirdCLEF's loader, never half-made."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from tests.few import few
from training.datasets.base import TABLES, DatasetError, read_species_table
from training.datasets.birdclef import METADATA_COLUMNS, BirdClef2021
from training.datasets.demo import DemoDataset, ogg, scene, writer
from training.datasets.demo.recipe import VOICES
from training.datasets.demo.synth import RATE, Bird
from training.datasets.synthetic import SyntheticDataset

SMALL = {
    "seed": 7,
    "codes": ["comcuc", "gretit1"],
    "recordings_per_species": 4,
    "recordists": 3,
    "recordists_per_species": 2,
    "seconds": [3.0, 4.0],
    "snr": [6.0, 30.0],
    "overlap": 0.5,
    "unlisted": 0.0,
    "soundscape_files": 2,
    "soundscape_seconds": 15.0,
    "soundscape_snr": [10.0, 20.0],
    "soundscape_species": 2,
    "bouts_per_minute": 10.0,
    "audible_seconds": 0.3,
}


def files_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    dataset = DemoDataset(root=tmp_path_factory.mktemp("demo") / "small", **SMALL)
    dataset.fetch(progress=False)
    return dataset


def test_layout_is_birdclefs(demo):
    root = Path(demo.root)
    with (root / "train_metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == METADATA_COLUMNS
    for row in rows:
        info = soundfile.info(root / "train_short_audio" / row["primary_label"] / row["filename"])
        assert (info.samplerate, info.channels, info.format, info.subtype) == (RATE, 1, "OGG", "VORBIS")
        assert 3.0 <= info.duration <= 4.0
    read = BirdClef2021(root, "demo", codes=SMALL["codes"])
    assert read.recordings().equals(demo.recordings())
    assert read.soundscapes().equals(demo.soundscapes())
    assert read.notes().missing == []


def test_tables_are_as_ordered(demo):
    recordings = demo.recordings()
    assert [label.ebird_code for label in demo.species()] == ["comcuc", "gretit1"]
    assert recordings["primary_label"].value_counts().to_dict() == {"comcuc": 4, "gretit1": 4}
    assert (recordings.groupby("primary_label")["author"].nunique() == 2).all()
    windows = demo.soundscapes()
    assert len(windows) == 2 * 3
    assert windows["recording_id"].nunique() == 2
    assert windows["start_seconds"].tolist() == [0.0, 5.0, 10.0] * 2
    assert set(windows["labels"].explode().dropna()) <= {"comcuc", "gretit1"}
    assert demo.synthetic
    assert demo.name == "demo"


def test_recordings_are_sound(demo):
    for path in demo.recordings()["path"]:
        samples, _ = soundfile.read(path, dtype="float32")
        assert np.isfinite(samples).all()
        assert 0.1 < np.abs(samples).max() < 1.0


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bytes(demo, tmp_path):
    again = DemoDataset(root=tmp_path / "again", **SMALL)
    again.fetch(progress=False)
    assert files_of(again.root) == files_of(demo.root)
    assert again.revision() == demo.revision()
    other = DemoDataset(root=tmp_path / "other", **SMALL | {"seed": 8})
    other.fetch(progress=False)
    mine, theirs = files_of(demo.root), files_of(other.root)
    assert not any(mine[name] == theirs.get(name) for name in mine)
    assert other.revision() != demo.revision()


@pytest.mark.slow
def test_one_more_recording_changes_no_other(demo, tmp_path):
    more = DemoDataset(root=tmp_path / "more", **SMALL | {"soundscape_files": 3})
    more.fetch(progress=False)
    mine, theirs = files_of(demo.root), files_of(more.root)
    assert all(theirs[name] == data for name, data in mine.items() if name.endswith(".ogg"))


def test_what_is_there_is_not_made_again(demo, monkeypatch):
    monkeypatch.setattr(writer, "write", lambda *_: pytest.fail("made again"))
    DemoDataset(root=demo.root, **SMALL).fetch()


def damage_size(root: Path) -> None:
    with next(root.rglob("*.ogg")).open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize(
    "damage",
    few(
        [
            lambda root: next(root.rglob("*.ogg")).unlink(),
            lambda root: (root / "train_metadata.csv").unlink(),
            lambda root: (root / "train_soundscapes").rename(root / "elsewhere"),
            lambda root: (root / "demo.json").write_text("{"),
            lambda root: (root / "demo.json").write_text('{"made_from": 1}'),
            damage_size,
        ],
        1,
    ),
)
def test_what_is_damaged_is_made_again(tmp_path, damage):
    root = tmp_path / "demo"
    tiny = SMALL | {"recordings_per_species": 2, "soundscape_files": 1, "soundscape_seconds": 5.0}
    DemoDataset(root=root, **tiny).fetch(progress=False)
    whole = files_of(root)
    damage(root)
    dataset = DemoDataset(root=root, **tiny)
    revision = dataset.revision()
    dataset.fetch(progress=False)
    assert files_of(root) == whole
    assert dataset.revision() == revision


def test_an_interrupted_run_leaves_nothing_and_a_new_recipe_replaces_the_old(tmp_path, monkeypatch):
    root = tmp_path / "data" / "demo"
    tiny = SMALL | {"recordings_per_species": 2, "soundscape_files": 0}
    DemoDataset(root=root, **tiny).fetch(progress=False)
    before = files_of(root)
    changed = DemoDataset(root=root, **tiny | {"seed": 9})
    with monkeypatch.context() as patch:
        real, calls = ogg.encode, []

        def interrupted(*arguments):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(*arguments)

        patch.setattr(ogg, "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            changed.fetch(progress=False)
    assert files_of(root) == before
    assert list(root.parent.iterdir()) == [root]
    changed.fetch(progress=False)
    assert files_of(root).keys() == before.keys()
    assert files_of(root) != before
    assert changed.soundscapes().empty


def test_somebody_elses_folder_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(DatasetError, match="something else than a demo"):
        DemoDataset(root=tmp_path, **SMALL).fetch(progress=False)
    assert files_of(tmp_path) == {"precious.txt": b"mine"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codes": ["comcuc", "dodo"]}, "cannot sing dodo: dataset.codes knows blutit"),
        ({"codes": []}, "dataset.codes is empty"),
        ({"recordings_per_species": 0}, "dataset.recordings_per_species is 0"),
        ({"recordists_per_species": 4}, "more than dataset.recordists"),
        ({"seconds": [9.0, 3.0]}, "dataset.seconds is"),
        ({"seconds": [0.1, 3.0]}, "not below 1"),
        ({"snr": [3.0]}, "dataset.snr is"),
        ({"overlap": 1.5}, "dataset.overlap is 1.5"),
        ({"soundscape_seconds": 12.0}, "a multiple of 5"),
        ({"bouts_per_minute": -1.0}, "cannot be negative"),
    ],
)
def test_impossible_recipes_are_refused(tmp_path, change, said):
    with pytest.raises(DatasetError, match=said):
        DemoDataset(root=tmp_path / "demo", **SMALL | change)


def test_conf_makes_a_data_set_of_at_least_twelve_species():
    conf = yaml.safe_load((TABLES.parents[1] / "conf/dataset/demo.yaml").read_text(encoding="utf-8"))
    assert conf.pop("_target_") == "training.datasets.synthetic.SyntheticDataset"
    dataset = SyntheticDataset(**conf)
    assert len(dataset.species()) >= 12
    assert {label.ebird_code for label in read_species_table("demo")} == set(VOICES)


def test_stretches_without_a_bird_are_backgrounds(demo):
    data = SyntheticDataset(root=demo.root, **SMALL)
    windows = demo.soundscapes()
    silent = windows[windows["labels"].str.len() == 0]
    stretches = data.backgrounds()
    assert (stretches["end_seconds"] - stretches["start_seconds"]).sum() == 5.0 * len(silent) > 0
    assert set(stretches["author"]) == set(silent["recording_id"])
    assert data.removed().empty
    assert data.revision() == demo.revision()


# The birds


@pytest.mark.slow
@pytest.mark.parametrize("code", sorted(VOICES))
def test_every_voice_sings_within_reason_and_keeps_its_dialect(code):
    song = VOICES[code]
    for seed in range(4):
        phrase = song(Bird(seed), np.random.default_rng(seed))
        assert 0.3 < len(phrase) / RATE < 12.0
        assert np.isfinite(phrase).all()
        assert np.abs(phrase).max() > 0.1
        assert np.array_equal(phrase, song(Bird(seed), np.random.default_rng(seed)))
    a, b = (song(Bird(seed), np.random.default_rng(0)) for seed in (1, 2))
    assert not np.array_equal(a, b)


@pytest.mark.parametrize(
    ("code", "low", "high"),
    [
        ("comcuc", 450, 750),
        ("cowpig1", 350, 600),
        ("tawowl1", 600, 2600),
        ("gretit1", 2800, 6500),
        ("comchi1", 3200, 7500),
        ("combuz1", 1600, 3200),
    ],
)
def test_voices_are_where_the_field_guides_put_them(code, low, high):
    for seed in range(6):
        phrase = VOICES[code](Bird(seed), np.random.default_rng(seed))
        power = np.abs(np.fft.rfft(phrase)) ** 2
        frequency = np.fft.rfftfreq(len(phrase), 1 / RATE)
        assert power[(frequency > low) & (frequency < high)].sum() > 0.75 * power.sum()


def test_the_cuckoo_falls_by_about_a_third():
    phrase = VOICES["comcuc"](Bird(3), np.random.default_rng(3))
    pitch = [
        np.argmax(np.abs(np.fft.rfft(part, 1 << 16))) * RATE / (1 << 16)
        for part in (phrase[:5440], phrase[10900:19800])
    ]
    assert 1.12 < pitch[0] / pitch[1] < 1.45


# What reaches the recorder


def test_gain_reaches_the_wanted_ratio():
    rng = np.random.default_rng(0)
    background = scene.pink(rng, 4.0)
    tone = np.sin(2 * np.pi * 3000 * np.arange(2 * RATE) / RATE)
    floor = scene.band_power(background).mean(axis=0)
    gain = scene.gain_for(tone, floor, 20.0)
    ratio = (scene.band_power(gain * tone) / floor).max(axis=1)
    assert 10 * np.log10(np.median(ratio)) == pytest.approx(20.0, abs=0.5)


def test_audible_is_what_stands_out():
    rng = np.random.default_rng(0)
    background = scene.pink(rng, 2.0)
    tone = np.sin(2 * np.pi * 3000 * np.arange(2 * RATE) / RATE)
    tone[RATE:] = 0.0
    floor = scene.band_power(background).mean(axis=0)
    half = 2 * RATE // scene.FRAME // 2
    loud = tone * scene.gain_for(tone, floor, 20.0)
    heard = scene.audible(loud, loud + background)
    assert heard[: half - 1].all()
    assert not heard[half + 1 :].any()
    faint = tone * scene.gain_for(tone, floor, -10.0)
    assert not scene.audible(faint, faint + background).any()


# Ogg


def test_ogg_is_reproducible_and_sound():
    samples = (0.1 * np.random.default_rng(0).standard_normal(3 * RATE + 17)).astype(np.float32)
    data = ogg.encode(samples, RATE)
    assert data == ogg.encode(samples, RATE)
    decoded, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == RATE
    assert len(decoded) == len(samples)
    assert np.corrcoef(samples, decoded)[0, 1] > 0.8


def test_ogg_checksums_are_those_of_libogg():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(RATE, np.float32), RATE, format="OGG", subtype="VORBIS")
    theirs = buffer.getvalue()
    serial = int.from_bytes(theirs[14:18], "little")
    assert ogg._with_serial(theirs, serial) == theirs
