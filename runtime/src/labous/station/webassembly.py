"""A function in a stranger's WebAssembly module, its memory, time and instructions bounded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous.errors import EngineError
from labous.mel import compiled
from labous.mel.watchdog import OutOfTime, watchdog

_TABLE_LIMIT = 1 << 16
_I32 = 4


class WasmFunction:
    """A function over float32 arrays, as :class:`labous.nodes.wasm.Wasm` describes its C interface.

    After a call that failed, the next one gets a new instance of the module: what a trap left behind is gone.
    Used by one thread at a time.

    Args:
        module: the bytes of the module.
        name: of the function that it exports.
        memory_limit: bytes that its memory may grow to.
        time_limit: s that a call may take.
        fuel: instructions, about, that a call may take; 0 for any number.

    Raises:
        EngineError: Wasmtime is missing, or the module cannot be used.
    """

    def __init__(self, module: bytes, name: str, memory_limit: int, time_limit: float, fuel: int) -> None:
        self._wasmtime = compiled.import_wasmtime()
        self._name, self._memory_limit, self._time_limit, self._fuel = name, memory_limit, time_limit, fuel
        if len(module) > compiled.MODULE_LIMIT:
            raise EngineError(
                f"it has {len(module)} bytes, and {compiled.MODULE_LIMIT} is the most, as compiling cannot be stopped."
            )
        config = self._wasmtime.Config()
        config.epoch_interruption = True
        config.consume_fuel = fuel > 0
        self._engine = self._wasmtime.Engine(config)
        try:
            self._module = self._wasmtime.Module(self._engine, module)
        except self._wasmtime.WasmtimeError as error:
            raise EngineError(f"it is not valid WebAssembly: {_last_line(error)}.") from error
        self._check_interface()
        self._exports: Any = None
        self._sizes = (-1, -1)
        self._addresses = (0, 0)
        self._begin()

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
            self._exports = None
            raise

    def _called(self, values: NDArray[np.float32], capacity: int) -> NDArray[np.float32]:
        if self._exports is None or self._sizes not in ((-1, -1), (values.size, capacity)):
            self._begin()  # whose memory is empty: the interface has no way to give memory back
        if self._sizes == (-1, -1):
            self._addresses = self._allocated(values.size), self._allocated(capacity)
            self._sizes = values.size, capacity
        source, target = self._addresses
        self._view(source, values.size)[:] = values
        count = self._run(self._name, self._exports[self._name], self._store, source, values.size, target, capacity)
        if count < 0:
            raise EngineError(f"its {self._name} refused a window with the code {count}.")
        if count > capacity:
            raise EngineError(f"its {self._name} says that it gave {count} values where {capacity} have room.")
        return self._view(target, count).copy()

    def _check_interface(self) -> None:
        if self._module.imports:
            names = ", ".join(f"{i.module}.{i.name}" for i in self._module.imports)
            raise EngineError(f"it asks its host for {names!a}, and gets nothing; build it without imports.")
        i32 = self._wasmtime.ValType.i32()
        exports = {export.name: export.type for export in self._module.exports}
        memory = exports.get("memory")
        if not isinstance(memory, self._wasmtime.MemoryType) or memory.is_64:
            raise EngineError("it exports no 32-bit memory named memory.")
        for name, parameters in (("labous_alloc", 1), (self._name, 4)):
            function = exports.get(name)
            if (
                not isinstance(function, self._wasmtime.FuncType)
                or function.params != [i32] * parameters
                or function.results != [i32]
            ):
                raise EngineError(f"it exports no function {name} of {parameters} i32 that gives an i32.")

    def _begin(self) -> None:
        self._store = self._wasmtime.Store(self._engine)
        self._store.set_limits(
            memory_size=self._memory_limit, table_elements=_TABLE_LIMIT, instances=1, tables=1, memories=1
        )
        self._exports, self._sizes = None, (-1, -1)
        instance = self._run("its start", self._wasmtime.Instance, self._store, self._module, [])
        exports = instance.exports(self._store)
        if "_initialize" in exports:
            self._run("_initialize", exports["_initialize"], self._store)
        self._exports, self._memory = exports, exports["memory"]

    def _allocated(self, n: int) -> int:
        address = self._run("labous_alloc", self._exports["labous_alloc"], self._store, _I32 * n) & 0xFFFFFFFF
        if address == 0:
            raise EngineError(f"its labous_alloc has no room for {_I32 * n} bytes, or its memory limit is too low.")
        return int(address)

    def _view(self, address: int, n: int) -> NDArray[np.float32]:
        if address > self._memory.data_len(self._store) - _I32 * n:
            raise EngineError("its labous_alloc points outside its own memory.")
        return np.frombuffer(self._memory.get_buffer_ptr(self._store, _I32 * n, address), np.float32)

    def _run(self, what: str, function: Any, *arguments: Any) -> Any:
        if self._fuel:
            self._store.set_fuel(self._fuel)
        try:
            return watchdog.call(self._store, self._engine, self._time_limit, function, *arguments)
        except OutOfTime as error:
            raise EngineError(f"it was stopped, as it spent more than {self._time_limit:g} s in {what}.") from error
        except (self._wasmtime.Trap, self._wasmtime.WasmtimeError) as error:
            if getattr(error, "trap_code", None) == self._wasmtime.TrapCode.OUT_OF_FUEL:
                raise EngineError(f"it was stopped, as it spent its fuel of {self._fuel} in {what}.") from error
            raise EngineError(f"it trapped in {what}: {_last_line(error)}.") from error


def _last_line(error: Exception) -> str:
    return ascii(str(error).strip().splitlines()[-1].strip())[1:-1]
