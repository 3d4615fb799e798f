"""Pipeline files: what they may say, and that every mistake is told with its line."""

from __future__ import annotations

import importlib.metadata
import json
import random
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docs import nodes_page
from labous.errors import PipelineError
from labous.nodes import built_in, is_source
from labous.options import Refused, parse
from labous.station import pipeline_file
from labous.station.pipeline_file import Pipeline
from labous.station.settings import Station
from labous.station.toml_file import TomlFile
from tests.counts import Counted
from tests.station.pipelines import MIDDLE, SINK, node

STATION = '[station]\nbundle = "b"\n'
SOURCE = node("file", path='"a.wav"')


def read(folder: Path, text: str) -> Pipeline:
    path = folder / "p.toml"
    path.write_text(text, encoding="utf-8")
    return pipeline_file.read(path)


def refused(folder: Path, text: str | bytes) -> str:
    """The sentence about a file, without its path."""
    path = folder / "p.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PipelineError) as error:
        pipeline_file.read(path)
    where, _, told = str(error.value).partition(repr(str(path)))
    assert where == ""
    return told


def test_a_file_becomes_options_in_their_order(tmp_path: Path) -> None:
    pipeline = read(tmp_path, "# a comment\n" + STATION + SOURCE + MIDDLE + SINK)
    assert [(step.type, step.line) for step in pipeline.steps] == [
        ("file", 4), ("wasm", 7), ("tflite", 9), ("confirm", 11), ("jsonl", 14),
    ]  # fmt: skip
    assert pipeline.bundle == tmp_path / "b"
    assert pipeline.steps[3].options.threshold == 0.1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ", line 1: there is no [station]; add it"),
        ("[station\n", ", line 1: this is not TOML: Expected ']' at the end of a table declaration."),
        (STATION + 'a = "\n', ", line 3: this is not TOML: Illegal character '\\n'."),
        (STATION + 'a = """\n\n', ", line 5: this is not TOML: Unterminated string."),
        (STATION + "a = " + "9" * 5000, ": a whole number in it has more than 64 bits"),
        (STATION + SOURCE + "overlap = 0x" + "f" * 99, ", line 6: this whole number has more than 64 bits"),
        (STATION + "a = " + "[" * 9000, " is nested too deeply"),
        (STATION + ".".join("a" * 999) + " = 1", ", line 3: this has more than 200 dots"),
        (STATION.encode() + b"name = '\xff'", ", line 3: this is not UTF-8"),
        (b" " * 1_000_001, " has more than 1000000 bytes"),
        (STATION, ", line 1: there is no [[node]]; add one"),
        (STATION + "[node]\n", ", line 3: there is no [[node]]; add one"),
        ("node = [3]\n" + STATION, ", line 1: node 1 must be a table."),
        ("\nstation = 3\n", ", line 2: [station] must be a table."),
        (STATION + SOURCE + "\n[extra]\nx = 1", ", line 7: 'extra' is not known here; known are [station] and"),
        ("x = 1\n" + STATION, ", line 1: 'x' is not known here"),
        ("# …\n[station]\nname = 'a'\n", ", line 2: [station]: bundle is missing: path of the bundle"),
        (STATION + "\nname = 'a b'", ", line 4: [station]: name is 'a b'; it must be letters"),
        (STATION + "latitude = 48.1", ", line 1: [station]: longitude is missing: a place has both"),
        (STATION + "[[node]]\n", ", line 3: node 1: type is missing: one of microphone, file"),
        (STATION + "[[node]]\n\ntype = 3\n", ", line 5: node 1: type is 3; it must be text: one of"),
        (STATION + "[[node]]\ntype = 'fil'\n", ", line 4: node 1: type is 'fil'; known are microphone, file"),
        (STATION + "[[node]]\ntype = 'x\\u001b'\n" , ", line 4: node 1: type is"),
        (STATION + SOURCE + "paths = 1\n", ", line 6: node 1 (file): paths is not known here; known are"),
        (STATION + SOURCE + '"a.b" = 1\n', ", line 6: node 1 (file): a.b is not known here"),
        (STATION + SOURCE + '"\\u001b" = 1\n', ", line 6: node 1 (file): \\x1b is not known here"),
        (STATION + SOURCE + node("wasm", shape="[\n  5,\n  0,\n]"), ", line 8: node 2 (wasm): shape[1] is 0"),
        (STATION + SOURCE + MIDDLE + "[node.thresholds]\nx = 1\ny = 2", ", line 15: node 4 (confirm): thresholds.y is"),
        (
            STATION + SOURCE + MIDDLE + "thresholds = {x = 1, y.z = 2}\n",
            ", line 13: node 4 (confirm): thresholds.y is {'z': 2}; it must be a number.",
        ),
        (
            'node = [{type = "file", path = "a"}, {type = "wasm", fuel = -1}]\n' + STATION,
            ", line 1: node 2 (wasm): fuel is -1",
        ),
        ('node = [\n  {type = "file", path = "a"},\n]\nstation.bundle = 3\n', ", line 4: [station]: bundle is 3"),
        (STATION + MIDDLE, ", line 3: the first node must be a source, and wasm is none; begin with microphone, say."),
        (STATION + SOURCE + node("stdin"), ", line 6: node 2 (stdin) is a source, and only the first node can be one"),
        (
            STATION + SOURCE + node("tflite"),
            ", line 6: node 2 (tflite) reads the column 'mel', and the nodes before it write 'audio'; put",
        ),
        (
            STATION + SOURCE + MIDDLE + node("jsonl", input='"birds"'),
            ", line 15: node 5 (jsonl) reads the column 'birds', and the nodes before it write 'audio', 'mel', "
            "'predictions', 'observations'; put",
        ),
        (
            STATION + SOURCE + MIDDLE + node("http", url='"https://x.example"') * 2,
            ", line 16: node 6 (http) has the name 'http', as node 5 has; give it another.",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str | bytes, told: str) -> None:
    found = refused(tmp_path, text)
    assert found.startswith(told), found
    assert found.isprintable()


