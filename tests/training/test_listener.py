"""The executable ``labous-<machine>`` gives what ``labous analyze --format jsonl`` gives, and refuses the same."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from labous import Bundle
from labous.errors import RecordingError
from melspec_cpp import boards
from tests.training import listening
from tests.training.listening import RATE, WINDOW, compare, sound, wheel_lines
from training.aot import __main__ as command
from training.aot.hearing import build_listener

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() not in boards.MACHINES, reason=f"nothing is built for {platform.machine()}"),
]

N_FFT = 512
SUBTYPES = ("PCM_16", "PCM_24", "PCM_32", "FLOAT")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return listening.litert(listening.write_bundle(tmp_path_factory.mktemp("listener") / "bundle"))


@pytest.fixture(scope="module")
def program(bundle: Bundle) -> Path:
    place = bundle.path.parent / "labous"
    build_listener(bundle, platform.machine(), place)
    return place


def run(program: Path, *arguments: object, given: bytes = b"", **options: object) -> subprocess.CompletedProcess[str]:
    """What is written is UTF-8."""
    words = [str(word) for word in (program, *arguments)]
    done = subprocess.run(words, input=given, capture_output=True, check=False, timeout=120, **options)
    return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())


def write(path: Path, samples: np.ndarray, subtype: str = "PCM_16", kind: str = "WAV", rate: int = RATE) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype, format=kind)
    return path


@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 11])
def test_formats(program: Path, bundle: Bundle, subtype: str, channels: int, kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a b.wav", sound(3 * WINDOW + 4000, channels), subtype, kind)
    done = run(program, path)
    assert (done.returncode, done.stderr) == (0, "")
    compare(done.stdout, wheel_lines(bundle, path))
    assert done.stdout.count("\n") > 4


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.3333, 0.99])
@pytest.mark.parametrize(
    "length", [1, N_FFT, WINDOW - 1, WINDOW, WINDOW + N_FFT - 1, WINDOW + N_FFT, 2 * WINDOW, 2 * WINDOW + 5000]
)
@pytest.mark.parametrize("weight", [0.0, 0.2, 1 / 3])
def test_windows(
    length: int, overlap: float, weight: float, weighted: dict[float, tuple[Bundle, Path]], tmp_path: Path
) -> None:
    bundle, program = weighted[weight]
    samples = sound(max(length, 2))[: max(length, 2)]  # one sample by itself is silence
    path = write(tmp_path / "r.wav", samples, "FLOAT")
    done = run(program, f"--overlap={overlap}", "--min-score", "0", "--top-n", 9, path)
    assert (done.returncode, done.stderr) == (0, "")
    compare(done.stdout, wheel_lines(bundle, path, overlap=overlap, min_score=0.0, top_n=9))
    assert done.stdout.count("\n") >= 4
    piped = run(program, f"--overlap={overlap}", "--min-score=0", "--top-n=9", "-", given=path.read_bytes())
    assert piped.stdout.replace('"-"', json.dumps(str(path))) == done.stdout and piped.returncode == 0


@pytest.fixture(scope="module")
def weighted(bundle: Bundle, program: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Bundles and programs by the weight of neighbors in smoothing."""
    made = {bundle.scoring.neighbor_weight: (bundle, program)}
    for weight in (0.0, 1 / 3):
        folder = tmp_path_factory.mktemp("weighted")
        other = listening.litert(listening.write_bundle(folder / "bundle", neighbor_weight=weight))
        build_listener(other, platform.machine(), folder / "labous")
        made[weight] = other, folder / "labous"
    return made


@pytest.mark.parametrize("min_score", [None, 0.0, 0.00001, 0.5, 1.0])
@pytest.mark.parametrize("top_n", [1, 2, 4, 100])
def test_scores(program: Path, bundle: Bundle, min_score: float | None, top_n: int, tmp_path: Path) -> None:
    path = write(tmp_path / "r.wav", sound(9 * WINDOW))
    options = [] if min_score is None else ["--min-score", min_score]
    done = run(program, "--top-n", top_n, *options, path)
    compare(done.stdout, wheel_lines(bundle, path, min_score=min_score, top_n=top_n))


