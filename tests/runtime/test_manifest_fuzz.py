"""Fuzzing of what a bundle says about itself: whatever is done to a manifest, the bundle works or is refused in a line.

A manifest is damaged by bytes, by JSON tokens, by values, or so that it agrees with itself; and some bundles have their
table of files damaged too and are read from disk. What is accepted is opened and asked about a second of sound.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import json
import os
import random
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labous import archive
from labous.bundle import Bundle
from labous.errors import FrontendError, LabousError
from labous.power_law import PowerLawChannel, read_frontend
from tests.counts import Counted
from tests.runtime import bundles, law_bundles
from tests.runtime.test_manifest import first_version, leaves, parent_of

SECONDS = 2.0  # of CPU for one bundle, opened and used; it takes milliseconds, of a machine that does other things
LONGEST = 1000  # characters of a message, with the path of the bundle in it
ON_DISK = 20  # one of so many is read from disk

MANIFEST = bundles.manifest()
LAW = dataclasses.replace(
    law_bundles.FRONTEND,
    sample_rate=16_000,
    window_seconds=1.0,
    channels=(
        PowerLawChannel(n_fft=1024, hop_length=260, f_min=0.0, f_max=3000.0, exponent=0.25),
        PowerLawChannel(n_fft=512, hop_length=269, f_min=500.0, f_max=8000.0, exponent=0.2),
    ),
    shifts=(0, 11),
)
LAW_FOLDER = "law"  # of the same bundle
LAW_MANIFEST = law_bundles.manifest_beside(LAW_FOLDER, LAW)
MANIFESTS = (MANIFEST, LAW_MANIFEST)
SEEDS = tuple(
    json.dumps(values, indent=indent, ensure_ascii=False)
    for values, indent in (
        (MANIFEST, 2),
        (first_version(), 2),
        (bundles.manifest(synthetic=True) | {"name": "Goéland", "licence": None, "teacher": None}, None),
        (LAW_MANIFEST, 2),
    )
)
LEAVES = {id(values): tuple(leaves(values)) for values in MANIFESTS}
KEYS = sorted({path[-1] for found in LEAVES.values() for path in found if isinstance(path[-1], str)})
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
VALUE = re.compile(r'(?<=: )(?:"(?:[^"\\]|\\.)*"|[^\s{}\[\]:,"]+)')
WORDS = (
    "null", "true", "0", "-1", "-0", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1e-400", "0.1e1", "9" * 30,
    "-" + "9" * 30, "9" * 4000, "1.5", '""', '"\\ud800"', '"\\u001b[2J"', '"\\u0000"', '"../../secret"', "{}", "[]",
    '"' + "a" * 70_000 + '"', "[" * 400 + "]" * 400, '{"a":' * 700 + "1" + "}" * 700, "2", "0.25", '"a"', '"\u2028"',
)  # fmt: skip
MARKS = (
    "{", "}", "[", "]", ":", ",", "9" * 5000, '"\x07"', "[" * 100_000, "/* */", "'", "\\", "\u2028", ",,", '"', "\0",
    "\ufeff",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 17, 0.5, 1.0, 16_000.0, float("nan"), float("inf"), -float("inf"), 1e-320, 1e308,
    2**31, 2**63, 10**30, -(10**400), "", "a", "\x1b[2J", "a\nb", "\0", "\u202e", "\ud800", "x" * 2_000, "x" * 200_000,
    [], [[]], ["x"], {}, {"a": {}}, {"\x1b[31m": 1}, {"x" * 5_000: 0.5}, [0] * 5_000, "float32", "int8", "hann", "max",
)  # fmt: skip
PATHS = (
    "../secret", "../../secret", "/etc/hostname", "a/../../secret", "./labels.csv", "labels.csv/", "..", ".", "/",
    "C:x", "model.onnx", "manifest.json", "SHA256SUMS", "metrics.json", "golden", "golden/../labels.csv",
    "labels.csv\x00", "LABELS.CSV",
)  # fmt: skip
CONSTANTS: dict[str, tuple[Any, ...]] = {
    "sample_rate": (8_000, 32_000, 96_000, 16_000.0, 2**40),
    "window_seconds": (0.5, 2.0, 60.0, 1e5, 1e12, 1e300, 0.032),
    "n_fft": (256, 1024, 4096, 512.0),
    "win_length": (1, 511, 256),
    "hop_length": (1, 125, 500, 16_000, 2**62),
    "center": (True, False),
    "n_mels": (1, 15, 17, 256),
    "f_min": (0, 50.5, 7899.999),
    "f_max": (100.1, 8000, 7900),
    "amin": (5e-324, 1e-8, 1e300),
    "ref": ("max", 1e-300, 1e300),
    "top_db": (0, 80.0, None, 1e300),
    "db_offset": (1e300, -1e300, 0),
    "db_scale": (1e300, -1, 5e-324),
    "power": (1.0, 2.0),
    "pad_mode": ("reflect", "constant"),
}  # which a Frontend may have, or nearly
LAW_CONSTANTS: dict[str, tuple[Any, ...]] = {
    "kind": ("power_law", "log_mel", None, 3),
    "sample_rate": (8_000, 32_000, 16_000.0, 2**40),
    "window_seconds": (0.5, 2.0, 60.0, 1e5, 1e300, 0.032),
    "n_mels": (1, 15, 17, 256),
    "peak_epsilon": (1e-6, 5e-324, 1e300, 0),
    "peak_offset": (0, -1e300, 1e300, 0.5),
    "peak_scale": (1e300, -2, 5e-324, 0),
    "shifts": ([0], [], [0, 0], [1, 0], [3, 5], [*range(64)], [*range(65)], [15_000], [-1], "0", [0.5]),
}
CHANNEL_CONSTANTS: dict[str, tuple[Any, ...]] = {
    "n_fft": (256, 4096, 512.0, 8192),
    "hop_length": (1, 125, 16_000, 2**62),
    "f_min": (0, 50.5, 7999.999),
    "f_max": (0.001, 8000, 7900),
    "exponent": (1, 5e-324, 0.5, 0, 1.1),
}


def of_bytes(rng: random.Random) -> bytes:
    """Bytes put in, taken out, exchanged or repeated."""
    content = bytearray(rng.choice(SEEDS).encode())
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(content))
        end = at + rng.choice((0, 1, 1, 2, 8, 80))
        other = rng.randrange(len(content))
        content[at:end] = rng.choice((
            b"", rng.randbytes(1), bytes([rng.choice(b"0123456789")]),
            rng.choice((b'"', b"\\", b".", b"e", b"-", b"{}", b"[]")),
            bytes(content[other : other + rng.choice((1, 60))]),
        ))  # fmt: skip
    return bytes(content)


def of_tokens(rng: random.Random) -> bytes:
    """JSON's tokens exchanged, put in, taken out; nested as deep as can just be read; members of an object twice."""
    text = rng.choice(SEEDS)
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind = rng.randrange(8)
        found = list((VALUE if kind < 5 else TOKEN).finditer(text))
        if not found:
            break
        start, end = rng.choice(found).span()
        if kind < 4:
            text = text[:start] + rng.choice(WORDS) + text[end:]
        elif kind == 4:
            left, right, depth = *rng.choice((("[", "]"), ('{"a":', "}"))), rng.randrange(900, 1000)
            text = text[:start] + left * depth + "1" + right * depth + text[end:]
        elif kind == 5:
            text = text[:start] + rng.choice((*MARKS, "")) + text[rng.choice((start, end)) :]
        elif kind == 6:
            text = text[:start] + rng.choice(found)[0] + text[end:]
        else:  # a member again, with another value: the last one counts
            key = rng.choice(KEYS)
            brace = text.find("{", start) + 1
            text = f"{text[:brace]}{json.dumps(key)}: {rng.choice(WORDS)}, {text[brace:]}"
    return text.encode("utf-8", "surrogatepass")


