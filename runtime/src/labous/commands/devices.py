"""``labous devices``: what a microphone node can listen to."""

from __future__ import annotations

import argparse

from labous.formats import printable
from labous.nodes.microphone import inputs, sounddevice


def run(arguments: argparse.Namespace) -> int:
    """Print the devices that give sound; 1 where there are none."""
    devices = inputs(sounddevice())
    if not devices:
        print("No device gives sound; plug a microphone in, and see that this user may use it (group audio).")
        return 1
    rows = [("name", "through", "channels", "Hz", "")]
    rows += [
        (
            printable(device.name),
            printable(device.host),
            str(device.channels),
            f"{device.sample_rate:g}",
            "the system's default" if device.default else "",
        )
        for device in devices
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, host, channels, rate, note in rows:
        line = f"{name:<{widths[0]}}  {host:<{widths[1]}}  {channels:>{widths[2]}}  {rate:>{widths[3]}}  {note}"
        print(line.rstrip())
    return 0
