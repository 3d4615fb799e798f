"""Refuses to build a distribution that lacks the mel module: it would install well and fail on every device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class MelModuleHook(BuildHookInterface):
    """Runs before each build; an editable install may come before the module is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Stop with a sentence where melspec.wasm is missing."""
        module = Path(self.root, "src/labous/melspec.wasm")
        if version != "editable" and not module.is_file():
            raise SystemExit(f"{module} is missing; build it first: python melspec_cpp/build.py")