@pytest.mark.parametrize(
    ("path", "told"),
    [("none.toml", "No such file"), (".", "Is a directory"), ("a\0b", "null"), ("x" * 300, "too long")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, path: str, told: str) -> None:
    with pytest.raises(PipelineError, match=rf"cannot be read \(.*{told}.*\); check the path"):
        pipeline_file.read(tmp_path / path)


# Lines

NAMES = st.sampled_from(["a", "b", '"c d"', "'e#'", '"\\u0066"'])
TEXTS = st.sampled_from(
    [
        "1", '"x"', "'''\n[no]\n'''", '"""\n# "no" = [\n\\""""', "[\n 1, # ]\n 2\n]", "{x = '}'}", "'#'", '"\\""',
        "[[1], []]",
    ]
)  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["", "\n", "# c\n\n"]), NAMES, TEXTS), max_size=8), st.booleans())
def test_each_value_is_found_on_the_line_where_it_was_written(
    tmp_path: Path, parts: list[tuple[str, str, str]], returns: bool
) -> None:
    text, lines = "", []
    for number, (before, name, value) in enumerate(parts):
        text += f"{before}[[t.{name}]] # [x]\n"
        lines.append(text.count("\n"))
        text += f"\n k{number} = {value} # = 1\n"
        lines.append(text.count("\n") - value.count("\n"))
    path = tmp_path / "t.toml"
    path.write_bytes(text.replace("\n", "\r\n" if returns else "\n").encode())
    file, counts, found = TomlFile(path), dict[str, int](), []
    for number, (_, name, _) in enumerate(parts):
        key = {'"c d"': "c d", "'e#'": "e#", '"\\u0066"': "f"}.get(name, name)
        counts[key] = counts.get(key, -1) + 1
        found += [file.line(("t", key, counts[key])), file.line(("t", key, counts[key], f"k{number}"))]
    assert found == lines


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"a{i} = 1\n" for i in range(90_000)),
        "[[node]]\n" * 110_000,
        "a = [" + '"bird",\n' * 120_000 + "]\n",
        '"""'.join(["a = ", "x\\\n" * 250_000, "\n"]),
        "".join(f"x{i}.{'.'.join('a' * 190)} = 1\n" for i in range(2_500)),
        "a = " + "{a = " * 190_000,
        ".".join("a" * 400_000) + " = 1\n",
    ],
    ids=["keys", "tables", "array", "text", "dotted", "nested", "one key"],
)
@pytest.mark.slow
def test_the_largest_files_are_answered_in_seconds(tmp_path: Path, text: str, counted: Counted) -> None:
    """The bound is loose: half a minute of a machine that does other things; what it guards against takes minutes."""
    began = time.process_time()
    assert refused(tmp_path, text[:999_999].rpartition("\n")[0] + "\n" if text.count("\n") > 1 else text)
    taken = time.process_time() - began
    counted(f"a pipeline file of {len(text):,} characters", f"refused after {taken:.1f} s of CPU")
    assert taken < 30


