"""The teacher: its file, the mixtures that it listens to, what it says, and what is made of that."""

from __future__ import annotations

import ast
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr

from labous.frontend import Frontend
from tests.few import few
from tests.training.small_teacher import EMBEDDING, write_teacher
from training.config import compose
from training.datasets.base import Species
from training.errors import ConfigError, StageError
from training.features import conf_frontends
from training.stages import ROOT
from training.teacher import birdnet
from training.teacher.birdnet import BirdNet, TeacherError
from training.teacher.listening import CODE, Listening, Sounds, spans
from training.teacher.mixtures import Library, Mixer
from training.teacher.opinions import Hearing
from training.teacher.settings import BirdNetTeacher
from training.teacher.taught import (
    Opinions,
    Taught,
    open_opinions,
    open_taught,
    principal_components,
)

ROBIN = Species("eurrob1", "Erithacus rubecula", "European Robin", "Rougegorge familier")
WREN = Species("winwre4", "Troglodytes troglodytes", "Eurasian Wren", "Troglodyte mignon")
CROW = Species("carcro1", "Corvus corone", "Carrion Crow", "Corneille noire")
PARTS = ((0.0, 0.6), (0.4, 1.0))
COLUMNS = ["recording_id", "primary_label"]
RATE = 32000
FRONTEND: Frontend = conf_frontends()["mel64"]


@pytest.fixture(scope="session")
def teacher_place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("teacher")
    write_teacher(place, ["Gallus gallus_Fowl", "Nannus troglodytes_Eurasian Wren", "Erithacus rubecula_Robin", "x_y"])
    return place


@pytest.fixture(scope="session")
def told(teacher_place) -> BirdNetTeacher:
    """conf/teacher/birdnet.yaml, for little work."""
    overrides = [f"teacher.path={teacher_place}", "teacher.mixtures=8", "teacher.mixtures_per_file=4"]
    found = compose(["teacher=birdnet", *overrides, "teacher.embedding_size=5"]).teacher
    assert isinstance(found, BirdNetTeacher)
    return found


