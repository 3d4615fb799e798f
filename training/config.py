"""From conf/ to typed settings, and the one way every stage's command line starts.

Hydra composes; each group's ``_target_`` names the frozen value it becomes. An unknown, missing or impossible key is a
:class:`ConfigError`, printed as one sentence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import yaml
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from labous.errors import LabousError
from labous.frontend import Frontend
from melspec_cpp.boards import MACHINES
from training import interrupts
from training.aot.hearing import WHOLE
from training.errors import ConfigError
from training.occurrence import Source, sources
from training.sweeps import is_sweep, places

if TYPE_CHECKING:
    from training.augment import Augment
    from training.datasets.base import Dataset
    from training.evaluate import Evaluate
    from training.fitting import Fit
    from training.gate import ExportSettings
    from training.models import PlainCnn
    from training.teacher.settings import Teacher

CONF_DIR = Path(__file__).resolve().parents[1] / "conf"
_CONFIG_NAME = "config"
_LISTS = {_CONFIG_NAME: "python -m training.train --cfg job"}
_INTERRUPTED = 130
QUIET_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3"}
"""Environment: TensorFlow's C++ tells of its start; what goes wrong, it also says in exceptions."""


@dataclasses.dataclass(frozen=True)
class Features:
    """What computes features for training (``librosa``, ``native`` or ``wasm``), and who runs it, with how many."""

    backend: str
    engine: str
    workers: int

    def __post_init__(self) -> None:
        if self.engine not in ("local", "dask"):
            raise ConfigError(f"features.engine is {self.engine!r}; choose local or dask.")
        if self.backend not in ("librosa", "native", "wasm"):
            raise ConfigError(f"features.backend is {self.backend!r}; choose librosa, native or wasm.")
        if self.workers < 1:
            raise ConfigError(f"features.workers is {self.workers}; it must be at least 1.")


@dataclasses.dataclass(frozen=True)
class Dask:
    """Where the cluster of ``features.engine=dask`` is, and how long (s) to wait for it."""

    scheduler: str | None
    timeout: float

    def __post_init__(self) -> None:
        if not 0 < self.timeout < math.inf:
            raise ConfigError(f"dask.timeout is {self.timeout}; it must be a number of seconds above 0.")


@dataclasses.dataclass(frozen=True)
class Split:
    """Shares of the recordings, by recordist, and of the soundscapes, by file.

    Where ``folds`` is a number, fold ``fold`` of as many takes the place of the share ``test``.
    """

    seed: int
    folds: int | None
    fold: int
    valid: float
    test: float
    soundscapes_valid: float

    def __post_init__(self) -> None:
        for name in ("valid", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"split.{name} is {getattr(self, name)}; it must be at least 0 and below 1.")
        if self.folds is not None and not 0 <= self.fold < self.folds >= 2:
            raise ConfigError(
                f"split.folds is {self.folds} and split.fold {self.fold}; there must be 2 folds or more, and they are "
                "counted from 0."
            )
        if not 0 <= self.soundscapes_valid < 1:
            raise ConfigError(
                f"split.soundscapes_valid is {self.soundscapes_valid}; it must be at least 0 and below 1."
            )
        if self.folds is None and self.valid + self.test >= 1:
            raise ConfigError(
                f"split.valid and split.test are {self.valid} and {self.test}; something must be left to train on."
            )


@dataclasses.dataclass(frozen=True)
class Paths:
    """Where each stage leaves its results."""

    prepared: Path
    taught: Path
    fit: Path
    export: Path
    validate: Path
    report: Path
    wheel: Path


@dataclasses.dataclass(frozen=True)
class BundleSettings:
    """The bundle's name (None: after the data set), its version, its place, and what tells it of weekly occurrence.

    ``targets`` are what it is also made into: a machine's libraries, of melspec_cpp.boards.MACHINES, or a whole in one
    file, of training.aot.hearing.WHOLE.
    """

    name: str | None
    version: str
    dir: Path
    occurrence: tuple[Source, ...]
    least_checklists: int
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "occurrence", sources(self.occurrence))
        object.__setattr__(self, "targets", _targets(self.targets))
        if self.least_checklists < 1:
            raise ConfigError(f"bundle.least_checklists is {self.least_checklists}; it must be at least 1.")


