"""BirdNET v2.4 as barely as it can be run: ``python birdnet.py MODEL SOUND``, windows of 3 s that do not overlap."""

from __future__ import annotations

import sys

import numpy as np
import soundfile
from ai_edge_litert.interpreter import Interpreter

SAMPLES = 144_000


def main() -> None:
    """Print each window's strongest class and its logit."""
    interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    with soundfile.SoundFile(sys.argv[2]) as file:
        for block in file.blocks(SAMPLES, dtype="float32", fill_value=0.0):
            interpreter.set_tensor(taken["index"], block[np.newaxis])
            interpreter.invoke()
            logits = interpreter.get_tensor(given["index"])[0]
            print(int(logits.argmax()), float(logits.max()))


main()
