"""Writes pipeline-nodes.md and pipeline.schema.json from the code's own words: ``python docs/nodes_page.py``."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labous.nodes import built_in
from labous.station.pipeline_file import json_schema
from labous.station.settings import Station

HERE = Path(__file__).parent
_HEAD = """# Every node, and its keys

What [pipeline.md](pipeline.md) leaves out. This page is made of the options that the code checks
(`python docs/nodes_page.py`), and a test holds the two together.
"""


def pages() -> dict[Path, str]:
    """The files and what they should hold."""
    schema = json_schema()
    return {
        HERE / "pipeline.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
        HERE / "pipeline-nodes.md": "\n".join(_page(schema)),
    }


def _page(schema: dict[str, Any]) -> Iterator[str]:
    yield _HEAD
    yield from _section("[station]", Station, schema["properties"]["station"])
    for name, where in built_in().items():
        module, _, kind = where.partition(":")
        yield from _section(name, getattr(importlib.import_module(module), kind), schema["$defs"][name])


def _section(title: str, kind: type, described: dict[str, Any]) -> Iterator[str]:
    yield f"## {title}\n"
    yield (inspect.getdoc(kind) or "").replace("``", "`") + "\n"
    yield "| key | | default | |"
    yield "| --- | --- | --- | --- |"
    for key, value in described["properties"].items():
        if key == "type":
            continue
        default = "**needed**" if key in described["required"] else _shown(value.get("default"))
        choices = ": " + ", ".join(f"`{choice}`" for choice in value["enum"]) if "enum" in value else ""
        cells = (f"`{key}`", value["type"], default, value["description"].replace("|", "\\|") + choices)
        yield f"| {' | '.join(cells)} |"
    yield ""


def _shown(default: Any) -> str:
    return "" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
