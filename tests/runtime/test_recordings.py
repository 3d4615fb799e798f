"""Recordings of any rate, format, length and number of channels; and what is refused."""

from __future__ import annotations

import builtins
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from labous import recordings
from labous.errors import RecordingError
from tests.runtime import audio


def refusal(path: Path) -> str:
    with pytest.raises(RecordingError) as caught:
        recordings.read(path, 16_000)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.fixture
def no_soundfile(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "soundfile")


def _hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == package:
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_and_channels(rate: int, channels: int, tmp_path: Path) -> None:
    samples = audio.noise(2.3, rate, channels)
    path = audio.write(tmp_path / "a.wav", samples, rate, "FLOAT")
    expected = soxr.resample(samples.mean(axis=1), rate, 16_000, quality="HQ")
    found = recordings.read(path, 16_000)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("suffix", audio.FORMATS)
def test_any_format(suffix: str, tmp_path: Path) -> None:
    samples = audio.noise(3.0, 48_000)
    path = audio.write(tmp_path / f"a.{suffix}", samples, 48_000)
    decoded, rate = soundfile.read(path, dtype="float32")
    expected = soxr.resample(decoded, rate, 32_000, quality="HQ")
    # libmpg123's last bit depends on how much is decoded at once; all other decoders give the same bits
    np.testing.assert_allclose(recordings.read(path, 32_000), expected, rtol=0, atol=1e-6 if suffix == "mp3" else 0)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 96_000])
def test_the_resampler_does_not_see_the_blocks(rate: int) -> None:
    samples = audio.noise(2.0, rate)[:, 0]
    expected = soxr.resample(samples, rate, 32_000, quality="HQ")
    for n in (1_000, 4_096, rate):
        blocks = [samples[i : i + n] for i in range(0, len(samples), n)]
        np.testing.assert_array_equal(np.concatenate(list(recordings.resampled(blocks, rate, 32_000))), expected)


@pytest.mark.parametrize("n", [1, 2, 100, 1000])
def test_very_short_recordings(n: int, tmp_path: Path) -> None:
    samples = audio.noise(1.0, 44_100)[:n] + np.float32(0.01) * np.arange(n, dtype=np.float32)[:, np.newaxis]
    path = audio.write(tmp_path / "short.wav", samples, 44_100, "FLOAT")
    if n == 1:
        assert "silent" in refusal(path)  # one sample is no sound
    else:
        assert abs(len(recordings.read(path, 16_000)) - n * 16_000 / 44_100) <= 1


