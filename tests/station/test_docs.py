"""docs/pipeline.md, held to what it says: its files parse and run, its commands, keys and counters exist."""

from __future__ import annotations

import ctypes.util
import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tomllib

from labous.detect import Detection
from labous.station import pipeline_file
from labous.station.observations import Observation
from tests import wheels
from tests.station import pipelines
from tests.station.needs import need
from tests.station.pipelines import node

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/pipeline.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
PLAIN = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
INDENTED = re.findall(r"^    (\S.*)$", PLAIN, re.MULTILINE)
SPANS = [span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", PLAIN)]
LINES = [line.partition("  #")[0] for line in INDENTED] + SPANS
COMMANDS = [
    (found[1], tuple(re.findall(r"--[a-z][a-z-]*", line)))
    for line in LINES
    if (found := re.search(r"(?:^|[ /])labous ([a-z][a-z-]*)", line)) is not None
]


def pipeline() -> str:
    """The page's pipeline file."""
    (text,) = (text for kind, text in BLOCKS if kind == "toml" and "[[node]]" in text)
    return str(text)


def with_bundle(bundle: Path) -> str:
    """The same with a bundle of tests, whose windows last 1 s."""
    text = pipeline()
    for key, value in (("bundle", f'"{bundle}"'), ("overlap", "0.4")):
        text, n = re.subn(rf"^{key} = [^ \n]+", f"{key} = {value}", text, flags=re.MULTILINE)
        assert n == 1
    return text


def read(folder: Path, text: str) -> pipeline_file.Pipeline:
    path = folder / "garden.toml"
    path.write_text(text, encoding="utf-8")
    return pipeline_file.read(path)


def test_every_block_is_of_a_kind_that_is_tested_here_and_parses() -> None:
    assert sorted(kind for kind, _ in BLOCKS) == ["json", "toml", "toml"]
    for kind, text in BLOCKS:
        parsed = (tomllib if kind == "toml" else json).loads(text)
        assert parsed


@pytest.mark.slow
@pytest.mark.wheel
def test_the_pages_pipeline_passes_the_check_of_the_installed_wheel(wheel: Path, bundle_path: Path) -> None:
    portaudio = ctypes.util.find_library("portaudio")  # as sounddevice looks for it
    need(portaudio, "libportaudio2", "the page's pipeline by an installed wheel")
    (extras,) = set(re.findall(r"\.whl\[([a-z,]+)\]", PAGE))
    folder = bundle_path.parent
    labous = wheels.environment(folder / "venv", wheel, extras, "requirements.lock").parent / "labous"
    (folder / "garden.toml").write_text(with_bundle(bundle_path), encoding="utf-8")
    (folder / "token").write_text("s3cr3t", encoding="utf-8")
    done = wheels.run(labous, "run", "--check", folder / "garden.toml", cwd=folder)
    wanted = [step["type"] for step in tomllib.loads(pipeline())["node"]]
    table = done.stdout.partition("\n\n")[2].splitlines()[1 : 1 + len(wanted)]
    assert [line.split()[1] for line in table] == wanted
    assert "inserted" not in done.stdout
    assert "This would run" in done.stdout.splitlines()[-1]
    assert json.loads(wheels.run(labous, "run", "--schema").stdout)["title"] == "Labous pipeline"


@pytest.mark.slow
def test_the_pages_pipeline_hears_a_recording(bundle_path: Path, wav: Path) -> None:
    """All of it, with a file in place of the microphone, a bundle of shorter windows, and no server."""
    folder = bundle_path.parent
    text = with_bundle(bundle_path).replace('name = "garden"', 'name = "garden"\nstate = "state"')
    head, *nodes = text.split("[[node]]\n")
    kept = [each for each in nodes if not each.startswith(('type = "microphone"', 'type = "http"'))]
    assert len(kept) == len(nodes) - 2
    (folder / "token").write_text("secret\n")
    path = folder / "garden.toml"
    path.write_text(head + node("file", path=f'"{wav}"') + "".join(f"[[node]]\n{each}" for each in kept), "utf-8")
    done = pipelines.run("run", path)
    assert done.returncode == 0, done.stderr
    (table,) = (folder / "state/tables").iterdir()
    rows = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
    assert rows
    clips = sorted(file.suffix for file in (folder / "state/clips").rglob("*.*"))
    assert clips == [".flac"] * len(rows) + [".png"] * len(rows)
    assert pipelines.run("status", path).returncode == 1, "it has ended"


def test_the_commands_that_the_page_names_exist() -> None:
    assert {name for name, _ in COMMANDS} == {"analyze", "check", "devices", "run", "install-service", "status"}
    helps = {name: pipelines.run(name, "--help") for name, _ in COMMANDS}
    for name, told in COMMANDS:
        assert helps[name].returncode == 0
        for option in told:
            assert re.search(rf"{option}\b", helps[name].stdout), f"labous {name} has no {option}"
    loose = {option for span in SPANS for option in re.findall(r"^--[a-z][a-z-]*", span)}
    assert {"--check", "--json", "--user", "--writable"} == loose
    for option in loose:
        assert any(option in done.stdout for done in helps.values()), option


def test_the_targets_files_links_counters_and_extras_that_the_page_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"\bmake ([a-z-]+)", " ".join(SPANS))
    assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    linked = re.findall(r"\]\(([^)#]+)(?:#([a-z-]+))?\)", PLAIN)
    assert len(linked) >= 3
    for name, anchor in linked:
        text = (ROOT / "docs" / name).read_text("utf-8")
        assert not anchor or re.search(rf"^#+ {anchor}$", text, re.MULTILINE), anchor
    for path in re.findall(r"\b(?:tests|runtime)/[\w./-]*\w", PLAIN):
        assert (ROOT / path).exists(), path
    sources = "".join(file.read_text("utf-8") for file in (ROOT / "runtime/src/labous").rglob("*.py"))
    counters = [span for span in SPANS if span.endswith("_total")]
    assert len(counters) >= 2 and all(f'"{name}' in sources or f"f'{name}" in sources for name in counters)
    (extras,) = re.findall(r"any\.whl\[([a-z,]+)\]", PLAIN)
    known = tomllib.loads((ROOT / "runtime/pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= known.keys()


def _keys(text: str) -> list[str]:
    """What a text has of a table's lines, each in backticks."""
    return [span for span in re.findall(r"`([^`]+)`", text) if re.match(r"\w+ = ", span)]


def test_the_keys_in_its_sentences_exist(tmp_path: Path) -> None:
    rows = [line for line in PLAIN.splitlines() if line.startswith("| ") and "`type = " in line]
    assert len(rows) == 3
    for row in rows:
        found = read(tmp_path, '[station]\nbundle = "b"\n[[node]]\n' + "\n".join(_keys(row)))
        assert f'type = "{found.steps[0].type}"' in _keys(row)
    others = {span for span in SPANS if re.fullmatch(r"[a-z_]+ = \S+", span)} - {
        key for row in rows for key in _keys(row)
    }
    assert others == {"metrics_port = 9101", "privacy = false", 'type = "wasm"', 'module = "mine.wasm"'}
    head = '[station]\nbundle = "b"\nmetrics_port = 9101\n[[node]]\ntype = "stdin"\n'
    found = read(tmp_path, head + '[[node]]\ntype = "wasm"\nmodule = "mine.wasm"\n')
    assert found.station.metrics_port == 9101
    off = re.sub(r'type = "clips".*', 'type = "clips"\nprivacy = false', pipeline())
    without = re.sub(r'\[\[node\]\]\ntype = "privacy".*\n', "", off)
    assert without != off
    assert [step.type for step in read(tmp_path, without).steps].count("privacy") == 0
    put = [step.type for step in read(tmp_path, without.replace("\nprivacy = false", "")).steps]
    assert put.index("privacy") == put.index("confirm") - 1


def test_the_event_of_the_page_is_one(tmp_path: Path) -> None:
    """Made again of the numbers in it, with the page's station."""
    ((shown,),) = (json.loads(text) for kind, text in BLOCKS if kind == "json")
    data = shown["data"]
    told = data["dynamicProperties"]
    found = read(tmp_path, pipeline())
    source: Any = found.steps[0].options
    assert told["stream"] == (source.name or source.device)
    detection = Detection(
        told["stream"], told["startSeconds"], told["endSeconds"], shown["subject"], data["scientificName"],
        "European Robin", data["vernacularName"], told["probability"],
    )  # fmt: skip
    time = datetime.datetime.fromisoformat(shown["time"])
    made = Observation.of(found.station.name, time, detection, told["windows"], data["identifiedBy"])
    event = made.event(found.station)
    for shortened, whole in ((shown["id"], made.id), (data["occurrenceID"], event["data"]["occurrenceID"])):
        assert shortened.endswith("…") and len(shortened) < len(whole)
    event["id"], event["data"]["occurrenceID"] = shown["id"], data["occurrenceID"]
    assert event == shown
