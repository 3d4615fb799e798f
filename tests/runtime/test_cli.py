"""The command line as a user meets it: in a process of its own, without a traceback whatever happens."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from labous import cli
from tests.few import few
from tests.runtime import audio, bundles


def run(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "labous", *map(str, arguments)],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=False, env=env,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The sentences on stderr, without what the engine itself logs."""
    return [line for line in done.stderr.splitlines() if line.startswith("labous: ")]


@pytest.fixture
def garden(tmp_path: Path) -> Path:
    """A folder of two good recordings and three bad ones."""
    folder = tmp_path / "garden"
    (folder / "deep").mkdir(parents=True)
    audio.write(folder / "a.wav", audio.noise(2.5, 44_100, 2), 44_100)
    audio.write(folder / "deep/b.flac", audio.noise(1.2, 16_000, seed=1), 16_000)
    audio.write(folder / "silent.wav", np.zeros((16_000, 1), np.float32), 16_000)
    nan = audio.noise(2.0, 16_000)
    nan[20_000] = np.nan
    audio.write(folder / "nan.wav", nan, 16_000, "FLOAT")
    cut = audio.write(folder / "cut.flac", audio.noise(5.0, 16_000), 16_000)
    cut.write_bytes(cut.read_bytes()[:-1000])
    return folder


def test_good_recordings_are_written_and_bad_ones_named(garden: Path, bundle_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = run("analyze", garden, "--bundle", bundle_path, "--min-score", 0, "--format", "csv", "--output", out)
    assert done.returncode == 1
    assert done.stdout == ""
    said = complaints(done)
    assert len(said) == 4
    assert "cut.flac' is cut short" in said[0]
    assert "nan.wav' holds a sample that is not finite at 1.250 s" in said[1]
    assert "silent.wav' is silent" in said[2]
    assert said[3] == "labous: 3 of 5 recordings could not be analyzed."
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    # nothing of the recordings that turned out bad only at their end
    assert {row["recording"] for row in rows} == {str(garden / "a.wav"), str(garden / "deep/b.flac")}
    assert len(rows) == 3 * (3 + 2)
    assert {p.name for p in out.parent.iterdir() if p.name.startswith(".")} == set()


@pytest.mark.slow
def test_nothing_is_written_where_no_recording_is_good(garden: Path, bundle_path: Path, tmp_path: Path) -> None:
    done = run("analyze", garden / "nan.wav", "--bundle", bundle_path, "--output", tmp_path / "out.txt")
    assert done.returncode == 1
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.slow
def test_processes_give_the_same_results(garden: Path, bundle_path: Path) -> None:
    results = [run("analyze", garden, "--bundle", bundle_path, "--format", "jsonl", "-j", jobs) for jobs in (1, 3)]
    assert results[0].stdout == results[1].stdout != ""
    assert complaints(results[0]) == complaints(results[1])
    assert [r.returncode for r in results] == [1, 1]


def test_jsonl_goes_to_stdout(garden: Path, bundle_path: Path) -> None:
    arguments = (
        "analyze",
        garden / "a.wav",
        "--bundle",
        bundle_path,
        "--format",
        "jsonl",
        "--top-n",
        1,
        "--min-score",
        0,
    )
    done = run(*arguments, "--overlap", 0.5, "--precision", "int8", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["start"], row["end"]) for row in rows] == [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5)]


