"""From BirdNET's file to a bundle: read, cut, proved, written beside its place and swapped in."""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous import __version__
from labous.archive import write_checksums
from labous.detect import Label
from labous.errors import FrontendError
from labous.mel import MelSpectrogram
from labous.mel.abi import ABI_VERSION
from labous.power_law import PowerLawFrontend
from training import native
from training.birdnet_import import card
from training.birdnet_import.cut import cut_graph, last_layer
from training.birdnet_import.errors import BirdNetImportError
from training.birdnet_import.graph import Graph
from training.birdnet_import.names import Selection, read_classes, select
from training.birdnet_import.proof import Difference, check, check_twin, cut_logits, original_logits, shifted
from training.birdnet_import.recognise import Found, recognise
from training.birdnet_import.settings import ImportSettings
from training.birdnet_import.sources import check_place, find_source
from training.birdnet_import.trace import trace
from training.birdnet_import.weights import rounded_to_float16, with_weights
from training.bundle import check_as_device, code_revision, json_bytes, model_entry
from training.console import say
from training.export_tflite import export_onnx
from training.files import directory_swapped_in, sha256_of_file
from training.gate import gate
from training.golden import as_floats, whistles
from training.metrics import NAMES

SCHEMA_VERSION = 3
"""Of the manifest: that which has front ends of this kind."""

FILES = {"float32": "model.tflite", "float16": "model_float16.tflite"}


@dataclasses.dataclass(frozen=True)
class Sound:
    """Generated windows.

    Attributes:
        stored: int16 [n, window_samples].
        samples: the same as a device takes them, float32.
        mels: what the mel stage makes of them, float32 [n, *mel_shape].
    """

    stored: NDArray[np.int16]
    samples: NDArray[np.float32]
    mels: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Imported:
    """What was made, before it is written.

    Attributes:
        frontend: with the shifts asked for.
        selection: the classes.
        models: the files by their weights.
        onnx: the twin of :func:`twin_of`, if asked for.
        proof: by weights, the difference to the original on generated sound.
        golden: the .npz of golden windows.
        golden_sound: what is heard in them.
        source_sha256: of the file that all was made from.
    """

    frontend: PowerLawFrontend
    selection: Selection
    models: Mapping[str, bytes]
    onnx: bytes | None
    proof: Mapping[str, Difference]
    golden: bytes
    golden_sound: Sound
    source_sha256: str


def import_birdnet(settings: ImportSettings) -> Path:
    """Make the bundle; returns its place.

    Raises:
        BirdNetImportError: a file, a table or a place cannot be used, or what was made is not near enough.
        GateError: a file that was made must not be shipped.
        StageError: the finished bundle fails the device's check.
    """
    model, labels = find_source(settings)
    say(f"{card.NAME} ({card.LICENCE}). {card.CONSEQUENCE}", style="yellow")
    place = check_place(settings.dir, (model, labels))
    made = made_from(settings, model, labels)
    with directory_swapped_in(place) as beside:
        _write(settings, made, beside)
        write_checksums(beside)
        check_as_device(beside)
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    say(f"{place}: verified, {size:,} bytes")
    return place


def made_from(settings: ImportSettings, model: Path, labels: Path) -> Imported:
    """Read, cut and prove.

    Raises:
        BirdNetImportError, GateError: as :func:`import_birdnet`.
    """
    source_sha256 = sha256_of_file(model)
    if source_sha256 != settings.known_sha256:
        say(
            f"{model} is not the BirdNET v2.4 FP32 file that is known here (known_sha256): what is made of it was not "
            "compared with anything but itself.",
            style="yellow",
        )
    graph = Graph(model.read_bytes(), str(model))
    _, count = last_layer(graph)
    selection = select(read_classes(labels, count), settings.species, settings.not_birds)
    _tell(selection, settings.species)
    found = recognise(graph, settings.sample_rates, settings.tolerances)
    frontend = with_shifts(found.frontend, settings.phase_average, settings.phase_span_ms)
    rows = np.array([kept.row for kept in selection.kept])
    float32 = cut_graph(graph, found, rows)
    models = {kind: with_weights(float32, kind) for kind in settings.weights}
    spectrogram = MelSpectrogram(frontend)
    sound = _sound(settings, spectrogram, frontend, settings.proof_windows, settings.proof_seed)
    golden = _sound(settings, spectrogram, frontend, settings.golden_windows, settings.golden_seed)
    proof = _proved(settings, graph, frontend, rows, models, sound)
    return Imported(
        frontend=frontend,
        selection=selection,
        models=models,
        onnx=_twin(settings, frontend, float32, models, (sound, golden)) if settings.onnx else None,
        proof=proof,
        golden=_golden(graph, found, frontend, rows, models, golden),
        golden_sound=golden,
        source_sha256=source_sha256,
    )


