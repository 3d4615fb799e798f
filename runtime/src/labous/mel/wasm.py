"""The mel stage in WebAssembly, run by Wasmtime: what a device uses."""

from __future__ import annotations

import collections
import math
import threading
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from labous.errors import EngineError
from labous.frontend import Frontend
from labous.mel import abi, compiled
from labous.mel.law import WasmLaw
from labous.mel.watchdog import OutOfTime, watchdog
from labous.power_law import PowerLawFrontend

MEMORY_LIMIT = 1 << 30
"""Bytes a module may claim unless told otherwise: more than an hour of 32 kHz audio in one array."""

TIME_LIMIT = 60.0
"""Seconds that a call into a stranger's module may take unless told otherwise: boards do an hour of audio in less."""

_TABLE_LIMIT = 1 << 16  # functions that a module may keep in its table
_PACKAGED = Path(__file__).parents[1] / "melspec.wasm"  # importlib.resources takes a millisecond to say the same


def packaged_module() -> bytes:
    """The melspec.wasm that came with this package.

    Raises:
        EngineError: it is not there (a source checkout that was never built).
    """
    try:
        return _PACKAGED.read_bytes()
    except FileNotFoundError as error:
        raise EngineError("labous/melspec.wasm is missing: build it with `python melspec_cpp/build.py`.") from error


def _is_packaged(module: bytes) -> bool:
    try:
        return _PACKAGED.read_bytes() == module
    except OSError:
        return False


