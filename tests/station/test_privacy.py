"""privacy: no window that touches a voice gets past it, and all others do, in their order."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labous.detect import Label, Scoring
from labous.errors import NodeError
from labous.nodes import Context, Record
from labous.nodes.confirm import Confirm
from labous.nodes.privacy import Privacy
from labous.station.predictions import Classifier
from labous.station.voice import voicing
from tests.counts import Counted
from tests.few import few
from tests.runtime import audio
from tests.station import middle
from tests.station.middle import RATE, SIZE

HUMAN = Classifier(
    (Label("human", "Homo sapiens", "Human", "Humain"), Label("eurrob1", "Erithacus rubecula", "Robin", "Rougegorge")),
    Scoring.plain(2),
    None,
    3,
    "test 1",
)
QUIET = np.zeros(SIZE, np.float32)


@pytest.fixture
def context(bundle_path: Path, tmp_path: Path) -> Context:
    return middle.context(bundle_path, tmp_path)


@pytest.fixture
def human(tmp_path: Path) -> str:
    """The table of that model's labels."""
    fields = [field.name for field in dataclasses.fields(Label)]
    rows = [fields, *(dataclasses.astuple(label) for label in HUMAN.labels)]
    (tmp_path / "human.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    return "human.csv"


def window(start: int, voice: bool, **more: Any) -> Record:
    said = middle.predicted([2.0 if voice else -9.0, 5.0], HUMAN)
    return middle.at(start, audio=QUIET, predictions=said, **more)


def speech(seconds: float, rate: int, pitch: float = 120.0, seed: int = 0) -> np.ndarray:
    """float32 [n_samples]: syllables of harmonics under formants, whose pitch falls; something like a man counting."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    falling = pitch * (1 - 0.15 * (t % 1.0))
    phase = 2 * np.pi * np.cumsum(falling) / rate
    formants = (500, 80), (1500, 120), (2500, 160)
    out = np.zeros_like(t)
    for n in range(1, int(3500 / pitch)):
        weight = sum(1 / (1 + ((n * pitch - center) / width) ** 2) for center, width in formants)
        out += weight / n**0.5 * np.sin(n * phase + rng.uniform(0, 2 * np.pi))
    syllables = np.clip(np.sin(2 * np.pi * 2.5 * t), 0, 1) ** 0.5
    return (0.3 * out / np.abs(out).max() * syllables).astype(np.float32)


def expected(windows: list[tuple[int, bool]], margin: int = 0) -> list[int]:
    """Starts of the windows that touch none with a voice, each compared with each."""
    voices = [start for start, voice in windows if voice]
    return [s for s, _ in windows if all(v > s + SIZE + margin or s > v + SIZE + margin for v in voices)]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, SIZE // 2, SIZE - 1, SIZE, SIZE + 1, 3 * SIZE]), st.booleans()), max_size=14
    ),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_windows_pass_if_and_only_if_they_touch_no_voice(
    context: Context, human: str, steps: list[tuple[int, bool]], margin: float
) -> None:
    starts = np.cumsum([step for step, _ in steps]).tolist()
    windows = list(zip(starts, (voice for _, voice in steps), strict=True))
    node = Privacy(listen=False, labels=human, margin=margin).open(context)
    before = context.counters.read().get("private_windows_total", 0)
    found = middle.through([node], [window(*one) for one in windows], "garden.wav")
    passing = expected(windows, round(margin * RATE))
    assert [record.start for record in found] == passing
    assert context.counters.read().get("private_windows_total", 0) - before == len(windows) - len(passing)


def test_a_window_waits_no_longer_than_it_must(context: Context, human: str) -> None:
    node = Privacy(listen=False, labels=human).open(context)
    gone = [[out.start // SIZE for out in node.process(window(n * SIZE, False))] for n in range(4)]
    assert gone == [[], [], [0], [1]]
    assert [out.start // SIZE for out in node.end("garden.wav")] == [2, 3]


def test_the_neighbors_of_a_voice_are_withheld_inclusively(context: Context, human: str) -> None:
    node = Privacy(listen=False, labels=human).open(context)
    records = [window(n * SIZE, n == 3) for n in range(8)]
    assert [r.start // SIZE for r in middle.through([node], records, "garden.wav")] == [0, 1, 5, 6, 7]
    apart = [window(0, False), window(SIZE + 1, True), window(2 * SIZE + 2, False)]
    assert [r.start for r in middle.through([node], apart, "garden.wav")] == [0, 2 * SIZE + 2]


def test_streams_and_new_beginnings_do_not_mix(context: Context, human: str) -> None:
    node = Privacy(listen=False, labels=human).open(context)
    records = [window(0, True), window(0, False, stream="b"), window(5 * SIZE, False), window(0, False)]
    out = [(r.stream, r.start) for record in records for r in node.process(record)]
    out += [(r.stream, r.start) for stream in ("garden.wav", "b") for r in node.end(stream)]
    assert sorted(out) == [("b", 0), ("garden.wav", 0), ("garden.wav", 5 * SIZE)]


def test_the_models_voice_is_named_by_the_user_and_heard_early(context: Context, human: str) -> None:
    records = [middle.at(0, audio=QUIET, predictions=middle.predicted([-2.1, 5.0], HUMAN))]  # 0.11
    for options, passes in (
        (Privacy(), False),
        (Privacy(probability=0.2), True),
        (Privacy(voices=("humain",), labels=human), False),
        (Privacy(voices=()), True),
        (Privacy(predictions="others"), True),
    ):
        assert len(middle.through([options.open(context)], records, "garden.wav")) == passes


def test_what_can_hear_no_voice_is_refused(context: Context, human: str) -> None:
    for options in (Privacy(listen=False), Privacy(listen=False, voices=())):
        with pytest.raises(NodeError, match="privacy: no voice can be heard"):
            options.open(context)  # the bundle has no label of voices
    with pytest.raises(NodeError, match=r"privacy: voices names 'Homo sapins'.* perhaps human"):
        Privacy(voices=("Human", "Homo sapins"), labels=human).open(context)
    with pytest.raises(NodeError, match="cannot be read"):
        Privacy(labels="nowhere.csv").open(context)
    unsaid = middle.at(0, audio=QUIET)
    with pytest.raises(NodeError, match="no voice can be heard"):  # a model that nobody asks
        middle.through([Privacy(listen=False, labels=human).open(context)], [unsaid])
    other = middle.at(0, audio=QUIET, predictions=middle.predicted([0.0] * 4, middle.classifier()))
    with pytest.raises(NodeError, match="voices names 'Human'"):  # another model than was told
        middle.through([Privacy(voices=("Human",), labels=human).open(context)], [other])


def test_the_log_says_what_it_goes_by(context: Context, human: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "labous")
    silent = [middle.at(n * SIZE, audio=QUIET) for n in range(3)]
    middle.through([Privacy().open(context)], silent)
    middle.through([Privacy(labels=human).open(context)], [window(n * SIZE, False) for n in range(3)])
    middle.through([Privacy(listen=False, labels=human).open(context)], [window(0, False)])
    pitch = "a pitch with harmonics, with 0.45 or more"
    model = "what the model takes for Human, with 0.1 or more"
    assert caplog.messages == [f"privacy withholds {rules}." for rules in (pitch, f"{model}, and {pitch}", model)]


def test_a_species_is_reported_behind_a_withheld_window(context: Context) -> None:
    model = middle.classifier()
    rows = [[5.0, 4.9 if n == 0 else -9.0, -9.0, -9.0] for n in range(20)]  # label 1 plays the voice
    records = [middle.at(n * SIZE, audio=QUIET, predictions=middle.predicted(row, model)) for n, row in enumerate(rows)]
    nodes = [
        Privacy(listen=False, voices=("comcuc",)).open(context),
        Confirm(hits=1, windows=1, interval=300, exclude=("comcuc",)).open(context),
    ]
    passed = middle.through(nodes, records, "garden.wav")
    assert [record.start // SIZE for record in passed if record.columns["observations"]] == [2]


def test_without_a_voice_class_the_sound_itself_tells(context: Context) -> None:
    sound = np.concatenate((audio.noise(3, RATE)[:, 0] * 0.1, speech(1, RATE), audio.noise(4, RATE)[:, 0] * 0.1))
    records = [middle.at(n * SIZE, audio=sound[n * SIZE : (n + 1) * SIZE].astype(np.float32)) for n in range(8)]
    node = Privacy().open(context)
    assert [r.start // SIZE for r in middle.through([node], records, "garden.wav")] == [0, 1, 5, 6, 7]


@pytest.mark.parametrize("rate", few([16_000, 32_000, 48_000], 1))
def test_the_rule_tells_speech_from_what_is_none(rate: int, counted: Counted) -> None:
    t = np.arange(5 * rate) / rate
    rng = np.random.default_rng(0)
    noise = audio.noise(5, rate)[:, 0]
    wind = np.cumsum(rng.normal(0, 1, len(t)))
    wind = (wind - np.convolve(wind, np.ones(rate // 20) / (rate // 20), "same")).astype(np.float32)
    cuckoo = (0.3 * np.sin(2 * np.pi * 550 * t) * (np.sin(2 * np.pi * t) > 0)).astype(np.float32)
    blackbird = (0.3 * np.sin(2 * np.pi * (2000 * t + 60 * np.sin(9 * t)))).astype(np.float32)
    silence = np.zeros(5 * rate, np.float32)
    voices: list[float] = []
    others: list[float] = []
    cases = {"silence": silence, "noise": noise, "wind": wind, "cuckoo": cuckoo, "blackbird": blackbird}
    for name, sound in cases.items():
        strength = voicing(sound.astype(np.float32), rate)
        others.append(strength)
        assert strength < 0.45, name
    for pitch in (100, 150, 220, 300):
        for level in (1.0, 0.05):
            mixed = (level * speech(5, rate, pitch) + level * 0.03 * rng.normal(0, 1, len(t))).astype(np.float32)
            strength = voicing(mixed, rate)
            voices.append(strength)
            assert strength > 0.45, (pitch, level)
    counted(f"voicing at {rate} Hz", f"speech {min(voices):.2f} and more, other sounds {max(others):.2f} and less")
    assert voicing(np.zeros(100, np.float32), rate) == 0


@pytest.mark.real
def test_on_real_recordings_speech_is_withheld_and_birds_are_not(real_audio: Path, counted: Counted) -> None:
    from labous.recordings import read

    def share(paths: list[Path]) -> tuple[float, int]:
        heard = []
        for path in paths:
            samples = read(path, 32_000)[: 20 * 32_000]
            for start in range(0, len(samples) - 160_000 + 1, 160_000):
                heard.append(voicing(samples[start : start + 160_000], 32_000) >= Privacy().voicing)
        return float(np.mean(heard)), len(heard)

    birds, n_birds = share(sorted(real_audio.glob("train_short_audio/*/*"))[::4])
    talk, n_talk = share([p for p in sorted(real_audio.glob("background/speech_human/*")) if "karol" not in p.name])
    counted("voices in real recordings", f"{birds:.1%} of {n_birds} windows of birds, {talk:.1%} of {n_talk} of speech")
    assert birds < 0.05
    assert talk > 0.8
