"""What the installed wheel makes of recordings, as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training import wheel


def hear(python: Path, bundle: Path, precision: str, paths: list[Path]) -> dict[Path, tuple[np.ndarray, np.ndarray]]:
    """Starts [n_windows] s and logits [n_windows, n_labels] of each recording, by the wheel of ``python``."""
    heard = wheel.hear(python, bundle, precision, paths)
    return {path: (predictions.starts, predictions.logits) for path, predictions in zip(paths, heard, strict=True)}
