"""What validate and report left, read back, for whoever shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from training.config import Paths
from training.errors import StageError
from training.prepared import read_table

_TEXTS = ("ebird_code", "scientific_name", "common_name", "french_name")


def read_json(path: Path) -> Any:
    """A JSON file of a stage.

    Raises:
        StageError: it is not there.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{path} is not there; run python -m training.train, which makes it.") from None


def read_metrics(paths: Paths) -> dict[str, Any]:
    """metrics.json, with the installed wheel's figures as ``wheel`` where it was run, and ``wheel_status``.

    Raises:
        StageError: validate or report has not been run.
    """
    metrics: dict[str, Any] = read_json(paths.validate / "metrics.json")
    wheel = read_json(paths.report / "wheel.json")
    metrics["wheel_status"] = wheel["status"]
    if wheel["status"] == "ok":
        metrics["wheel"] = wheel
    return metrics


def read_per_label(path: Path) -> pd.DataFrame:
    """per_label.csv: the species' codes and names as text, all else as numbers.

    Raises:
        StageError: it is not there.
    """
    table = read_table(path)
    for column in table.columns.difference(list(_TEXTS)):
        table[column] = pd.to_numeric(table[column])
    return table