def with_shifts(frontend: PowerLawFrontend, count: int, span_ms: float) -> PowerLawFrontend:
    """The front end with so many shifts, spread evenly over a stretch of time.

    Raises:
        BirdNetImportError: two of them are the same, or the last leaves too few samples.
    """
    step = span_ms / 1000 * frontend.sample_rate / count
    shifts = tuple(round(n * step) for n in range(count))
    if len(set(shifts)) != count:
        raise BirdNetImportError(
            f"phase_average is {count}, and {span_ms:g} ms hold only {round(step * count)} samples: ask for fewer "
            "shifts."
        )
    try:
        return dataclasses.replace(frontend, shifts=shifts)
    except FrontendError as error:
        raise BirdNetImportError(
            f"phase_average={count} over phase_span_ms={span_ms:g} cannot be: {str(error).removeprefix('Front end: ')}"
        ) from error


def _tell(selection: Selection, species: str) -> None:
    """Say what is kept, how it was found where that is not plain, and what has no class."""
    birds = [kept for kept in selection.kept if kept.is_bird]
    others = len(selection.kept) - len(birds)
    say(f"kept: {len(birds)} species of {species}, and {others} classes that are no birds")
    for kept in birds:
        if kept.found_by != "scientific name":
            say(f"  {kept.label.ebird_code:<10} {kept.label.scientific_name}: found by its {kept.found_by}")
    for bird in selection.without_class:
        told = f"  {bird.ebird_code:<10} {bird.scientific_name}, {bird.common_name}: BirdNET has no class for it"
        say(told, style="yellow")


def _sound(
    settings: ImportSettings, spectrogram: MelSpectrogram, frontend: PowerLawFrontend, count: int, seed: int
) -> Sound:
    low, high = settings.proof_pitches
    highest = min(high, 0.8 * max(channel.f_max for channel in frontend.channels))
    pitches = min(low, highest / 2), highest
    stored = whistles(frontend.sample_rate, frontend.window_samples, pitches, count, seed)
    samples = as_floats(stored)
    return Sound(stored, samples, np.stack([spectrogram(window) for window in samples]))


def _proved(
    settings: ImportSettings,
    graph: Graph,
    frontend: PowerLawFrontend,
    rows: NDArray[np.int64],
    models: Mapping[str, bytes],
    sound: Sound,
) -> dict[str, Difference]:
    """Each model through the gate, and the whole way from samples to scores held against the original's."""
    theirs = original_logits(graph.data, frontend, sound.samples, rows)
    # the gate knows windows of one input: the first shift's
    first, at_first = sound.mels, theirs
    if len(frontend.shifts) > 1:
        unshifted = dataclasses.replace(frontend, shifts=frontend.shifts[:1])
        first, at_first = sound.mels[:, 0], original_logits(graph.data, unshifted, sound.samples, rows)
    proof = {}
    for kind, data in models.items():
        name = FILES[kind]
        gate(data, first, at_first, settings.export, name, "the original")
        proof[kind] = Difference.between(cut_logits(data, frontend, sound.mels), theirs)
        check(kind, proof[kind], settings.max_score_difference[kind])
        say(f"{name:<22} {len(data):>11,} bytes  largest difference of a score {proof[kind].score:.1e}")
    return proof


def twin_of(kinds: Iterable[str]) -> str:
    """Whose twin model.onnx is, as the runtime takes it: float32's where there is one."""
    return "float32" if "float32" in kinds else "float16"


def _twin(
    settings: ImportSettings,
    frontend: PowerLawFrontend,
    float32: bytes,
    models: Mapping[str, bytes],
    sounds: Iterable[Sound],
) -> bytes:
    """The ONNX file, held against the model whose twin it is, on the sound of the proof and of the golden windows."""
    kind = twin_of(models)
    onnx = export_onnx(float32 if kind == "float32" else rounded_to_float16(float32), settings.export.onnx_opset)
    mels = np.concatenate([sound.mels for sound in sounds])
    found = Difference.between(
        cut_logits(onnx, frontend, mels, "onnxruntime"), cut_logits(models[kind], frontend, mels)
    )
    check_twin(FILES[kind], found, settings.max_score_difference["float32"])
    say(f"{'model.onnx':<22} {len(onnx):>11,} bytes  the twin of {FILES[kind]}, scores within {found.score:.1e} of it")
    return onnx


