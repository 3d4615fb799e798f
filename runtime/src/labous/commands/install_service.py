"""``labous install-service``: the systemd unit of a station."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labous.formats import printable, replacing
from labous.station import pipeline_file
from labous.station.service import Service


def run(arguments: argparse.Namespace) -> int:
    """Print the unit, or write it where systemd looks for it."""
    service = Service(
        pipeline_file.read(arguments.pipeline),
        Path(sys.executable),
        arguments.user,
        [Path(folder).absolute() for folder in arguments.writable],
        arguments.memory,
    )
    service.check()
    text, path = service.unit(), Path(arguments.folder) / service.file_name
    if not arguments.write:
        print(text, end="")
        print(f"labous: nothing is written; --write would write {printable(str(path))}.", file=sys.stderr)
        return 0
    with replacing(path) as out:
        out.write(text)
    path.chmod(0o644)
    print(f"{printable(str(path))} is written. Start the station, now and at each boot, with:")
    print(f"  systemctl daemon-reload && systemctl enable --now {service.file_name}")
    return 0
