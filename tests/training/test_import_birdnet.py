"""BirdNET as a bundle: by the command line, from a small model of its kind, and from BirdNET itself where it is."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_birdnet import CLASSES, LABELS, NOT_BIRDS, Channel, Small, write_birdnet

import labous
from labous.detect import sigmoid
from labous.errors import LabousError
from labous.mel import compiled
from labous.recordings import read_blocks, windows
from melspec_cpp.boards import MACHINES
from tests.few import few
from training.birdnet_import.bundling import made_from, with_shifts
from training.birdnet_import.errors import BirdNetImportError
from training.birdnet_import.names import made_up_code, read_classes, select
from training.birdnet_import.settings import ImportSettings
from training.birdnet_import.sources import check_place, find_source
from training.config import compose_alone
from training.datasets.base import find_table
from training.engines import Engine

pytestmark = pytest.mark.tensorflow

ROOT = Path(__file__).resolve().parents[2]
TABLE = """ebird_code,scientific_name,common_name,french_name,xeno_canto_name
blutit,Cyanistes Caeruleus,Eurasian Blue Tit,Mésange bleue,
eurrob1,Erithacus rubecola,European Robin,Rougegorge familier,
eurbla,Merula merula,Common Blackbird,Merle noir,Turdus merula
marowl,Aegolius funereus,Boreal Owl,Nyctale de Tengmalm,
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_birdnet(tmp_path_factory.mktemp("birdnet"))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "birds.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def settings(*overrides: str) -> ImportSettings:
    return compose_alone("import_birdnet", overrides)


