"""The mel stage in WebAssembly, run by Wasmtime: what a device uses."""

from __future__ import annotations

import atexit
import functools
import weakref
from importlib import resources
from typing import Any

import numpy as np

from labous.errors import EngineError
from labous.frontend import Frontend
from labous.mel import abi

MEMORY_LIMIT = 1 << 30
"""Bytes a module may claim unless told otherwise: more than an hour of 32 kHz audio in one array."""


def packaged_module() -> bytes:
    """The melspec.wasm that came with this package.

    Raises:
        EngineError: it is not there (a source checkout that was never built).
    """
    try:
        return resources.files("labous").joinpath("melspec.wasm").read_bytes()
    except FileNotFoundError as error:
        raise EngineError("labous/melspec.wasm is missing: build it with `python melspec_cpp/build.py`.") from error


def _wasmtime() -> Any:
    try:
        import wasmtime
    except ImportError as error:
        raise EngineError(f"Wasmtime cannot be imported ({error}): install it with `pip install wasmtime`.") from error
    return wasmtime


@functools.lru_cache(maxsize=4)
def _compiled(module: bytes) -> tuple[Any, Any]:
    """Engine and compiled module; compiling takes tens of milliseconds, so each module is compiled once."""
    wasmtime = _wasmtime()
    atexit.register(_compiled.cache_clear)  # while wasmtime is still whole: it cannot free anything after its modules
    engine = wasmtime.Engine()
    try:
        compiled = wasmtime.Module(engine, module)
    except wasmtime.WasmtimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise EngineError(f"The mel module is not valid WebAssembly: {reason}.") from error
    if compiled.imports:
        names = ", ".join(f"{i.module}.{i.name}" for i in compiled.imports)
        raise EngineError(f"The mel module asks its host for {names}; a mel module imports nothing: use another file.")
    exports = {export.name for export in compiled.exports}
    missing = sorted({*abi.FUNCTIONS, "memory"} - exports)
    if missing:
        raise EngineError(f"The mel module lacks {', '.join(missing)}; it is not a melspec.wasm: use another file.")
    return engine, compiled


class WasmEngine:
    """One instance of a mel module with a memory of its own. Used by one thread at a time.

    Args:
        module: bytes of a melspec.wasm; by default the packaged one.
        memory_limit: bytes the module's memory may grow to.

    Raises:
        EngineError: Wasmtime is missing, or the module is not a mel module of this ABI version.
    """

    def __init__(self, module: bytes | None = None, memory_limit: int = MEMORY_LIMIT) -> None:
        self._wasmtime = _wasmtime()
        engine, compiled = _compiled(packaged_module() if module is None else bytes(module))
        self._store = self._wasmtime.Store(engine)
        self._store.set_limits(memory_size=memory_limit)
        try:
            self._exports = self._wasmtime.Instance(self._store, compiled, []).exports(self._store)
        except self._wasmtime.WasmtimeError as error:
            raise EngineError(f"The mel module cannot be started: {error}.") from error
        self._memory = self._exports["memory"]
        abi.check_module(self.call("melspec_abi_version"), self.call("melspec_config_size"), "The mel module")

    def plan(self, frontend: Frontend) -> WasmPlan:
        """The module, set up for one front end.

        Raises:
            FrontendError: the module cannot compute it.
        """
        return WasmPlan(self, frontend)

    @property
    def memory_bytes(self) -> int:
        """Size of the module's memory, which only ever grows."""
        return int(self._memory.data_len(self._store))

    def call(self, name: str, *arguments: int) -> int:
        """Calls an exported function.

        Raises:
            EngineError: it trapped.
        """
        try:
            result = self._exports[name](self._store, *arguments)
        except (self._wasmtime.Trap, self._wasmtime.WasmtimeError) as error:
            raise EngineError(f"The mel module trapped in {name}: {str(error).strip().splitlines()[-1]}.") from error
        return 0 if result is None else int(result)

    def allocate(self, size: int) -> int:
        """Address of size bytes inside the module.

        Raises:
            EngineError: its memory limit is reached.
        """
        address = self.call("melspec_alloc", size) if size < 1 << 31 else 0
        if address == 0:
            raise EngineError(
                f"The mel module's memory has no room for {size} bytes more: pass the samples in shorter parts, "
                "or raise memory_limit."
            )
        return address & 0xFFFFFFFF

    def view(self, address: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An array over the module's memory, valid until the next call that may grow it."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        buffer = self._memory.get_buffer_ptr(self._store, size, address)
        return np.frombuffer(buffer, dtype=dtype).reshape(shape)

    def check(self, code: int) -> int:
        """The code itself, or the error that a negative one stands for."""
        if code >= 0:
            return code
        address = self.call("melspec_message", code)
        raise abi.refusal(code, bytes(self.view(address, (200,), np.uint8)).partition(b"\0")[0].decode("ascii"))


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
            self._handle = int(engine.view(config + abi.CONFIG_SIZE, (1,), np.uint32)[0])
        finally:
            engine.call("melspec_free", config)
        self._buffers: dict[str, tuple[int, int]] = {}  # name → address, bytes
        self._finalizer = weakref.finalize(self, _release, engine, self._handle, self._buffers)
        self._finalizer.atexit = False

    def close(self) -> None:
        """Gives the plan's memory back to the module; the plan cannot be used again."""
        self._finalizer()
        self._handle = 0

    def run(self, output: abi.Output, samples: np.ndarray) -> np.ndarray:
        """float32 [n_mels, n_frames] from float32 [n_samples]; errors as in :class:`labous.mel.MelSpectrogram`."""
        samples = abi.float32_samples(samples, self.frontend)
        size = self._engine.check(self._engine.call("melspec_bytes", self._handle, samples.size))
        into, out = self._buffer("samples", samples.nbytes), self._buffer("out", size)
        self._engine.view(into, samples.shape, np.float32)[:] = samples
        code = self._engine.call("melspec_run", self._handle, output, into, samples.size, out, size // 4)
        if code == abi.ERROR_NOT_FINITE:
            position = self._engine.call("melspec_bad_sample", self._handle)
            raise abi.not_finite_error(samples, position, self.frontend)
        frames = self._engine.check(code)
        return self._engine.view(out, (self.frontend.n_mels, frames), np.float32).copy()

    def filters(self) -> np.ndarray:
        """The filter bank, float32 [n_mels, 1 + n_fft // 2]."""
        shape = (self.frontend.n_mels, self.frontend.n_fft // 2 + 1)
        return self._read("melspec_filters", shape, np.float32)

    def window(self) -> np.ndarray:
        """The analysis window, float64 [n_fft]."""
        return self._read("melspec_window", (self.frontend.n_fft,), np.float64)

    def _read(self, function: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        count = int(np.prod(shape))
        out = self._buffer("out", count * np.dtype(dtype).itemsize)
        self._engine.check(self._engine.call(function, self._handle, out, count))
        return self._engine.view(out, shape, dtype).copy()

    def _buffer(self, name: str, size: int) -> int:
        address, room = self._buffers.get(name, (0, 0))
        if room < size:
            self._engine.call("melspec_free", address)
            self._buffers.pop(name, None)
            address = self._engine.allocate(size)
            self._buffers[name] = (address, size)
        return address


def _release(engine: WasmEngine, handle: int, buffers: dict[str, tuple[int, int]]) -> None:
    for address, _ in buffers.values():
        engine.call("melspec_free", address)
    buffers.clear()
    engine.call("melspec_destroy", handle)