def test_scores_near_0_and_1(tmp_path: Path) -> None:
    """Such as Python writes with an exponent."""
    path, seen = write(tmp_path / "r.wav", sound(9 * WINDOW)), ""
    for offset in (-14.0, -12.5, -11.0, -9.5, 14.0):
        place = tmp_path / str(offset)
        bundle = listening.litert(listening.write_bundle(place, neighbor_weight=0.0, offset=offset))
        build_listener(bundle, platform.machine(), place / "labous")
        done = run(place / "labous", "--top-n=9", "--min-score=0", path)
        compare(done.stdout, wheel_lines(bundle, path, min_score=0.0, top_n=9))
        seen += done.stdout
    for form in (r"\de-06}", r"\d\.\de-05}", r"0\.0001\d*}", r"0\.99999\d}"):
        assert re.search(form, seen), form


def test_several_recordings(program: Path, bundle: Bundle, tmp_path: Path) -> None:
    """None knows of the one before, damaged as it may be."""
    paths = [write(tmp_path / f"{seed}.wav", sound(3 * WINDOW, seed=seed)) for seed in range(3)]
    broken = tmp_path / "broken.wav"
    broken.write_bytes(header(3, bits=32) + NAN)
    done = run(program, paths[0], broken, *paths[1:])
    assert done.returncode == 1 and done.stderr.endswith("1 of 4 recordings could not be analyzed.\n")
    compare(done.stdout, [line for path in paths for line in wheel_lines(bundle, path)])


def test_a_file_whose_name_is_a_dash(program: Path, bundle: Bundle, tmp_path: Path) -> None:
    path = write(tmp_path / "-", sound(2 * WINDOW))
    done = run(program, "./-", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    compare(done.stdout.replace('"-"', json.dumps(str(path))), wheel_lines(bundle, path))


@pytest.mark.parametrize(
    ("name", "dtype"), [("", "<i2"), (":2", "<i2"), (":1:s16le", "<i2"), (":2:s32le", "<i4"), (":3:f32le", "<f4")]
)
def test_raw(program: Path, bundle: Bundle, name: str, dtype: str, tmp_path: Path) -> None:
    channels = int((name or ":1").split(":")[1])
    samples = sound(2 * WINDOW + 3000, channels)
    scale = 1 if dtype == "<f4" else 2 ** (8 * int(dtype[2]) - 1)
    stored = np.clip(samples.astype(np.float64) * scale, -scale, scale - 1).astype(dtype)
    done = run(program, f"--raw={RATE}{name}", given=stored.tobytes() + b"\1" * (dtype[2] == "4"))  # and a piece of one
    path = write(tmp_path / "r.wav", stored, {"<i2": "PCM_16", "<i4": "PCM_32", "<f4": "FLOAT"}[dtype])
    assert (done.returncode, done.stderr) == (0, "")
    compare(done.stdout.replace('"-"', json.dumps(str(path))), wheel_lines(bundle, path))


def test_raw_of_24_bits(program: Path, bundle: Bundle, tmp_path: Path) -> None:
    path = write(tmp_path / "r.wav", sound(2 * WINDOW), "PCM_24")
    data = path.read_bytes()[-3 * 2 * WINDOW :]
    (tmp_path / "r.raw").write_bytes(data)
    done = run(program, "--raw", f"{RATE}:1:s24le", tmp_path / "r.raw")
    compare(done.stdout.replace("r.raw", "r.wav"), wheel_lines(bundle, path))


def test_lines_come_when_their_windows_are_complete(program: Path, bundle: Bundle) -> None:
    """Through a pipe that stays open; with smoothing a window waits for the next."""
    data = (sound(5 * WINDOW) * 32767).astype("<i2").tobytes()
    command_line = [program, "--raw", str(RATE), "--min-score=0", "--top-n=1"]
    with subprocess.Popen(command_line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        for number in range(5):
            process.stdin.write(data[2 * WINDOW * number :][: 2 * WINDOW])
            process.stdin.flush()
            if number:
                assert json.loads(process.stdout.readline())["start"] == number - 1
        process.stdin.close()
        assert json.loads(process.stdout.readline())["start"] == 4.0
        assert process.stdout.read() == b"" and process.wait() == 0


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_size_that_the_writer_did_not_know(program: Path, bundle: Bundle, size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "r.wav", sound(2 * WINDOW + 900))
    expected = run(program, path).stdout
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"data") + 4, size)
    done = run(program, given=bytes(data))
    assert (done.returncode, done.stderr) == (0, "") and expected
    assert done.stdout.replace('"-"', json.dumps(str(path))) == expected


def test_chunks_around_the_sound_are_passed_over(program: Path, bundle: Bundle, tmp_path: Path) -> None:
    path = write(tmp_path / "r.wav", sound(2 * WINDOW))
    expected, data = run(program, path).stdout, path.read_bytes()
    odd = b"LIST" + struct.pack("<I", 70_001) + bytes(70_002)
    path.write_bytes(data[:12] + odd + data[12:36] + odd + data[36:] + odd + b"LIS")
    done = run(program, path)
    assert (done.returncode, done.stdout) == (0, expected) and expected


