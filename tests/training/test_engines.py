"""The same file in every engine; engines that are missing or die are seen, not skipped."""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from export_fixtures import N_LABELS, SHAPE, exported, needs

from labous.errors import EngineError
from tests.few import few
from training.engines import (
    COLUMNS,
    ONNX_ENGINES,
    REQUIRE_VARIABLE,
    TFLITE_ENGINES,
    TFLITE_PYTHON_VARIABLE,
    Engine,
    EngineUnavailable,
    compare,
)

# what the engine's environment, or the file, is refused for before they are looked at
MELS, LOGITS = np.zeros((1, *SHAPE), np.float32), np.zeros((1, N_LABELS), np.float32)
FILES = ("model.tflite", "model_int8.tflite", "model.onnx")


def compared(*engines: str) -> pd.DataFrame:
    """The table for the shared model's files in some engines."""
    files = dict(zip(FILES, (exported().float32, exported().int8, exported().onnx), strict=True))
    return compare(files, exported().mels, exported().reference, engines)


def script(path: Path, text: str) -> str:
    """An executable that stands in for the Python of tflite-runtime's environment."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow
def test_every_engine_gives_keras_logits() -> None:
    needs(*TFLITE_ENGINES, *ONNX_ENGINES)
    table = compared(*TFLITE_ENGINES, *ONNX_ENGINES)
    assert list(table.columns) == list(COLUMNS)
    assert list(zip(table.engine, table.file, strict=True)) == [
        *((engine, file) for engine in TFLITE_ENGINES for file in FILES[:2]),
        *((engine, FILES[2]) for engine in ONNX_ENGINES),
    ]
    assert set(table.status) == {"ok"}
    assert table.version.str.match(r"\d+\.").all()
    int8 = table.file == "model_int8.tflite"
    assert (table[~int8].max_abs_difference < 2e-5).all()
    assert (table[~int8].max_abs_difference_to_litert < 2e-5).all()
    assert (table[~int8].argmax_equal == 1).all()
    # int8 engines round differently, but lie closer to each other than quantisation has moved them from Keras
    assert (table[int8].max_abs_difference_to_litert < table[int8].max_abs_difference).all()
    assert (table[int8].max_abs_difference > 0).all()


@pytest.mark.slow
def test_a_missing_environment_is_a_row_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TFLITE_PYTHON_VARIABLE, "/nowhere/bin/python")
    monkeypatch.delenv(REQUIRE_VARIABLE, raising=False)
    table = compared("tflite_runtime")
    assert list(table.file) == list(FILES[:2])
    assert table.status.str.startswith(
        "not run: tflite_runtime runs in an environment of its own, and /nowhere/bin/python"
    ).all()
    assert table.max_abs_difference.isna().all()


@pytest.mark.slow
def test_a_missing_engine_is_an_error_where_all_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TFLITE_PYTHON_VARIABLE, "/nowhere/bin/python")
    monkeypatch.setenv(REQUIRE_VARIABLE, "1")
    with pytest.raises(EngineError, match=r"tflite_runtime on model\.tflite: not run: .*/nowhere/bin/python"):
        compared("tflite_runtime")


def test_an_environment_without_the_engine_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TFLITE_PYTHON_VARIABLE, sys.executable)
    with pytest.raises(EngineUnavailable, match="tflite_runtime is not installed in the environment of"):
        Engine("tflite_runtime").run(b"", MELS[..., np.newaxis])


def test_an_engine_that_dies_does_not_take_us_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dying = script(tmp_path / "python", "if [ $# = 2 ]; then echo 2.14.0; else kill -SEGV $$; fi")
    monkeypatch.setenv(TFLITE_PYTHON_VARIABLE, dying)
    monkeypatch.delenv(REQUIRE_VARIABLE, raising=False)
    table = compare({"model.tflite": b""}, MELS, LOGITS, ["tflite_runtime"])
    assert set(table.version) == {"2.14.0"}
    assert set(table.status) == {"failed: tflite_runtime could not run the file: killed by SIGSEGV."}


def test_an_environment_that_does_not_start_is_told_from_an_engine_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(TFLITE_PYTHON_VARIABLE, script(tmp_path / "python", "echo no numpy here >&2; exit 1"))
    with pytest.raises(EngineUnavailable, match="environment of tflite_runtime does not work: no numpy here"):
        Engine("tflite_runtime").version()


@pytest.mark.parametrize("name", few((*TFLITE_ENGINES, *ONNX_ENGINES), 1))
def test_a_file_that_is_none_is_an_error_of_the_engine(name: str) -> None:
    needs(name)
    with pytest.raises(EngineError, match=f"{name} could not run the file: ") as caught:
        Engine(name).run(b"TFL3" * 64, MELS[..., np.newaxis])
    assert not isinstance(caught.value, EngineUnavailable)


@pytest.mark.slow
def test_nan_logits_and_other_shapes_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("onnxruntime")
    monkeypatch.delenv(REQUIRE_VARIABLE, raising=False)
    poisoned = exported().mels.copy()
    poisoned[0, 0, 0] = np.nan
    files = {"model.onnx": exported().onnx}
    table = compare(files, poisoned, exported().reference, ["onnxruntime"])
    assert list(table.status) == ["failed: NaN or infinite logits"]
    other = compare(files, exported().mels, exported().reference[:, :-1], ["onnxruntime"])
    assert list(other.status) == ["failed: its output is (8, 5) where Keras's is (8, 4)."]


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(EngineError, match="no engine 'birdnet'; choose one of litert, "):
        Engine("birdnet")


@pytest.mark.slow
def test_the_environment_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needs("tflite_runtime")
    real = os.environ.get(TFLITE_PYTHON_VARIABLE) or str(Path(__file__).parents[2] / ".venv-tflite" / "bin" / "python")
    monkeypatch.setenv(TFLITE_PYTHON_VARIABLE, script(tmp_path / "python", f'exec "{real}" "$@"'))
    assert Engine("tflite_runtime").version().startswith("2.")
