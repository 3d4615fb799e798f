"""Run by a device's Python: logits of recordings, by the installed wheel alone.

python on_device.py BUNDLE PRECISION OUTPUT.npz RECORDING…
"""

import sys

import numpy as np

import labous


def main() -> None:
    """Write starts and logits of each recording, numbered as given."""
    bundle = labous.load(sys.argv[1], precision=sys.argv[2])
    found = {}
    for number, path in enumerate(sys.argv[4:]):
        predictions = bundle.predict(path)
        found[f"starts_{number}"], found[f"logits_{number}"] = predictions.starts, predictions.logits
    np.savez(sys.argv[3], **found)


if __name__ == "__main__":
    main()