def _golden(
    graph: Graph,
    found: Found,
    frontend: PowerLawFrontend,
    rows: NDArray[np.int64],
    models: Mapping[str, bytes],
    sound: Sound,
) -> bytes:
    """The .npz of a bundle, its maps and float32 logits the original graph's own."""
    seen = trace(graph.data, shifted(frontend, sound.samples), [found.cut], graph.name).values[found.cut]
    mels = seen.reshape(sound.mels.shape)
    logits = {f"logits_{kind}": cut_logits(data, frontend, mels) for kind, data in models.items()}
    if "float32" in models:
        logits["logits_float32"] = original_logits(graph.data, frontend, sound.samples, rows)
    file = io.BytesIO()
    np.savez_compressed(file, samples=sound.stored, mel=mels, **logits)  # type: ignore[arg-type]
    return file.getvalue()


def _write(settings: ImportSettings, made: Imported, place: Path) -> None:
    manifest = _manifest(settings, made)
    proof = {kind: dataclasses.asdict(found) for kind, found in made.proof.items()}
    unknown = dict.fromkeys(made.models, dict.fromkeys(NAMES))
    metrics = {"rows_of": None, **unknown, "difference_to_the_original": proof}
    contents = {
        "manifest.json": json_bytes(manifest),
        "metrics.json": json_bytes(metrics),
        "melspec.wasm": importlib.resources.files("labous").joinpath("melspec.wasm").read_bytes(),
        "labels.csv": _labels(made.selection),
        "golden/golden.npz": made.golden,
        "MODEL_CARD.md": card.card(manifest, made.selection, proof).encode(),
        "LICENCE.txt": card.NOTICE.encode(),
        **{FILES[kind]: data for kind, data in made.models.items()},
    }
    if settings.targets:
        manifest["native"] = _native(settings, made, contents["melspec.wasm"], place)
        contents["manifest.json"] = json_bytes(manifest)
    if made.onnx is not None:
        contents["model.onnx"] = made.onnx
    (place / "golden").mkdir()
    for name, content in contents.items():
        (place / name).write_bytes(content)


def _native(settings: ImportSettings, made: Imported, wasm: bytes, place: Path) -> dict[str, Any]:
    """What the manifest tells of the mel libraries for boards, each tried on the golden windows."""
    golden = io.BytesIO()  # the bundle's has the original graph's mel, which no library gives to the bit
    np.savez(golden, samples=made.golden_sound.stored, mel=made.golden_sound.mels)
    told = {}
    for machine in settings.targets:
        told[machine] = native.build_mel(machine, wasm, place)
        say(native.attempt_mel(machine, place, made.frontend, golden.getvalue()))
    return told


def _manifest(settings: ImportSettings, made: Imported) -> dict[str, Any]:
    codes = [kept.label.ebird_code for kept in made.selection.kept]
    tolerance = settings.golden_logits_tolerance
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": settings.name,
        "version": settings.version,
        "min_runtime": __version__,
        "dataset": {
            "name": "birdnet-v2.4",
            "synthetic": False,
            "revision": made.source_sha256,
            "recordings": 0,
            "hours": 0.0,
        },
        "source": {"name": card.NAME, "licence": card.LICENCE, "consequence": card.CONSEQUENCE},
        "licence": card.LICENCE,
        "frontend": made.frontend.to_dict(),
        "mel": {"file": "melspec.wasm", "abi_version": ABI_VERSION},
        "labels": "labels.csv",
        "models": {kind: model_entry(FILES[kind], data) for kind, data in made.models.items()},
        "golden": {
            "file": "golden/golden.npz",
            "tolerance": {"mel": settings.golden_mel_tolerance, **dict.fromkeys(made.models, tolerance)},
        },
        "detection": {
            "thresholds": dict.fromkeys(codes, settings.threshold),
            "calibration": {code: {"scale": 1.0, "offset": 0.0} for code in codes},
            "smoothing": {"neighbor_weight": 0.0},
            "confirmation": {"hits": settings.confirmation_hits, "windows": settings.confirmation_windows},
            "not_birds": made.selection.not_birds,
        },
        "metrics": {},
        "revision": {"code": code_revision(), "data": made.source_sha256},
    }
    if made.onnx is not None:
        manifest["onnx"] = {"file": "model.onnx", "opset": settings.export.onnx_opset}
    return manifest


def _labels(selection: Selection) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in dataclasses.fields(Label)])
    writer.writerows(dataclasses.astuple(kept.label) for kept in selection.kept)
    return text.getvalue().encode()


def read_proof(bundle: Path) -> dict[str, Any]:
    """What a bundle's metrics.json says of the difference to the original, by weights."""
    return json.loads((bundle / "metrics.json").read_text(encoding="utf-8"))["difference_to_the_original"]
