"""What is closed, collected or freed does no harm."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from front_ends import PLAIN

from labous.errors import EngineError
from labous.frontend import Frontend
from labous.mel import MelSpectrogram, MelStream, NativeEngine, Output, WasmEngine

SAMPLES = np.random.default_rng(11).standard_normal(PLAIN.window_samples).astype(np.float32)

# Objects in a cycle are collected by whichever thread makes objects at the time.
COLLECTED_ELSEWHERE = """
import sys, threading
import numpy as np
from front_ends import PLAIN
from labous.mel import MelSpectrogram, MelStream, WasmEngine

engine = WasmEngine()
samples = np.random.default_rng(1).standard_normal(8000).astype(np.float32)
mel = MelSpectrogram(PLAIN, engine)
wanted = mel(samples)
over = threading.Event()

def make_objects():
    while not over.is_set():
        for _ in range(3000):
            cycle = {}
            cycle["itself"] = cycle

class Holder:
    def __init__(self):
        self.mel, self.stream = MelSpectrogram(PLAIN, engine), MelStream(PLAIN, 500, engine)
        self.callback = self.use

    def use(self):
        self.mel(samples[:2000])
        self.stream.push(samples)

thread = threading.Thread(target=make_objects)
thread.start()
try:
    for _ in range(100):
        Holder().use()
        assert np.array_equal(mel(samples), wanted)
finally:
    over.set()
    thread.join()
print("done", engine.memory_bytes)
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["", "time_limit=30"])
def test_garbage_collected_in_another_thread_leaves_the_engine_alone(built: dict, limit: str) -> None:
    program = COLLECTED_ELSEWHERE.replace("WasmEngine()", f"WasmEngine({limit})")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=__file__.rpartition("/")[0]
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("done ") and int(done.stdout.split()[1]) < 1 << 30


@pytest.mark.parametrize("kind", ["wasm", "native"])
def test_what_is_closed_is_refused_and_touches_nothing(kind: str, wasm: WasmEngine, native: NativeEngine) -> None:
    engine = wasm if kind == "wasm" else native
    other = Frontend.from_dict({**PLAIN.to_dict(), "n_mels": 40})
    closed, stream = MelSpectrogram(PLAIN, engine), MelStream(PLAIN, 16_000, engine)
    closed(SAMPLES)
    stream.push(SAMPLES[:1000])
    for _ in range(2):
        closed.close()
        stream.close()
    innocent = [MelSpectrogram(other, engine) for _ in range(4)]
    wanted = [mel(SAMPLES) for mel in innocent]
    for use in (
        lambda: closed(SAMPLES),
        lambda: closed.power(SAMPLES[:2000]),
        closed.filters,
        closed.window,
        lambda: stream.push(SAMPLES),
        stream.reset,
    ):
        with pytest.raises(EngineError, match=r"closed|not a living"):
            use()
    assert all(np.array_equal(mel(SAMPLES), before) for mel, before in zip(innocent, wanted, strict=True))


def test_what_is_not_to_be_freed_is_left_alone(built: dict) -> None:
    engine = WasmEngine(built["wasm"].path.read_bytes(), time_limit=10)
    first, second = engine.allocate(64), engine.allocate(64)
    for address in (first, first, 0, 1, 8, 17, second + 16, second - 8, 0x7FFFFFF0, -16):
        engine.call("melspec_free", address)
    third, fourth = engine.allocate(200_000), engine.allocate(64)
    places = sorted([(second, 64), (third, 200_000), (fourth, 64)])
    assert all(place + size <= after for (place, size), (after, _) in itertools.pairwise(places))
    assert MelSpectrogram(PLAIN, engine)(SAMPLES).shape[0] == PLAIN.n_mels


@pytest.mark.slow
def test_memory_ends_cleanly_at_four_gigabytes(built: dict) -> None:
    engine = WasmEngine(built["wasm"].path.read_bytes(), memory_limit=1 << 32, time_limit=60)
    size, found = 0x7FFFFFFF, []
    while size >= 16:
        address = engine.call("melspec_alloc", size) & 0xFFFFFFFF
        if address:
            found.append((address, size))
        else:
            size //= 2
    found.sort()
    assert all(place + size <= after for (place, size), (after, _) in itertools.pairwise(found))
    assert found[-1][0] + found[-1][1] <= 0xFFFF0000


def test_a_stream_outlives_nothing_that_it_needs(native: NativeEngine, wasm: WasmEngine) -> None:
    for engine in (native, wasm):
        for _ in range(3):
            stream = MelStream(PLAIN, 32_000, engine, Output.DECIBELS)
            assert len(stream.push(SAMPLES)) == 1
            del stream
        assert len(MelStream(PLAIN, 32_000, engine).push(SAMPLES)) == 1
