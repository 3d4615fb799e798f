"""The wheel itself, in environments of its own: what is in it, what it drags in, and that it works there.

LABOUS_BUNDLE names a bundle to use instead of the tests' own small one.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tests.runtime import audio, bundles
from tests.wheels import ROOT, build, environment, run

pytestmark = [pytest.mark.slow, pytest.mark.wheel]

MAX_WHEEL_BYTES = 250_000
MAX_ENVIRONMENT_BYTES = 200 * 10**6
ABSENT = ("tensorflow", "keras", "librosa", "pandas", "scipy", "sklearn", "numba")
PROBE = f"import importlib.util as u; print([p for p in {ABSENT!r} if u.find_spec(p)])"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("LABOUS_BUNDLE")
    return Path(given) if given else bundles.write_bundle(tmp_path_factory.mktemp("wheel") / "bundle")


def sizes(python: Path) -> dict[str, int]:
    """Bytes on disk of each entry of an environment's site-packages."""
    (packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
    return {
        entry.name: sum(f.stat().st_size for f in [entry, *entry.rglob("*")] if f.is_file())
        for entry in packages.iterdir()
    }


def analyze(python: Path, bundle: Path, *arguments: object) -> list[dict[str, object]]:
    labous = python.parent / "labous"
    done = run(
        labous, "analyze", *arguments, "--bundle", bundle, "--format", "jsonl", "--min-score", 0, cwd=python.parent
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_second_build_gives_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    """Of sources with other times, as another checkout has them."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "runtime", copy, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__"))
    assert build(tmp_path / "dist", copy).read_bytes() == wheel.read_bytes()


def test_what_is_in_the_wheel(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size <= MAX_WHEEL_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        built = archive.read("labous/melspec.wasm")
        sources = {name: archive.read(name).decode() for name in names if name.endswith(".py")}
        metadata = archive.read(next(n for n in names if n.endswith("/METADATA"))).decode()
    assert built == (ROOT / "runtime/src/labous/melspec.wasm").read_bytes()
    assert built[:4] == b"\0asm"
    assert {"labous/py.typed", "labous/cli.py", "labous/mel/wasm.py"} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {
        "labous",
        wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info",
    }
    for name, source in sources.items():
        for package in ("tensorflow", "librosa", "keras", "training"):
            assert f"import {package}" not in source, name
            assert f"from {package}" not in source, name
    for line in metadata.splitlines():
        if line.startswith("Requires-Dist: wasmtime"):
            assert "platform_machine" in line
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra" not in line]
    assert [line.split()[1].split(">")[0] for line in needed] == ["numpy", "tomli", "wasmtime"]
    assert all("python_version < " in line for line in needed if "tomli" in line)


def test_a_wheel_without_the_mel_module_is_not_built(tmp_path: Path) -> None:
    copy = tmp_path / "runtime"
    shutil.copytree(ROOT / "runtime", copy, ignore=shutil.ignore_patterns("melspec.wasm", "__pycache__", "dist"))
    done = run(
        sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist", cwd=copy, check=False
    )
    assert done.returncode != 0
    assert "melspec.wasm is missing; build it first: python melspec_cpp/build.py" in done.stderr
    assert list(tmp_path.glob("dist/*")) == []


def test_the_device_environment_is_bare_and_small(device: Path) -> None:
    assert run(device, "-c", PROBE, cwd=device.parent).stdout.strip() == "[]"
    by_package = sizes(device)
    total = sum(by_package.values())
    largest = sorted(by_package.items(), key=lambda item: -item[1])[:12]
    print(f"\ndevice environment: {total / 1e6:.1f} MB; " + ", ".join(f"{n} {b / 1e6:.1f}" for n, b in largest))
    assert total <= MAX_ENVIRONMENT_BYTES


def test_check_on_the_device(device: Path, bundle: Path) -> None:
    done = run(device.parent / "labous", "check", "--bundle", bundle, cwd=device.parent)
    print(f"\n{done.stdout}")
    assert "This device gives the results" in done.stdout
    assert run(device, "-m", "labous", "check", cwd=device.parent).stdout.count(" ok ") == 1


def test_recordings_from_file_to_detection(device: Path, bundle: Path, tmp_path: Path) -> None:
    samples = audio.noise(7.5, 44_100, 2)
    wav = audio.write(tmp_path / "a.wav", samples, 44_100)
    ogg = audio.write(tmp_path / "b.ogg", samples, 44_100)
    found = analyze(device, bundle, wav, ogg)
    assert {row["recording"] for row in found} == {str(wav), str(ogg)}
    assert {row["end"] for row in found} >= {7.5}
    info = run(device.parent / "labous", "info", bundle, cwd=device.parent).stdout
    assert all(str(row["ebird_code"]) in info for row in found)


@pytest.mark.real
@pytest.mark.skipif("LABOUS_REAL_AUDIO" not in os.environ, reason="LABOUS_REAL_AUDIO is not set")
def test_real_recordings(device: Path, bundle: Path) -> None:
    folder = Path(os.environ["LABOUS_REAL_AUDIO"])
    assert folder.is_dir(), f"LABOUS_REAL_AUDIO is {folder}, which is no folder"
    recordings = sorted(folder.glob("train_short_audio/*/*.ogg"))[::40]
    assert recordings
    found = analyze(device, bundle, *recordings, "--top-n", 1)
    assert {row["recording"] for row in found} == set(map(str, recordings))
    again = analyze(device, bundle, *recordings, "--top-n", 1, "-j", 2)
    assert again == found


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime has no wheel for this Python")
def test_the_older_engine(wheel: Path, device: Path, bundle: Path, tmp_path: Path) -> None:
    older = environment(tmp_path / "venv", wheel, "tflite,audio", "requirements-tflite.lock")
    assert run(older, "-c", PROBE, cwd=older.parent).stdout.strip() == "[]"
    total = sum(sizes(older).values())
    print(f"\nolder environment: {total / 1e6:.1f} MB")
    assert "This device gives the results" in run(older.parent / "labous", "check", "--bundle", bundle).stdout
    wav = audio.write(tmp_path / "a.wav", audio.noise(12.0, 44_100), 44_100)
    ours, theirs = analyze(older, bundle, wav), analyze(device, bundle, wav)
    assert [(r["start"], r["ebird_code"]) for r in ours] == [(r["start"], r["ebird_code"]) for r in theirs]
    assert max(abs(float(str(a["score"])) - float(str(b["score"]))) for a, b in zip(ours, theirs, strict=True)) < 1e-4
