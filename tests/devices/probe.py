"""Run by a board's Python, with the installed wheel: what its mel stage and models make of a recording."""

from __future__ import annotations

import sys

import numpy as np

import labous
from labous.recordings import check_overlap, read_blocks, windows

OVERLAP = 0.4  # of a window, so that windows share frames


def main(bundle_path: str, recording: str, out: str, *precisions: str) -> None:
    """Writes ``mel``, float32 [n, n_mels, n_frames], and ``logits_<precision>``, float32 [n, n_labels]."""
    bundle = labous.load(bundle_path, precisions[0])
    overlap = OVERLAP * bundle.frontend.window_seconds
    step = bundle.frontend.window_samples - check_overlap(overlap, bundle.frontend)
    mels, found, end = bundle.open_windows(step), [], 0
    for window in windows(read_blocks(recording, bundle.frontend.sample_rate), bundle.frontend, overlap):
        found.append(mels(window.samples, len(window.samples) if end <= window.start else window.end - end))
        end = window.end
    models = {precision: bundle.with_precision(precision).model for precision in precisions}
    logits = {f"logits_{name}": np.stack([model.predict(mel) for mel in found]) for name, model in models.items()}
    np.savez(out, mel=np.stack(found), **logits)


main(*sys.argv[1:])