def of_values(rng: random.Random) -> bytes:
    """Valid JSON in which some values are others, missing, elsewhere or of a stranger's path."""
    original = rng.choice(MANIFESTS)
    values, places = copy.deepcopy(original), LEAVES[id(original)]
    files = [path for path in places if path[-1] in ("file", "labels")]
    for _ in range(rng.choice((1, 1, 2, 3))):
        path = rng.choice(files if rng.random() < 0.1 else places)
        try:
            parent = parent_of(values, path)
            kind = rng.randrange(6)
            if kind == 0:
                del parent[path[-1]]
            elif kind == 1:
                other = rng.choice(places)
                parent[path[-1]] = copy.deepcopy(parent_of(original, other)[other[-1]])
            elif kind == 2 and isinstance(parent, dict):
                parent[rng.choice(("odd", "\x1b[2J", "", "x" * 300, "\ud800"))] = rng.choice(VALUES)
            else:
                parent[path[-1]] = rng.choice(PATHS if path in files and rng.random() < 0.7 else VALUES)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took that place away
    return json.dumps(values).encode()


def agreeing(rng: random.Random) -> bytes:
    """Another front end or other rules of detection, and everything that depends on them changed as well."""
    values = copy.deepcopy(MANIFEST)
    frontend = values["frontend"]
    for name in rng.sample(list(CONSTANTS), rng.randint(1, 4)):
        frontend[name] = rng.choice(CONSTANTS[name])
    try:
        samples = round(frontend["window_seconds"] * frontend["sample_rate"])
        padded = samples + frontend["center"] * frontend["n_fft"]
        frames = 1 + int(padded - frontend["n_fft"]) // frontend["hop_length"]
    except OverflowError:
        frames = 62
    for model in values["models"].values():
        model["input"]["shape"] = [1, frontend["n_mels"], frames, 1]
    if rng.random() < 0.2:
        values["models"] = {rng.choice(("float32", "int8", "", "\x1b")): values["models"]["float32"]}
    detection = values["detection"]
    for code in detection["thresholds"]:
        detection["thresholds"][code] = rng.choice((0, 1, 0.5, 1e-300))
        detection["calibration"][code] = {"scale": rng.choice((1e-3, 1, 1e3)), "offset": rng.choice((-1e3, 0, 1e3))}
    windows = rng.randint(1, 1000)
    detection["confirmation"] = {"hits": rng.randint(1, windows), "windows": windows}
    detection["smoothing"]["neighbor_weight"] = rng.choice((0, 0.2, 1 / 3))
    return json.dumps(values).encode()


