"""A manifest is read key by key, and every error names its key."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labous._version import __version__
from labous.detect import Confirmation
from labous.errors import BundleError
from labous.manifest import Calibration, Manifest, NativeFile, OnnxFile, Source, Teacher
from tests.runtime import bundles, law_bundles


def parse(values: Any) -> Manifest:
    return Manifest.from_json(json.dumps(values).encode())


def refusal(values: Any) -> str:
    with pytest.raises(BundleError) as caught:
        parse(values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def leaves(values: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


def dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def parent_of(values: Any, path: tuple[str | int, ...]) -> Any:
    for key in path[:-1]:
        values = values[key]
    return values


def third_version() -> dict[str, Any]:
    """A manifest with all that the third schema has, and what it need not have."""
    made = {"file": "native/riscv64/libmelspec.so", "source": "0" * 64}
    return law_bundles.manifest() | {
        "onnx": {"file": "model.onnx", "opset": 17},
        "native": {"riscv64": {"mel": made, "model": made | {"file": "native/riscv64/libmodel.so"}}},
    }


MANIFEST = bundles.manifest()
THIRD = third_version()
# what holds names of the bundle's own choice may lose one; the front end has its own tests
FREE = ("models", "metrics", "golden.tolerance", "detection.thresholds", "detection.calibration")
OPTIONAL = ("licence", "teacher")
REQUIRED = [
    path
    for path in leaves(MANIFEST)
    if isinstance(path[-1], str)
    and dotted(path[:-1]) not in FREE
    and path[0] not in ("frontend", "metrics")
    and dotted(path) not in OPTIONAL
]
TYPED = [path for path in leaves(MANIFEST) if path[0] != "frontend" and "shape" not in path[:-1]]
NEW = [
    path
    for path in leaves(THIRD)
    if path[0] in ("source", "onnx", "native")
    or path[:2] == ("detection", "not_birds")
    or path[:2] == ("models", "float16")
    if "shape" not in path[:-1]
]
NEW_REQUIRED = [
    path for path in NEW if path[0] in ("source", "onnx", "native") and len(path) > 1
    if path not in (("native", "riscv64"), ("native", "riscv64", "model"))
]  # fmt: skip


def test_every_key_is_read() -> None:
    manifest = parse(MANIFEST)
    assert manifest.frontend == bundles.FRONTEND
    assert manifest.models["int8"].input.shape == (1, 16, 62, 1)
    assert manifest.models["float32"].ops[1].name == "FULLY_CONNECTED"
    assert manifest.detection.thresholds["hergul"] == 0.5
    assert manifest.detection.calibration["hergul"] == Calibration(1.0, 0.0)
    assert manifest.detection.neighbor_weight == 0.0
    assert manifest.detection.confirmation == Confirmation(1, 1)
    assert manifest.licence == "recordings trained on: CC0 (3)"
    assert manifest.teacher == Teacher("Owl 3", "CC BY-NC-SA 4.0", "Not for commercial use.")
    assert manifest.metrics["keras"] == {"macro_roc_auc": 0.97, "cmap": 0.8, "top1": 0.75, "row_f1": None}
    assert manifest.golden.tolerance == {"mel": 1e-5, "float32": 1e-3, "int8": 0.5}
    assert manifest.dataset.synthetic is False
    assert set(manifest.files) == {
        "melspec.wasm", "labels.csv", "model.tflite", "model_int8.tflite", "model.onnx", "golden/golden.npz",
    }  # fmt: skip


@pytest.mark.parametrize("path", REQUIRED, ids=dotted)
def test_a_missing_key_is_named(path: tuple[str | int, ...]) -> None:
    values = copy.deepcopy(MANIFEST)
    del parent_of(values, path)[path[-1]]
    assert f"manifest.json: {dotted(path)} is missing" in refusal(values)


@pytest.mark.parametrize("path", TYPED, ids=dotted)
def test_a_value_of_the_wrong_type_is_named(path: tuple[str | int, ...]) -> None:
    wrongs: list[Any] = [[], True, -1, "\x1b[31m", {"a": []}]
    for wrong in wrongs:
        values = copy.deepcopy(MANIFEST)
        parent = parent_of(values, path)
        if type(parent[path[-1]]) is type(wrong) or (path[-1] == "offset" and wrong == -1):
            continue  # an offset may be negative
        parent[path[-1]] = wrong
        message = refusal(values)
        assert dotted(path) in message
        assert "\x1b" not in message


def test_every_key_of_the_third_schema_is_read() -> None:
    manifest = parse(THIRD)
    assert manifest.frontend == law_bundles.FRONTEND
    assert manifest.models["float16"].input.shape == (1, 16, 511, 2)
    assert manifest.detection.not_birds == ("dog", "human1")
    assert manifest.source == Source("Owl 4", "CC BY-NC-SA 4.0", "Not for commercial use.")
    assert manifest.onnx == OnnxFile("model.onnx", 17)
    assert manifest.native["riscv64"].model == NativeFile("native/riscv64/libmodel.so", "0" * 64)
    assert set(manifest.files) == {
        "melspec.wasm", "labels.csv", "model.tflite", "model_float16.tflite", "model.onnx", "golden/golden.npz",
        "native/riscv64/libmelspec.so", "native/riscv64/libmodel.so",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["onnx", "source", "teacher", "licence", "native", "detection.not_birds"])
@pytest.mark.parametrize("null", [True, False])
def test_what_the_third_schema_need_not_have(name: str, null: bool) -> None:
    values = copy.deepcopy(THIRD)
    path = tuple(name.split("."))
    parent = parent_of(values, path)
    parent.pop(path[-1], None)
    if null:
        parent[path[-1]] = None
    manifest = parse(values)
    assert not (manifest.detection.not_birds if name.startswith("detection") else getattr(manifest, name))


def test_a_machine_may_have_a_mel_library_alone() -> None:
    values = copy.deepcopy(THIRD)
    del values["native"]["riscv64"]["model"]
    assert parse(values).native["riscv64"].model is None
    assert "libmodel" not in " ".join(parse(values).files)
    values["schema_version"] = 2
    assert "native.riscv64.model is missing" in refusal(values)


def test_the_second_schema_must_have_its_twin() -> None:
    values = {**MANIFEST}
    del values["onnx"]
    assert "manifest.json: onnx is missing" in refusal(values)
    assert parse(values | {"schema_version": 3}).onnx is None


@pytest.mark.parametrize("path", NEW_REQUIRED, ids=dotted)
def test_a_missing_key_of_the_third_schema_is_named(path: tuple[str | int, ...]) -> None:
    values = copy.deepcopy(THIRD)
    del parent_of(values, path)[path[-1]]
    assert f"manifest.json: {dotted(path)} is missing" in refusal(values)


@pytest.mark.parametrize("path", NEW, ids=dotted)
def test_a_value_of_the_wrong_type_in_the_third_schema_is_named(path: tuple[str | int, ...]) -> None:
    wrongs: list[Any] = [[[]], True, -1, "\x1b[31m", {"a": []}]
    for wrong in wrongs:
        values = copy.deepcopy(THIRD)
        parent_of(values, path)[path[-1]] = wrong
        message = refusal(values)
        assert dotted(path).partition("[")[0] in message
        assert "\x1b" not in message


def test_not_birds_are_not_too_many_nor_too_long() -> None:
    for wrong in (["x"] * 200_000, ["x" * 101], [""], "dog", ["dog", None]):
        values = copy.deepcopy(THIRD)
        values["detection"]["not_birds"] = wrong
        assert "detection.not_birds is" in refusal(values)


@pytest.mark.parametrize("shape", [[], [0], [-1], [1.5], [True], ["1"], [2**40], [1] * 9, 5])
def test_a_shape_that_cannot_be_is_named(shape: Any) -> None:
    values = copy.deepcopy(MANIFEST)
    values["models"]["int8"]["input"]["shape"] = shape
    assert "models.int8.input.shape" in refusal(values)


def test_a_newer_schema_is_refused_with_both_versions() -> None:
    message = refusal({"schema_version": 4, "all": "different"})
    assert "schema version 4" in message
    assert "reads up to 3" in message
    assert "pip install -U labous" in message


def first_version() -> dict[str, Any]:
    """A manifest as the first schema had it."""
    values = copy.deepcopy(MANIFEST) | {"schema_version": 1}
    values["detection"] = {"thresholds": values["detection"]["thresholds"]}
    for name in OPTIONAL:
        del values[name]
    return values


def test_the_first_schema_is_read_without_calibration() -> None:
    manifest = parse(first_version())
    assert manifest.detection.thresholds["hergul"] == 0.5
    assert manifest.detection.calibration == {}
    assert manifest.detection.neighbor_weight == 0.0
    assert manifest.detection.confirmation == Confirmation(1, 1)
    assert manifest.licence is None
    assert manifest.teacher is None


def test_what_the_first_schema_did_not_know_is_ignored_in_it() -> None:
    values = first_version()
    values["detection"]["calibration"] = {"hergul": {"scale": 3.0, "offset": 9.0}}
    assert parse(values).detection.calibration == {}


@pytest.mark.parametrize("name", OPTIONAL)
def test_what_a_bundle_need_not_tell_may_be_null(name: str) -> None:
    assert getattr(parse(MANIFEST | {name: None}), name) is None


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("calibration", "hergul", "scale"), 0.0),
        (("calibration", "hergul", "scale"), 1e6),
        (("calibration", "hergul", "offset"), -1e6),
        (("smoothing", "neighbor_weight"), 0.5),
        (("confirmation", "windows"), 0),
        (("confirmation", "windows"), 10**9),
        (("confirmation", "hits"), 2),
        (("confirmation", "hits"), 0),
    ],
)
def test_a_rule_that_cannot_be_is_named(where: tuple[str, ...], value: float) -> None:
    values = copy.deepcopy(MANIFEST)
    parent_of(values["detection"], where)[where[-1]] = value
    message = refusal(values)
    assert f"detection.{dotted(where)} is" in message
    assert "between" in message


@pytest.mark.parametrize("needed", ["0.1.1", "0.2", "1", "99.0.0.dev3"])
def test_a_bundle_that_needs_a_newer_runtime_is_refused(needed: str) -> None:
    message = refusal(MANIFEST | {"min_runtime": needed})
    assert needed in message
    assert __version__ in message
    assert "pip install -U labous" in message


@pytest.mark.parametrize("needed", ["0", "0.0.9", "0.1", "0.1.0", "0.1.0.0"])
def test_an_older_or_equal_min_runtime_is_accepted(needed: str) -> None:
    assert parse(MANIFEST | {"min_runtime": needed}).min_runtime == needed


@pytest.mark.parametrize("needed", ["", "new", "v1", "-1"])
def test_a_min_runtime_that_is_no_version_is_refused(needed: str) -> None:
    assert "min_runtime" in refusal(MANIFEST | {"min_runtime": needed})


def test_front_end_errors_say_where() -> None:
    unknown = MANIFEST | {"frontend": MANIFEST["frontend"] | {"n_bels": 3}}
    assert "n_bels" in refusal(unknown)
    for impossible in (10**400, -(10**400), float("nan"), float("inf"), "\x1b[2J", [[]], None):
        for name in ("sample_rate", "window_seconds", "hop_length", "amin"):
            assert f"{name} is" in refusal(MANIFEST | {"frontend": MANIFEST["frontend"] | {name: impossible}})
    for name, impossible in (("window_seconds", 1e308), ("window_seconds", -1e308), ("hop_length", 0), ("n_fft", 8192)):
        assert f"{name} = " in refusal(MANIFEST | {"frontend": MANIFEST["frontend"] | {name: impossible}})
    assert "hop_length is 2147483648; write" in refusal(
        MANIFEST | {"frontend": MANIFEST["frontend"] | {"hop_length": 2**31}}
    )
    hostile = refusal(MANIFEST | {"frontend": MANIFEST["frontend"] | {"\x1b[2J": 3, "x" * 10_000: 4}})
    assert hostile.isprintable() and len(hostile) < 600


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"1" * 10_000, b"[" * 100_000, b'{"a":' * 100_000,
        b'{"schema_version": 1e400}', b'{"schema_version": NaN}', b'{"schema_version": true}',
    ],
)  # fmt: skip
def test_hostile_bytes_are_refused_in_a_sentence(text: bytes) -> None:
    with pytest.raises(BundleError, match=r"^manifest\.json") as caught:
        Manifest.from_json(text)
    assert len(str(caught.value)) < 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    place=st.sampled_from([(manifest, path) for manifest in (MANIFEST, THIRD) for path in leaves(manifest)]),
    value=json_values,
)
def test_any_value_anywhere_is_read_or_refused(place: tuple[Any, tuple[str | int, ...]], value: Any) -> None:
    values, path = copy.deepcopy(place[0]), place[1]
    parent_of(values, path)[path[-1]] = value
    try:
        parse(values)
    except BundleError as error:
        assert len(str(error)) < 500