def _targets(told: Any) -> tuple[str, ...]:
    """The targets, in the order of their tables.

    Raises:
        ConfigError: they are no list of such.
    """
    known = (*MACHINES, *WHOLE)
    if not isinstance(told, (list, tuple)) or not set(map(str, told)) <= set(known):
        raise ConfigError(f"bundle.targets is {told!r}; write a list of {', '.join(known)}: [riscv64], say.")
    return tuple(target for target in known if target in told)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything a run is told, typed. ``groups`` holds the same as plain values, for hashing and for the record."""

    dataset: Dataset
    frontend: Frontend
    augment: Augment
    teacher: Teacher
    model: PlainCnn
    fit: Fit
    export: ExportSettings
    evaluate: Evaluate
    features: Features
    dask: Dask
    split: Split
    paths: Paths
    bundle: BundleSettings
    force: bool
    groups: dict[str, Any]


_PLAIN: dict[str, type] = {
    "features": Features,
    "dask": Dask,
    "split": Split,
    "paths": Paths,
    "bundle": BundleSettings,
}


def settings_from(config: DictConfig) -> Settings:
    """Turn a composed config into settings.

    Raises:
        ConfigError: a key is unknown, missing or of the wrong type.
        LabousError: a value is impossible, in the words of the group it belongs to.
    """
    plain = _plain(config)
    for name in ("hydra", "experiment", "targets"):  # the last is bundle.targets by a short name
        plain.pop(name, None)
    values: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            values[name] = _build(name, value)
        elif name == "force":
            if not isinstance(value, bool):
                raise ConfigError(f"Configuration: force is {value!r}; write true or false.")
            values[name] = value
        else:
            raise ConfigError(f"Configuration: unknown key {name}; the groups are {', '.join(_group_names())}.")
    missing = [name for name in _group_names() if name not in values]
    if missing:
        raise ConfigError(f"Configuration: {missing[0]} is missing; take a file of conf/ for it.")
    return Settings(**values, groups=plain)


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ConfigError(f"Configuration: {_one_line(error)}.") from error
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}


def _group_names() -> list[str]:
    return [f.name for f in dataclasses.fields(Settings) if f.name != "groups"]


def _build(group: str, values: Mapping[str, Any]) -> Any:
    if group not in _group_names():
        raise ConfigError(f"Configuration: unknown group {group}; the groups are {', '.join(_group_names())}.")
    if "_target_" not in values and group not in _PLAIN:
        raise ConfigError(f"Configuration: {group} has no _target_; choose a file of conf/{group}/.")
    return _instance(group, values)


def _nested(where: str, value: Any) -> Any:
    """A value of a group, with every mapping below it that has a _target_ made into what that names."""
    if not isinstance(value, Mapping):
        return value
    if "_target_" in value:
        return _instance(where, value)
    return {key: _nested(f"{where}.{key}", below) for key, below in value.items()}


def _instance(group: str, values: Mapping[str, Any]) -> Any:
    named = {key: _nested(f"{group}.{key}", value) for key, value in values.items() if key != "_target_"}
    target_name = values.get("_target_")
    try:
        target = _PLAIN[group] if target_name is None else hydra.utils.get_object(target_name)
    except (ImportError, ValueError, AttributeError) as error:
        raise ConfigError(f"Configuration: {group}._target_ is {target_name!r}, which cannot be found.") from error
    parameters = inspect.signature(target).parameters
    unknown = [key for key in named if key not in parameters]
    if unknown:
        raise ConfigError(f"Configuration: unknown key {group}.{unknown[0]}; {group} knows {', '.join(parameters)}.")
    missing = [
        key
        for key, parameter in parameters.items()
        if named.get(key) == "???" or (parameter.default is inspect.Parameter.empty and key not in named)
    ]
    if missing:
        raise ConfigError(f"Configuration: {group}.{missing[0]} is not given; add {group}.{missing[0]}=… .")
    if group != "frontend":  # which tells wrong types in its own words
        named = _typed(group, target, named)
    try:
        return target(**named)
    except LabousError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Configuration: {group} cannot be used: {_one_line(error)}.") from error


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "bool": (bool, "true or false"),
    "str": (str, "a text, in quotes where it looks like a number"),
    "Path": (str, "a path"),
}


def _typed(group: str, target: Any, named: dict[str, Any]) -> dict[str, Any]:
    """The values with the simple types that a group's dataclass asks for; paths made of their text."""
    typed = dict(named)
    annotations = {f.name: str(f.type) for f in dataclasses.fields(target)} if dataclasses.is_dataclass(target) else {}
    for key, value in named.items():
        annotation = annotations.get(key, "")
        kind, wanted = _KINDS.get(annotation.removesuffix(" | None"), (None, ""))
        if kind is None or (value is None and annotation.endswith(" | None")):
            continue
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(f"Configuration: {group}.{key} is {value!r}; write {wanted}.")
        if annotation.startswith("Path"):
            typed[key] = Path(str(value))
    return typed


