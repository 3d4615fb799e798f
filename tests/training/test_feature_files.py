"""A feature file is the same whether a recording was computed whole, in blocks or for a stretch, in bounded memory."""

import dataclasses
import io
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from labous.frontend import Frontend
from labous.recordings import read, windows
from tests.training.preparing import noise, write
from training import segments
from training.errors import StageError
from training.features import conf_frontends, mel_spectrogram
from training.segments import WHOLE, Extraction, Job, Stretch, runs_of_frames, size_of, write_features

FRONTENDS = conf_frontends()
LOCAL = FRONTENDS["mel64"]
SMALL = dataclasses.replace(
    LOCAL, sample_rate=8000, window_seconds=0.1, n_fft=256, win_length=256, hop_length=100, n_mels=8, f_max=4000.0
)


def saved(array: np.ndarray) -> bytes:
    """As numpy writes it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def whole(samples: np.ndarray, frontend: Frontend) -> np.ndarray:
    """Features of samples that are all there, in one call of the mel stage a segment."""
    mel = mel_spectrogram(frontend, "native")
    if frontend.frames_are_local and len(samples) >= frontend.window_samples:
        return mel(samples)[None].astype(np.float16)
    return np.stack([mel(window.samples) for window in windows([samples], frontend)]).astype(np.float16)


def written(blocks, frontend, path) -> bytes:
    assert write_features(runs_of_frames(blocks, frontend, "native"), path, joined=frontend.frames_are_local)
    return path.read_bytes()


@pytest.fixture
def work(tmp_path):
    return Extraction(LOCAL, "native", "code", tmp_path / "prepared")


def job(path, *stretches, **more) -> Job:
    return Job(str(path), stretches or (WHOLE,), **{"size": size_of(str(path))} | more)


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("seconds", [0.02, 4.999, 5.0, 16.4, 40.0])
def test_blocks_give_the_bytes_of_the_whole(name, seconds, tmp_path):
    samples = noise(seconds, 1)
    blocks = np.split(samples, range(7001, len(samples), 7001))
    assert written(blocks, FRONTENDS[name], tmp_path / "f.npy") == saved(whole(samples, FRONTENDS[name]))


@settings(max_examples=60, deadline=None)
@given(
    n_samples=st.integers(1, 9000),
    hop_length=st.integers(1, 700),
    centered=st.booleans(),
    sizes=st.lists(st.integers(0, 900), min_size=1, max_size=8),
)
def test_whatever_the_lengths(n_samples, hop_length, centered, sizes, tmp_path_factory):
    frontend = dataclasses.replace(SMALL, hop_length=hop_length, center=centered)
    samples = noise(n_samples / 8000, n_samples, 8000)
    edges = np.cumsum(sizes * (1 + n_samples // max(1, sum(sizes)))) if sum(sizes) else [0]
    blocks = np.split(samples, [edge for edge in edges if edge < n_samples])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "FRAMES_AT_ONCE", 5)
        found = written(blocks, frontend, tmp_path_factory.mktemp("features") / "f.npy")
    assert found == saved(whole(samples, frontend))


@pytest.mark.parametrize("frontend", [LOCAL, FRONTENDS["librosa"]], ids=["local", "centered"])
def test_what_does_not_fit_into_memory_goes_to_disk_and_comes_back(frontend, tmp_path, monkeypatch):
    samples = noise(50.0, 3)
    expected = written([samples], frontend, tmp_path / "memory.npy")
    monkeypatch.setattr(segments, "SPOOL_BYTES", 1000)
    assert written([samples], frontend, tmp_path / "disk.npy") == expected
    assert {path.name for path in tmp_path.iterdir()} == {"memory.npy", "disk.npy"}


def test_of_no_samples_there_is_no_file(tmp_path):
    assert not write_features(runs_of_frames([], LOCAL, "native"), tmp_path / "f.npy", joined=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", [32_000, 44_100])
def test_a_stretch_is_those_seconds_of_the_recording(work, tmp_path, rate):
    path = write(tmp_path / "r.wav", 23.0, 5, rate)
    # some overlap, and want the file to be read more than once; the last ends with the recording
    asked = [Stretch(0.5, 9.0), WHOLE, Stretch(3.0, 4.5), Stretch(9.0, 20.0), Stretch(20.0), Stretch(21.0, 99.0)]
    outcome = work(job(path, *asked))
    samples = read(path, LOCAL.sample_rate)
    assert outcome.seconds == len(samples) / 32_000
    assert {feature.stretch for feature in outcome.features} == set(asked)
    for feature in outcome.features:
        start, end = feature.stretch.start, min(feature.stretch.end, 23.0)
        cut = samples[round(start * 32_000) : round(end * 32_000)]
        assert feature.seconds == len(cut) / 32_000
        assert (work.place / feature.name).read_bytes() == saved(whole(cut, LOCAL))
    assert len({feature.name for feature in outcome.features}) == len(asked)


def test_a_stretch_behind_the_end_is_told_and_the_others_are_computed(work, tmp_path):
    outcome = work(job(write(tmp_path / "r.wav", 8.0, 5), Stretch(0.0, 5.0), Stretch(30.0, 35.0)))
    first, second = outcome.features
    assert first.name
    assert not first.reason
    assert not second.name
    assert "ends at 8.0 s" in second.reason


def test_what_is_wrong_with_the_end_of_a_file_counts_for_all_its_stretches(work, tmp_path):
    path = tmp_path / "r.wav"
    samples = noise(20.0, 1)
    samples[-1] = np.nan
    soundfile.write(path, samples, 32_000, subtype="FLOAT")
    outcome = work(job(path, Stretch(0.0, 5.0)))
    assert "not finite" in outcome.reason
    assert outcome.features == ()


def test_a_soundscape_without_stretches_is_read_to_its_end(work, tmp_path):
    outcome = work(dataclasses.replace(job(write(tmp_path / "r.wav", 8.0, 5)), stretches=()))
    assert (outcome.seconds, outcome.features, outcome.reason) == (8.0, (), "")


def test_a_known_file_is_hashed_and_not_decoded(work, tmp_path, monkeypatch):
    first = work(job(write(tmp_path / "r.wav", 8.0, 5)))
    monkeypatch.setattr(segments, "read_blocks", lambda *_: pytest.fail("it was decoded"))
    moved = (tmp_path / "r.wav").rename(tmp_path / "moved.wav")
    assert work(job(moved, known=(first,))) == dataclasses.replace(first, path=str(moved))


def test_a_file_that_a_worker_sees_otherwise_is_no_bad_recording(work, tmp_path):
    path = write(tmp_path / "r.wav", 1.0, 5)
    for seen, said in (({"size": 17}, "17 bytes"), ({"size": -1}, "no such file")):
        with pytest.raises(StageError, match=f"r.wav.*{said}.*same files"):
            work(job(path, **seen))
    gone = job(tmp_path / "gone.wav")
    assert "gone.wav" in work(gone).reason


def test_a_full_disk_is_no_fault_of_the_recording(work, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments, "written_beside", full)
    with pytest.raises(OSError, match="No space"):
        work(job(write(tmp_path / "r.wav", 1.0, 5)))


@pytest.mark.slow
@pytest.mark.parametrize("frontend", [LOCAL, FRONTENDS["librosa"]], ids=["local", "centered"])
def test_memory_does_not_grow_with_the_length(frontend, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SPOOL_BYTES", 2**16)  # which even the shortest fills
    work = Extraction(frontend, "native", "code", tmp_path / "prepared")
    peaks = []
    for minutes in (1, 2, 8):
        path = write(tmp_path / f"{minutes}.wav", 60.0 * minutes, minutes)
        work(job(path, Stretch(0.0, 1.0)))  # sets up the mel stage
        tracemalloc.start()
        work(job(path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    held_whole = 8 * 60 * 32_000 * 4
    assert max(peaks) < 1.1 * min(peaks)
    assert max(peaks) < held_whole / 4
