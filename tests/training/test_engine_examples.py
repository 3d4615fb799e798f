"""The examples of docs/engines.md: each engine gives the golden logits, Rust and JavaScript what the wheel analyzes."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from labous import Bundle
from labous.archive import write_checksums
from tests import crates
from tests.training import engine_bundles, listening
from tests.training.export_fixtures import needs
from training.aot.build import build_model

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
NETWORK = pytest.param("network", marks=[pytest.mark.slow, pytest.mark.tensorflow])
SAID = re.compile(r"^(\w+): at most (\S+) from the golden windows, (\S+) is allowed$", re.MULTILINE)


def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        check=False,
        encoding="utf-8",
        **{"timeout": 120, **options},
    )


@pytest.fixture(scope="module")
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """``small`` or ``network`` of engine_bundles."""
    return getattr(engine_bundles, request.param)(tmp_path_factory.mktemp(request.param) / "bundle")


@pytest.fixture(scope="module")
def model_wasm(bundle: Bundle) -> Path:
    place = bundle.path.parent / "model.wasm"
    build_model((bundle.path / "model.tflite").read_bytes(), "wasm", place)
    return place


def with_onnxruntime(bundle: Path, model: Path) -> list[object]:
    needs("onnxruntime")
    return [sys.executable, EXAMPLES / "python" / "with_onnxruntime.py", bundle]


def with_tflite_micro(precision: str, bundle: Path, model: Path) -> list[object]:
    needs("tflite_micro")
    return [sys.executable, EXAMPLES / "python" / "with_tflite_micro.py", bundle, precision]


def with_node(bundle: Path, model: Path) -> list[object]:
    if shutil.which("node") is None:
        crates.unavailable("NODE", "the example for Node is not tested: node is not installed")
    return ["node", EXAMPLES / "browser" / "golden.mjs", bundle, model]


ENGINES = {
    "onnxruntime": (with_onnxruntime, "float32"),
    "tflite_micro": (functools.partial(with_tflite_micro, "float32"), "float32"),
    "tflite_micro int8": (functools.partial(with_tflite_micro, "int8"), "int8"),
    "node": (with_node, "float32"),
}
Command = Callable[[Path, Path], list[object]]


@pytest.mark.parametrize("bundle", ["small", NETWORK], indirect=True)
@pytest.mark.parametrize(("command", "precision"), ENGINES.values(), ids=ENGINES)
def test_golden_windows(command: Command, precision: str, bundle: Bundle, model_wasm: Path) -> None:
    done = run(*command(bundle.path, model_wasm))
    assert done.returncode == 0, done.stderr
    said = {name: (float(worst), float(allowed)) for name, worst, allowed in SAID.findall(done.stdout)}
    tolerance = bundle.manifest.golden.tolerance
    assert set(said) - {"mel"} == {precision} and said[precision][1] == pytest.approx(tolerance[precision], rel=0.05)
    # an engine's int8 may be steps of the output away from LiteRT's
    assert said[precision][0] <= (listening.TOLERANCE if precision == "float32" else tolerance["int8"])
    assert said.get("mel", (0, 0))[0] == 0  # the very same module


@pytest.mark.parametrize("bundle", ["small"], indirect=True)
@pytest.mark.parametrize("wrong", [0.002, pytest.param(np.nan, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("command", "precision"), ENGINES.values(), ids=ENGINES)
def test_a_difference_over_the_tolerance_is_told(
    command: Command, precision: str, wrong: float, bundle: Bundle, model_wasm: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(bundle.path, tmp_path / "bundle")
    with np.load(other / "golden" / "golden.npz") as archive:
        golden = dict(archive)
    golden[f"logits_{precision}"][1, 2] += wrong * (1 if precision == "float32" else 500)
    np.savez(other / "golden" / "golden.npz", **golden)
    write_checksums(other)
    done = run(*command(other, model_wasm))
    assert done.returncode == 1, done.stderr
    worst = {name: float(worst.replace("NaN", "nan")) for name, worst, _ in SAID.findall(done.stdout)}[precision]
    assert np.isnan(worst) if np.isnan(wrong) else worst > bundle.manifest.golden.tolerance[precision]


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("bundle", ["network"], indirect=True)
def test_what_a_microcontroller_needs(bundle: Bundle) -> None:
    """The operators are all of the file; with an arena that is smaller it cannot be run."""
    done = run(*with_tflite_micro("int8", bundle.path, bundle.path))
    assert set(re.findall(r"Add\w+", done.stdout)) == {
        "AddConcatenation", "AddConv2D", "AddDepthwiseConv2D", "AddDequantize", "AddFullyConnected", "AddMean",
        "AddQuantize", "AddReduceMax",
    }  # fmt: skip
    (arena,) = re.findall(r"arena: ([\d,]+) bytes", done.stdout)
    program = "from tflite_micro.python.tflite_micro.runtime import Interpreter; import sys;"
    program += "Interpreter.from_file(sys.argv[1], arena_size=int(sys.argv[2]))"
    needed, model = int(arena.replace(",", "")), bundle.path / "model_int8.tflite"
    # the interpreter itself, which is not counted, takes some
    assert run(sys.executable, "-c", program, model, needed + 4096).returncode == 0
    assert run(sys.executable, "-c", program, model, needed - 1024).returncode != 0


def recording(place: Path, n_samples: int, channels: int = 1, subtype: str = "PCM_16") -> Path:
    soundfile.write(place, listening.sound(n_samples, channels), listening.RATE, subtype=subtype)
    return place


JAVASCRIPT = """
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { Bundle } from %s;
const [folder, model, samples, options] = process.argv.slice(2);
const bundle = await Bundle.open((name) => readFile(`${folder}/${name}`), readFileSync(model));
const heard = bundle.detect(new Float32Array(new Uint8Array(readFileSync(samples)).buffer), JSON.parse(options));
console.log(JSON.stringify(heard));
"""


@pytest.mark.parametrize("bundle", ["small"], indirect=True)
@pytest.mark.parametrize("overlap", [0, 0.25])
@pytest.mark.parametrize("length", [700, listening.WINDOW, 4 * listening.WINDOW + 511, 4 * listening.WINDOW + 512])
def test_javascript_detects_what_the_wheel_does(
    length: int, overlap: float, bundle: Bundle, model_wasm: Path, tmp_path: Path
) -> None:
    with_node(bundle.path, model_wasm)
    path = recording(tmp_path / "r.wav", length, subtype="FLOAT")
    soundfile.read(path, dtype="float32")[0].tofile(tmp_path / "r.f32")
    program = tmp_path / "detect.mjs"
    program.write_text(JAVASCRIPT % json.dumps((EXAMPLES / "browser" / "bundle.mjs").as_uri()), encoding="utf-8")
    for top_n, min_score in ((3, None), (9, 0.0)):
        options = json.dumps({"overlap": overlap, "topN": top_n, "minScore": min_score})
        done = run("node", program, bundle.path, model_wasm, tmp_path / "r.f32", options)
        assert done.returncode == 0, done.stderr
        expected = list(bundle.analyze(path, top_n, overlap, min_score))
        heard = json.loads(done.stdout)
        assert len(heard) == len(expected)
        for found, right in zip(heard, expected, strict=True):
            score = found.pop("score")
            assert found == {name: value for name, value in vars(right).items() if name in found} and len(found) == 6
            assert score == pytest.approx(right.score, abs=listening.TOLERANCE)
    assert expected


@pytest.mark.parametrize("bundle", ["small"], indirect=True)
def test_javascript_takes_no_overlap_that_does_not_end(bundle: Bundle, model_wasm: Path, tmp_path: Path) -> None:
    with_node(bundle.path, model_wasm)
    program, samples = tmp_path / "detect.mjs", tmp_path / "r.f32"
    program.write_text(JAVASCRIPT % json.dumps((EXAMPLES / "browser" / "bundle.mjs").as_uri()), encoding="utf-8")
    np.zeros(3 * listening.WINDOW, np.float32).tofile(samples)
    for overlap in (int(bundle.frontend.window_seconds), -1, "much"):
        done = run("node", program, bundle.path, model_wasm, samples, json.dumps({"overlap": overlap}))
        assert done.returncode != 0 and f"an overlap of {overlap} s is not at least 0" in done.stderr
    samples.write_bytes(b"")
    done = run("node", program, bundle.path, model_wasm, samples, "{}")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("bundle", ["small"], indirect=True)
def test_javascript_refuses_what_is_damaged(bundle: Bundle, model_wasm: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle.path, tmp_path / "bundle")
    (other / "labels.csv").write_bytes((other / "labels.csv").read_bytes().replace(b"Gull", b"Bull"))
    done = run(*with_node(other, model_wasm))
    assert done.returncode != 0 and "labels.csv does not match SHA256SUMS" in done.stderr
    shutil.copy(other / "model_int8.tflite", other / "model.tflite")
    shutil.copy(bundle.path / "labels.csv", other / "labels.csv")
    write_checksums(other)
    done = run(*with_node(other, model_wasm))
    assert done.returncode != 0 and "model.wasm was not made from this bundle's model" in done.stderr


@pytest.fixture
def served() -> Iterator[str]:
    """The checkout and everything else of this machine's, over HTTP on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory="/")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


