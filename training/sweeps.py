"""A place for each job of a sweep (``-m``), so that no job writes over another's results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

_FOLDER = "outputs/sweep"
_FLAGS = ("-m", "--multirun")


class _Place(NamedTuple):
    """A setting that names a directory, and the groups that decide what is in it; None: any of them."""

    key: str
    name: str
    groups: frozenset[str] | None


_FEATURES = frozenset({"dataset", "frontend", "features", "split", "experiment"})
_PLACES = (
    _Place("paths.prepared", "prepared", _FEATURES),
    _Place("paths.taught", "taught", _FEATURES | {"teacher"}),
    _Place("paths.fit", "fit", None),
    _Place("paths.export", "export", None),
    _Place("paths.validate", "validate", None),
    _Place("bundle.dir", "bundle", None),
    _Place("paths.report", "report", None),
)


def is_sweep(words: Sequence[str]) -> bool:
    """Whether a command line asks for several jobs."""
    return any(word in _FLAGS for word in words)


def places(words: Sequence[str], conf: Path) -> list[str]:
    """Overrides that give each job of a sweep directories of its own, below outputs/sweep.

    A directory is named after what the sweep varies: ``outputs/sweep/fit.seed=1/fit``. What all jobs have in common
    (prepared features, where only training is varied) stays in its place, and so does what the command line puts
    somewhere itself.

    Args:
        conf: the directory of the configuration's groups.
        words: of the command line; what Hydra cannot parse is left to it to complain about.
    """
    overrides = list(_parsed(words, conf))
    given = {key for key, _, _ in overrides}
    varied = [(key, is_group) for key, is_group, is_swept in overrides if is_swept]
    if not varied:
        return []
    values = {key: f"${{hydra:runtime.choices.{key}}}" if is_group else f"${{{key}}}" for key, is_group in varied}
    folder = f"{_FOLDER}/{','.join(f'{key}={values[key]}' for key in sorted(values))}"
    concerned = {key.partition(".")[0] for key in values}
    return [
        f"{place.key}='{folder}/{place.name}'"
        for place in _PLACES
        if place.key not in given and (place.groups is None or place.groups & concerned)
    ]


def _parsed(words: Sequence[str], conf: Path) -> Iterator[tuple[str, bool, bool]]:
    """Of each override: its key, whether that is a group of conf/, and whether the sweep varies it."""
    parser = OverridesParser.create()
    for word in words:
        if "=" not in word or word.startswith("-"):
            continue
        try:
            override = parser.parse_override(word)
        except HydraException:
            continue
        key = override.key_or_group
        yield key, (conf / key).is_dir(), override.is_sweep_override()