class WasmEngine:
    """One instance of a mel module with a memory of its own. Used by one thread at a time.

    Args:
        module: bytes of a melspec.wasm; by default the packaged one.
        memory_limit: bytes the module's memory may grow to.
        time_limit: seconds that a call may take; ``math.inf`` for any time. By default the packaged module, which is
            known to come to an end, has no limit, and any other has ``TIME_LIMIT``. A module with a limit is about a
            quarter slower. A call that passes it is stopped, and as that may be halfway through a change to the
            module's memory, this object then refuses any further call.

    Raises:
        EngineError: Wasmtime is missing, or the module is not a mel module of this ABI version.
    """

    def __init__(
        self, module: bytes | None = None, memory_limit: int = MEMORY_LIMIT, time_limit: float | None = None
    ) -> None:
        self._wasmtime = compiled.import_wasmtime()
        if time_limit is None:
            time_limit = math.inf if module is None or _is_packaged(module) else TIME_LIMIT
        module = packaged_module() if module is None else bytes(module)
        if not time_limit > 0:
            raise ValueError(f"time_limit is {time_limit}; it must be greater than 0 (math.inf for none)")
        self._time_limit = time_limit
        self._interruptible = time_limit < threading.TIMEOUT_MAX
        self.stopped = ""
        """The sentence that says why the engine takes no further call; empty while it does."""
        self.abandoned: collections.deque[tuple[str, int]] = collections.deque()
        """What garbage, which is collected in any thread at any time, leaves to free: functions and addresses."""
        self._engine, loaded = compiled.load(module, self._interruptible)
        self._store = self._wasmtime.Store(self._engine)
        self._store.set_limits(memory_size=memory_limit, table_elements=_TABLE_LIMIT, instances=1, tables=1, memories=1)
        instance = self._run("its start", self._wasmtime.Instance, self._store, loaded, [])
        self._exports = instance.exports(self._store)
        self._memory = self._exports["memory"]
        abi.check_module(self.call("melspec_abi_version"), self.call("melspec_config_size"), "The mel module")

    def plan(self, frontend: Frontend) -> WasmPlan:
        """The module, set up for one front end.

        Raises:
            FrontendError: the module cannot compute it.
        """
        return WasmPlan(self, frontend)

    def law(self, frontend: PowerLawFrontend) -> WasmLaw:
        """The module, set up for one power-law front end.

        Raises:
            EngineError: the module is older than these.
            FrontendError: it cannot compute it.
        """
        return WasmLaw(self, frontend)

    def has(self, names: Iterable[str]) -> bool:
        """Whether the module exports all of these functions."""
        return all(name in self._exports for name in names)

    def stream(self, frontend: Frontend, output: abi.Output, step_samples: int) -> WasmStream:
        """The module, set up for overlapping windows of an endless signal.

        Raises:
            FrontendError: the module cannot compute the front end.
            SamplesError: the window or the step is impossible.
        """
        return WasmStream(self, frontend, output, step_samples)

    @property
    def memory_bytes(self) -> int:
        """Size of the module's memory, which only ever grows."""
        return int(self._memory.data_len(self._store))

    def call(self, name: str, *arguments: int) -> int:
        """Calls an exported function.

        Raises:
            EngineError: it trapped, or took longer than the time limit.
        """
        result = self._run(name, self._exports[name], self._store, *arguments)
        return 0 if result is None else int(result)

    def _run(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.stopped:
            raise EngineError(self.stopped)
        try:
            if not self._interruptible:
                return function(*arguments)
            return watchdog.call(self._store, self._engine, self._time_limit, function, *arguments)
        except OutOfTime as error:
            self.stopped = (
                f"The mel module was stopped because it spent more than {self._time_limit:g} s in {what}: make a "
                "new WasmEngine, of another file or with a longer time_limit."
            )
            raise EngineError(self.stopped) from error
        except (self._wasmtime.Trap, self._wasmtime.WasmtimeError) as error:
            verb = "trapped" if isinstance(error, self._wasmtime.Trap) else "failed"
            raise EngineError(f"The mel module {verb} in {what}: {str(error).strip().splitlines()[-1]}.") from error

    def allocate(self, size: int) -> int:
        """Address of size bytes inside the module.

        Raises:
            EngineError: its memory limit is reached.
        """
        self.free_abandoned()
        address = self.call("melspec_alloc", size) if size < 1 << 31 else 0
        if address == 0:
            raise EngineError(
                f"The mel module's memory has no room for {size} bytes more: pass the samples in shorter parts, "
                "or raise memory_limit."
            )
        return address & 0xFFFFFFFF

    def free_abandoned(self) -> None:
        """Makes the calls that are due, in the thread that uses the engine."""
        while self.abandoned and not self.stopped:
            self.call(*self.abandoned.popleft())

    def view(self, address: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An array over the module's memory, valid until the next call that may grow it.

        Raises:
            EngineError: it would reach past the memory's end, because the module gave a wrong address or size.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if not 0 <= address <= self.memory_bytes - size:
            raise EngineError("The mel module points outside its own memory; it is faulty: use another file.")
        buffer = self._memory.get_buffer_ptr(self._store, size, address)
        return np.frombuffer(buffer, dtype=dtype).reshape(shape)

    def check(self, code: int) -> int:
        """The code itself, or the error that a negative one stands for."""
        if code >= 0:
            return code
        address = self.call("melspec_message", code) & 0xFFFFFFFF
        message = bytes(self.view(address, (200,), np.uint8)).partition(b"\0")[0]
        raise abi.refusal(code, message.decode("ascii", "replace"))


class _KeptViews:
    """Arrays over places in a module's memory, made anew when it has grown: making one costs some microseconds."""

    def __init__(self, engine: WasmEngine, *places: tuple[int, tuple[int, ...], type]) -> None:
        self._engine, self._places = engine, places
        self._memory_bytes = -1
        self._arrays: list[np.ndarray] = []

    def __call__(self) -> list[np.ndarray]:
        memory_bytes = self._engine.memory_bytes
        if memory_bytes != self._memory_bytes:
            self._arrays = [self._engine.view(*place) for place in self._places]
            self._memory_bytes = memory_bytes
        return self._arrays


class WasmPlan:
    """A front end inside a module's memory, with buffers that are kept from run to run."""

    def __init__(self, engine: WasmEngine, frontend: Frontend) -> None:
        self.frontend = frontend
        self._engine = engine
        config = engine.allocate(abi.CONFIG_SIZE + 8)
        try:
            packed = abi.pack_config(frontend)
            engine.view(config, (len(packed),), np.uint8)[:] = np.frombuffer(packed, np.uint8)
            engine.check(engine.call("melspec_create", config, config + abi.CONFIG_SIZE))
            self.handle = int(engine.view(config + abi.CONFIG_SIZE, (1,), np.uint32)[0])
        finally:
            engine.call("melspec_free", config)
        self._buffers: dict[str, tuple[int, int]] = {}  # name → address, bytes
        self._n_samples = 0  # that the job is laid ready for; 0 where it is not
        self._closed = False
        self._finalizer = weakref.finalize(self, _abandon, engine.abandoned, self.handle, self._buffers)
        self._finalizer.atexit = False

    def close(self) -> None:
        """Gives the plan's memory back to the module; the plan cannot be used again."""
        self._finalizer()
        self._engine.free_abandoned()
        self._closed, self._n_samples = True, 0

    def run(self, output: abi.Output, samples: np.ndarray) -> np.ndarray:
        """float32 [n_mels, n_frames] from float32 [n_samples]; errors as in :class:`labous.mel.MelSpectrogram`."""
        samples = abi.float32_samples(samples, self.frontend)
        if samples.size != self._n_samples:
            self._set_up(samples.size)
        job, into, _ = self._views()
        job[abi.JOB_OUTPUT] = output
        into[:] = samples
        code = self._engine.call("melspec_run_job", self._job)
        if code == abi.ERROR_NOT_FINITE:
            position = self._engine.call("melspec_bad_sample", self.handle)
            if 0 <= position < samples.size:
                raise abi.not_finite_error(samples, position, self.frontend.sample_rate)
        out = self._views()[2]
        if self._engine.check(code) != out.shape[1]:
            raise EngineError("The mel module gives another number of frames than asked for; it is faulty.")
        return out.copy()

    def _set_up(self, n_samples: int) -> None:
        """Lays the arguments of melspec_run_job ready: a call costs Wasmtime's Python five microseconds an argument."""
        if self._closed:
            raise EngineError("The mel plan is closed: make a new one.")
        size = self._engine.check(self._engine.call("melspec_bytes", self.handle, n_samples))
        if size != 4 * self.frontend.n_mels * self.frontend.frames_of(n_samples):
            raise EngineError(f"The mel module makes {size} bytes of {n_samples} samples; it is faulty.")
        into, out = self.buffer("samples", 4 * n_samples), self.buffer("out", size)
        self._job = self.buffer("job", abi.JOB.size)
        shape = (self.frontend.n_mels, self.frontend.frames_of(n_samples))
        places = (self._job, (abi.JOB.size // 4,), np.int32), (into, (n_samples,), np.float32), (out, shape, np.float32)
        self._views = _KeptViews(self._engine, *places)
        packed = abi.JOB.pack(self.handle, 0, into, n_samples, out, size // 4)
        self._views()[0][:] = np.frombuffer(packed, np.int32)
        self._n_samples = n_samples

    def filters(self) -> np.ndarray:
        """The filter bank, float32 [n_mels, 1 + n_fft // 2]."""
        shape = (self.frontend.n_mels, self.frontend.n_fft // 2 + 1)
        return self._read("melspec_filters", shape, np.float32)

    def window(self) -> np.ndarray:
        """The analysis window, float64 [n_fft]."""
        return self._read("melspec_window", (self.frontend.n_fft,), np.float64)

    def _read(self, function: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        if self._closed:
            raise EngineError("The mel plan is closed: make a new one.")
        count = int(np.prod(shape))
        out = self.buffer("out", count * np.dtype(dtype).itemsize)
        self._engine.check(self._engine.call(function, self.handle, out, count))
        return self._engine.view(out, shape, dtype).copy()

    def buffer(self, name: str, size: int) -> int:
        """Address of at least size bytes, kept under a name until the plan is closed."""
        address, room = self._buffers.get(name, (0, 0))
        if room < size:
            self._n_samples = 0  # the job may name the buffer
            self._engine.call("melspec_free", address)
            self._buffers.pop(name, None)
            address = self._engine.allocate(size)
            self._buffers[name] = (address, size)
        return address


class WasmStream:
    """A stream inside a module's memory, with a plan of its own."""

    def __init__(self, engine: WasmEngine, frontend: Frontend, output: abi.Output, step_samples: int) -> None:
        self.frontend = frontend
        self._engine = engine
        self._closed = False
        self._plan = WasmPlan(engine, frontend)
        self._samples = self._plan.buffer("samples", 4 * frontend.window_samples)
        self._chunk = self._plan.buffer("chunk", abi.CHUNK.size)  # which serves first for the stream's address
        arguments = (self._plan.handle, output, frontend.window_samples, step_samples, self._chunk)
        engine.check(engine.call("melspec_stream_create", *arguments))
        self._handle = int(engine.view(self._chunk, (1,), np.uint32)[0])
        self._window = engine.call("melspec_stream_window", self._handle) & 0xFFFFFFFF
        # before its plan, which refuses to go while it has streams
        self._finalizer = weakref.finalize(self, engine.abandoned.appendleft, ("melspec_stream_destroy", self._handle))
        self._finalizer.atexit = False
        shape = (frontend.n_mels, frontend.n_frames)
        self._views = _KeptViews(
            engine,
            (self._chunk, (abi.CHUNK.size // 4,), np.uint32),
            (self._samples, (frontend.window_samples,), np.float32),
            (self._window, shape, np.float32),
        )

    def run(self, samples: np.ndarray, before: int) -> tuple[int, np.ndarray | None]:
        """Takes what completes a window; as :meth:`labous.mel.engine.MelStreamPlan.run`."""
        if self._closed:
            raise EngineError("The mel stream is closed: make a new one.")
        chunk, into, _ = self._views()
        chunk[:] = self._handle, self._samples, samples.size
        into[: samples.size] = samples
        frames = self._engine.call("melspec_stream_run", self._chunk)
        if frames == abi.ERROR_NOT_FINITE:
            position = self._engine.call("melspec_stream_bad_sample", self._handle)
            if 0 <= position < samples.size:
                raise abi.not_finite_error(samples, position, self.frontend.sample_rate, before)
        self._engine.check(frames)
        chunk, _, window = self._views()
        taken = samples.size - int(chunk[2])
        # none taken, and the caller would ask for ever: every window ends with a sample of its own
        if not 0 < taken <= samples.size or frames not in (0, self.frontend.n_frames):
            raise EngineError("The mel module takes other samples or gives other frames than asked for; it is faulty.")
        return taken, window.copy() if frames else None

    def reset(self) -> None:
        """Forgets all samples."""
        if self._closed:
            raise EngineError("The mel stream is closed: make a new one.")
        self._engine.check(self._engine.call("melspec_stream_reset", self._handle))

    def close(self) -> None:
        """Gives the stream's memory back to the module; it cannot be used again."""
        self._finalizer()
        self._closed = True
        self._plan.close()


def _abandon(abandoned: collections.deque[tuple[str, int]], handle: int, buffers: dict[str, tuple[int, int]]) -> None:
    abandoned.extend(("melspec_free", address) for address, _ in buffers.values())
    buffers.clear()
    abandoned.append(("melspec_destroy", handle))
