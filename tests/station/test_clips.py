"""clips: the right stretch of sound, nothing that privacy withheld, a picture, and a budget that keeps the rare."""

from __future__ import annotations

import collections
import os
import random
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from labous.detect import Detection
from labous.errors import NodeError
from labous.nodes import Context, Record
from labous.nodes.clips import Clips
from labous.nodes.privacy import Privacy
from labous.station.counters import Counters
from labous.station.observations import Observation
from labous.station.shelf import Shelf
from labous.station.sonagram import png, sonagram
from tests.counts import Counted
from tests.runtime import audio
from tests.runtime.bundles import FRONTEND
from tests.station import middle
from tests.station.middle import RATE, SIZE
from tests.station.needs import small_disk
from tests.station.test_privacy import speech

SECONDS = 12
SOUND = np.round(audio.noise(SECONDS, RATE)[:, 0] * 32767).astype(np.float32) / np.float32(32768)  # as FLAC keeps it


@pytest.fixture
def context(bundle_path: Path, tmp_path: Path) -> Context:
    return middle.context(bundle_path, tmp_path)


def windows(step: float = 1.0, sound: np.ndarray = SOUND, observed: dict[int, int] | None = None) -> list[Record]:
    """All windows of the sound, ``observed`` by number with a label."""
    size = round(step * RATE)
    records = []
    for n, start in enumerate(range(0, len(sound) - SIZE + 1, size)):
        record = middle.at(start, fresh=SIZE if n == 0 else min(size, SIZE), audio=sound[start : start + SIZE])
        label = (observed or {}).get(n)
        record.columns["observations"] = () if label is None else (middle.observation(record, label),)
        records.append(record)
    return records


def clips(folder: Path) -> dict[str, np.ndarray]:
    return {
        f"{path.parent.name}/{path.stem}": soundfile.read(path, dtype="float32")[0]
        for path in sorted(folder.glob("*/*.flac"))
    }


@pytest.mark.parametrize("step", [1.0, 0.5, 0.25])
def test_a_clip_has_the_sound_before_and_after(step: float, context: Context, tmp_path: Path) -> None:
    numbers = {n: round(n / step) for n in (0, 5, 11)}  # at the beginning, in the middle, at the end
    node = Clips(path="out", before=2.0, after=1.5).open(context)
    records = windows(step, observed={at: label for label, at in enumerate(numbers.values())})
    assert middle.through([node], records, "garden.wav") == records
    found = list(clips(tmp_path / "out").values())
    by_start = {0: (0, 2.5), 5: (3, 7.5), 11: (9, 12)}
    named = sorted(clips(tmp_path / "out"), key=lambda name: name.split("/")[1])
    for name, (first, last) in zip(named, by_start.values(), strict=True):
        np.testing.assert_array_equal(
            clips(tmp_path / "out")[name], SOUND[int(first * RATE) : int(last * RATE)], err_msg=name
        )
    assert len(found) == 3
    assert named[0].startswith("eurrob1/20260501T041530Z-")
    assert context.counters.read()["clips_total"] == 3


def test_a_clip_is_there_as_soon_as_the_sound_after_it_is(context: Context, tmp_path: Path) -> None:
    node = Clips(path="out", before=1, after=2).open(context)
    there = []
    for record in windows(observed={3: 0}):
        list(node.process(record))
        there.append(len(clips(tmp_path / "out")))
    assert there == [0] * 5 + [1] * 7


def test_memory_does_not_grow_with_the_stream(context: Context) -> None:
    node = Clips(before=2, after=2, spectrogram=False).open(context)
    for n in range(500):
        record = middle.at(n * SIZE, audio=SOUND[:SIZE])
        record.columns["observations"] = (middle.observation(record),) if n % 100 == 0 else ()
        list(node.process(record))
        kept = sum(len(piece) for _, piece in node._tapes["garden.wav"]._pieces)
        assert kept <= 6 * SIZE
    assert context.counters.read()["clips_total"] == 5