@pytest.mark.parametrize("suffix", audio.FORMATS)
def test_a_truncated_recording_is_refused(suffix: str, tmp_path: Path) -> None:
    path = audio.write(tmp_path / f"a.{suffix}", audio.noise(20.0, 48_000), 48_000)
    whole = path.read_bytes()
    for keep in (0.999, 0.9, 0.5, 0.1):
        path.write_bytes(whole[: int(len(whole) * keep)])
        assert "cut short" in refusal(path), keep


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_damage_in_the_middle_is_refused(suffix: str, tmp_path: Path) -> None:
    path = audio.write(tmp_path / f"a.{suffix}", audio.noise(5.0, 48_000), 48_000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("unknown", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_whose_writer_could_not_tell_its_length_is_read(unknown: int, tmp_path: Path) -> None:
    path = audio.write(tmp_path / "piped.wav", audio.noise(1.0, 16_000), 16_000)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", unknown)
    path.write_bytes(content)
    if unknown == 0:
        # libsndfile reads such a file as empty
        assert "no samples" in refusal(path)
    else:
        assert len(recordings.read(path, 16_000)) == 16_000


@pytest.mark.parametrize("suffix", audio.FORMATS)
def test_a_silent_recording_is_refused(suffix: str, tmp_path: Path) -> None:
    path = audio.write(tmp_path / f"a.{suffix}", np.zeros((96_000, 2), np.float32), 48_000)
    assert "silent" in refusal(path)


def test_a_constant_recording_is_silent(tmp_path: Path) -> None:
    path = audio.write(tmp_path / "a.wav", np.full((48_000, 1), 0.25, np.float32), 48_000)
    assert "silent" in refusal(path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_sample_that_is_not_finite_is_refused_with_its_time(value: float, tmp_path: Path) -> None:
    samples = audio.noise(20.0, 16_000, 2)
    samples[16_000 * 12 + 8_000, 1] = value
    path = audio.write(tmp_path / "a.wav", samples, 16_000, "FLOAT")
    assert "12.500 s" in refusal(path)


def test_what_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("Not a sound.\n" * 100)
    (tmp_path / "cut.ogg").write_bytes(b"OggS" + bytes(20))
    (tmp_path / "x.raw").write_bytes(bytes(1000))
    none = audio.write(tmp_path / "none.wav", np.zeros((0, 1), np.float32), 16_000)
    assert "is empty" in refusal(tmp_path / "empty.wav")
    assert "not audio" in refusal(tmp_path / "text.wav")
    assert "not audio" in refusal(tmp_path / "cut.ogg")
    assert "not audio" in refusal(tmp_path / "x.raw")
    assert "no samples" in refusal(none)
    assert "is a folder" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "nowhere.wav")
    assert "not a regular file" in refusal(Path("/dev/null"))


@pytest.mark.parametrize("rate", [1, 999, 1_000_001])
def test_an_absurd_rate_is_refused(rate: int, tmp_path: Path) -> None:
    path = audio.write(tmp_path / "a.wav", audio.noise(1, 8_000), rate)
    assert f"{rate} Hz" in refusal(path)


def test_blocks_stay_small(tmp_path: Path) -> None:
    path = audio.write(tmp_path / "a.flac", audio.noise(30, 16_000, 2), 16_000)
    sizes = [len(block) for block in recordings.read_blocks(path, 16_000)]
    assert sum(sizes) == 30 * 16_000
    assert max(sizes) <= 2**16


def test_an_unfinished_read_closes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = audio.write(tmp_path / "a.wav", audio.noise(30, 16_000), 16_000)
    opened: list[soundfile.SoundFile] = []
    real = soundfile.SoundFile

    def remembered(file: Path) -> soundfile.SoundFile:
        opened.append(real(file))
        return opened[0]

    monkeypatch.setattr(soundfile, "SoundFile", remembered)
    blocks: Iterator[np.ndarray] = recordings.read_blocks(path, 16_000)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert opened[0].closed


@pytest.mark.usefixtures("no_soundfile")
class TestWithoutSoundfile:
    @pytest.mark.parametrize("channels", [1, 2])
    def test_pcm_wav_is_read_the_same(self, channels: int, tmp_path: Path) -> None:
        path = audio.write(tmp_path / "a.wav", audio.noise(10.0, 44_100, channels), 44_100)
        decoded, _ = soundfile.read(path, dtype="float32", always_2d=True)
        expected = soxr.resample(decoded.mean(axis=1), 44_100, 16_000, quality="HQ")
        np.testing.assert_array_equal(recordings.read(path, 16_000), expected)

    def test_other_formats_say_what_to_install(self, tmp_path: Path) -> None:
        flac = audio.write(tmp_path / "a.flac", audio.noise(1.0, 16_000), 16_000)
        deep = audio.write(tmp_path / "a.wav", audio.noise(1.0, 16_000), 16_000, "PCM_24")
        assert "labous[audio]" in refusal(flac)
        assert "labous[audio]" in refusal(deep)

    def test_a_truncated_wav_is_refused(self, tmp_path: Path) -> None:
        path = audio.write(tmp_path / "a.wav", audio.noise(10.0, 16_000, 2), 16_000)
        whole = path.read_bytes()
        for keep in (30, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:keep])
            assert "cut short" in refusal(path) if keep > 44 else "not a plain WAV" in refusal(path)


def test_without_soxr_the_same_rate_is_read_and_others_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = audio.write(tmp_path / "a.wav", audio.noise(1.0, 16_000), 16_000)
    _hide(monkeypatch, "soxr")
    assert len(recordings.read(path, 16_000)) == 16_000
    with pytest.raises(RecordingError, match=r"soxr; run: pip install 'labous\[audio\]'"):
        recordings.read(path, 32_000)


def test_folders_are_searched(tmp_path: Path) -> None:
    for name in ("b/2.WAV", "b/1.flac", "a.ogg", "b/notes.txt", "b/._1.flac", "c/d/3.mp3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    loose = tmp_path / "b/notes.txt"
    found = recordings.find([loose, tmp_path, tmp_path / "a.ogg", tmp_path / "gone.wav"])
    names = [p.relative_to(tmp_path).as_posix() for p in found]
    assert names == ["b/notes.txt", "a.ogg", "b/1.flac", "b/2.WAV", "c/d/3.mp3", "gone.wav"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match=r"empty' holds no recordings"):
        recordings.find([tmp_path / "empty"])