DRIVER = """<!doctype html><pre id="seen"></pre><iframe></iframe><script type="module">
const frame = document.querySelector("iframe"), seen = document.querySelector("#seen");
const until = async (ready) => { while (!ready()) await new Promise((resolve) => setTimeout(resolve, 20)); };
frame.src = "%(page)s";
await new Promise((resolve) => frame.addEventListener("load", resolve));
const $ = (selector) => frame.contentDocument.querySelector(selector);
await until(() => !$("#status").textContent.startsWith("Opening"));
seen.append($("#status").textContent, "\\n");
if (!$("#recording").disabled) {
  const files = new DataTransfer();
  files.items.add(new File([await (await fetch("%(recording)s")).arrayBuffer()], "garden.wav"));
  $("#recording").files = files.files;
  $("#recording").dispatchEvent(new Event("change"));
  await until(() => $("#status").textContent.includes("garden.wav"));
  for (const row of $("tbody").rows) seen.append([...row.cells].map((cell) => cell.textContent).join("\\t"), "\\n");
}
seen.append("done");
</script>"""


def browsed(url: str, place: Path) -> list[str]:
    """The lines that the driver leaves on its page, in Chromium."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        crates.unavailable("BROWSER", "the page is not tested in a browser: there is no chromium here")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=60000")
    done = run(program, *flags, f"--user-data-dir={place / 'profile'}", "--dump-dom", f"{url}{place / 'driver.html'}")
    found = re.search(r'<pre id="seen">(.*)done</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout + done.stderr
    return found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["small"], indirect=True)
def test_the_page(bundle: Bundle, model_wasm: Path, served: str, tmp_path: Path) -> None:
    """As somebody opens it, and gives it a recording: the golden windows agree, and the table is the wheel's."""
    path = recording(tmp_path / "r.wav", 4 * listening.WINDOW, channels=2)
    page = f"{EXAMPLES / 'browser' / 'index.html'}?bundle={bundle.path}&model={model_wasm}"
    (tmp_path / "driver.html").write_text(DRIVER % {"page": page, "recording": path}, encoding="utf-8")
    about, *rows = browsed(served, tmp_path)
    assert about.startswith("labous-test 0.1.0. The golden windows agree: logits within ")
    expected = list(bundle.analyze(path))
    assert len(rows) == len(expected) > 3
    for row, right in zip(rows, expected, strict=True):
        *told, score = row.split("\t")
        assert told == [f"{right.start:.2f}", f"{right.end:.2f}", right.common_name, right.french_name]
        assert float(score) == pytest.approx(right.score, abs=0.011)
    with np.load(bundle.path / "golden" / "golden.npz") as archive:
        golden = dict(archive)
    golden["mel"][0, 3, 3] += 0.01
    other = shutil.copytree(bundle.path, tmp_path / "bundle")
    np.savez(other / "golden" / "golden.npz", **golden)
    write_checksums(other)
    page = page.replace(str(bundle.path), str(other), 1)
    (tmp_path / "driver.html").write_text(DRIVER % {"page": page, "recording": path}, encoding="utf-8")
    (refused,) = browsed(served, tmp_path)
    assert refused.startswith("Error: mel lies 0.0")


