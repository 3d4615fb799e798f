"""Labous: listen for birds on a small board.

    bundle = labous.load("outputs/bundle")
    for detection in bundle.analyze("garden.flac"):
        ...

Names are imported when first used, so that ``import labous`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from labous._version import __version__

if TYPE_CHECKING:
    from labous.bundle import Bundle, load
    from labous.detect import Detection, Label, Predictions
    from labous.errors import (
        BundleError,
        EngineError,
        FrontendError,
        LabousError,
        RecordingError,
        SamplesError,
    )
    from labous.frontend import Frontend
    from labous.mel import MelSpectrogram, MelStream
    from labous.power_law import PowerLawChannel, PowerLawFrontend

__all__ = [
    "Bundle",
    "BundleError",
    "Detection",
    "EngineError",
    "Frontend",
    "FrontendError",
    "Label",
    "LabousError",
    "MelSpectrogram",
    "MelStream",
    "PowerLawChannel",
    "PowerLawFrontend",
    "Predictions",
    "RecordingError",
    "SamplesError",
    "__version__",
    "load",
]

_MODULES = {
    "bundle": ("Bundle", "load"),
    "detect": ("Detection", "Label", "Predictions"),
    "errors": ("BundleError", "EngineError", "FrontendError", "LabousError", "RecordingError", "SamplesError"),
    "frontend": ("Frontend",),
    "mel": ("MelSpectrogram", "MelStream"),
    "power_law": ("PowerLawChannel", "PowerLawFrontend"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'labous' has no attribute {name!r}")
    return getattr(importlib.import_module(f"labous.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