@pytest.fixture(scope="session")
def sounds(tmp_path_factory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tones: each recording has a pitch and length of its own, so that a spectrum tells who is in a mixture."""
    place = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    rows = []
    for n, (code, author, seconds) in enumerate(
        [("eurrob1", "ann", 2.0), ("eurrob1", "ben", 7.0), ("winwre4", "ann", 30.0), ("winwre4", "cat", 5.0)]
    ):
        time = np.arange(int(seconds * RATE)) / RATE
        path = place / f"{n}.wav"
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * 1000 * (n + 1) * time), RATE)
        rows.append((f"{code}/{n}.wav", str(path), code, author))
    noise = place / "sea.wav"
    soundfile.write(noise, 0.1 * rng.standard_normal(3 * RATE), RATE)
    recordings = pd.DataFrame(rows, columns=["recording_id", "path", "primary_label", "author"])
    columns = ["recording_id", "path", "start_seconds", "end_seconds"]
    backgrounds = pd.DataFrame(
        [("sea.wav", str(noise), 0.0, np.nan), ("sea.wav#1", str(noise), 1.0, 2.0)], columns=columns
    )
    return recordings, backgrounds


def mixer(sounds, told, **changes) -> Mixer:
    recipe = dataclasses.replace(told, **changes)
    return Mixer(*sounds, recipe, Library(RATE, 2**30), RATE, FRONTEND.window_samples)


def plain(**changes) -> dict:
    """A recipe of one recording as it is."""
    off = {"sources": (1.0,), "speed_probability": 0.0, "filter_probability": 0.0, "reverberation_probability": 0.0}
    return {**off, "background_probability": 0.0, "background_alone": 0.0, **changes}


def pitches(samples: np.ndarray) -> set[int]:
    """Which of the recordings' tones sound, by number."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    bands = [power[np.abs(hertz - 1000 * (n + 1)) < 50].sum() for n in range(4)]
    return {n for n, band in enumerate(bands) if band > 1e-4 * max(bands)}


def test_the_teacher_gives_the_logits_of_its_whole_file(teacher_place):
    from ai_edge_litert.interpreter import Interpreter

    samples = np.random.default_rng(1).standard_normal(144000).astype(np.float32)
    teacher = BirdNet(teacher_place, [ROBIN, WREN])
    embedding = teacher.embed(samples)
    assert embedding.shape == (EMBEDDING,) == (teacher.embedding_size,)
    whole = Interpreter(model_path=str(birdnet.find(teacher_place)[0]))
    whole.allocate_tensors()
    whole.set_tensor(whole.get_input_details()[0]["index"], samples[None])
    whole.invoke()
    logits = whole.get_tensor(whole.get_output_details()[0]["index"])[0]
    # the wren by its English name, whose scientific one has changed
    np.testing.assert_allclose(teacher.logits(embedding), logits[[2, 1]], rtol=1e-4, atol=1e-5)


def test_a_species_that_the_teacher_lacks_is_named(teacher_place):
    with pytest.raises(TeacherError, match=r"no class for Corvus corone \(carcro1\): correct .*teacher=none"):
        BirdNet(teacher_place, [ROBIN, CROW])


def test_a_teacher_that_is_not_there(tmp_path):
    with pytest.raises(TeacherError, match=r"Model_FP32.tflite is not there; install it .* teacher.path"):
        birdnet.find(tmp_path)


def test_labels_of_another_model(teacher_place, tmp_path):
    model, labels = birdnet.find(teacher_place)
    (tmp_path / model.name).write_bytes(model.read_bytes())
    (tmp_path / labels.name).write_text(labels.read_text() + "One_more\n")
    with pytest.raises(TeacherError, match=r"has 4 classes, and .* another number"):
        BirdNet(tmp_path, [ROBIN])


@pytest.mark.parametrize(
    ("override", "said"),
    few(
        [
            ("teacher.sources=[0.5,0.4]", "shares of 1, 2, … sources that sum to 1"),
            ("teacher.speed=[0.0,1.2]", "slowest, fastest"),
            ("teacher.tilt_db=[3.0]", "low, high"),
            ("teacher.ripple_db=-1.0", "at least 0"),
            ("teacher.reverberation_seconds=[0.0,1.0]", "above 0"),
            ("teacher.background_alone=1.5", "a probability lies between 0 and 1"),
            ("teacher.draw_from=valid", "choose train or all"),
            ("teacher.share=0.0", "above 0"),
            ("teacher.temperature=0.0", "above 0"),
            ("teacher.windows=0", "at least 1"),
            ("teacher.opinion_hop_seconds=0.0", "above 0"),
            ("teacher.mix_probability=2.0", "a probability lies between 0 and 1"),
            ("teacher.mix_gain_db=[3.0,0.0]", "low, high"),
            ("teacher.label_logits=[-1.0,1.0]", "labelled, others"),
        ],
        4,
    ),
)
def test_impossible_values_are_refused(override, said):
    with pytest.raises(ConfigError, match=said):
        compose(["teacher=birdnet", override])


def test_a_mixture_is_decided_by_its_number(sounds, told):
    one, other = (mixer(sounds, told) for _ in range(2))
    first, again = one.draw(np.random.default_rng([7, 1])), other.draw(np.random.default_rng([7, 1]))
    assert first.sources == again.sources and first.background == again.background
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.samples.dtype == np.float32 and first.samples.shape == (FRONTEND.window_samples,)
    assert not np.array_equal(first.samples, one.draw(np.random.default_rng([7, 2])).samples)


def test_a_mixture_names_who_is_in_it(sounds, told):
    ours = mixer(sounds, told, **plain(sources=(0.2, 0.4, 0.4), source_level_db=(-6.0, 0.0)))
    ids = list(sounds[0].recording_id)
    seen = set()
    for n in range(40):
        mixture = ours.draw(np.random.default_rng(n))
        assert {ids[tone] for tone in pitches(mixture.samples)} == set(mixture.sources)
        assert len(set(mixture.sources)) == len(mixture.sources) and mixture.background == ""
        seen.add(len(mixture.sources))
    assert seen == {1, 2, 3}


def test_species_and_recordists_are_drawn_evenly(sounds, told):
    ours = mixer(sounds, told, **plain())
    drawn = pd.Series([ours.draw(np.random.default_rng(n)).sources[0] for n in range(400)]).value_counts()
    assert len(drawn) == 4 and drawn.min() > 70  # 100 each, by chance 8.7 more or less


def test_the_second_voice_has_its_level(sounds, told):
    ours = mixer(sounds, told, **plain(sources=(0.0, 1.0), source_level_db=(-20.0, -20.0)))
    mixture = next(
        m
        for m in (ours.draw(np.random.default_rng(n)) for n in range(60))
        if m.sources == ("winwre4/2.wav", "winwre4/3.wav")
    )
    power = np.abs(np.fft.rfft(mixture.samples)) ** 2
    hertz = np.fft.rfftfreq(len(mixture.samples), 1 / RATE)
    first, second = (power[np.abs(hertz - tone) < 50].sum() for tone in (3000, 4000))
    assert 10 * np.log10(second / first) == pytest.approx(-20, abs=0.1)


def test_the_background_has_its_level_and_name(sounds, told):
    ours = mixer(sounds, told, **plain(background_probability=1.0, background_snr_db=(10.0, 10.0)))
    mixture = next(
        m for m in (ours.draw(np.random.default_rng(n)) for n in range(60)) if m.sources == ("winwre4/2.wav",)
    )
    assert mixture.background in ("sea.wav", "sea.wav#1")
    spectrum = np.fft.rfft(mixture.samples)
    hertz = np.fft.rfftfreq(len(mixture.samples), 1 / RATE)
    tone = np.abs(hertz - 3000) < 5
    snr = 10 * np.log10((np.abs(spectrum[tone]) ** 2).sum() / (np.abs(spectrum[~tone]) ** 2).sum())
    assert snr == pytest.approx(10, abs=0.1)


def test_backgrounds_alone(sounds, told):
    mixture = mixer(sounds, told, **plain(background_alone=1.0)).draw(np.random.default_rng(0))
    assert mixture.sources == () and mixture.background and np.abs(mixture.samples).max() > 0.05


def test_without_backgrounds_there_are_none(sounds, told):
    ours = mixer((sounds[0], sounds[1].iloc[:0]), told, background_alone=1.0, background_probability=1.0)
    assert ours.draw(np.random.default_rng(0)).background == ""


def test_speed_changes_pitch(sounds, told):
    ours = mixer(sounds, told, **plain(speed_probability=1.0, speed=(1.1, 1.1)))
    mixture = next(
        m for m in (ours.draw(np.random.default_rng(n)) for n in range(60)) if m.sources == ("winwre4/2.wav",)
    )
    hertz = np.fft.rfftfreq(len(mixture.samples), 1 / RATE)
    assert hertz[np.abs(np.fft.rfft(mixture.samples)).argmax()] == pytest.approx(3300, abs=1)


@pytest.fixture
def click(tmp_path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A recording as long as a window, silent but for a click after a second: it tells what it went through."""
    samples = np.zeros(FRONTEND.window_samples, np.float32)
    samples[RATE] = 0.9
    soundfile.write(tmp_path / "click.wav", samples, RATE, subtype="FLOAT")
    recordings = pd.DataFrame(
        [("click.wav", str(tmp_path / "click.wav"), "eurrob1", "ann")],
        columns=["recording_id", "path", "primary_label", "author"],
    )
    return recordings, pd.DataFrame(columns=["recording_id", "path", "start_seconds", "end_seconds"])


def test_a_filter_is_straight_in_decibels_an_octave(click, told):
    ours = mixer(click, told, **plain(filter_probability=1.0, tilt_db=(-2.0, -2.0), ripple_db=0.0))
    samples = ours.draw(np.random.default_rng(0)).samples
    gain = 20 * np.log10(np.abs(np.fft.rfft(samples)))
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    at = {f: gain[np.abs(hertz - f).argmin()] for f in (750, 1500, 3000, 6000, 12000)}
    np.testing.assert_allclose(np.diff(list(at.values())), -2, atol=0.02)
    # a ripple bends it, by about as much as it says
    rough = mixer(click, told, **plain(filter_probability=1.0, tilt_db=(0.0, 0.0), ripple_db=3.0))
    bends = [20 * np.log10(np.abs(np.fft.rfft(rough.draw(np.random.default_rng(n)).samples))) for n in range(40)]
    octaves = [np.abs(hertz - f).argmin() for f in (750, 1500, 3000, 6000)]
    assert 1 < np.std(np.diff(np.array(bends)[:, octaves], axis=1)) / 2**0.5 < 5


def test_reverberation_decays_as_told_below_the_direct_sound(click, told):
    always = plain(reverberation_probability=1.0, reverberation_seconds=(0.5, 0.5), direct_db=(6.0, 6.0))
    samples = mixer(click, told, **always).draw(np.random.default_rng(0)).samples.astype(np.float64)
    direct, tail = samples[RATE], samples[RATE + 1 :]
    assert np.abs(samples[:RATE]).max() < 1e-6 * direct  # nothing comes before
    assert 10 * np.log10(direct**2 / np.sum(tail**2)) == pytest.approx(6, abs=0.01)
    level = [10 * np.log10(np.mean(part**2)) for part in (tail[:1600], tail[8000:9600])]
    assert level[1] - level[0] == pytest.approx(-60 * 0.25 / 0.5, abs=2)
    assert not tail[round(0.5 * RATE) + 10 :].any() or np.abs(tail[round(0.5 * RATE) + 10 :]).max() < 1e-6


def test_a_library_keeps_to_its_bytes(sounds):
    library = Library(RATE, 12 * RATE * 2)  # twelve seconds
    lengths = {path: len(library.samples(path)) for path in sounds[0].path}
    assert sum(kept.nbytes for kept in library._kept.values()) <= 30 * RATE * 2  # one at least, however long
    assert {path: len(library.samples(path)) for path in sounds[0].path} == lengths


@pytest.fixture
def work(sounds, told, tmp_path) -> Listening:
    return Listening(Sounds.of(*sounds, "r1"), (ROBIN, WREN), FRONTEND, "wasm", told, tmp_path)


def test_listening_leaves_the_network_s_input_and_the_teacher_s_words(work, told, sounds):
    from labous.mel import MelSpectrogram

    assert work(0) == 0
    mels, said = np.load(work.mels(0)), np.load(work.words(0))
    assert mels.shape == (4, FRONTEND.n_mels, FRONTEND.n_frames) and mels.dtype == np.float16
    assert said["embeddings"].shape == (4, 2, EMBEDDING) and said["logits"].shape == (4, 2, 2)
    rng, again = np.random.default_rng([told.seed, 0]), mixer(sounds, told)
    spectrogram = MelSpectrogram(FRONTEND)
    for mel, sources in zip(mels, said["sources"], strict=True):
        mixture = again.draw(rng)
        assert "\n".join(mixture.sources) == sources
        np.testing.assert_array_equal(mel, spectrogram(mixture.samples).astype(np.float16))


def test_what_is_there_is_not_heard_again(work, monkeypatch):
    work(1)
    before = work.words(1).read_bytes(), work.mels(1).read_bytes()
    monkeypatch.setattr(BirdNet, "embed", lambda *_: pytest.fail("the teacher was asked again"))
    times = work.words(1).stat().st_mtime_ns, work.mels(1).stat().st_mtime_ns
    work(1)
    assert (work.words(1).stat().st_mtime_ns, work.mels(1).stat().st_mtime_ns) == times
    # another front end: other inputs of the same sounds, and not a word from the teacher
    other = dataclasses.replace(work, frontend=dataclasses.replace(FRONTEND, n_mels=80))
    other(1)
    assert np.load(other.mels(1)).shape == (4, 80, FRONTEND.n_frames) and other.words(1) == work.words(1)
    work.mels(1).unlink()
    work(1)
    assert (work.words(1).read_bytes(), work.mels(1).read_bytes()) == before


def test_another_revision_recipe_or_species_is_another_directory(work):
    changes = [
        {"sounds": dataclasses.replace(work.sounds, revision="r2")},
        {"species": (ROBIN,)},
        {"told": dataclasses.replace(work.told, seed=8)},
        {"told": dataclasses.replace(work.told, speed=(0.9, 1.1))},
    ]
    places = [dataclasses.replace(work, **change).words_place for change in changes]
    assert len({work.words_place, *places}) == 1 + len(places)
    more = dataclasses.replace(
        work, told=dataclasses.replace(work.told, mixtures=100, share=0.5, temperature=2.0, mix_gain_db=(0.0, 0.0))
    )
    assert more.words_place == work.words_place


@pytest.mark.parametrize("changed", [None, *(path.name for path in CODE)])
def test_another_code_is_another_directory(work, tmp_path, monkeypatch, changed):
    before = work.words_place
    (tmp_path / "code").mkdir()
    copies = [Path(shutil.copy(path, tmp_path / "code")) for path in CODE]
    for path in copies:
        path.write_text(path.read_text() + ("# changed\n" if path.name == changed else ""))
    monkeypatch.setattr("training.teacher.listening.CODE", copies)
    assert (dataclasses.replace(work).words_place == before) == (changed is None)


def test_the_directory_is_named_after_all_code_that_mixtures_are_made_with():
    # what a front end and a species are is hashed with their values, and the network's inputs have a hash of their own
    others = {"base.py", "errors.py", "features.py", "files.py", "frontend.py", "power_law.py", "segments.py"}
    others |= {"settings.py"}
    roots = {"training": ROOT / "training", "labous": ROOT / "runtime" / "src" / "labous"}
    found = set()
    for node in (node for path in CODE for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in roots:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                top, *rest = name.split(".")
                found.add(roots[top].joinpath(*rest).with_suffix(".py"))
    imported = {path for path in found if path.is_file() and path.name not in others}
    assert imported == set(CODE) - {ROOT / "training" / "teacher" / "listening.py"}


def unlabelled(*names) -> dict[str, list[int]]:
    return {name: [] for name in names}


def test_labels_move_what_the_teacher_held_for_possible(work, sounds, told):
    work(0)
    once = dataclasses.replace(told, mix_probability=0.0, label_logits=(2.0, -1.0))
    rows = [(name, int(code == "winwre4")) for name, code in zip(*(sounds[0][c] for c in COLUMNS), strict=True)]
    labels = {**{name: [number] for name, number in rows}, **unlabelled("sea.wav", "sea.wav#1")}
    said = np.load(work.words(0))
    taught = Taught([work.words(0)], [work.mels(0)], labels, PARTS, once, FRONTEND)
    mels, moved = np.load(work.mels(0)).astype(np.float32), set()
    for n in range(30):
        example = taught.draw(np.random.default_rng(n))
        row = int(np.flatnonzero((mels == example.mel).all(axis=(1, 2)))[0])
        named = {labels[name][0] for name in str(said["sources"][row]).split("\n") if name}
        shift = np.array([2.0 if label in named else -1.0 for label in range(2)])
        expected = 1 / (1 + np.exp(-(said["logits"][row].astype(np.float64) + shift)))
        np.testing.assert_allclose(example.parts.targets, expected, rtol=1e-4)
        moved.add(tuple(shift))
    assert len(moved) > 1


def test_taught_keeps_to_what_may_be_learnt_from(work, sounds, told):
    for number in range(6):
        work(number)
    words, mels = ([of(n) for n in range(6)] for of in (work.words, work.mels))
    names = [f"{code}" for code in sounds[0].recording_id]
    told = dataclasses.replace(told, mix_probability=0.0, label_logits=(0.0, 0.0))
    everything = Taught(words, mels, unlabelled(*names, "sea.wav", "sea.wav#1"), PARTS, told, FRONTEND)
    some = Taught(words, mels, unlabelled(*names[1:], "sea.wav"), PARTS, told, FRONTEND)
    assert some.embedding_size == 5
    assert 0 < len(some) < len(everything) == 24
    said = [np.load(path) for path in words]
    mel = np.concatenate([np.load(path) for path in mels]).astype(np.float32)
    logits = np.concatenate([s["logits"] for s in said]).astype(np.float32)
    sources = np.concatenate([s["sources"] for s in said])
    background = np.concatenate([s["background"] for s in said])
    drawn = set()
    for n in range(200):
        example = some.draw(np.random.default_rng(n))
        row = int(np.flatnonzero((mel == example.mel).all(axis=(1, 2)))[0])
        assert names[0] not in sources[row].split("\n") and background[row] != "sea.wav#1"
        np.testing.assert_allclose(example.targets, 1 / (1 + np.exp(-logits[row].max(axis=0))), rtol=1e-5)
        np.testing.assert_allclose(example.parts.targets, 1 / (1 + np.exp(-logits[row])), rtol=1e-5)
        assert example.parts.embeddings.shape == (2, 5) and not example.mixes
        drawn.add(row)
    assert len(drawn) == len(some)
    soft = dataclasses.replace(told, temperature=4.0)
    softer = (
        Taught(words, mels, unlabelled(*names, "sea.wav", "sea.wav#1"), PARTS, soft, FRONTEND)
        .draw(np.random.default_rng(0))
        .targets
    )
    assert (np.abs(softer - 0.5) < np.abs(everything.draw(np.random.default_rng(0)).targets - 0.5)).all()


def test_an_opinion_is_of_the_stretch_and_the_label(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 9], [1, 9], [5, 9], [2, 9], [3, 9]], np.float16))
    np.save(tmp_path / "b.npy", np.array([[7, -4]], np.float16))
    table = pd.DataFrame([("a", "eurrob1"), ("b", "winwre4")], columns=["recording_id", "primary_label"])
    opinions = Opinions(tmp_path, table, ["eurrob1", "winwre4"], window_seconds=3.0, hop_seconds=1.5)
    # windows of "a" are centred at 1.5, 3, 4.5, 6, 7.5 s
    assert opinions("a", 0.0, 4.0) == 1 and opinions("a", 0.0, 5.0) == 5 and opinions("a", 5.0, 8.0) == 3
    assert opinions("a", 6.2, 6.8) == 3  # none lies within: the next one
    assert opinions("a", 20.0, 25.0) == 3  # zeros behind the end
    assert opinions("b", 0.0, 5.0) == -4
    (tmp_path / "b.npy").unlink()
    with pytest.raises(StageError, match=r"has not heard b; run python -m training\.teach"):
        Opinions(tmp_path, table, ["eurrob1", "winwre4"], window_seconds=3.0, hop_seconds=1.5)


def test_opinions_are_heard_once(sounds, teacher_place, tmp_path, monkeypatch):
    jobs = [(str(r.recording_id), str(r.path)) for r in sounds[0].itertuples()]
    hearing = Hearing("r1", (ROBIN, WREN), teacher_place, 1.5, tmp_path)
    for job, seconds in zip(jobs, (2.0, 7.0, 30.0, 5.0), strict=True):
        assert hearing(job) == job[0]
        said = np.load(hearing.directory / f"{job[0]}.npy")
        assert said.shape == (max(0, int((seconds - 3) / 1.5)) + 1, 2) and np.isfinite(said).all()
    teacher = BirdNet(teacher_place, [ROBIN, WREN])
    third = soxr.resample(soundfile.read(jobs[2][1], dtype="float32")[0], RATE, 48000)[3 * 72000 :][:144000]
    said = np.load(hearing.directory / f"{jobs[2][0]}.npy")[3]
    np.testing.assert_allclose(said, teacher.logits(teacher.embed(third)), atol=0.05)
    monkeypatch.setattr(BirdNet, "embed", lambda *_: pytest.fail("the teacher was asked again"))
    assert hearing(jobs[2]) == jobs[2][0]
    assert dataclasses.replace(hearing, hop_seconds=1.0).directory != hearing.directory


@pytest.mark.parametrize(
    ("record", "asks", "said"),
    [
        ({"teacher": None}, open_taught, "says nothing of words"),
        ({"words": [], "mels": [], "labels": ["eurrob1"]}, open_taught, "says nothing of parts"),
        ({"words": [], "mels": [], "parts": [], "labels": ["winwre4"]}, open_taught, "is of other species"),
        ({"words": [], "mels": [], "parts": [], "labels": ["eurrob1"]}, open_opinions, "says nothing of opinions"),
    ],
)
def test_what_teach_left_otherwise_is_said(tmp_path, told, record, asks, said):
    (tmp_path / "taught.json").write_text(json.dumps(record))
    nothing = pd.DataFrame(columns=["recording_id", "primary_label", "secondary_labels"])
    given = (told, FRONTEND, nothing, nothing) if asks is open_taught else (nothing,)
    with pytest.raises(
        StageError, match=rf"taught\.json {said}; run python -m training\.teach with this configuration"
    ):
        asks(tmp_path, *given, ["eurrob1"])


def test_nothing_left_to_learn_from_is_said(work):
    work(0)
    with pytest.raises(StageError, match=r"no mixture of the training share alone; raise teacher\.mixtures"):
        Taught([work.words(0)], [work.mels(0)], unlabelled("another"), PARTS, work.told, FRONTEND)


def test_two_mixtures_in_one_have_what_was_said_of_either(work, sounds, told):
    for number in range(2):
        work(number)
    words, mels = ([of(n) for n in range(2)] for of in (work.words, work.mels))
    labels = unlabelled(*sounds[0].recording_id, "sea.wav", "sea.wav#1")
    always = dataclasses.replace(told, mix_probability=1.0, mix_gain_db=(-3.0, -3.0), label_logits=(0.0, 0.0))
    taught = Taught(words, mels, labels, PARTS, always, FRONTEND)
    mel = np.concatenate([np.load(path) for path in mels]).astype(np.float64)
    power = 10 ** ((mel / FRONTEND.db_scale - FRONTEND.db_offset) / 10)
    targets = 1 / (1 + np.exp(-np.concatenate([np.load(path)["logits"] for path in words]).astype(np.float64)))
    found = set()
    for n in range(20):
        example = taught.draw(np.random.default_rng(n))
        heard = 10 ** ((example.mel.astype(np.float64) / FRONTEND.db_scale - FRONTEND.db_offset) / 10)
        sums = power[:, None] + 10**-0.3 * power[None]
        off = np.abs(np.log(np.maximum(sums, FRONTEND.amin) / heard)).max(axis=(2, 3))
        first, second = (int(i) for i in np.unravel_index(off.argmin(), off.shape))
        assert off[first, second] < 1e-2
        np.testing.assert_allclose(example.parts.targets, np.maximum(targets[first], targets[second]), rtol=1e-4)
        np.testing.assert_allclose(example.targets, example.parts.targets.max(axis=0))
        assert example.parts.embeddings is None
        found.add((first, second))
    assert len(found) > 5


def test_the_parts_that_the_teacher_hears_are_where_its_windows_lie():
    assert spans(2, 5.0) == PARTS and spans(3, 5.0) == ((0.0, 0.6), (0.2, 0.8), (0.4, 1.0))
    assert spans(1, 3.0) == ((0.0, 1.0),)
    assert spans(2, 2.0) == ((0.0, 1.0), (0.0, 1.0))  # padded for the teacher


def test_principal_components_are_uncorrelated_and_ordered():
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((500, 8)) @ rng.standard_normal((8, 8)) * 3 + 5).astype(np.float32)
    found = principal_components(values, 4)
    covariance = np.cov(found.T)
    assert found.shape == (500, 4) and np.mean(np.diag(covariance)) == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-4)
    assert (np.diff(np.diag(covariance)) <= 1e-6).all()


def test_without_a_teacher_the_stage_leaves_a_note(tmp_path):
    from training.teach import teach

    teach(compose([f"paths.taught={tmp_path / 'taught'}"]))
    assert '"teacher": null' in (tmp_path / "taught" / "taught.json").read_text()


@pytest.fixture
def prepared(teacher_place, tmp_path):
    """Settings of made recordings, two species of six, that are prepared for real."""
    from training import prepare

    rng = np.random.default_rng(0)
    for code, tone in (("eurrob1", 2000), ("winwre4", 5000)):
        for n in range(6):
            folder = tmp_path / "root" / code
            folder.mkdir(parents=True, exist_ok=True)
            wave = 0.3 * np.sin(2 * np.pi * tone * np.arange(4 * RATE) / RATE) + 0.01 * rng.standard_normal(4 * RATE)
            soundfile.write(folder / f"{n}.wav", wave, RATE)
    table = tmp_path / "species.csv"
    pd.DataFrame([ROBIN, WREN]).to_csv(table, index=False)
    (tmp_path / "noise").mkdir()
    for n in range(6):
        soundfile.write(tmp_path / "noise" / f"{n}.wav", 0.1 * rng.standard_normal(5 * RATE), RATE)
    places = [f"paths.{name}={tmp_path / name}" for name in ("prepared", "taught", "validate")]
    settings = compose(
        [
            "dataset=folder",
            f"dataset.root={tmp_path / 'root'}",
            f"dataset.species={table}",
            f"dataset.backgrounds=[{tmp_path / 'noise'}]",
            "split.test=0.4",
            "features.workers=1",
            "features.backend=wasm",
            "evaluate.noise_snr_db=[10.0]",
            "teacher=birdnet",
            f"teacher.path={teacher_place}",
            *places,
        ]
    )
    prepare.prepare(settings)
    return settings


def test_the_teacher_itself_is_measured_on_what_a_run_held_out(prepared, tmp_path):
    """Clean and noisy rows, the teacher's logits, and a regression that learns."""
    from training.scores import read_scores
    from training.teacher import peers

    peers.compare(prepared)
    found = read_scores(tmp_path / "validate" / "peers.npz")
    truth = found["recordings/truth"]
    assert len(truth) and truth.shape == found["recordings_10db/truth"].shape
    for kind in ("recordings", "recordings_10db"):
        for peer in peers.PEERS:
            probabilities = found[f"{kind}/probabilities/{peer}"]
            assert probabilities.shape == truth.shape and np.isfinite(probabilities).all()
    right = found["recordings/logits/logistic_regression"].argmax(axis=1) == truth.argmax(axis=1)
    assert right.all()  # two tones, in an embedding that nobody trained
    assert not np.array_equal(found["recordings/logits/birdnet"], found["recordings_10db/logits/birdnet"])


def test_the_peers_are_heard_again_where_anything_they_are_made_of_has_changed(prepared, monkeypatch, capsys):
    from training.scores import read_scores
    from training.teacher import peers

    path = prepared.paths.validate / "peers.npz"
    peers.compare(prepared)
    before = read_scores(path)
    with monkeypatch.context() as patched:
        patched.setattr(BirdNet, "embed", lambda *_: pytest.fail("the teacher was asked again"))
        peers.compare(prepared)
    assert "is up to date" in capsys.readouterr().out
    peers.compare(dataclasses.replace(prepared, evaluate=dataclasses.replace(prepared.evaluate, noise_seed=77)))
    kind = "recordings_10db/logits/birdnet"
    assert not np.array_equal(read_scores(path)[kind], before[kind])
    table = prepared.paths.prepared / "recordings.csv"
    recordings = pd.read_csv(table)
    valid = recordings.index[recordings.split == "valid"]
    recordings.loc[valid, "split"] = "test"
    recordings.to_csv(table, index=False)
    peers.compare(prepared)
    assert len(read_scores(path)["recordings/truth"]) == len(before["recordings/truth"]) + len(valid)


def test_the_peers_want_something_held_out(prepared):
    from training.teacher import peers

    table = prepared.paths.prepared / "recordings.csv"
    recordings = pd.read_csv(table)
    recordings.assign(split="train").to_csv(table, index=False)
    with pytest.raises(StageError, match="No recording was held out"):
        peers.compare(prepared)


def test_the_peers_are_compared_without_noise_where_none_was_held_out(prepared, tmp_path):
    from training.scores import kinds_of, read_scores
    from training.teacher import peers

    table = prepared.paths.prepared / "backgrounds.csv"
    backgrounds = pd.read_csv(table)
    backgrounds.assign(split="train").to_csv(table, index=False)
    peers.compare(prepared)
    assert kinds_of(read_scores(tmp_path / "validate" / "peers.npz")) == ["recordings"]


@pytest.mark.slow
def test_the_teacher_chooses_windows_where_it_is_asked_to(prepared):
    from training.fit import make_sampler
    from training.prepared import read_backgrounds, read_prepared
    from training.teach import teach

    little = {"mixtures": 8, "mixtures_per_file": 4, "draw_from": "all", "chooses_windows": True, "share": 0.5}
    settings = dataclasses.replace(prepared, teacher=dataclasses.replace(prepared.teacher, **little))
    teach(settings)
    place, root = settings.paths.prepared, settings.dataset.root
    recordings, _, labels = read_prepared(place, root)
    sampler = make_sampler(settings, recordings, read_backgrounds(place, root), list(labels.ebird_code))
    asked = []
    (labelled, _) = sampler._sources
    opinion = labelled._opinion
    labelled._opinion = lambda *stretch: asked.append(stretch) or opinion(*stretch)
    batch = sampler.batch(0, 0)
    assert np.isfinite(batch.inputs).all() and 0 < batch.heard.sum() < len(batch.heard)
    trained = set(recordings.recording_id[recordings.split == "train"])
    assert asked and {name for name, _, _ in asked} <= trained == set(opinion._said)