@pytest.mark.slow
def test_a_table_on_an_ascii_terminal(garden: Path, bundle_path: Path) -> None:
    arguments = ("analyze", garden / "a.wav", "--bundle", bundle_path, "--top-n", 4, "--min-score", 0)
    done = run(*arguments, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert r"Go\xe9land argent\xe9" in done.stdout


@pytest.mark.parametrize(("name", "suffix"), [("raven", ".selections.txt"), ("audacity", ".labels.txt")])
def test_formats_of_one_recording_make_a_file_each(
    name: str, suffix: str, garden: Path, bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for bad in ("silent.wav", "nan.wav", "cut.flac"):
        (garden / bad).unlink()
    common = ["--bundle", str(bundle_path), "--min-score", "0", "--format", name]
    assert cli.main(["analyze", str(garden), *common]) == 1
    assert "give --output FOLDER" in capsys.readouterr().err
    assert cli.main(["analyze", str(garden), *common, "--output", str(tmp_path / "out")]) == 0
    written = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert written == {f"a.wav{suffix}", f"deep/b.flac{suffix}"}
    assert cli.main(["analyze", str(garden / "a.wav"), *common, "--output", str(tmp_path / "one.txt")]) == 0
    assert (tmp_path / "one.txt").read_bytes() == (tmp_path / f"out/a.wav{suffix}").read_bytes()
    assert cli.main(["analyze", str(garden / "a.wav"), *common]) == 0
    assert capsys.readouterr().out == (tmp_path / "one.txt").read_text(encoding="utf-8")


def test_two_recordings_are_not_written_over_each_other(
    garden: Path, bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(garden, other)
    out = tmp_path / "out"
    paths = [str(garden / "a.wav"), str(other / "a.wav")]
    assert cli.main(["analyze", *paths, "--bundle", str(bundle_path), "--format", "raven", "--output", str(out)]) == 1
    assert "would be written to one file" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["analyze", "{wav}", "--bundle", "{tmp}/nowhere"], 1, "does not exist"),
        (["analyze", "{wav}", "--bundle", "{wav}"], 1, "not a readable .zip"),
        (["analyze", "{tmp}/no.wav", "--bundle", "{bundle}"], 1, "does not exist"),
        (["analyze", "{tmp}/empty", "--bundle", "{bundle}"], 1, "holds no recordings"),
        (["analyze", "{wav}", "--bundle", "{bundle}", "--overlap", "1"], 1, "overlap"),
        (["analyze", "{wav}", "--bundle", "{bundle}", "--overlap", "nan"], 1, "overlap"),
        (["analyze", "{wav}", "--bundle", "{bundle}", "--min-score", "2"], 1, "min_score"),
        (["analyze", "{wav}", "--bundle", "{bundle}", "--output", "{wav}/x.txt"], 1, "Cannot write"),
        (["analyze", "{wav}", "--bundle", "{bundle}", "--output", "{tmp}"], 1, "is a folder"),
        (["analyze", "{wav}", "--bundle", "{bundle}", "--engine", "tflite_runtime"], 1, "labous[tflite]"),
        (["info", "{tmp}/nowhere"], 1, "does not exist"),
        (["check", "--bundle", "{tmp}/nowhere"], 1, "does not exist"),
        (["analyze", "{wav}"], 2, "--bundle"),
        (["analyze", "{wav}", "--bundle", "{bundle}", "--top-n", "0"], 2, "at least 1"),
        (["analyze", "{wav}", "--bundle", "{bundle}", "--top-n", "x"], 2, "invalid"),
        (["analyze", "{wav}", "--bundle", "{bundle}", "-j", "0"], 2, "at least 1"),
        ([], 2, "command"),
        (["sing"], 2, "invalid choice"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    arguments: list[str], code: int, why: str, bundle_path: Path, wav: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    filled = [a.format(wav=wav, bundle=bundle_path, tmp=tmp_path) for a in arguments]
    try:
        found = cli.main(filled)
    except SystemExit as end:  # argparse
        found = int(end.code or 0)
    said = capsys.readouterr()
    assert found == code
    assert said.out == ""
    assert why in said.err
    if code == 1:
        assert said.err.startswith("labous: ")


@pytest.mark.parametrize("name", ["model.tflite", "SHA256SUMS"])
@pytest.mark.parametrize("command", [["analyze", "x.wav", "--bundle"], ["info"], ["check", "--bundle"]])
def test_a_damaged_bundle_is_refused_by_every_command(
    command: list[str], name: str, bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray((bundle_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle_path / name).write_bytes(content)
    assert cli.main([*command, str(bundle_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert name in said.err


def test_info(bundle_path: Path, zip_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(bundle_path)]) == 0
    out = capsys.readouterr().out
    for part in ("labous-test 0.1.0", "intact", "real recordings", "1x16x62x1", "FULLY_CONNECTED v1", "macro_roc_auc",
                 "0.970", "Goéland argenté", "db_offset", "CC0 (3)", "Owl 3", "Not for commercial use.", "calibration",
                 "1 of 1 windows", "offset"):  # fmt: skip
        assert part in out
    assert cli.main(["info", str(zip_path)]) == 0
    assert capsys.readouterr().out == out


def test_info_says_where_nothing_was_measured(bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((bundle_path / "manifest.json").read_text("utf-8"))
    manifest["metrics"] = {engine: dict.fromkeys(scores) for engine, scores in manifest["metrics"].items()}
    bundles.write_manifest(bundle_path, manifest)
    assert cli.main(["info", str(bundle_path)]) == 0
    assert "Metrics\n  none: nothing was held out to test on\n" in capsys.readouterr().out


def test_check_proves_the_device(bundle_path: Path) -> None:
    done = run("check", "--bundle", bundle_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("labous 0.1.0, Python 3.")
    assert lines[1] == "mel module     Wasmtime"
    chosen, compared = lines[2:4], lines[4:7]
    assert [line.split("  ")[0] for line in chosen] == ["float32 model", "int8 model"]
    assert all("LiteRT (litert), the first that can of litert, " in line for line in chosen)
    assert [line.split("  ")[0] for line in compared] == ["mel module", "float32 model", "int8 model"]
    assert all(" ok " in line for line in compared)
    assert lines[7].startswith("start-up")
    assert "per hour of audio" in lines[8]
    assert float(lines[9].split()[2]) > 20
    assert lines[10].startswith("This device gives the results")


@pytest.mark.parametrize(("name", "line"), [("mel", 4), ("logits_float32", 5), ("logits_int8", 6)])
def test_check_sees_a_device_that_differs(
    name: str, line: int, bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bundle_path / "golden/golden.npz"
    golden = dict(np.load(path))
    for value in (1.0, np.nan):
        changed = {**golden, name: golden[name].copy()}
        changed[name].flat[5] += np.float32(value)
        np.savez(path, **changed)
        bundles.write_checksums(bundle_path)
        assert cli.main(["check", "--bundle", str(bundle_path)]) == 1
        out = capsys.readouterr().out.splitlines()
        assert ["WRONG" in text for text in out[4:7]] == [i == line for i in (4, 5, 6)]
        assert "NOT" in out[-1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda g: g.pop("mel"), "cannot be read"),
        (lambda g: g.update(mel=g["mel"][:, :5]), "mel is float32 [3, 5, 62]"),
        (lambda g: g.update(samples=g["samples"].astype(np.float32)), "samples is float32"),
        (lambda g: g.update(samples=np.array({}, dtype=object)), "cannot be read"),
        (lambda g: g.update({key: value[:0] for key, value in g.items()}), "[0, 16000]"),
    ],
)
def test_check_refuses_bad_golden_vectors(
    change: object, why: str, bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bundle_path / "golden/golden.npz"
    golden = dict(np.load(path))
    change(golden)  # type: ignore[operator]
    np.savez(path, **golden)
    bundles.write_checksums(bundle_path)
    assert cli.main(["check", "--bundle", str(bundle_path)]) == 1
    assert why in capsys.readouterr().err


def test_check_refuses_golden_vectors_that_do_not_inflate(
    bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bundle_path / "golden/golden.npz"
    np.savez_compressed(path, **dict(np.load(path)))
    content = bytearray(path.read_bytes())
    names = len(content[: content.index(b".npy")]) + 4
    content[names + 20 : names + 60] = b"\xff" * 40
    path.write_bytes(content)
    bundles.write_checksums(bundle_path)
    assert cli.main(["check", "--bundle", str(bundle_path)]) == 1
    assert "golden/golden.npz cannot be read" in capsys.readouterr().err


def test_check_without_a_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check"]) == 0
    assert "The mel module is right" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", few([["analyze", "{wav}", "--bundle", "{b}"], ["info", "{b}"], ["check", "--bundle", "{b}"]], 1)
)
def test_a_synthetic_bundle_says_so_once(command: list[str], wav: Path, tmp_path: Path) -> None:
    path = bundles.write_bundle(tmp_path / "s", synthetic=True)
    done = run(*[part.format(wav=wav, b=path) for part in command])
    assert done.returncode == 0
    assert done.stderr.count("trained on synthetic sound") == 1


@pytest.mark.slow
def test_a_reader_that_leaves_early(garden: Path, bundle_path: Path) -> None:
    audio.write(garden / "a.wav", audio.noise(400, 16_000), 16_000)
    command = (
        f'"{sys.executable}" -m labous analyze "{garden}/a.wav" --bundle "{bundle_path}" --format jsonl --min-score 0'
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c(jobs: str, garden: Path, bundle_path: Path, tmp_path: Path) -> None:
    for i in range(200):
        shutil.copy(garden / "a.wav", garden / f"{i}.wav")
    out = tmp_path / "out.csv"
    process = subprocess.Popen(
        [sys.executable, "-m", "labous", "analyze", str(garden), "--bundle", str(bundle_path), "--overlap", "0.999",
         "--min-score", "0", "--format", "csv", "--output", str(out), "-j", jobs],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.csv.*")):  # results have begun to come
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert [p.name for p in tmp_path.glob("*out.csv*")] == []


@pytest.mark.parametrize("wanted", few([True, False], 1))
def test_progress_is_drawn_on_a_terminal_only(wanted: bool, garden: Path, bundle_path: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "labous", "analyze", str(garden), "--bundle", str(bundle_path)]
    arguments += [] if wanted else ["--no-progress"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 4096):
            seen += part
    except OSError:  # the other side has closed
        pass
    os.close(ours)
    assert process.wait(60) == 1
    assert (b"] 5/5 recordings" in seen) == wanted
    assert b"nan.wav" in seen


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["analyze", "--help"], ["info", "--help"], ["check", "--help"]):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
        assert "130 interrupted" in " ".join(capsys.readouterr().out.split())