def imported(*words: object) -> subprocess.CompletedProcess[str]:
    """The command line."""
    return subprocess.run(
        [sys.executable, "-m", "training.import_birdnet", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence that a mistake is told in."""
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("labous: error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return lines[0]


def test_the_command_line_makes_a_bundle_like_any_other(source: Path, table: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    words = (
        f"source={source.parent}", f"species={table}", f"dir={place}", "weights=[float32,float16]", "onnx=true",
        NOT_BIRDS,
    )  # fmt: skip
    done = imported(*words)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert "CC BY-NC-SA 4.0" in shown
    assert "3 species" in shown
    assert "Boreal Owl: BirdNET has no class for it" in shown
    assert "found by its English name" in shown
    assert "was not compared with anything but itself" in shown
    assert "found by its xeno_canto_name" in shown
    bundle = labous.load(place)
    codes = [label.ebird_code for label in bundle.labels]
    assert codes == ["blutit", "eurbla", "eurrob1", "dog", "human-vocal", "pseudacris-crucifer"]
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["schema_version"] == 3
    assert manifest["source"]["licence"] == manifest["licence"] == "CC BY-NC-SA 4.0"
    assert manifest["detection"]["not_birds"] == ["dog", "human-vocal", "pseudacris-crucifer"]
    assert manifest["dataset"] | {"revision": ""} == {
        "name": "birdnet-v2.4", "synthetic": False, "revision": "", "recordings": 0, "hours": 0.0,
    }  # fmt: skip
    assert set(manifest["models"]) == {"float32", "float16"}
    card = (place / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "non-commercial" in card
    assert "Aegolius funereus" in card
    assert "non-commercial" in (place / "LICENCE.txt").read_text(encoding="utf-8")
    # a second import takes its place, and the same gives the same bytes
    before = (place / "SHA256SUMS").read_bytes()
    assert imported(*words).returncode == 0
    assert (place / "SHA256SUMS").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birds.csv", "bundle"]
    # and the engine for ONNX hears the same
    mel = bundle.mel(np.random.default_rng(0).normal(0, 0.1, bundle.frontend.window_samples).astype(np.float32))
    theirs = Engine("onnxruntime").run((place / "model.onnx").read_bytes(), mel[np.newaxis])
    np.testing.assert_allclose(theirs[0], bundle.model.predict(mel), atol=1e-4)


@pytest.mark.parametrize("small", few([Small(channels=(Channel(),)), Small()], 1))
def test_scores_are_the_originals(small: Small, tmp_path: Path) -> None:
    """A model of one channel is possible too."""
    source = write_birdnet(tmp_path / "source", small)
    told_it = settings(f"source={source}", "species=all", f"dir={tmp_path / 'bundle'}", NOT_BIRDS)
    made = made_from(told_it, *find_source(told_it))
    assert made.proof["float32"].score <= 1e-5
    assert made.frontend.input_shape == (1, 24, 96, len(small.channels))


def test_a_bundle_of_float16_alone_has_its_own_onnx_twin(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    words = f"source={source}", "species=all", f"dir={place}", "weights=float16", "onnx=true", NOT_BIRDS
    done = imported(*words)
    assert done.returncode == 0, done.stderr
    assert "twin of model_float16.tflite" in " ".join(done.stdout.split())
    bundle = labous.load(place)
    sound = np.random.default_rng(5).normal(0, 0.1, (4, bundle.frontend.window_samples)).astype(np.float32)
    mels = np.stack([bundle.mel(window) for window in sound])
    theirs = Engine("litert").run((place / "model_float16.tflite").read_bytes(), mels)
    ours = Engine("onnxruntime").run((place / "model.onnx").read_bytes(), mels)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    # which float32's is not: the comparison can fail
    exact = settings(*words[:2], "weights=float32", "onnx=true", NOT_BIRDS)
    other = made_from(exact, *find_source(exact)).onnx
    assert other is not None
    assert np.abs(Engine("onnxruntime").run(other, mels) - theirs).max() > 1e-4
    check = [sys.executable, "-m", "labous", "check", "--bundle", str(place), "--engine", "onnxruntime"]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() not in MACHINES or sys.platform != "linux", reason="no libraries are built for this machine"
)
def test_boards_get_the_mel_stage_as_machine_code(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, here = tmp_path / "bundle", platform.machine()
    words = f"source={source}", "species=all", f"dir={place}", "phase_average=2", NOT_BIRDS
    done = imported(*words, f"targets=[{here}]")
    assert done.returncode == 0, done.stderr
    assert "mel the same bits on 1 golden windows" in " ".join(done.stdout.split())
    native = json.loads((place / "manifest.json").read_text(encoding="utf-8"))["native"]
    assert set(native) == {here}
    assert set(native[here]) == {"mel"}
    monkeypatch.setattr(compiled, "hindrance", lambda: "Wasmtime is not here")
    assert labous.load(place).mel_library is not None
    # and one without says how such a bundle gets it
    assert imported(*words).returncode == 0
    with pytest.raises(LabousError, match=rf"import it again with targets=\[{here}\]"):
        _ = labous.load(place).mel_library


@pytest.mark.slow
def test_shifts_are_heard_one_by_one_and_averaged(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    done = imported(f"source={source}", "species=all", f"dir={place}", "phase_average=3", NOT_BIRDS)
    assert done.returncode == 0, done.stderr
    bundle = labous.load(place)
    assert bundle.frontend.shifts == (0, 8, 16)
    samples = np.random.default_rng(2).normal(0, 0.1, bundle.frontend.window_samples).astype(np.float32)
    heard = bundle.model.predict(bundle.mel(samples))
    rolled = np.stack([np.roll(samples, -shift) for shift in bundle.frontend.shifts])
    theirs = Engine("litert").run(source.read_bytes(), rolled).mean(axis=0)
    assert np.abs(sigmoid(heard) - sigmoid(theirs)).max() <= 1e-5


@pytest.mark.parametrize(
    ("words", "sentence"),
    few(
        [
            (["species=birds.txt"], "no species table at birds.txt"),
            ([], "species is not given"),
            (["species=all", "dir=./"], "name a folder of the bundle's own"),
            (["species=all", "labels=nowhere.txt"], "labels is nowhere.txt"),
            (["species=all", "source=/nowhere"], "source is /nowhere, and there is nothing"),
            (["species=all", "phase_average=25"], "1 ms hold only 24 samples"),
            (
                ["species=all", "phase_average=2", "phase_span_ms=400"],
                "phase_average=2 over phase_span_ms=400 cannot be",
            ),
            (["species=all", "weights=int8"], "int8 does not keep its scores"),
            (["species=all", "not_birds=[Dog,Hmuan]"], "not_birds has 'Hmuan'"),
            (["species=all", "confirmation_windows=1001"], "confirmation_windows is 1001; it must be from 1 to 1000"),
            (["species=all", "proof_windows=100000000000"], "it must be from 2 to 100"),
            (["species=all", "golden_windows=101"], "it must be from 1 to 100"),
            (["species=all", "targets=[hear.wasm]"], "write a list of x86_64"),
            (["species=all", "labels=training"], "labels is training, which is a folder"),
            (["species=all", "source=/a (1)/x.tflite"], """'source="/a (1)/x.tflite"'"""),
            (["species=all", 'source="~nobody at all"'], "is in no home folder"),
            (["species=all", "source=/a,b"], """'source="/a,b"'"""),
            (["species=all", "source=~/nowhere"], f"source is {Path.home()}/nowhere, and"),
            (["all"], "'all' is no setting"),
            (["species=all", "colour=red"], "there is no key colour"),
        ],
        3,
    ),
)
def test_a_mistake_is_told_in_a_sentence_and_nothing_is_written(
    source: Path, tmp_path: Path, words: list[str], sentence: str
) -> None:
    place = tmp_path / "bundle"
    assert sentence in told(imported(f"source={source}", f"dir={place}", NOT_BIRDS, *words))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_source_is_told_in_a_sentence(source: Path, tmp_path: Path) -> None:
    broken = tmp_path / "source" / source.name
    broken.parent.mkdir()
    broken.write_bytes(source.read_bytes()[:5000])
    (broken.parent / LABELS).write_text("\n".join(CLASSES), encoding="utf-8")
    sentence = told(imported(f"source={broken}", "species=all", f"dir={tmp_path / 'bundle'}"))
    assert "damaged" in sentence
    assert str(broken) in sentence
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_only_nothing_or_a_bundle_is_replaced(source: Path, tmp_path: Path) -> None:
    sources = (source, source.with_name(LABELS))
    for place in (source.parent, source.parent.parent, Path.cwd(), Path("/"), Path("./")):
        with pytest.raises(BirdNetImportError, match="name a folder of the bundle's own"):
            check_place(place, sources)
    place = tmp_path / "mine"
    assert check_place(place, sources) == place.resolve()
    place.mkdir()
    assert check_place(place, sources) == place.resolve()
    (place / "notes.txt").write_text("mine")
    with pytest.raises(BirdNetImportError, match="a folder with other things in it"):
        check_place(place, sources)
    (place / "manifest.json").write_text("{}")
    labous.bundle.write_checksums(place)
    assert check_place(place, sources) == place.resolve()
    (place / "more.txt").write_text("mine too")
    with pytest.raises(BirdNetImportError, match=r"more\.txt in it, which is not of the bundle"):
        check_place(place, sources)
    with pytest.raises(BirdNetImportError, match="which is a file"):
        check_place(place / "notes.txt", sources)
    with pytest.raises(BirdNetImportError, match=r"notes\.txt is a file"):
        check_place(place / "notes.txt" / "below" / "it", sources)
    with pytest.raises(BirdNetImportError, match="nothing can be written in /proc"):
        check_place(Path("/proc/labous"), sources)
    only_a_link = tmp_path / "only_a_link"
    only_a_link.mkdir()
    (only_a_link / "to").symlink_to(tmp_path)
    with pytest.raises(BirdNetImportError, match="a folder with other things in it"):
        check_place(only_a_link, sources)
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(BirdNetImportError, match="which is a link"):
        check_place(tmp_path / "link", sources)


def test_labels_must_be_the_models(tmp_path: Path) -> None:
    path = tmp_path / LABELS
    for lines, sentence in (
        (CLASSES[:-1], "has 9 lines, and the model 10 classes"),
        ((*CLASSES[:-1], CLASSES[0]), "lines 1 and 10 are both Cyanistes caeruleus"),
        ((*CLASSES[:-1], "Turdus merula"), "line 10 is 'Turdus merula'"),
    ):
        path.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(BirdNetImportError, match=sentence):
            read_classes(path, len(CLASSES))
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(BirdNetImportError, match="is not UTF-8"):
        read_classes(path, len(CLASSES))


def test_two_species_never_mean_one_class(source: Path, tmp_path: Path) -> None:
    classes = read_classes(source.with_name(LABELS), len(CLASSES))
    path = tmp_path / "birds.csv"
    path.write_text(
        "ebird_code,scientific_name,common_name,french_name\n"
        "magpie1,Pica pica,Common Magpie,Pie bavarde\neurmag1,Pica nova,Eurasian Magpie,Pie\n",
        encoding="utf-8",
    )
    with pytest.raises(BirdNetImportError, match="eurmag1 and magpie1 are both BirdNET's Pica pica"):
        select(classes, str(path), [])
    path.write_text("ebird_code,scientific_name,common_name,french_name\nx,Otis tarda,Great Bustard,Outarde\n")
    with pytest.raises(BirdNetImportError, match="no class for any species"):
        select(classes, str(path), [])


def test_all_has_the_projects_codes_and_made_up_ones_for_the_rest(source: Path) -> None:
    classes = read_classes(source.with_name(LABELS), len(CLASSES))
    chosen = select(classes, "all", settings("species=all", NOT_BIRDS).not_birds)
    codes = {kept.label.scientific_name: kept.label.ebird_code for kept in chosen.kept}
    assert len(codes) == len(CLASSES)
    assert codes["Cyanistes caeruleus"] == "blutit"
    assert codes["Pseudacris crucifer"] == "pseudacris-crucifer"
    assert chosen.not_birds == ["dog", "human-vocal", "pseudacris-crucifer"]
    assert made_up_code("Crex  crex (L.)") == "crex-crex-l"


def test_shifts_must_be_apart(source: Path) -> None:
    told_it = settings(f"source={source}", "species=all", NOT_BIRDS)
    frontend = made_from(told_it, *find_source(told_it)).frontend
    assert with_shifts(frontend, 1, 1.0).shifts == (0,)
    assert with_shifts(frontend, 24, 1.0).shifts == tuple(range(24))
    with pytest.raises(BirdNetImportError, match="1 ms hold only 24 samples"):
        with_shifts(frontend, 25, 1.0)
    with pytest.raises(BirdNetImportError, match="cannot be"):
        with_shifts(frontend, 2, 500.0)


# BirdNET itself


@pytest.fixture(scope="session")
def birdnet() -> Path:
    """The folder of BirdNET's files, which this project does not have."""
    given = os.environ.get("LABOUS_BIRDNET")
    if given is not None:
        assert Path(given).exists(), f"LABOUS_BIRDNET is {given}, and there is nothing"
        return Path(given)
    try:
        return find_source(settings("species=all"))[0].parent
    except BirdNetImportError as error:
        pytest.skip(f"BirdNET's weights are not here, and nothing was compared with them: {error}")


@pytest.fixture(scope="session")
def imports(birdnet: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles for Brittany, by their weights."""
    made = {}
    for kind in ("float32", "float16"):
        made[kind] = tmp_path_factory.mktemp("bundles") / kind
        done = imported(f"source={birdnet}", "species=brittany", f"dir={made[kind]}", f"weights={kind}")
        assert done.returncode == 0, done.stderr
    return made


@pytest.mark.slow
def test_birdnet_for_brittany_is_as_small_as_it_should_be(imports: dict[str, Path]) -> None:
    sizes = {kind: sum(p.stat().st_size for p in place.rglob("*") if p.is_file()) for kind, place in imports.items()}
    assert sizes["float32"] <= 27e6
    assert sizes["float16"] <= 14e6
    with (imports["float32"] / "labels.csv").open(encoding="utf-8", newline="") as file:
        codes = {row["ebird_code"] for row in csv.DictReader(file)}
    with find_table("brittany").open(encoding="utf-8", newline="") as file:
        assert {row["ebird_code"] for row in csv.DictReader(file)} <= codes
    assert {"human-vocal", "human-non-vocal", "human-whistle", "engine", "dog"} <= codes


@pytest.mark.slow
@pytest.mark.real
def test_birdnets_scores_on_real_recordings(imports: dict[str, Path], birdnet: Path, real_audio: Path) -> None:
    files = sorted((real_audio / "train_short_audio").rglob("*.ogg"))[::8]
    assert files, f"{real_audio} has no recordings in train_short_audio: nothing would be compared"
    told_it = settings(f"source={birdnet}", "species=brittany")
    model, labels = find_source(told_it)
    chosen = select(read_classes(labels, 6522), "brittany", told_it.not_birds)
    rows = np.array([kept.row for kept in chosen.kept])
    bundles = {kind: labous.load(place, precision=kind) for kind, place in imports.items()}
    frontend = bundles["float32"].frontend
    samples = np.stack(
        [w.samples for file in files for w in windows(read_blocks(file, frontend.sample_rate), frontend)]
    )
    theirs = Engine("litert").run(model.read_bytes(), samples)[:, rows]
    assert len(samples) > len(files)
    for kind, most in (("float32", 1e-5), ("float16", 1e-2)):
        ours = np.stack([bundles[kind].model.predict(bundles[kind].mel(window)) for window in samples])
        assert np.abs(sigmoid(ours) - sigmoid(theirs)).max() <= most, kind
        np.testing.assert_array_equal(ours.argmax(axis=1), theirs.argmax(axis=1))


def test_nothing_of_birdnet_is_in_the_checkout() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip(f"not a git checkout, and nothing was looked at: {listed.stderr.decode()}")
    files = [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    assert len(files) > 100
    assert [path for path in files if path.is_file() and path.stat().st_size > 1_000_000] == []
