"""A function in a stranger's WebAssembly module: how it is called, and Wasmtime to run it within bounds."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labous.errors import EngineError
from labous.mel import compiled
from labous.mel.watchdog import OutOfTime, watchdog

_TABLE_LIMIT = 1 << 16
_I32 = 4


class Instance(Protocol):
    """A module's memory and state, until a call fails."""

    def allocate(self, size: int) -> int:
        """What its labous_alloc gives for so many bytes."""

    def call(self, source: int, n: int, target: int, capacity: int) -> int:
        """What its function gives."""

    def write(self, address: int, values: NDArray[np.float32]) -> None:
        """Put values into its memory."""

    def read(self, address: int, n: int) -> NDArray[np.float32]:
        """A copy of values in its memory."""


class Module(Protocol):
    """A stranger's module, whatever runs it. Its methods, and those of its instances, raise EngineError."""

    name: str
    """Of the function."""

    def begin(self) -> Instance:
        """A new instance, on which ``_initialize`` has been called."""


class WasmFunction:
    """A function over float32 arrays, as :class:`labous.nodes.wasm.Wasm` describes its C interface.

    After a call that failed, the next one gets a new instance of the module: what a trap left behind is gone.
    Used by one thread at a time.

    Args:
        module: where it is; begun at once.

    Raises:
        EngineError: the module cannot be used.
    """

    def __init__(self, module: Module) -> None:
        self._module = module
        self._instance: Instance | None = module.begin()
        self._sizes = (-1, -1)
        self._addresses = (0, 0)

    def __call__(self, values: NDArray[np.float32], capacity: int) -> NDArray[np.float32]:
        """What the function makes of some values.

        Args:
            values: float32 [n].
            capacity: the most values that it may give.

        Returns:
            float32 [at most capacity].

        Raises:
            EngineError: it trapped, took too long or too much, refused, or broke its word.
        """
        try:
            return self._called(values, capacity)
        except EngineError:
            self._instance = None
            raise

    def _called(self, values: NDArray[np.float32], capacity: int) -> NDArray[np.float32]:
        instance, sizes = self._instance, (values.size, capacity)
        if instance is None or self._sizes not in ((-1, -1), sizes):
            self._instance, self._sizes = None, (-1, -1)  # the old one's memory is not needed beside the new one's
            # whose memory is empty: the interface has no way to give memory back
            self._instance = instance = self._module.begin()
        if self._sizes == (-1, -1):
            self._addresses = self._allocated(instance, values.size), self._allocated(instance, capacity)
            self._sizes = sizes
        source, target = self._addresses
        instance.write(source, values)
        count = instance.call(source, values.size, target, capacity)
        if count < 0:
            raise EngineError(f"its {self._module.name} refused a window with the code {count}.")
        if count > capacity:
            raise EngineError(f"its {self._module.name} says that it gave {count} values where {capacity} have room.")
        return instance.read(target, count)

    def _allocated(self, instance: Instance, n: int) -> int:
        address = instance.allocate(_I32 * n) & 0xFFFFFFFF
        if address == 0:
            raise EngineError(f"its labous_alloc has no room for {_I32 * n} bytes, or its memory limit is too low.")
        return address


