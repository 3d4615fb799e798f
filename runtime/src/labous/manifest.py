"""What a bundle says about itself: ``manifest.json``, read into typed values.

Everything in it comes from a file that somebody else wrote, so nothing is believed: each key is looked up by name,
its type checked, and an error names it by its dotted path (``models.int8.input.shape``).
docs/bundle.md explains every key.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping

from labous._version import __version__
from labous.detect import Confirmation
from labous.errors import BundleError, FrontendError
from labous.json_object import JsonObject
from labous.options import shown
from labous.power_law import AnyFrontend, read_frontend

SCHEMA_VERSION = 3
"""The newest manifest schema that this runtime reads."""

LOG_MEL_SCHEMA_VERSION = 2
"""The one that is enough for a bundle of our own training, so that runtimes of before the third read it too."""

PRECISIONS = ("float32", "float16", "int8")
"""Of models, the most exact first."""

MAX_WINDOWS = 1000
"""That a confirmation may look back over."""

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
    """What stands for the mel module and for the float32 model on a machine whose engines do not run them.

    ``model`` is None where the model cannot be compiled: another engine runs it then.
    """

    mel: NativeFile
    model: NativeFile | None


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
    """The twin for ONNX engines of the float32 model, or of the float16 one where there is no other."""

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
        not_birds: the ebird_codes of labels that are never detected: a dog, an engine, a voice.
    """

    thresholds: Mapping[str, float]
    calibration: Mapping[str, Calibration]
    neighbor_weight: float
    confirmation: Confirmation
    not_birds: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Teacher:
    """The model whose opinions this one learned from, and what its licence asks of who uses this one."""

    name: str
    licence: str
    consequence: str


@dataclasses.dataclass(frozen=True)
class Source:
    """The model that this one was made of, by whose licence it goes, and what that asks of who uses it."""

    name: str
    licence: str
    consequence: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything in ``manifest.json``. ``licence``, ``teacher``, ``source`` and ``onnx`` are None where it is silent.

    ``native`` is by the machine, as ``uname -m`` says it.
    """

    schema_version: int
    name: str
    version: str
    min_runtime: str
    dataset: Dataset
    frontend: AnyFrontend
    mel: MelModule
    labels: str
    models: Mapping[str, ModelFile]
    onnx: OnnxFile | None
    golden: Golden
    detection: Detection
    metrics: Mapping[str, Mapping[str, float | None]]
    revision: Revision
    licence: str | None
    teacher: Teacher | None
    source: Source | None
    native: Mapping[str, Native]

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the manifest names, without itself."""
        models = (model.file for model in self.models.values())
        native = (made for each in self.native.values() for made in (each.mel, each.model))
        optional = (file.file for file in (self.onnx, *native) if file is not None)
        return (self.mel.file, self.labels, *models, self.golden.file, *optional)

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Read a manifest.

        Args:
            text: the bytes of ``manifest.json``.

        Raises:
            BundleError: it is not JSON, a key is missing or has the wrong type, or this runtime is too old for it.
        """
        try:
            root = JsonObject(json.loads(text.decode("utf-8")), "")
        except (ValueError, RecursionError) as error:
            raise BundleError(f"manifest.json is not JSON ({error}); fetch the bundle again.") from error
        _check_versions(root)
        try:
            frontend = read_frontend(root.object("frontend").values)
        except FrontendError as error:
            raise BundleError(f"manifest.json: {error}") from error
        schema = root.integer("schema_version")
        dataset, mel, golden, revision = (root.object(name) for name in ("dataset", "mel", "golden", "revision"))
        return cls(
            schema_version=schema,
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
            onnx=_onnx(root.object("onnx")) if _is_told(root, "onnx", schema) else None,
            golden=Golden(file=golden.text("file"), tolerance=golden.object("tolerance").numbers()),
            detection=_detection(root.object("detection"), schema),
            metrics={name: scores.numbers_or_null() for name, scores in root.object("metrics").objects()},
            revision=Revision(code=revision.text("code"), data=revision.text("data")),
            licence=root.text("licence") if root.has("licence") else None,
            teacher=Teacher(**_licensed(root.object("teacher"))) if root.has("teacher") else None,
            source=Source(**_licensed(root.object("source"))) if root.has("source") else None,
            native=(
                {machine: _native(made, schema) for machine, made in root.object("native").objects()}
                if root.has("native")
                else {}
            ),
        )


def _check_versions(root: JsonObject) -> None:
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


def _detection(detection: JsonObject, schema: int) -> Detection:
    thresholds = detection.object("thresholds").numbers(highest=1.0)
    if schema < 2:  # its thresholds are for plain sigmoids
        return Detection(thresholds, {}, 0.0, Confirmation(1, 1))
    confirmation = detection.object("confirmation")
    windows = confirmation.integer("windows", lowest=1, highest=MAX_WINDOWS)
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
        not_birds=detection.texts("not_birds") if detection.has("not_birds") else (),
    )


def _is_told(values: JsonObject, key: str, schema: int) -> bool:
    """Whether a key is there that may be left out from the third schema on, and must be there in those before."""
    return schema < 3 or values.has(key)


def _onnx(onnx: JsonObject) -> OnnxFile:
    return OnnxFile(file=onnx.text("file"), opset=onnx.integer("opset"))


def _native(native: JsonObject, schema: int) -> Native:
    model = _library(native.object("model")) if _is_told(native, "model", schema) else None
    return Native(mel=_library(native.object("mel")), model=model)


def _library(made: JsonObject) -> NativeFile:
    return NativeFile(file=made.text("file"), source=made.text("source"))


def _licensed(model: JsonObject) -> dict[str, str]:
    return {key: model.text(key) for key in ("name", "licence", "consequence")}


def _model(model: JsonObject) -> ModelFile:
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


def _tensor(tensor: JsonObject) -> Tensor:
    return Tensor(name=tensor.text("name"), shape=tensor.shape("shape"), dtype=tensor.choice("dtype", _DTYPES))