# Privacy


def kinds(pipeline: Pipeline) -> list[str]:
    return [step.type + "*" * step.inserted for step in pipeline.steps]


def test_clips_bring_privacy_before_the_first_confirm_or_sink(tmp_path: Path) -> None:
    clips = node("clips")
    assert kinds(read(tmp_path, STATION + SOURCE + MIDDLE + SINK + clips)) == [
        "file", "wasm", "tflite", "privacy*", "confirm", "jsonl", "clips",
    ]  # fmt: skip
    own = STATION + SOURCE + MIDDLE + node("privacy", margin=2.0) + clips
    assert kinds(read(tmp_path, own)) == ["file", "wasm", "tflite", "confirm", "privacy", "clips"]
    without = STATION + SOURCE + MIDDLE + node("clips", privacy="false")
    assert kinds(read(tmp_path, without)) == ["file", "wasm", "tflite", "confirm", "clips"]
    assert "privacy*" not in kinds(read(tmp_path, STATION + SOURCE + MIDDLE + SINK))
    assert kinds(read(tmp_path, STATION + SOURCE + MIDDLE + clips + node("privacy")))[3] == "privacy*"
    early = STATION + SOURCE + node("wasm") + node("tflite") + node("jsonl", input='"mel"') + node("confirm") + clips
    assert kinds(read(tmp_path, early))[3] == "privacy*"


def test_privacy_that_is_inserted_reads_what_the_file_calls_sound_and_predictions(tmp_path: Path) -> None:
    text = (
        STATION + node("file", path='"a"', output='"sound"') + node("wasm", input='"sound"')
        + node("tflite", model='"m"', labels='"l.csv"', output='"said"')
        + node("confirm", input='"said"') + node("clips", input='"sound"')
    )  # fmt: skip
    privacy = read(tmp_path, text).steps[3]
    assert privacy.inserted
    assert privacy.options.input == "sound"  # type: ignore[attr-defined]
    assert privacy.options.predictions == "said"  # type: ignore[attr-defined]
    assert privacy.options.labels == "l.csv"  # type: ignore[attr-defined]


@pytest.mark.parametrize("keys", [{"listen": "false"}, {"voices": '["Human"]'}, {"predictions": '"predictions"'}])
def test_privacy_without_the_predictions_that_it_needs_is_refused(tmp_path: Path, keys: dict[str, str]) -> None:
    with pytest.raises(PipelineError, match=r"\(privacy\) reads the column 'predictions'"):
        read(tmp_path, STATION + SOURCE + node("privacy", **keys) + MIDDLE + SINK)
    read(tmp_path, STATION + SOURCE + node("privacy") + MIDDLE + SINK)


# Where things are


def test_the_state_is_the_files_own_or_the_services_or_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/h")
    named = STATION + 'name = "garden"\n'
    assert read(tmp_path, named + SOURCE).state == Path("/h/.local/state/labous/garden")
    with monkeypatch.context() as homeless:
        homeless.delenv("HOME")
        homeless.setattr("pwd.getpwuid", {}.__getitem__)
        with pytest.raises(PipelineError, match=r"no home to keep .* set station.state, or the variable HOME"):
            _ = read(tmp_path, named + SOURCE).state
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    assert read(tmp_path, named + SOURCE).state == Path("/x/labous/garden")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/labous/garden:/elsewhere")
    assert read(tmp_path, named + SOURCE).state == Path("/var/lib/labous/garden")
    assert read(tmp_path, named + 'state = "s"\n' + SOURCE).state == tmp_path / "s"