class WasmtimeModule:
    """A module in Wasmtime, its memory, time and instructions bounded.

    Args:
        module: its bytes.
        name: of the function that it exports.
        memory_limit: bytes that its memory may grow to.
        time_limit: s that a call may take.
        fuel: instructions, about, that a call may take; 0 for any number.

    Raises:
        EngineError: Wasmtime is missing, or the module cannot be used.
    """

    def __init__(self, module: bytes, name: str, memory_limit: int, time_limit: float, fuel: int) -> None:
        self.wasmtime = compiled.import_wasmtime()
        self.name, self.memory_limit, self.time_limit, self.fuel = name, memory_limit, time_limit, fuel
        if len(module) > compiled.MODULE_LIMIT:
            raise EngineError(
                f"it has {len(module)} bytes, and {compiled.MODULE_LIMIT} is the most, as compiling cannot be stopped."
            )
        config = self.wasmtime.Config()
        config.epoch_interruption = True
        config.consume_fuel = fuel > 0
        self.engine = self.wasmtime.Engine(config)
        try:
            self.module = self.wasmtime.Module(self.engine, module)
        except self.wasmtime.WasmtimeError as error:
            raise EngineError(f"it is not valid WebAssembly: {_last_line(error)}.") from error
        self._check_interface()

    def begin(self) -> _WasmtimeInstance:
        """A new instance; see :class:`Module`."""
        return _WasmtimeInstance(self)

    def _check_interface(self) -> None:
        if self.module.imports:
            names = ", ".join(f"{i.module}.{i.name}" for i in self.module.imports)
            raise EngineError(f"it asks its host for {names!a}, and gets nothing; build it without imports.")
        i32 = self.wasmtime.ValType.i32()
        exports = {export.name: export.type for export in self.module.exports}
        memory = exports.get("memory")
        if not isinstance(memory, self.wasmtime.MemoryType) or memory.is_64:
            raise EngineError("it exports no 32-bit memory named memory.")
        for name, parameters in (("labous_alloc", 1), (self.name, 4)):
            function = exports.get(name)
            if (
                not isinstance(function, self.wasmtime.FuncType)
                or function.params != [i32] * parameters
                or function.results != [i32]
            ):
                raise EngineError(f"it exports no function {name} of {parameters} i32 that gives an i32.")


class _WasmtimeInstance:
    def __init__(self, of: WasmtimeModule) -> None:
        self._of = of
        self._store = of.wasmtime.Store(of.engine)
        self._store.set_limits(
            memory_size=of.memory_limit, table_elements=_TABLE_LIMIT, instances=1, tables=1, memories=1
        )
        instance = self._run("its start", of.wasmtime.Instance, self._store, of.module, [])
        exports = instance.exports(self._store)
        if "_initialize" in exports:
            self._run("_initialize", exports["_initialize"], self._store)
        self._exports, self._memory = exports, exports["memory"]

    def allocate(self, size: int) -> int:
        return int(self._run("labous_alloc", self._exports["labous_alloc"], self._store, size))

    def call(self, source: int, n: int, target: int, capacity: int) -> int:
        name = self._of.name
        return int(self._run(name, self._exports[name], self._store, source, n, target, capacity))

    def write(self, address: int, values: NDArray[np.float32]) -> None:
        self._view(address, values.size)[:] = values

    def read(self, address: int, n: int) -> NDArray[np.float32]:
        return self._view(address, n).copy()

    def _view(self, address: int, n: int) -> NDArray[np.float32]:
        if address > self._memory.data_len(self._store) - _I32 * n:
            raise EngineError("its labous_alloc points outside its own memory.")
        return np.frombuffer(self._memory.get_buffer_ptr(self._store, _I32 * n, address), np.float32)

    def _run(self, what: str, function: Any, *arguments: Any) -> Any:
        of, limit = self._of, self._of.time_limit
        if of.fuel:
            self._store.set_fuel(of.fuel)
        try:
            return watchdog.call(self._store, of.engine, limit, function, *arguments)
        except OutOfTime as error:
            raise EngineError(f"it was stopped, as it spent more than {limit:g} s in {what}.") from error
        except (of.wasmtime.Trap, of.wasmtime.WasmtimeError) as error:
            if getattr(error, "trap_code", None) == of.wasmtime.TrapCode.OUT_OF_FUEL:
                raise EngineError(f"it was stopped, as it spent its fuel of {of.fuel} in {what}.") from error
            raise EngineError(f"it trapped in {what}: {_last_line(error)}.") from error


def _last_line(error: Exception) -> str:
    return ascii(str(error).strip().splitlines()[-1].strip())[1:-1]
