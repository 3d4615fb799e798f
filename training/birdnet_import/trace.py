"""What a graph computes inside: every tensor's shape, and some tensors' values, by running it in LiteRT.

A process of its own, as a file whose parts contradict each other may bring LiteRT down:
``python -m training.birdnet_import.trace MODEL GIVEN.npz FOUND.npz``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.birdnet_import.errors import GraphError

_TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Trace:
    """What was seen.

    Attributes:
        shapes: of every tensor that was computed, by its number.
        values: of the tensors asked for, those of each window first: [n, …].
    """

    shapes: Mapping[int, tuple[int, ...]]
    values: Mapping[int, NDArray[Any]]


def trace(data: bytes, samples: NDArray[np.float32], tensors: Iterable[int], name: str) -> Trace:
    """Run a graph on windows, one after the other.

    Args:
        data: the .tflite file, with one input [1, n_samples].
        samples: float32 [n, n_samples].
        tensors: whose values are wanted.
        name: what to call the file in errors.

    Raises:
        GraphError: LiteRT refuses it, or dies of it.
    """
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="labous-trace-") as folder:
        model, given, found = (Path(folder) / file for file in ("model.tflite", "given.npz", "found.npz"))
        model.write_bytes(data)
        np.savez(given, samples=samples, tensors=np.array(sorted(tensors), np.int64))
        command = [sys.executable, "-m", "training.birdnet_import.trace", *map(str, (model, given, found))]
        try:
            done = subprocess.run(
                command, cwd=root, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise GraphError(f"{name} does not run within {_TIMEOUT_SECONDS} s: it is damaged.") from None
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            why = lines[-1].strip().rstrip(".") if lines and done.returncode > 0 else f"it ends with {done.returncode}"
            raise GraphError(f"LiteRT cannot run {name}, which is damaged or of another kind: {why}.")
        with np.load(found) as archive:
            arrays = {key: archive[key] for key in archive.files}
    return Trace(
        {int(key[1:]): tuple(map(int, value)) for key, value in arrays.items() if key.startswith("s")},
        {int(key[1:]): value for key, value in arrays.items() if key.startswith("v")},
    )


def _main(model: str, given: str, found: str) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with np.load(given) as archive:
        samples, tensors = archive["samples"], archive["tensors"]
    interpreter = Interpreter(
        model_path=model,
        num_threads=1,
        experimental_preserve_all_tensors=True,
        # with a delegate, only what it gives back is there to be seen
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    taken = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(taken, [1, samples.shape[1]])
    interpreter.allocate_tensors()
    values: dict[int, list[NDArray[Any]]] = {int(tensor): [] for tensor in tensors}
    for window in samples:
        interpreter.set_tensor(taken, window[np.newaxis])
        interpreter.invoke()
        for tensor, seen in values.items():
            seen.append(np.array(interpreter.get_tensor(tensor)))
    shapes = {f"s{told['index']}": np.array(told["shape"], np.int64) for told in interpreter.get_tensor_details()}
    np.savez(found, **shapes, **{f"v{tensor}": np.stack(seen) for tensor, seen in values.items()})  # type: ignore[arg-type]


if __name__ == "__main__":
    _main(*sys.argv[1:])
