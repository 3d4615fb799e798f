"""Whether training waits for its batches: ``python -m training.bench.fit [SETTING …]`` prints a table.

Trains on what prepare has left, the default recipe and one with every augmentation always on, and measures the share
of the steps' time that is spent waiting. Leaves bench/fit.json: by recipe, ``wait_share``, ``step_ms`` (median, with
the wait) and ``batch_ms`` (what one thread needs for a batch while nothing else is asked of it). Where the training
share has no backgrounds, those of the other shares are added: they cost the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from training.augment import Augment
from training.config import Settings, compose, told_in_a_sentence
from training.console import console
from training.feeding import Feed
from training.files import write_text
from training.fit import make_sampler, make_trainee
from training.prepared import read_backgrounds, read_prepared
from training.strategies import Team

ROOT = Path(__file__).resolve().parents[2]
_WARM_UP = 10  # steps: the first traces the graph, and files are read for the first time


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.bench.fit", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("settings", nargs="*", help="as for python -m training.fit")
    parser.add_argument("--steps", type=int, default=100, help="to measure, after the first few")
    told = parser.parse_args()
    # what its C++ tells of its start, as for every stage
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with told_in_a_sentence():
        _run(compose(told.settings), told.steps)


def _run(settings: Settings, steps: int) -> None:
    always: dict[str, Any] = {f.name: 1.0 for f in dataclasses.fields(Augment) if f.name.endswith("_probability")}
    everything = dataclasses.replace(settings.augment, **always | {"nocall_probability": 0.1, "mixup_sources": 3})
    recipes = {"default": settings, "everything": dataclasses.replace(settings, augment=everything)}
    found = {name: measured(recipe, steps) for name, recipe in recipes.items()}
    table = Table("recipe", "step, ms", "batch, ms", "waited")
    for name, row in found.items():
        table.add_row(name, f"{row['step_ms']:.0f}", f"{row['batch_ms']:.0f}", f"{row['wait_share']:.2%}")
    console.print(table)
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    write_text(ROOT / "bench" / "fit.json", json.dumps({"machine": machine, "steps": steps, **found}, indent=1) + "\n")


def measured(settings: Settings, steps: int) -> dict[str, Any]:
    """Time of so many training steps, and what of it was spent waiting for batches.

    Raises:
        StageError: prepare has not been run.
    """
    import keras

    keras.utils.set_random_seed(settings.fit.seed)
    told = settings.fit
    recordings, _, labels = read_prepared(settings.paths.prepared, settings.dataset.root)
    backgrounds = read_backgrounds(settings.paths.prepared, settings.dataset.root)
    if (backgrounds.split == "train").any():
        backgrounds = backgrounds[backgrounds.split == "train"]
    codes = list(labels.ebird_code)
    sampler = make_sampler(settings, recordings, backgrounds, codes)
    trainee = make_trainee(settings, sampler, len(codes), Team("none"))
    alone = []
    for number in range(5 + _WARM_UP):
        began = time.perf_counter()
        sampler.batch(1, number)
        alone.append(time.perf_counter() - began)
    feed, spent, waited = Feed(sampler.batch, range(1), _WARM_UP + steps, told.loader_threads), [], 0.0
    try:
        batches, began = feed.epoch(), time.perf_counter()
        for number, batch in enumerate(batches):
            trainee.step(batch)
            if number < _WARM_UP:
                waited = feed.waited
            else:
                spent.append(time.perf_counter() - began)
            began = time.perf_counter()
    finally:
        feed.close()
    return {
        "wait_share": round((feed.waited - waited) / sum(spent), 5),
        "step_ms": round(float(np.median(spent)) * 1000, 2),
        "batch_ms": round(float(np.median(alone[_WARM_UP:])) * 1000, 2),
        "backgrounds": len(backgrounds),
    }


if __name__ == "__main__":
    main()