@pytest.fixture(scope="module")
def rust() -> Path:
    return crates.program(EXAMPLES / "rust", "analyze-example")


@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["small", NETWORK], indirect=True)
@pytest.mark.parametrize("model", ["onnx", "float32"])
@pytest.mark.parametrize("options", [{}, {"overlap": 0.25, "top_n": 9, "min_score": 0.0}], ids=["plain", "all"])
def test_rust_prints_what_labous_analyze_prints(
    options: dict[str, float], model: str, bundle: Bundle, rust: Path, tmp_path: Path
) -> None:
    """tract runs the ONNX twin and the .tflite itself."""
    forms = [(5, 1, "PCM_16"), (2.6, 3, "PCM_24"), (1, 2, "PCM_32"), (0.4, 2, "FLOAT"), (3.01, 1, "FLOAT")]
    paths = [
        recording(
            tmp_path / f"{i} «a\u200bb» é\u0301\U0001f426.wav", int(windows * listening.WINDOW), channels, subtype
        )
        for i, (windows, channels, subtype) in enumerate(forms)
    ]
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    given = [f"{path.parent}//./{path.name}" for path in paths]
    done = run(rust, "--model", model, *words, bundle.path, *given)
    assert (done.returncode, done.stderr) == (0, "")
    expected = [line for path in paths for line in listening.wheel_lines(bundle, path, **options)]
    listening.compare(done.stdout, expected)
    assert len(expected) > 10


