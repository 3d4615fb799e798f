"""What every build of the mel stage is asked, and what melspec.wasm with SIMD128 answers.

The questions and answers are the bytes that driver.c describes, so that a board in an emulator starts once for all.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings

from labous.frontend import Frontend
from labous.mel import Output, WasmEngine, abi, law
from labous.power_law import PowerLawChannel
from tests.melspec.front_ends import PLAIN, front_ends_and_samples
from tests.melspec.laws import BIRDNET
from tests.parity import golden
from training.features import conf_frontends
from training.signals import hard_signals

GRID_CASES = 150
SECONDS = 2
LEVELS = (1e-45, 1e-38, 1e-30, 1e-20, 1e15, 3e38)
"""Full scales whose samples, powers or both are subnormal in float32, or all but overflow."""

_LAW = 1000  # driver.c's LAW


@dataclasses.dataclass(frozen=True)
class Stream:
    """How samples go through a stream: in chunks of so many."""

    output: Output
    window_samples: int
    step_samples: int
    chunk: int


@dataclasses.dataclass(frozen=True)
class Case:
    """A configuration, as its bytes, and samples (float32 [n_samples]) to run through it, and perhaps to stream.

    Where there is a law, it is that which they run through, and the configuration says so to driver.c.
    """

    name: str
    config: bytes
    samples: np.ndarray
    stream: Stream | None = None
    law: bytes = b""
    first_sample: int = 0  # of a law's frames


Part = tuple[str, np.ndarray]
"""A piece of an answer, and what it is: a code (int32 [1]), the window (float64) or anything else (float32)."""


def cases() -> list[Case]:
    """The same ones every time: hard signals, committed clips, the grid of front ends, extreme levels, refusals."""
    return [*_of_conf(), *_grid(), *_extremes(), *_refusals(), *_laws()]


def _of_conf() -> Iterator[Case]:
    clips = {f"golden {name}": clip.astype(np.float32) / 32768 for name, clip in golden.load("inputs").items()}
    for name, frontend in conf_frontends().items():
        signals = hard_signals(frontend.sample_rate, SECONDS * frontend.sample_rate)
        for signal, samples in {**signals, **clips}.items():
            stream = Stream(Output.SCALED, frontend.sample_rate, frontend.sample_rate // 4, 4096)
            yield Case(f"{name}, {signal}", abi.pack_config(frontend), samples, stream if signal == "mixture" else None)


def _grid() -> list[Case]:
    found: list[Case] = []

    @settings(
        max_examples=GRID_CASES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=front_ends_and_samples())
    def collect(case: tuple[Frontend, np.ndarray]) -> None:
        frontend, samples = case
        i, n = len(found), samples.size
        window = max(1 if frontend.center else frontend.n_fft, n // 2)
        step = (frontend.hop_length, 3 * frontend.hop_length // 2, max(1, window // 3))[i % 3]
        stream = Stream(Output(i // 3 % 3), window, step, (n // 7 + 1, 480, n)[i % 3])
        found.append(Case(f"grid {i} ({frontend})", abi.pack_config(frontend), samples, stream))

    collect()
    return found


def _extremes() -> Iterator[Case]:
    magnitude = dataclasses.replace(PLAIN, power=1.0, amin=1e-30, center=True)
    wave = np.cos(0.1 * np.arange(4096.0) ** 1.2)
    for level in LEVELS:
        for frontend in (PLAIN, magnitude):
            samples = (level * wave).astype(np.float32)
            yield Case(f"level {level}, power {frontend.power}", abi.pack_config(frontend), samples)


def _refusals() -> Iterator[Case]:
    samples, config = np.ones(4096, np.float32), abi.pack_config(PLAIN)
    yield Case("n_fft 1000", config[:64] + struct.pack("<i", 1000) + config[68:], samples)
    yield Case("fewer samples than a frame", config, samples[:1023], Stream(Output.POWER, 1024, 500, 1023))
    yield Case("windows shorter than a frame", config, samples, Stream(Output.POWER, 1023, 500, 1000))
    for position in (0, 2049, 4095):
        bad = samples.copy()
        bad[position:] = np.nan
        yield Case(f"NaN from sample {position} on", config, bad, Stream(Output.POWER, 2000, 500, 1000))
    infinite = samples.copy()
    infinite[1234] = -np.inf
    yield Case("minus infinity", config, infinite)


def _laws() -> Iterator[Case]:
    before = bytearray(112)
    struct.pack_into("<i", before, 56, _LAW)

    def case(name: str, packed: bytes, samples: np.ndarray, first_sample: int = 0) -> Case:
        return Case(f"law: {name}", bytes(before), samples, law=packed, first_sample=first_sample)

    config = law.pack_config(BIRDNET)
    signals = hard_signals(BIRDNET.sample_rate, BIRDNET.sample_rate // 2)
    for name, samples in signals.items():
        yield case(name, config, samples)
    yield case("a shift", config, signals["mixture"], 37)
    for n_fft in (256, 512, 1024, 2048, 4096):
        for exponent in (1e-3, 1 / 3, 1.0):
            channel = PowerLawChannel(n_fft=n_fft, hop_length=100, f_min=0.0, f_max=24000.0, exponent=exponent)
            changed = dataclasses.replace(BIRDNET, channels=(channel,))
            yield case(f"n_fft {n_fft}, {exponent}", law.pack_config(changed), signals["mixture"][:6000])
    for level in LEVELS:
        yield case(f"level {level}", config, (level * np.cos(0.1 * np.arange(4096.0) ** 1.2)).astype(np.float32))
    bare = law.pack_config(dataclasses.replace(BIRDNET, peak_offset=0.0, peak_epsilon=1e-15, peak_scale=1e-12))
    rise = np.geomspace(1e-45, 1, 9000)
    for level in (1e-38, 1e-20, 1e-12, 1.0, 3e38):
        yield case(f"from nothing to {level}", bare, (level * rise).astype(np.float32))
    yield case("fewer samples than a frame", config, signals["mixture"][:2047])
    yield case("six channels", config[:36] + struct.pack("<i", 6) + config[40:], signals["mixture"][:2048])
    bad = signals["mixture"].copy()
    bad[3000:] = np.nan
    yield case("NaN from sample 3000 on", config, bad)


def questions(asked: list[Case]) -> bytes:
    """What driver.c reads."""
    parts = []
    for case in asked:
        stream = dataclasses.astuple(case.stream) if case.stream else (case.first_sample, 0, 0, 0)
        parts += [case.config, case.law, struct.pack("<5i", case.samples.size, *stream), case.samples.tobytes()]
    return b"".join(parts)


class _Answer:
    """What driver.c writes for one case, piece by piece, by a WebAssembly engine."""

    def __init__(self, engine: WasmEngine, case: Case) -> None:
        self.parts: list[Part] = []
        self._engine = engine
        if case.law:
            self._law(case)
            return
        self._n_fft, self._n_mels = (struct.unpack_from("<i", case.config, offset)[0] for offset in (64, 92))
        config, samples = self._put(case.config), self._put(case.samples.tobytes())
        plan = self._create("create", "melspec_create", config)
        if plan != 0:
            self._run(plan, samples, case.samples.size)
        if plan != 0 and case.stream:
            self._stream(plan, samples, case.samples.size, case.stream)
        for address in (config, samples):
            engine.call("melspec_free", address)
        assert engine.call("melspec_destroy", plan) == 0

    def _law(self, case: Case) -> None:
        config, samples = self._put(case.law), self._put(case.samples.tobytes())
        made = self._create("create", "melspec_law_create", config)
        if made != 0:
            n_mels, n_channels = struct.unpack_from("<2i", case.law, 32)
            for channel in range(n_channels):
                weights = n_mels * (1 + struct.unpack_from("<i", case.law, 40 + 32 * channel + 24)[0] // 2)
                out = self._engine.allocate(4 * weights)
                self._values("filters", out, self._code("filters", "melspec_law_filters", made, channel, out, weights))
                self._engine.call("melspec_free", out)
            capacity = self._engine.call("melspec_law_bytes", made, case.samples.size - case.first_sample) // 4
            out = self._engine.allocate(4 * max(capacity, 1))
            run = (made, samples, case.samples.size, case.first_sample, out, capacity)
            self._values("law", out, self._code("law", "melspec_law_run", *run) * n_mels * n_channels)
            self._code("bad_sample", "melspec_law_bad_sample", made)
            self._engine.call("melspec_free", out)
        for address in (config, samples):
            self._engine.call("melspec_free", address)
        assert self._engine.call("melspec_law_destroy", made) == 0

    def _put(self, data: bytes) -> int:
        address = self._engine.allocate(len(data))
        self._engine.view(address, (len(data),), np.uint8)[:] = np.frombuffer(data, np.uint8)
        return address

    def _code(self, what: str, function: str, *arguments: int) -> int:
        code = self._engine.call(function, *arguments)
        self.parts.append((f"code of {what}", np.array([code], np.int32)))
        return code

    def _values(self, what: str, address: int, count: int, dtype: type = np.float32) -> None:
        if count > 0:
            self.parts.append((what, self._engine.view(address, (count,), dtype).copy()))

    def _create(self, what: str, function: str, *arguments: int) -> int:
        place = self._put(b"\xff" * 4)
        self._code(what, function, *arguments, place)
        made = int(self._engine.view(place, (1,), np.uint32)[0])
        self._engine.call("melspec_free", place)
        return made

    def _run(self, plan: int, samples: int, n_samples: int) -> None:
        capacity = self._engine.call("melspec_bytes", plan, n_samples) // 4
        weights = self._n_mels * (1 + self._n_fft // 2)
        out = self._engine.allocate(max(4 * capacity, 4 * weights, 8 * self._n_fft))
        self._values("window", out, self._code("window", "melspec_window", plan, out, self._n_fft), np.float64)
        self._values("filters", out, self._code("filters", "melspec_filters", plan, out, weights))
        for output in Output:
            what = output.name.lower()
            frames = self._code(what, "melspec_run", plan, output, samples, n_samples, out, capacity)
            self._values(what, out, frames * self._n_mels)
        self._engine.call("melspec_free", out)
        self._code("bad_sample", "melspec_bad_sample", plan)

    def _stream(self, plan: int, samples: int, n_samples: int, ask: Stream) -> None:
        settings = (ask.output, ask.window_samples, ask.step_samples)
        stream = self._create("stream_create", "melspec_stream_create", plan, *settings)
        if stream == 0:
            return
        pushed = 0
        while pushed < n_samples:
            chunk = min(ask.chunk, n_samples - pushed)
            taken = self._code("stream_push", "melspec_stream_push", stream, samples + 4 * pushed, chunk)
            if taken <= 0:
                break
            pushed += taken
            while (frames := self._code("stream_pull", "melspec_stream_pull", stream)) > 0:
                address = self._engine.call("melspec_stream_window", stream)
                self._values("window of the stream", address, frames * self._n_mels)
        self._code("stream_bad_sample", "melspec_stream_bad_sample", stream)
        self._code("stream_reset", "melspec_stream_reset", stream)
        chunk = self._put(abi.CHUNK.pack(stream, samples, n_samples))
        while (frames := self._code("stream_run", "melspec_stream_run", chunk)) > 0:
            address = self._engine.call("melspec_stream_window", stream)
            self._values("window of the stream", address, frames * self._n_mels)
        left = self._engine.view(chunk, (3,), np.int32)[2:].copy()
        self.parts.append(("samples left by stream_run", left))
        self._engine.call("melspec_free", chunk)
        self._engine.call("melspec_stream_destroy", stream)


def answer(engine: WasmEngine, case: Case) -> list[Part]:
    """What driver.c writes for one case, by a WebAssembly engine."""
    return _Answer(engine, case).parts


def differences(asked: list[Case], expected: list[list[Part]], given: bytes) -> list[str]:
    """Where a build's answers are not the same bits, a line each; none after a wrong code, which shifts the rest."""
    found: list[str] = []
    at = 0
    for case, parts in zip(asked, expected, strict=True):
        for what, wanted in parts:
            piece, at = given[at : at + wanted.nbytes], at + wanted.nbytes
            if piece == wanted.tobytes():
                continue
            if len(piece) < wanted.nbytes:
                return [*found, f"{case.name}: {what}: the answers end here"]
            seen, bits = np.frombuffer(piece, wanted.dtype), f"i{wanted.itemsize}"
            where = np.flatnonzero(seen.view(bits) != wanted.view(bits))
            found.append(
                f"{case.name}: {what}: {where.size} of {wanted.size} differ, "
                f"at {where[0]} {seen[where[0]]!r} instead of {wanted[where[0]]!r}"
            )
            if wanted.dtype == np.int32:
                return found
    return found if at == len(given) else [*found, f"{len(given)} bytes of answers instead of {at}"]
