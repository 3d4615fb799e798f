"""``python -m training.aot MODEL.tflite --out FOLDER [target …]``: a bundle's float32 model for boards and for the web.

Writes libmodel-<machine>.so for each machine, and model.wasm for the target wasm; include/labous_model.h is their
interface.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labous.errors import LabousError
from melspec_cpp import boards
from training.aot.build import WASM, build_model
from training.console import say

TARGETS = (*boards.MACHINES, WASM)


def main(arguments: list[str] | None = None) -> int:
    """Builds what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.aot", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="the float32 .tflite")
    parser.add_argument("target", nargs="*", help=f"{', '.join(TARGETS)} (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    # targets may follow options
    options = parser.parse_intermixed_args(arguments)
    unknown = sorted(set(options.target) - set(TARGETS))
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    try:
        tflite = options.model.read_bytes()
        for target in options.target or TARGETS:
            place = options.out / ("model.wasm" if target == WASM else f"libmodel-{target}.so")
            build_model(tflite, target, place)
            say(f"{target:<8} {place.name:<22} {place.stat().st_size:>10,} bytes")
    except (LabousError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
