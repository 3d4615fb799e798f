"""What the installed wheel makes of recordings, as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.wheels import run

_SCRIPT = Path(__file__).with_name("on_device.py")


def hear(
    python: Path, bundle: Path, precision: str, paths: list[Path], work: Path
) -> dict[Path, tuple[np.ndarray, np.ndarray]]:
    """Starts [n_windows] s and logits [n_windows, n_labels] of each recording, by the wheel of ``python``."""
    output = work / f"{precision}.npz"
    run(python, _SCRIPT, bundle, precision, output, *paths, cwd=work)
    with np.load(output) as found:
        return {path: (found[f"starts_{i}"], found[f"logits_{i}"]) for i, path in enumerate(paths)}