def agreeing_law(rng: random.Random) -> bytes:
    """Another power law, and the models' inputs changed with it; other labels that are no birds, other models."""
    values = copy.deepcopy(LAW_MANIFEST)
    frontend = values["frontend"]
    for name in rng.sample(list(LAW_CONSTANTS), rng.randint(0, 2)):
        frontend[name] = rng.choice(LAW_CONSTANTS[name])
    for name in rng.sample(list(CHANNEL_CONSTANTS), rng.randint(0, 2)):
        rng.choice(frontend["channels"])[name] = rng.choice(CHANNEL_CONSTANTS[name])
    if rng.random() < 0.2:
        frontend["channels"] = frontend["channels"][: rng.randrange(2)] * rng.choice((1, 2, 5))
    try:
        shape = list(read_frontend(frontend).input_shape)
    except FrontendError:
        shape = [1, 16, 58, 2]
    for model in values["models"].values():
        model["input"]["shape"] = shape
    codes = [code for code, *_ in law_bundles.LABELS]
    values["detection"]["not_birds"] = rng.choice(([], codes, rng.sample(codes, 2), codes[:1] * 3, ["cat"], None))
    if rng.random() < 0.3:
        del values["models"][rng.choice(("float32", "float16"))]
    return json.dumps(values).encode()


KINDS: tuple[Callable[[random.Random], bytes], ...] = (of_bytes, of_tokens, of_values, agreeing, agreeing_law)


class Watch:
    """What Python code of this process would write, start or connect to, and whether it opens what is outside."""

    def __init__(self) -> None:
        self.on, self.seen = False, list[str]()
        sys.addaudithook(self._hook)  # for as long as the process lives: it cannot be taken away

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes or (isinstance(path, str | bytes) and b"secret" in os.fsencode(path)):
                self.seen.append(f"open {path!r}")
        elif event.partition(".")[0] in ("socket", "subprocess", "shutil") or event in (
            "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
            "os.system",
        ):  # fmt: skip
            self.seen.append(f"{event} {arguments!r}")