@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["small"], indirect=True)
def test_what_rust_refuses(bundle: Bundle, rust: Path, tmp_path: Path) -> None:
    """In a sentence, after which the next recording is heard."""
    good = recording(tmp_path / "good.wav", 2 * listening.WINDOW)
    broken, still, slow, nan = (tmp_path / f"{name}.wav" for name in ("broken", "still", "slow", "nan"))
    broken.write_bytes(good.read_bytes()[:-5000])
    soundfile.write(still, np.zeros(listening.WINDOW), listening.RATE)
    soundfile.write(slow, listening.sound(listening.WINDOW), 8000)
    soundfile.write(nan, np.full(listening.WINDOW, np.nan), listening.RATE, subtype="FLOAT")
    bad = {broken: "cut short or damaged", still: "silent", slow: "convert it: ffmpeg", nan: "not finite"}
    done = run(rust, bundle.path, *bad, tmp_path / "none.wav", good)
    told = done.stderr.splitlines()
    assert done.returncode == 1 and len(told) == 5
    for line, (path, reason) in zip(told, {**bad, tmp_path / "none.wav": "cannot be read"}.items(), strict=True):
        assert line.startswith(f'Recording "{path}": it ') and reason in line
    listening.compare(done.stdout, listening.wheel_lines(bundle, good))
    other = shutil.copytree(bundle.path, tmp_path / "bundle")
    (other / "melspec.wasm").write_bytes(b"\0asm")
    done = run(rust, other, good)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f'bundle "{other}": melspec.wasm does not match SHA256SUMS.\n'
    for words in (["--top-n", "0"], ["--overlap", "-1"], ["--min-score", "2"], ["--best"], ["--model", "int4"]):
        done = run(rust, *words, bundle.path, good)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("bundle", ["network"], indirect=True)
def test_what_tract_tflite_lacks(bundle: Bundle, rust: Path, tmp_path: Path) -> None:
    """docs/engines.md says so; with a tract that has it, the page is out of date."""
    good = recording(tmp_path / "good.wav", 2 * listening.WINDOW)
    done = run(rust, "--model", "int8", bundle.path, good)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("tract cannot run model_int8.tflite: Unsupported: ") and "QUANTIZE" in done.stderr
