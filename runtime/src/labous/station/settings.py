"""The [station] table of a pipeline file."""

from __future__ import annotations

import dataclasses

from labous.manifest import PRECISIONS
from labous.options import Refused, option

PREFERRED = ("int8", "float32", "float16")
"""Precisions for a station, the quickest first: float16 is as quick as float32, and less exact."""


@dataclasses.dataclass(frozen=True)
class Station:
    """A device that listens: what it runs, where it stands, and where it keeps what it must not lose."""

    bundle: str = option("path of the bundle, a directory or a .zip; relative to the pipeline file", least=1)
    name: str = option(
        "letters, digits, dots, dashes and underscores: what receivers know the station by",
        "labous",
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
    )
    state: str | None = option(
        "directory of what outlives a restart, relative to the pipeline file; by default that of the service, or "
        "labous/NAME in the user's own state directory",
        None,
        least=1,
    )
    precision: str | None = option(
        f"which of the bundle's models to run; if left out, the first that it has of {', '.join(PREFERRED)}",
        None,
        choices=PRECISIONS,
    )
    engine: str | None = option(
        "what runs the model; the first installed, if left out", None, choices=("litert", "tflite_runtime")
    )
    latitude: float | None = option("degrees north (decimalLatitude)", None, minimum=-90, maximum=90)
    longitude: float | None = option("degrees east (decimalLongitude)", None, minimum=-180, maximum=180)
    coordinate_uncertainty: float | None = option("of the place, m (coordinateUncertaintyInMeters)", None, above=0)
    language: str = option("of vernacular names", "english", choices=("english", "french"))
    status_seconds: float = option(
        "how often status.json is written, s; seldom spares a memory card", 60.0, minimum=1, maximum=86_400
    )
    metrics_port: int | None = option(
        "port on loopback where Prometheus may ask; none, if left out", None, minimum=1, maximum=65535
    )

    def __post_init__(self) -> None:
        """Check what keys mean together."""
        if (self.latitude is None) != (self.longitude is None):
            missing = "longitude" if self.longitude is None else "latitude"
            raise Refused(missing, "is missing: a place has both a latitude and a longitude.")