def compose(overrides: Sequence[str] = ()) -> Settings:
    """Compose conf/ with overrides, as the command line does.

    Raises:
        ConfigError: an override names something that conf/ does not have.
    """
    return settings_from(_composed(_CONFIG_NAME, overrides))


def compose_alone(name: str, overrides: Sequence[str] = ()) -> Any:
    """What the ``_target_`` of a file of conf/ beside config.yaml names, made of its values with overrides.

    Raises:
        ConfigError: an override names something that the file does not have, or a value is impossible.
    """
    return _instance(name, _plain(_composed(name, overrides)))


def _composed(name: str, overrides: Sequence[str]) -> DictConfig:
    try:
        with hydra.initialize_config_dir(str(CONF_DIR), version_base=None):
            return hydra.compose(name, overrides=list(overrides))
    except yaml.YAMLError as error:
        raise ConfigError(f"Configuration: a file of conf/ is not YAML: {_one_line(error)}.") from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: experiment=null
        raise ConfigError(f"Configuration: {_explain(error, name)}") from error


def _explain(error: Exception, name: str) -> str:
    message = _one_line(error).rstrip(".")
    ambiguous = re.search(r"Ambiguous value for argument '(.*)' 1\.", message)  # a comma: a sweep, if it were allowed
    if isinstance(error, OverrideParseException) or ambiguous:
        word = ambiguous[1] if ambiguous else error.override  # type: ignore[attr-defined]
        key, _, value = word.partition("=")
        quoted = shlex.quote(f'{key}="{value}"')
        return (
            f"{word} cannot be read; what has spaces, brackets, commas or the like needs quotes of its own, "
            f"and the shell's around them: {quoted}."
        )
    cause = error.__cause__ or error.__context__
    if "Could not override" in message or "not in struct" in message:
        key = message.split("'")[1] if "'" in message else message
        detail = "" if cause is None or "not in struct" in str(cause) else f" ({_one_line(cause).rstrip('.')})"
        return f"there is no key {key} in conf/{detail}; {_LISTS.get(name, f'conf/{name}.yaml')} lists them all."
    return f"{message}."


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def stage_main(run: Callable[[Settings], None]) -> Callable[[], None]:
    """Make the command line of a stage: Hydra's, with every user's mistake told in one sentence.

    Exit status: 0 done, 1 a mistake or an error told, 130 interrupted.
    """

    def task(config: DictConfig) -> None:
        with told_in_a_sentence():
            run(settings_from(config))

    def main() -> None:
        for name, value in QUIET_TENSORFLOW.items():
            os.environ.setdefault(name, value)
        # a sweep's lists of values compose only one by one, and what is no override is Hydra's own flag
        words = [a for a in sys.argv[1:] if ("=" in a or a[0] in "~+") and not a.startswith("-")]
        sweeping = is_sweep(sys.argv[1:])
        with told_in_a_sentence():
            compose([a for a in words if not (sweeping and "," in a)])
        if sweeping:
            sys.argv += places(words, CONF_DIR)
        hydra.main(version_base=None, config_path=str(CONF_DIR), config_name=_CONFIG_NAME)(task)()

    return main


@contextlib.contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """Context in which a LabousError ends the process with its sentence, and Ctrl-C with 130."""
    try:
        with interrupts.remembered():
            yield
    except LabousError as error:
        sys.stderr.write(f"labous: error: {error}\n")
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written to
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"labous: error: {where}{error.strerror or error}; check the path and the disk.\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("labous: interrupted; the same command continues where this one stopped.\n")
        sys.exit(_INTERRUPTED)
