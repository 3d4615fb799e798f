"""Whether a bundle agrees with itself: the manifest, the front end, the labels and the files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from labous.detect import Label
from labous.errors import BundleError
from labous.manifest import Manifest, ModelFile

_AGAIN = "export the bundle again."
_MOST_NAMED = 5


def check(path: str, manifest: Manifest, labels: Sequence[Label], files: Mapping[str, bytes]) -> None:
    """Refuse a bundle that contradicts itself.

    Args:
        path: of the bundle, for errors.
        manifest: what it says.
        labels: of its table.
        files: the bytes of each file by its path in the bundle.

    Raises:
        BundleError: with the first contradiction.
    """
    where = f"Bundle {path!r}"
    if not manifest.models:
        raise BundleError(f"{where} has no model; {_AGAIN}")
    for name, model in manifest.models.items():
        _check_model(where, name, model, manifest, len(labels))
    _check_labels(where, manifest, labels)
    _check_libraries(where, manifest, files)


def _check_model(where: str, name: str, model: ModelFile, manifest: Manifest, n_labels: int) -> None:
    for side, shape, wanted, why in (
        ("input", model.input.shape, manifest.frontend.input_shape, "the front end gives"),
        ("output", model.output.shape, (1, n_labels), f"{manifest.labels} needs"),
    ):
        if shape != wanted:
            raise BundleError(
                f"{where}: models.{name}.{side}.shape is {list(shape)} and {why} {list(wanted)}; {_AGAIN}"
            )


def _check_labels(where: str, manifest: Manifest, labels: Sequence[Label]) -> None:
    told, codes = manifest.detection, {label.ebird_code for label in labels}
    by_label: dict[str, Mapping[str, object]] = {"thresholds": told.thresholds}
    if manifest.schema_version >= 2:
        by_label["calibration"] = told.calibration
    odd = {name: codes ^ set(values) for name, values in by_label.items()}
    odd["not_birds"] = set(told.not_birds) - codes
    for name, differing in odd.items():
        if differing:
            some = ", ".join(sorted(differing)[:_MOST_NAMED])
            raise BundleError(f"{where}: detection.{name} and {manifest.labels} disagree about {some}; {_AGAIN}")


def _check_libraries(where: str, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Check that libraries were made from the files that they stand for."""
    float32 = manifest.models.get("float32")
    sources = {"mel": manifest.mel.file, "model": "model.tflite" if float32 is None else float32.file}
    for native in manifest.native.values():
        for made, source in ((native.mel, sources["mel"]), (native.model, sources["model"])):
            if made is not None and hashlib.sha256(files.get(source, b"")).hexdigest() != made.source:
                raise BundleError(f"{where}: {made.file} was not made from its {source}; {_AGAIN}")