# Kinds of other packages


def test_a_package_adds_kinds(tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(plugin)
    text = STATION + node("tones", windows=2) + node("loudness") + node("trouble", after=1)
    pipeline = read(tmp_path, text)
    assert [type(step.options).__name__ for step in pipeline.steps] == ["Tones", "Loudness", "Trouble"]
    assert is_source(type(pipeline.steps[0].options))
    assert refused(tmp_path, STATION + node("tones", window=2)).startswith(
        ", line 5: node 1 (tones): window is not known here; known are output, windows, pause, obeys."
    )
    assert "mqtt, function, loudness, missing, tones, trouble; other kinds" in refused(tmp_path, STATION + node("none"))
    assert refused(tmp_path, STATION + node("missing")) == (
        ", line 4: node 1: type 'missing' comes with the package 'labous-plugin', which cannot be imported "
        "(ModuleNotFoundError: No module named 'labous_plugin.missing'); update or uninstall it."
    )
    assert "whose labous_plugin:loudness is no dataclass with an open" in refused(tmp_path, STATION + node("function"))


# The schema


def test_what_is_published_is_that_of_this_version() -> None:
    for path, text in nodes_page.pages().items():
        assert path.read_text("utf-8") == text, f"{path.name} is old: python docs/nodes_page.py"
    jsonschema.Draft202012Validator.check_schema(pipeline_file.json_schema())


@pytest.mark.parametrize("kind", built_in())
def test_every_kind_is_described(kind: str) -> None:
    described = pipeline_file.json_schema()["$defs"][kind]
    assert described["description"].endswith(".")
    for name, told in described["properties"].items():
        assert name == "type" or told["description"], name


def _of_schema(described: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a property's schema allows, or nearly allows."""
    kind = described["type"]
    if kind == "array":
        return st.lists(_of_schema(described["items"]), max_size=2)
    if kind == "object":
        return st.dictionaries(st.sampled_from(["x", "y"]), _of_schema(described["additionalProperties"]), max_size=2)
    edges = [described[name] for name in ("minimum", "maximum", "exclusiveMinimum") if name in described]
    near = [edge + step for edge in edges for step in (-1, 0, 1)]
    found = {
        "boolean": st.booleans(),
        "integer": st.sampled_from([*map(int, near), 0, 1, 7]),
        # 3.0 is whole for JSON, and a float for TOML, which the parser goes by
        "number": st.sampled_from([*map(int, near), 0, 1, 0.5, 2.25]),
        "string": st.sampled_from([*described.get("enum", []), "", "a", "A\n", "https://h.example/"]),
    }[kind]
    if "pattern" in described:
        found |= st.from_regex(described["pattern"]) | st.from_regex(described["pattern"])
    if "default" in described:
        found |= st.just(described["default"])
    return found


WRONG = st.sampled_from([None, True, -1, 0.25, "x", [], ["x"], {}, {"x": -1}]).filter(lambda value: value is not None)


PUBLISHED = pipeline_file.json_schema()
KINDS = {"station": Station, **{name: pipeline_file._kind(name) for name in built_in()}}


@st.composite
def tables(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """A table of a kind that is right, or nearly right."""
    described, made = _described(name), {}
    for key, of_key in described["properties"].items():
        if key != "type" and draw(st.integers(0, 19)) < (19 if key in described["required"] else 4):
            made[key] = draw(WRONG if draw(st.integers(0, 39)) == 0 else _of_schema(of_key))
    if draw(st.integers(0, 39)) == 0:
        made["odd"] = draw(WRONG)
    return made


def _described(name: str) -> dict[str, Any]:
    found: dict[str, Any] = PUBLISHED["properties"]["station"] if name == "station" else PUBLISHED["$defs"][name]
    return found


@pytest.mark.parametrize("name", KINDS)
def test_schema_and_parser_agree_about_a_table(name: str) -> None:
    validator = jsonschema.Draft202012Validator(_described(name))
    seen = {True: 0, False: 0}

    @settings(max_examples=40, deadline=None, database=None)
    @given(tables(name))
    def agree(table: dict[str, Any]) -> None:
        valid = validator.is_valid(table if name == "station" else {"type": name, **table})
        seen[valid] += 1
        try:
            parse(KINDS[name], table)
        except Refused as error:
            # what keys mean together the schema leaves to the parser, as it says
            assert valid == ("__post_init__" in _functions(error)), error
        else:
            assert valid

    agree()
    assert all(seen.values())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "station": st.sampled_from([{"bundle": "b"}, {}, {"bundle": "b", "name": "!"}, 1]),
            "node": st.lists(
                st.sampled_from([
                    {"type": "file", "path": "a"}, {"type": "file"}, {"type": 1}, {}, 3,
                    {"type": "stdin", "live": "yes"},
                ]),
                max_size=1,
            ) | st.just({}),
            "odd": st.just(1),
        },
    )
)  # fmt: skip
def test_schema_and_parser_agree_about_a_document(tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "p.toml"
    path.write_text(_toml(document), encoding="utf-8")
    assert TomlFile(path).values == document
    valid = jsonschema.Draft202012Validator(PUBLISHED).is_valid(document)
    try:
        pipeline_file.read(path)
    except PipelineError as error:
        assert not valid, error
    else:
        assert valid


def _functions(error: BaseException) -> list[str]:
    """The functions through which an exception came."""
    names, trace = [], error.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return names


def _toml(document: dict[str, Any]) -> str:
    """TOML with every table inline."""
    return "".join(f"{json.dumps(name)} = {_inline(value)}\n" for name, value in document.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_inline(inside)}" for name, inside in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)


# Fuzzing

SEEDS = (
    STATION + SOURCE + MIDDLE + SINK + node("clips", format='"ogg"', megabytes=10),
    STATION + 'latitude = 48.1\nlongitude = -3.0\n' + node("microphone", device='"USB"') + MIDDLE
    + '[node.thresholds]\nrobin = 0.7\n'
    + node("http", url='"https://x.example/d"', name='"a"') + node("mqtt", host='"h"'),
    'station = {bundle = "b"}\nnode = [{type = "stdin"}, {type = "wasm", shape = [1, 2]}]\n',
)  # fmt: skip
PIECES = (
    "[", "]", "[[", "]]", "{", "}", "=", ".", ",", "#", "\n", "\r", "'", '"', '"""', "'''", "\\", "\0", "\x1b[2J", "é",
    "true", "nan", "-inf", "1e999", "9" * 30, "0x", "1979-05-27T07:32:00Z", "[[node]]\n", "type", "node", "station",
)  # fmt: skip


def _mutated(rng: random.Random) -> bytes:
    content = bytearray(rng.choice(SEEDS).encode())
    for _ in range(rng.randint(1, 4)):
        at, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        end = min(end, at + rng.choice((0, 1, 5, 60)))
        content[at:end] = rng.choice((
            rng.choice(PIECES).encode(), rng.randbytes(2), bytes(content[end : end + 40]), b"",
        ))  # fmt: skip
        content = content or bytearray(b"x")
    return bytes(content)


# with those of manifests, tests/runtime/test_manifest_fuzz.py, more than 100,000
@pytest.mark.parametrize("count", [1_000, pytest.param(60_000, marks=pytest.mark.slow)])
def test_no_damage_to_a_file_is_more_than_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, counted: Counted
) -> None:
    # looking through the installed packages takes longer than all the rest
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: ())
    rng, path, taken, slowest = random.Random(count), tmp_path / "p.toml", 0, 0.0
    for _ in range(count):
        content = _mutated(rng)
        path.write_bytes(content)
        began = time.process_time()
        try:
            pipeline = pipeline_file.read(path)
            assert pipeline.steps and pipeline.bundle.is_absolute() and pipeline.state.is_absolute()
            taken += 1
        except PipelineError as error:
            assert str(error).isprintable(), content
            assert str(error).endswith("."), (str(error), content)
        slowest = max(slowest, time.process_time() - began)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    counted(
        f"{count:,} damaged pipeline files",
        f"{taken:,} work, {count - taken:,} refused with a sentence; at most {slowest:.3f} s of CPU each; "
        "nothing written",
    )
    assert 0 < taken < count
    assert slowest < 1