def test_gaps_new_beginnings_and_the_end_cut_clips_short(context: Context, tmp_path: Path) -> None:
    node = Clips(path="out", before=2, after=2).open(context)
    some = [record for n, record in enumerate(windows(observed={3: 0, 6: 1, 11: 2})) if n not in (1, 5, 8)]
    middle.through([node], some)
    again = windows(sound=SOUND[: 2 * SIZE], observed={1: 3})
    for record in again:
        record.time = None
    again[1].columns["observations"] = (middle.observation(again[1], 3),)
    middle.through([node], again)
    node.close()  # without an end
    found = clips(tmp_path / "out")
    lengths = {name.split("/")[0]: len(samples) / RATE for name, samples in found.items()}
    assert lengths == {"eurrob1": 3.0, "comcuc": 2.0, "winwre4": 3.0, "hergul": 2.0}
    np.testing.assert_array_equal(next(v for k, v in found.items() if "comcuc" in k), SOUND[6 * RATE : 8 * RATE])
    assert any(name.startswith("hergul/undated-") for name in found)


def test_a_short_recording_is_not_padded(context: Context, tmp_path: Path) -> None:
    record = middle.at(0, 5000, audio=np.pad(SOUND[:5000], (0, SIZE - 5000)))
    record.columns["observations"] = (middle.observation(record),)
    middle.through([Clips(path="out").open(context)], [record], "garden.wav")
    (samples,) = clips(tmp_path / "out").values()
    np.testing.assert_array_equal(samples, SOUND[:5000])


