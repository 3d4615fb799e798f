"""``python -m training.aot BUNDLE --out FOLDER [target …]``: a bundle's float32 model for boards and for the web.

Writes, and says with size and sha256:

================  =====================  ==============================================================
target            file
================  =====================  ==============================================================
x86_64 …          libmodel-<machine>.so  the model as a library of each machine: include/labous_model.h
wasm              model.wasm             the same as a WebAssembly module
hear              hear.wasm              the whole bundle as one such module: include/labous_hear.h
labous-x86_64 …   labous-<machine>       the whole bundle as a static program: docs/hear.md
================  =====================  ==============================================================

From a .tflite file by itself, the first two.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labous import Bundle
from labous.errors import LabousError
from melspec_cpp import boards
from training.aot.build import WASM, build_model
from training.aot.hearing import WHOLE, build_whole, check_hearable, float32_model
from training.console import say
from training.files import sha256_of_file

TARGETS = (*boards.MACHINES, WASM)
"""Of a model by itself."""


def main(arguments: list[str] | None = None) -> int:
    """Builds what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.aot", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, metavar="BUNDLE", help="a bundle's folder or .zip, or a float32 .tflite")
    parser.add_argument("target", nargs="*", help=f"{', '.join((*TARGETS, *WHOLE))} (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    # targets may follow options
    options = parser.parse_intermixed_args(arguments)
    unknown = sorted(set(options.target) - {*TARGETS, *WHOLE})
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join((*TARGETS, *WHOLE))}")
    alone = options.source.is_file() and options.source.suffix != ".zip"
    whole = [target for target in options.target if target in WHOLE]
    if alone and whole:
        parser.error(f"{', '.join(whole)} is made of a bundle; {options.source} is a file")
    try:
        bundle = None if alone else Bundle.read(options.source)
        tflite = options.source.read_bytes() if bundle is None else float32_model(bundle)
        targets = options.target or (TARGETS if bundle is None else (*TARGETS, *WHOLE))
        if bundle is not None and set(targets) & set(WHOLE):
            check_hearable(bundle)
        for target in targets:
            place = options.out / _name(target)
            if bundle is None or target in TARGETS:
                build_model(tflite, target, place)
            else:
                build_whole(bundle, target, place)
            say(f"{place.name:<20} {place.stat().st_size:>10,} bytes  sha256 {sha256_of_file(place)}")
    except (LabousError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _name(target: str) -> str:
    if target in TARGETS:
        return "model.wasm" if target == WASM else f"libmodel-{target}.so"
    return WHOLE[target]


if __name__ == "__main__":
    sys.exit(main())