WATCH = Watch()


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def on_disk(rng: random.Random, place: Path, manifest: bytes) -> None:
    """Put the manifest into the bundle, and write its table of files, which may be damaged too."""
    (place / "manifest.json").write_bytes(manifest)
    archive.write_checksums(place)
    table = place / archive.CHECKSUMS
    lines = table.read_text("utf-8").splitlines(keepends=True)
    at, kind = rng.randrange(len(lines)), rng.randrange(6)
    if kind == 0:
        lines[at] = lines[at][:66] + rng.choice(PATHS) + "\n"
    elif kind == 1:
        lines.insert(at, "0" * 64 + "  " + rng.choice(PATHS) + "\n")
    elif kind == 2:
        lines[at] = lines[at].replace(rng.choice(lines[at]), rng.choice("0a \n\x1b\u202e/"), 1)
    elif kind == 3:
        del lines[at]
    table.write_text("".join(lines), encoding="utf-8")  # of two in six it is right


def outcome(place: Path, files: dict[str, bytes] | None, sound: np.ndarray) -> str:
    """How far a bundle gets: of these files, or of those that are read from its place."""
    stage = "bundle"
    try:
        bundle = Bundle.read(place) if files is None else Bundle(place, files, "float32", None)
        stage = "opening"
        bundle.prepare()
        stage = "use"
        found = bundle.predict(sound, 16_000)
        assert found.logits.shape == found.probabilities.shape == (len(found.starts), len(bundle.labels))
        assert (
            np.isfinite(found.probabilities).all() and 0 <= found.probabilities.min() <= found.probabilities.max() <= 1
        )
        assert bundle._thresholds(None).shape == (len(bundle.labels),)
        told = set(bundle.manifest.detection.not_birds)
        never = [label.ebird_code in told for label in bundle.labels]
        assert (np.isinf(bundle._thresholds(0.0)) == never).all() and np.isinf(bundle._thresholds(None))[never].all()
    except LabousError as error:
        message = str(error)
        assert message.isprintable() and message.strip() and len(message) < LONGEST, message
        return "JSON" if message.startswith("manifest.json is not JSON") else stage
    return "used"


@pytest.fixture
def place(bundle_path: Path) -> Iterator[Path]:
    (bundle_path.parent / "secret").write_text("kept")
    law_bundles.write_beside(bundle_path, LAW_FOLDER, LAW)
    yield bundle_path
    WATCH.on = False


@pytest.mark.parametrize("count", [400, pytest.param(50_000, marks=pytest.mark.slow)])
def test_no_damage_to_a_manifest_is_more_than_a_sentence(count: int, place: Path, counted: Counted) -> None:
    rng, files = random.Random(count), archive.read_files(place)
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    outcomes, kinds, slowest = collections.Counter[str](), collections.Counter[str](), 0.0
    assert outcome(place, None, sound) == "used"  # and all is imported and compiled
    WATCH.seen.clear()
    before, read = listing(place.parent), 0
    for n in range(count):
        kind = rng.choice(KINDS)
        manifest = kind(rng)
        if from_disk := n % ON_DISK == 0:
            on_disk(rng, place, manifest)
            read += 1
        began = time.process_time()
        WATCH.on = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                how = outcome(place, None if from_disk else files | {"manifest.json": manifest}, sound)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} of {manifest[:5000]!r}") from error
        finally:
            WATCH.on = False
        slowest = max(slowest, time.process_time() - began)
        outcomes[how] += 1
        kinds[f"{kind.__name__.replace('_', ' ')} {'used' if how == 'used' else 'refused'}"] += 1
    (place / "manifest.json").write_bytes(files["manifest.json"])
    archive.write_checksums(place)
    assert listing(place.parent).keys() == before.keys() and (place.parent / "secret").read_text() == "kept"
    counted(
        f"{count:,} damaged manifests",
        f"{outcomes['used']:,} work; refused with a sentence: {outcomes['JSON']:,} are not JSON, "
        f"{outcomes['bundle']:,} at odds with themselves or their files, {outcomes['opening']:,} when opened, "
        f"{outcomes['use']:,} when used; {read:,} of them read from disk; at most {slowest:.3f} s of CPU each; "
        "nothing written",
    )
    assert WATCH.seen == []
    assert sum(outcomes.values()) == count
    assert slowest < SECONDS
    for stage in ("used", "JSON", "bundle", "opening"):
        assert outcomes[stage] > count / 100, outcomes
    for kind in KINDS:
        name = kind.__name__.replace("_", " ")
        assert kinds[f"{name} refused"] > count / 100 and kinds[f"{name} used"] > 0, kinds
