"""Times .tflite files turn by turn in one interpreter: ``python timing.py ROUNDS MODEL INPUT.npy [MODEL INPUT.npy …]``.

Prints a list of the processor seconds of each round, for each model. Runs in an environment of its own, where there
need be nothing but numpy and tflite-runtime or LiteRT.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np


def main() -> None:
    """The command line."""
    try:
        from tflite_runtime.interpreter import Interpreter
    except ImportError:
        from ai_edge_litert.interpreter import Interpreter
    rounds, given = int(sys.argv[1]), sys.argv[2:]
    runs = []
    for model, values in zip(given[::2], given[1::2], strict=True):
        interpreter = Interpreter(model_path=model, num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.load(values))
        runs.append(interpreter)
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for interpreter, spent in zip(runs, times, strict=True):
            interpreter.invoke()  # the caches are this model's again
            began = time.process_time()
            interpreter.invoke()
            spent.append(time.process_time() - began)
    print(json.dumps(times))


if __name__ == "__main__":
    main()
