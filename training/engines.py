"""The same model file in every engine that a device may have, and how far their answers lie apart.

Enters: files (.tflite and .onnx), mel arrays, Keras's logits. Leaves: a table with a row per engine and file. Each
engine runs in a process of its own (engine_workers/worker.py), since some abort, segfault or want another numpy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labous.errors import EngineError

TFLITE_ENGINES = ("litert", "tflite_runtime", "tflite_micro")
ONNX_ENGINES = ("onnxruntime", "tract")
REQUIRE_VARIABLE = "LABOUS_REQUIRE_ENGINES"
TFLITE_PYTHON_VARIABLE = "LABOUS_TFLITE_PYTHON"
COLUMNS = (
    "engine",
    "version",
    "file",
    "max_abs_difference",
    "max_abs_difference_to_litert",
    "argmax_equal",
    "status",
)

_ROOT = Path(__file__).resolve().parents[1]
_WORKER = Path(__file__).with_name("engine_workers") / "worker.py"
_NOT_INSTALLED = 3
_TIMEOUT_SECONDS = 600
_OWN_ENVIRONMENT = "tflite_runtime"  # 2.14, the last release, needs numpy < 2


class EngineUnavailable(EngineError):
    """An engine that is not installed on this machine."""


@dataclass(frozen=True)
class Engine:
    """One engine by name: one of ``TFLITE_ENGINES`` or ``ONNX_ENGINES``."""

    name: str

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            EngineError: no engine has this name.
        """
        if self.name not in TFLITE_ENGINES + ONNX_ENGINES:
            names = ", ".join(TFLITE_ENGINES + ONNX_ENGINES)
            raise EngineError(f"There is no engine {self.name!r}; choose one of {names}.")

    @property
    def suffix(self) -> str:
        """The kind of file that it runs."""
        return ".tflite" if self.name in TFLITE_ENGINES else ".onnx"

    def version(self) -> str:
        """Version of the installed distribution.

        Raises:
            EngineUnavailable: it is not installed, or the environment meant for it is missing.
        """
        done = self._worker()
        if done.returncode == _NOT_INSTALLED:
            raise EngineUnavailable(f"{self.name} is not installed in the environment of {_python(self.name)}.")
        if done.returncode != 0:
            raise EngineUnavailable(f"the environment of {self.name} does not work: {_reason(done)}.")
        return done.stdout.strip()

    def run(self, model: bytes, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run a file on several inputs, one after the other on one thread.

        Args:
            model: a file of the kind that ``suffix`` names, with one input and one output and a static batch of one.
            inputs: float32 [n, …], the input's shape without its batch axis.

        Returns:
            float32 [n, n_labels].

        Raises:
            EngineUnavailable: the engine is not installed.
            EngineError: it refused the file, or died of it.
        """
        with tempfile.TemporaryDirectory(prefix=f"labous-{self.name}-") as folder:
            path, source, sink = (Path(folder) / name for name in (f"model{self.suffix}", "inputs.npy", "outputs.npy"))
            path.write_bytes(model)
            np.save(source, inputs)
            done = self._worker(path, source, sink)
            if done.returncode != 0:
                self.version()  # tells an engine that is not there from one that failed
                raise EngineError(f"{self.name} could not run the file: {_reason(done)}.")
            return np.load(sink)

    def _worker(self, *arguments: Path) -> subprocess.CompletedProcess[str]:
        python = _python(self.name)
        if not Path(python).exists():
            raise EngineUnavailable(
                f"{self.name} runs in an environment of its own, and {python} is not there: "
                f"run make setup, or let {TFLITE_PYTHON_VARIABLE} name a Python that has it."
            )
        command = [python, str(_WORKER), self.name, *map(str, arguments)]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise EngineError(f"{self.name} did not finish within {_TIMEOUT_SECONDS} s.") from None


def compare(
    files: Mapping[str, bytes],
    inputs: NDArray[np.float32],
    reference: NDArray[np.float32],
    engines: Sequence[str] = TFLITE_ENGINES + ONNX_ENGINES,
) -> pd.DataFrame:
    """Run every file in every engine that takes its kind.

    Args:
        files: bytes by file name; ``NAME.onnx`` is the twin of ``NAME.tflite``.
        inputs: mel arrays, float32 [n, n_mels, n_frames].
        reference: Keras's logits for them, float32 [n, n_labels].
        engines: names of those to run, LiteRT before the others that are measured against it.

    Returns:
        A row per engine and file with ``COLUMNS``: largest difference to the reference and to LiteRT on the same file
        (for ONNX: on its twin) in logits, share of inputs with the same largest logit as the reference, and a status of
        ``ok``, ``not run: REASON`` or ``failed: REASON``.

    Raises:
        EngineError: the environment variable LABOUS_REQUIRE_ENGINES is 1 and a row is not ``ok``.
    """
    rows = []
    litert: dict[str, NDArray[np.float32]] = {}
    for engine in map(Engine, engines):
        for file in sorted(file for file in files if file.endswith(engine.suffix)):
            row: dict[str, object] = dict.fromkeys(COLUMNS) | {"engine": engine.name, "file": file}
            try:
                row["version"] = engine.version()
                outputs = engine.run(files[file], inputs[..., np.newaxis])
                if outputs.shape != reference.shape:
                    raise EngineError(f"its output is {outputs.shape} where Keras's is {reference.shape}.")
            except EngineUnavailable as error:
                row["status"] = f"not run: {error}"
            except EngineError as error:
                row["status"] = f"failed: {error}"
            else:
                if engine.name == "litert":
                    litert[file] = outputs
                row |= _differences(outputs, reference, litert.get(Path(file).stem + ".tflite"))
            rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    missing = table[table.status != "ok"]
    if os.environ.get(REQUIRE_VARIABLE) == "1" and len(missing):
        told = "; ".join(f"{row.engine} on {row.file}: {row.status}" for row in missing.itertuples())
        raise EngineError(f"{REQUIRE_VARIABLE}=1 asks every engine to run every file, and {told}")
    return table


def _differences(
    outputs: NDArray[np.float32], reference: NDArray[np.float32], litert: NDArray[np.float32] | None
) -> dict[str, object]:
    return {
        # NaN in an output stays NaN here, and is seen
        "max_abs_difference": float(np.abs(outputs - reference).max()),
        "max_abs_difference_to_litert": None if litert is None else float(np.abs(outputs - litert).max()),
        "argmax_equal": float((outputs.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        "status": "ok" if np.isfinite(outputs).all() else "failed: NaN or infinite logits",
    }


def _python(engine: str) -> str:
    if engine != _OWN_ENVIRONMENT:
        return sys.executable
    return os.environ.get(TFLITE_PYTHON_VARIABLE) or str(_ROOT / ".venv-tflite" / "bin" / "python")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Why a worker ended badly: the signal that killed it, or the last thing it said."""
    if done.returncode < 0:
        return f"killed by {signal.Signals(-done.returncode).name}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else f"exit status {done.returncode}"