def test_what_privacy_withholds_is_in_no_clip(context: Context, tmp_path: Path, counted: Counted) -> None:
    sound = (0.1 * SOUND).astype(np.float32)
    talk = speech(1.0, RATE)
    sound[6 * RATE : 7 * RATE] += talk
    everything = {n: n % 4 for n in range(23)}
    for step in (1.0, 0.5):
        folder = f"out{step}"
        nodes = [Privacy().open(context), Clips(path=folder, before=5, after=5).open(context)]
        passed = middle.through(nodes, windows(step, sound, everything), "garden.wav")
        # windows that touch one that holds a bit of the voice, which is from 6 to 7 s
        assert passed
        for samples in clips(tmp_path / folder).values():
            loudest = np.abs(samples).max()
            assert loudest < 0.5 * np.abs(talk).max()
            joined = np.correlate(samples, talk[: RATE // 4])
            assert np.abs(joined).max() < 0.3 * np.square(talk[: RATE // 4]).sum()
        lasting = {round(len(samples) / RATE, 1) for samples in clips(tmp_path / folder).values()}
        counted(
            f"speech, a window every {step:g} s", f"{len(passed)} windows pass, in clips of {sorted(lasting)} s is none"
        )
        assert max(lasting) <= 5


def test_ogg_and_its_words(context: Context, tmp_path: Path) -> None:
    record = windows(observed={0: 0})[0]
    hostile = "x\n\x1b[31m/../y"
    detection = Detection("garden.wav", 0.0, 1.0, hostile, hostile, hostile, hostile, score=0.5)
    record.columns["observations"] = (Observation.of("labous", record.time, detection, 1, hostile),)
    middle.through([Clips(path="out", format="ogg").open(context)], [record], "garden.wav")
    sounds, pictures = list((tmp_path / "out").rglob("*.ogg")), list((tmp_path / "out").rglob("*.png"))
    assert [p.parent.parent for p in sounds + pictures] == [tmp_path / "out"] * 2
    assert all(p.parent.name.isascii() and p.parent.name.isprintable() for p in sounds)
    with soundfile.SoundFile(sounds[0]) as file:
        assert (file.format, file.subtype, file.samplerate, file.frames) == ("OGG", "VORBIS", RATE, SIZE)
        assert file.title.isprintable()
        assert file.comment == f"{record.columns['observations'][0].id} probability 0.500"
        assert file.date == "2026-05-01T04:15:30+00:00"


def pixels(content: bytes) -> np.ndarray:
    """Reads a gray PNG, by the book."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        parts[kind] = body
        at += 12 + length
    width, height, *rest = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert rest == [8, 0, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]


def test_a_picture_shows_the_spectrogram_and_where_the_observation_is(context: Context, tmp_path: Path) -> None:
    t = np.arange(SECONDS * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 6000 * t) * ((t > 5) & (t < 6)) + 0.001 * SOUND).astype(np.float32)
    node = Clips(path="out", before=2, after=1).open(context)
    middle.through([node], windows(sound=tone, observed={5: 0}), "garden.wav")
    (path,) = (tmp_path / "out").rglob("*.png")
    image = pixels(path.read_bytes())
    height, width = image.shape
    assert width == FRONTEND.frames_of(4 * RATE)
    assert 200 <= height < 230
    darkest = np.unravel_index(image[:-4].argmin(), image[:-4].shape)
    assert darkest[0] < height / 4  # high is up
    assert width / 2 <= darkest[1] < 3 * width / 4
    marked = np.flatnonzero(image[-1] == 0)
    assert (marked[0], marked[-1]) == (round(width / 2), round(3 * width / 4) - 1)
    np.testing.assert_array_equal(pixels(png(image)), image)
    assert pixels(sonagram(np.zeros((16, 9), np.float32), (0, 1)))[:-4].min() == 255  # silence is paper


def put(shelf: Shelf, species: str, n: int, size: int = 100) -> bool:
    return shelf.put(species, f"20260501T{n:06d}Z-{n:08x}", {".flac": bytes(size - 30), ".png": bytes(30)})


def held(folder: Path) -> dict[str, list[int]]:
    return {
        place.name: sorted(int(path.stem[9:15]) for path in place.glob("*.flac"))
        for place in sorted(folder.iterdir())
        if any(place.glob("*.flac"))
    }


def test_the_oldest_of_the_commonest_species_goes_first(tmp_path: Path) -> None:
    counters = Counters()
    shelf = Shelf(tmp_path / "clips", 1000, counters)
    for n, species in enumerate("aaaaaabbbc"):
        assert put(shelf, species, n)
    assert held(tmp_path / "clips") == {"a": [0, 1, 2, 3, 4, 5], "b": [6, 7, 8], "c": [9]}
    for n in range(10, 14):
        assert put(shelf, "b", n)
    assert held(tmp_path / "clips") == {"a": [2, 3, 4, 5], "b": [8, 10, 11, 12, 13], "c": [9]}
    for n in range(14, 80):
        assert put(shelf, "a", n)
    assert held(tmp_path / "clips")["c"] == [9]  # the rare one stays
    assert len(list((tmp_path / "clips").rglob("*.png"))) == 10
    read = counters.read()
    assert (read["clips_bytes"], read["clips_evicted_total"]) == (1000, 70)


def test_a_shelf_goes_on_after_a_restart_and_leaves_other_files_alone(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    shelf = Shelf(folder, 1000, Counters())
    for n, species in enumerate("aaaabbbbc"):
        put(shelf, species, n)
        os.utime(folder / species / f"20260501T{n:06d}Z-{n:08x}.flac", (n + 1, n + 1))
        os.utime(folder / species / f"20260501T{n:06d}Z-{n:08x}.png", (n + 1, n + 1))
    (folder / "a/notes.txt").write_bytes(bytes(5000))
    (folder / "elsewhere").symlink_to(tmp_path)
    (folder / "a/.20260501T000099Z-00000000.flac.part").write_bytes(bytes(5000))  # a power cut
    counters = Counters()
    again = Shelf(folder, 1000, counters)
    assert counters.read()["clips_bytes"] == 900
    for n in range(20, 23):
        assert put(again, "d", n)
    assert held(folder) == {"a": [1, 2, 3], "b": [5, 6, 7], "c": [8], "d": [20, 21, 22]}
    assert (folder / "a/notes.txt").exists()
    assert not list(folder.rglob("*.part"))
    assert put(again, "d", 22, 150)  # the same clip again, longer
    assert held(folder) == {"a": [2, 3], "b": [5, 6, 7], "c": [8], "d": [20, 21, 22]}
    assert counters.read()["clips_bytes"] == 950
    assert not put(again, "e", 30, 1001)
    assert counters.read()["lost_clips_total"] == 1


def test_a_clock_that_was_ahead_costs_no_newer_clip(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    shelf = Shelf(folder, 500, Counters())
    for n in range(3):
        put(shelf, "a", n)
    ahead = time.time() + 3650 * 86_400
    for n, path in enumerate(sorted(folder.rglob("*.*"))):
        os.utime(path, (ahead + n, ahead + n))
    for n in range(3, 8):
        put(Shelf(folder, 500, Counters()), "a", n)  # each after a restart
    assert held(folder) == {"a": [3, 4, 5, 6, 7]}


def test_whatever_comes_the_budget_holds_and_the_books_are_right(tmp_path: Path, counted: Counted) -> None:
    dice, counters, folder = random.Random(3), Counters(), tmp_path / "clips"
    shelf = Shelf(folder, 2000, counters)
    alive: dict[str, collections.deque[int]] = {species: collections.deque() for species in "abcdef"}
    for n in range(200):
        if n % 60 == 59:
            shelf = Shelf(folder, 2000, counters)
        species = dice.choices("abcdef", (50, 20, 10, 5, 2, 1))[0]
        put(shelf, species, n)
        # a model of the rule: the newest counts, but never goes itself
        alive[species].append(n)
        while sum(map(len, alive.values())) > 20:
            ranked = [name for name in alive if alive[name] and alive[name][0] != n]
            alive[min(ranked, key=lambda name: (-len(alive[name]), alive[name][0]))].popleft()
        if n % 50 == 49:
            assert held(folder) == {name: list(numbers) for name, numbers in sorted(alive.items()) if numbers}
            on_disk = sum(path.stat().st_size for path in folder.rglob("*.*"))
            assert on_disk == counters.read()["clips_bytes"] <= 2000
    counted("200 clips on a disk for 20", f"{counters.read()['clips_evicted_total']:.0f} evicted, the budget kept")


def test_a_recording_that_is_heard_again_has_its_clips_once(context: Context, tmp_path: Path) -> None:
    for _ in range(2):
        node = Clips(path="out").open(context)
        middle.through([node], windows(observed={2: 0, 7: 1}), "garden.wav")
    assert len(clips(tmp_path / "out")) == 2


def test_no_clip_is_saved_where_the_disk_is_nearly_full(context: Context, tmp_path: Path) -> None:
    node = Clips(path="out", free_megabytes=1e9).open(context)
    middle.through([node], windows(observed={2: 0}), "garden.wav")
    assert not clips(tmp_path / "out")
    assert context.counters.read()["lost_clips_total"] == 1


def test_a_full_disk_holds_clips_up(context: Context, tmp_path: Path, counted: Counted) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        node = Clips(path="disk", free_megabytes=0, spectrogram=False).open(context)
        (disk / "ballast").write_bytes(bytes(200_000))
        records = windows(observed={2: 0})
        middle.through([node], records)
        failed = context.counters.read()['sink_errors_total{node="clips"}']
        assert failed >= 1
        assert not list(disk.rglob("*.flac")) and not list(disk.rglob("*.part"))
        (disk / "ballast").unlink()
        node.end("garden.wav")  # waits until it is written
        assert len(clips(disk)) == 1
        assert context.counters.read()["clips_total"] == 1
    counted("disk full under clips, and back", f"{failed:.0f} attempts failed, 1 clip of 1 saved, nothing half written")


def test_without_soundfile_the_error_says_what_to_install(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(NodeError, match=r"pip install 'labous\[audio\]'"):
        Clips().open(context)


def test_its_columns(context: Context) -> None:
    from labous import nodes

    told: Any = Clips(observations="seen")
    assert nodes.reads(told) == ("audio", "seen")
    assert nodes.writes(told) == ()
    assert nodes.reads(Privacy()) == ("audio",)
