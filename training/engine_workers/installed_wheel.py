"""Run by the Python of an environment that holds the wheel, and nothing of training: what it makes of recordings.

python installed_wheel.py BUNDLE PRECISION RECORDINGS.json OUTPUT.npz [OVERLAP]

RECORDINGS.json is a list of paths; OUTPUT.npz gets, for each by its number, starts, ends, logits and probabilities.
"""

import json
import sys
from pathlib import Path

import numpy as np

import labous


def main() -> None:
    """Predict each recording, and write all at the end."""
    bundle = labous.load(sys.argv[1], precision=sys.argv[2])
    overlap = float(sys.argv[5]) if len(sys.argv) > 5 else 0.0
    found = {}
    for number, path in enumerate(json.loads(Path(sys.argv[3]).read_text(encoding="utf-8"))):
        predictions = bundle.predict(path, overlap=overlap)
        for part in ("starts", "ends", "logits", "probabilities"):
            found[f"{part}_{number}"] = getattr(predictions, part)
    np.savez(sys.argv[4], **found)


if __name__ == "__main__":
    main()