def header(codec: int = 1, channels: int = 1, bits: int = 16, rate: int = RATE, size: int = 64_000) -> bytes:
    block = channels * bits // 8
    chunk = struct.pack("<HHIIHH", codec, channels, rate, rate * block, block, bits)
    return b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt \x10\0\0\0" + chunk + b"data" + struct.pack("<I", size)


SOUND = (np.arange(32_000) * 37 % 20_000).astype("<i2").tobytes()
NAN = np.where(np.arange(16_000) == 12_345, np.nan, 0.1 * np.sin(np.arange(16_000))).astype("<f4").tobytes()
BAD = {
    "empty": (b"", "is empty; fetch it again."),
    "not audio": (b"<html>" * 100, "is not a WAV file; convert it: ffmpeg -i INPUT -ar 16000 "),
    "header cut": (header()[:30], "is cut short: it ends before its sound; fetch it again."),
    "sound cut": (header() + SOUND[:-2], "is cut short: it holds 63998 of 64000 bytes of sound; fetch it again."),
    "no samples": (header(size=0), "holds no samples; record it again."),
    "silent": (header() + b"\7\0" * 32_000, "is silent: all its samples are the same; check the microphone."),
    "nan": (header(3, bits=32) + NAN, "holds a sample that is not finite at 0.772 s; export it again"),
    "a-law": (header(6, bits=8) + SOUND, "holds samples of codec 6 with 8 bits, and only PCM of 16, 24 and 32 bits"),
    "8 bits": (header(bits=8) + SOUND, "holds samples of codec 1 with 8 bits, and only PCM"),
    "rate": (
        header(rate=44_100) + SOUND,
        "has a sample rate of 44100 Hz, and this program hears 16000 Hz; convert it: ffmpeg -i INPUT -ar 16000",
    ),
    "no channels": (header(channels=0) + SOUND, "has a header at odds with itself; fetch it again."),
    "no format": (header()[:12] + header()[36:] + SOUND, "has a header at odds with itself; fetch it again."),
}
NOT_OF_THE_WHEEL = ("a-law", "8 bits", "rate", "no format")  # it reads or resamples these, or cannot say why not


@pytest.mark.parametrize("what", BAD)
def test_refusals(what: str, program: Path, bundle: Bundle, tmp_path: Path) -> None:
    data, told = BAD[what]
    path = tmp_path / "bad.wav"
    path.write_bytes(data)
    for name, done in (
        (str(path), run(program, "--min-score=0", path)),
        ("-", run(program, "--min-score=1", given=data)),
    ):
        first, second, rest = done.stderr.split("\n")
        assert first.startswith(f"labous: Recording '{name}' {told}"), done.stderr
        assert (second, rest) == ("labous: 1 of 1 recordings could not be analyzed.", "")
        assert (done.returncode, done.stdout) == (1, "")
    if what not in NOT_OF_THE_WHEEL:
        with pytest.raises(RecordingError):
            wheel_lines(bundle, path)


def test_a_pipe_gives_what_came_before_the_trouble(program: Path) -> None:
    done = run(program, "--raw", f"{RATE}:1:f32le", "--min-score=0", "--top-n=1", given=NAN[:40_000] * 4 + NAN)
    assert done.returncode == 1 and "not finite at 3.272 s" in done.stderr
    assert [json.loads(line)["start"] for line in done.stdout.splitlines()] == [0.0, 1.0]


