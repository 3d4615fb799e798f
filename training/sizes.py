"""How large the networks of conf/model are: ``python -m training.sizes [NAME …]`` prints the README's table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from training.config import CONF_DIR, compose, told_in_a_sentence
from training.console import say
from training.export_tflite import export_float32, export_int8
from training.tflite_file import read_tflite

_BANDS = (64, 96, 128)


class Size(NamedTuple):
    """One network at one number of mel bands; bytes of the exported files."""

    name: str
    n_mels: int
    parameters: int
    macs: int
    float32_bytes: int
    int8_bytes: int


def sizes(names: list[str], bands: tuple[int, ...], n_labels: int) -> Iterator[Size]:
    """Build and export each network, untrained, at each number of mel bands.

    Raises:
        ConfigError: conf/model has no such network.
    """
    for name in names:
        for n_mels in bands:
            settings = compose([f"model={name}", f"frontend.n_mels={n_mels}"])
            shape = (n_mels, settings.frontend.n_frames)
            model = settings.model.build((*shape, 1), n_labels)
            float32 = export_float32(model)
            windows = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
            told = read_tflite(float32)
            yield Size(
                name, n_mels, model.count_params(), told.macs, len(float32), len(export_int8(model, list(windows)))
            )


def main() -> None:
    """Print the table, in Markdown."""
    known = sorted(path.stem for path in (CONF_DIR / "model").glob("*.yaml"))
    parser = argparse.ArgumentParser(
        prog="python -m training.sizes", description="Sizes of the networks of conf/model."
    )
    parser.add_argument("names", nargs="*", default=known, help="of networks; all of them when left out")
    parser.add_argument("--labels", type=int, default=30, help="number of species")
    told = parser.parse_args()
    with told_in_a_sentence():
        _print(told.names, told.labels)


def _print(names: list[str], n_labels: int) -> None:
    say("| model | mel bands | parameters | MACs a window | float32 | int8 |")
    say("| --- | --- | --- | --- | --- | --- |")
    for size in sorted(sizes(names, _BANDS, n_labels), key=lambda size: (size.parameters, size.n_mels)):
        say(
            f"| {size.name} | {size.n_mels} | {size.parameters:,} | {size.macs / 1e6:.1f} M | "
            f"{size.float32_bytes / 1000:,.0f} KB | {size.int8_bytes / 1000:,.0f} KB |"
        )


if __name__ == "__main__":
    main()
