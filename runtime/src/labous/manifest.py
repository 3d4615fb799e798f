"""What a bundle says about itself: ``manifest.json``, read into typed values.

Everything in it comes from a file that somebody else wrote, so nothing is believed: each key is looked up by name,
its type checked, and an error names it by its dotted path (``models.int8.input.shape``).
docs/bundle.md explains every key.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from labous._version import __version__
from labous.detect import Confirmation
from labous.errors import BundleError, FrontendError
from labous.frontend import Frontend
from labous.options import shown

SCHEMA_VERSION = 2
"""The newest manifest schema that this runtime reads."""

_MAX_LABELS = 100_000
_MAX_WINDOWS = 1000
_MOST_NEIGHBOR_WEIGHT = 1 / 3
# calibration beyond these would make certainties of everything, or overflow
_LEAST_SCALE, _MOST_LOGITS = 1e-3, 1e3
_DTYPES = ("float32", "int8")
_UPGRADE = "run: pip install -U labous"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What the model was trained on. ``revision`` is a sha256 of the table of recordings."""

    name: str
    synthetic: bool
    revision: str
    recordings: int
    hours: float


@dataclasses.dataclass(frozen=True)
class MelModule:
    """The WebAssembly module that computes the front end, and the version of its C ABI."""

    file: str
    abi_version: int


@dataclasses.dataclass(frozen=True)
class NativeFile:
    """A library of machine code, and the hexadecimal sha256 of the file of the bundle that it was made from."""

    file: str
    source: str


@dataclasses.dataclass(frozen=True)
class Native:
    """What stands for the mel module and for the float32 model on a machine whose engines do not run them."""

    mel: NativeFile
    model: NativeFile


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A model's input or output: its name, static shape and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Op:
    """A TFLite builtin operator, the highest version of it that the file uses, and how often."""

    name: str
    version: int
    count: int


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """One .tflite file. ``macs`` are multiply-accumulates per window, ``bytes`` the file's size."""

    file: str
    input: Tensor
    output: Tensor
    activation: str
    ops: tuple[Op, ...]
    parameters: int
    macs: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class OnnxFile:
    """The float32 model's twin for ONNX engines."""

    file: str
    opset: int


@dataclasses.dataclass(frozen=True)
class Golden:
    """Windows with their mel and logits, and the largest absolute difference allowed to each."""

    file: str
    tolerance: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Revision:
    """Where the bundle came from: the code's git commit (or "unknown") and the data's sha256."""

    code: str
    data: str


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What makes one label's probability of its logit: the sigmoid of scale · logit + offset."""

    scale: float
    offset: float


@dataclasses.dataclass(frozen=True)
class Detection:
    """From logits to detections.

    Attributes:
        thresholds: a probability in 0 … 1 by ebird_code.
        calibration: by ebird_code; empty in a bundle of schema version 1, which has none.
        neighbor_weight: of :class:`labous.detect.Scoring`; 0 is no smoothing.
        confirmation: when a station believes what it hears; one window of one is at once.
    """

    thresholds: Mapping[str, float]
    calibration: Mapping[str, Calibration]
    neighbor_weight: float
    confirmation: Confirmation