def test_what_is_no_file_of_sound(program: Path, tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", sound(WINDOW))
    done = run(program, tmp_path / "none.wav", good, tmp_path, "", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == run(program, good).stdout != ""
    assert done.stderr.splitlines() == [
        f"labous: Recording '{tmp_path}/none.wav' does not exist; check the path.",
        f"labous: Recording '{tmp_path}' is a folder; give a file.",
        "labous: Recording '' does not exist; check the path.",
        "labous: 3 of 4 recordings could not be analyzed.",
    ]


NAMES = [
    "é ñ.wav",
    "日本 🐦.wav",
    "tab\tnew\nline\x1b[31m\x7f\x9b.wav",
    "quote\"'back\\slash.wav",
    "right\u202eleft\u00ad\u00a0.wav",
    os.fsdecode(b"\xff\xc3.\xed\xa0\x80\xf4\x90\x80\x80wav"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str, program: Path, bundle: Bundle, tmp_path: Path) -> None:
    shutil.copy(write(tmp_path / "r.wav", sound(WINDOW)), tmp_path / name)
    done = run(program, name, cwd=tmp_path)
    lines = wheel_lines(bundle, tmp_path / name)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {**json.loads(line), "recording": name, "score": pytest.approx(json.loads(line)["score"], abs=1e-5)}
        for line in lines
    ]
    assert lines and done.stdout.replace("\n", "").isprintable()
    missing = run(program, f"no {name}", cwd=tmp_path)
    assert missing.returncode == 1 and missing.stdout == "" and missing.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize("given", ["./r.wav", "f/../r.wav", ".//f//../r.wav", "./././r.wav", "{}/./r.wav", "/{}/r.wav"])
def test_paths_are_written_as_the_wheel_writes_them(given: str, program: Path, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    write(tmp_path / "r.wav", sound(WINDOW))
    given = given.format(tmp_path)
    done = run(program, given, cwd=tmp_path)
    assert {json.loads(line)["recording"] for line in done.stdout.splitlines()} == {str(Path(given))}


@pytest.mark.parametrize(
    "wrong",
    [
        ["--overlap", "1"], ["--overlap=-0.1"], ["--overlap", "nan"], ["--overlap"], ["--overlap=0.99999"],
        ["--min-score", "1.1"], ["--min-score", "x"], ["--top-n", "0"], ["--top-n=3x"], ["--top-n="],
        ["--raw", "0"], ["--raw", "16000:0"], ["--raw", "16000:1:mp3"], ["--raw", "16000:1:s16le:"], ["--rawer"],
        ["--raw", "16000:1025"], ["-x"], ["--labels=1"],
    ],
)  # fmt: skip
def test_wrong_usage(wrong: list[str], program: Path) -> None:
    done = run(program, *wrong)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("labous: ") and done.stderr.endswith("; see --help.\n")


def test_what_it_says_about_itself(program: Path, bundle: Bundle, tmp_path: Path) -> None:
    assert run(program, "--labels").stdout == (bundle.path / "labels.csv").read_text(encoding="utf-8")
    version, told = run(program, "--version").stdout, bundle.manifest
    assert version.startswith(f"labous 0.1.0, bundle {told.name} {told.version}, model ")
    told_help = run(program, "--help")
    assert f"at {RATE} Hz" in told_help.stdout and told_help.returncode == 0
    synthetic = Bundle.read(listening.write_bundle(tmp_path / "synthetic", synthetic=True))
    build_listener(synthetic, platform.machine(), tmp_path / "labous")
    done = run(tmp_path / "labous", write(tmp_path / "r.wav", sound(WINDOW)))
    assert done.stderr == (
        "labous: 'labous-test' was trained on synthetic sound (test): its results say nothing about real birds.\n"
    )


def test_nothing_is_loaded(program: Path) -> None:
    told = subprocess.run(["readelf", "-dlW", program], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" not in told and "INTERP" not in told
    assert program.stat().st_mode & 0o777 == 0o755


def test_a_reader_that_leaves(program: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "r.wav", sound(2000 * WINDOW))
    with subprocess.Popen([program, "--min-score=0", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0


def test_a_disk_that_is_full(program: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "r.wav", sound(WINDOW))
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([program, path], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("labous: Cannot write: No space left on device.\n")


def test_any_length_in_bounded_memory(program: Path) -> None:
    """Half an hour through a pipe, and 4 MB of memory in all."""
    second = (sound(RATE) * 32767).astype("<i2").tobytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 20, 4 << 20))

    done = run(program, "--raw", RATE, "--top-n=1", "--min-score=0", given=second * 1800, preexec_fn=limit)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line)["start"] for line in done.stdout.splitlines()] == [float(i) for i in range(1800)]


def test_the_same_bytes_from_a_second_build(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a copy of the bundle in another folder, by a compiler that remembers nothing."""
    build_listener(bundle, "riscv64", tmp_path / "labous-riscv64")
    for variable in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "zig"))
    monkeypatch.setattr("melspec_cpp.build.environment", lambda: None)
    again = shutil.copytree(bundle.path, tmp_path / "other")
    assert command.main([str(again), "labous-riscv64", "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "zig").is_dir()
    made = tmp_path / "again" / "labous-riscv64"
    assert made.read_bytes() == (tmp_path / "labous-riscv64").read_bytes() and os.access(made, os.X_OK)