@dataclasses.dataclass(frozen=True)
class Teacher:
    """The model whose opinions this one learned from, and what its licence asks of who uses this one."""

    name: str
    licence: str
    consequence: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything in ``manifest.json``. ``licence`` and ``teacher`` are None where it does not tell.

    ``native`` is by the machine, as ``uname -m`` says it.
    """

    schema_version: int
    name: str
    version: str
    min_runtime: str
    dataset: Dataset
    frontend: Frontend
    mel: MelModule
    labels: str
    models: Mapping[str, ModelFile]
    onnx: OnnxFile
    golden: Golden
    detection: Detection
    metrics: Mapping[str, Mapping[str, float | None]]
    revision: Revision
    licence: str | None
    teacher: Teacher | None
    native: Mapping[str, Native]

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the manifest names, without itself."""
        models = (model.file for model in self.models.values())
        native = (made.file for each in self.native.values() for made in (each.mel, each.model))
        return (self.mel.file, self.labels, *models, self.onnx.file, self.golden.file, *native)

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Read a manifest.

        Args:
            text: the bytes of ``manifest.json``.

        Raises:
            BundleError: it is not JSON, a key is missing or has the wrong type, or this runtime is too old for it.
        """
        try:
            root = _Object(json.loads(text.decode("utf-8")), "")
        except (ValueError, RecursionError) as error:
            raise BundleError(f"manifest.json is not JSON ({error}); fetch the bundle again.") from error
        _check_versions(root)
        try:
            frontend = Frontend.from_dict(root.object("frontend").values)
        except FrontendError as error:
            raise BundleError(f"manifest.json: {error}") from error
        dataset, mel, onnx = root.object("dataset"), root.object("mel"), root.object("onnx")
        golden, revision = root.object("golden"), root.object("revision")
        return cls(
            schema_version=root.integer("schema_version"),
            name=root.text("name"),
            version=root.text("version"),
            min_runtime=root.text("min_runtime"),
            dataset=Dataset(
                name=dataset.text("name"),
                synthetic=dataset.boolean("synthetic"),
                revision=dataset.text("revision"),
                recordings=dataset.integer("recordings"),
                hours=dataset.number("hours"),
            ),
            frontend=frontend,
            mel=MelModule(file=mel.text("file"), abi_version=mel.integer("abi_version")),
            labels=root.text("labels"),
            models={name: _model(model) for name, model in root.object("models").objects()},
            onnx=OnnxFile(file=onnx.text("file"), opset=onnx.integer("opset")),
            golden=Golden(file=golden.text("file"), tolerance=golden.object("tolerance").numbers()),
            detection=_detection(root.object("detection"), root.integer("schema_version")),
            metrics={name: scores.numbers_or_null() for name, scores in root.object("metrics").objects()},
            revision=Revision(code=revision.text("code"), data=revision.text("data")),
            licence=root.text("licence") if root.has("licence") else None,
            teacher=_teacher(root.object("teacher")) if root.has("teacher") else None,
            native=(
                {machine: _native(made) for machine, made in root.object("native").objects()}
                if root.has("native")
                else {}
            ),
        )


def _check_versions(root: _Object) -> None:
    """Refuse a manifest newer than this runtime before any key that it may have changed is looked at."""
    schema = root.integer("schema_version")
    if schema > SCHEMA_VERSION:
        raise BundleError(
            f"The bundle has schema version {schema} and labous {__version__} reads up to {SCHEMA_VERSION}; {_UPGRADE}"
        )
    if schema < 1:
        raise BundleError(f"manifest.json: schema_version is {schema}; it must be at least 1.")
    needed = root.text("min_runtime")
    if _release(needed) > _release(__version__):
        raise BundleError(f"The bundle needs labous {needed} or later and this is {__version__}; {_UPGRADE}")


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without trailing zeros: "1.2.0.dev3" → (1, 2)."""
    match = re.match(r"\d{1,6}(\.\d{1,6}){0,3}", version)
    if match is None:
        raise BundleError(f"manifest.json: min_runtime is {shown(version)}; write a version such as {__version__}.")
    numbers = [int(part) for part in match.group().split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _detection(detection: _Object, schema: int) -> Detection:
    thresholds = detection.object("thresholds").numbers(highest=1.0)
    if schema < 2:  # its thresholds are for plain sigmoids
        return Detection(thresholds, {}, 0.0, Confirmation(1, 1))
    confirmation = detection.object("confirmation")
    windows = confirmation.integer("windows", lowest=1, highest=_MAX_WINDOWS)
    return Detection(
        thresholds=thresholds,
        calibration={
            code: Calibration(
                entry.number("scale", lowest=_LEAST_SCALE, highest=_MOST_LOGITS),
                entry.number("offset", lowest=-_MOST_LOGITS, highest=_MOST_LOGITS),
            )
            for code, entry in detection.object("calibration").objects()
        },
        neighbor_weight=detection.object("smoothing").number("neighbor_weight", highest=_MOST_NEIGHBOR_WEIGHT),
        confirmation=Confirmation(confirmation.integer("hits", lowest=1, highest=windows), windows),
    )


def _native(native: _Object) -> Native:
    mel, model = (native.object(name) for name in ("mel", "model"))
    return Native(*(NativeFile(file=made.text("file"), source=made.text("source")) for made in (mel, model)))


def _teacher(teacher: _Object) -> Teacher:
    return Teacher(name=teacher.text("name"), licence=teacher.text("licence"), consequence=teacher.text("consequence"))


def _model(model: _Object) -> ModelFile:
    return ModelFile(
        file=model.text("file"),
        input=_tensor(model.object("input")),
        output=_tensor(model.object("output")),
        activation=model.choice("activation", ("sigmoid",)),
        ops=tuple(
            Op(name=op.text("name"), version=op.integer("version"), count=op.integer("count"))
            for op in model.list_of_objects("ops")
        ),
        parameters=model.integer("parameters"),
        macs=model.integer("macs"),
        bytes=model.integer("bytes"),
    )


def _tensor(tensor: _Object) -> Tensor:
    return Tensor(name=tensor.text("name"), shape=tensor.shape("shape"), dtype=tensor.choice("dtype", _DTYPES))


class _Object:
    """A JSON object that knows its dotted path; each getter checks presence and type."""

    def __init__(self, values: object, path: str) -> None:
        if not isinstance(values, dict):
            raise BundleError(f"manifest.json: {path or 'the whole'} is {shown(values)}; it must be an object.")
        self.values: dict[str, Any] = values
        self._path = path

    def _where(self, key: str) -> str:
        name = key if len(key) <= 60 and key.isprintable() else shown(key)
        return f"{self._path}.{name}" if self._path else name

    def _wrong(self, key: str, wanted: str) -> BundleError:
        return BundleError(f"manifest.json: {self._where(key)} is {shown(self.values[key])}; it must be {wanted}.")

    def _get(self, key: str) -> Any:
        if key not in self.values:
            raise BundleError(f"manifest.json: {self._where(key)} is missing; the bundle is incomplete.")
        return self.values[key]

    def has(self, key: str) -> bool:
        """Whether an optional key is there, and not null."""
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not 0 < len(value) <= 1000 or not value.isprintable():
            raise self._wrong(key, "a short printable text")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in choices:
            raise self._wrong(key, " or ".join(choices))
        return value

    def boolean(self, key: str) -> bool:
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def integer(self, key: str, lowest: int = 0, highest: int = 2**63 - 1) -> int:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise self._wrong(key, "a whole number, not negative")
        if not lowest <= value <= highest:
            raise self._wrong(key, f"between {lowest} and {highest}")
        return value

    def number(self, key: str, highest: float = math.inf, lowest: float = 0.0) -> float:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
            raise self._wrong(key, "a finite number")
        if not lowest <= value <= highest:
            raise self._wrong(key, "zero or more" if highest == math.inf else f"between {lowest:g} and {highest:g}")
        return float(value)

    def numbers(self, highest: float = math.inf) -> dict[str, float]:
        return {key: self.number(key, highest) for key in self._keys()}

    def numbers_or_null(self) -> dict[str, float | None]:
        return {key: None if self.values[key] is None else self.number(key) for key in self._keys()}

    def shape(self, key: str) -> tuple[int, ...]:
        value = self._get(key)
        if (
            not isinstance(value, list)
            or not 1 <= len(value) <= 8
            or any(isinstance(n, bool) or not isinstance(n, int) or not 1 <= n < 2**31 for n in value)
        ):
            raise self._wrong(key, "a list of positive whole numbers")
        return tuple(value)

    def object(self, key: str) -> _Object:
        return _Object(self._get(key), self._where(key))

    def objects(self) -> Iterator[tuple[str, _Object]]:
        return ((key, self.object(key)) for key in self._keys())

    def list_of_objects(self, key: str) -> list[_Object]:
        value = self._get(key)
        if not isinstance(value, list) or len(value) > 1000:
            raise self._wrong(key, "a list of at most 1000 objects")
        return [_Object(item, f"{self._where(key)}[{i}]") for i, item in enumerate(value)]

    def _keys(self) -> list[str]:
        if len(self.values) > _MAX_LABELS:
            raise BundleError(f"manifest.json: {self._path} has {len(self.values)} entries, over {_MAX_LABELS}.")
        for key in self.values:
            if not 0 < len(key) <= 100 or not key.isprintable():
                raise BundleError(
                    f"manifest.json: {self._path} has the key {shown(key)}; keys must be short and printable."
                )
        return list(self.values)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
