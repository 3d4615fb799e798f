"""A stranger's WebAssembly module as machine code that ``melspec_cpp/boards.py --module`` made: without Wasmtime."""

from __future__ import annotations

import ctypes
import hashlib
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous import libraries
from labous.errors import EngineError

ABI_VERSION = 1
"""``LABOUS_WASM_ABI_VERSION`` of melspec_cpp/wasm2c/function.c."""

_POINTER, _I32, _U32, _U64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32, ctypes.c_uint64
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "labous_wasm_abi_version": (_I32, ()),
    "labous_wasm_source": (ctypes.c_char_p, ()),
    "labous_wasm_message": (ctypes.c_char_p, (_I32,)),
    "labous_wasm_create": (_I32, (ctypes.c_char_p, _U64, _POINTER)),
    "labous_wasm_destroy": (None, (_POINTER,)),
    "labous_wasm_alloc": (_I32, (_POINTER, _I32, _POINTER)),
    "labous_wasm_call": (_I32, (_POINTER, _U32, _I32, _U32, _I32, _POINTER)),
    "labous_wasm_write": (_I32, (_POINTER, _U32, _POINTER, _U32)),
    "labous_wasm_read": (_I32, (_POINTER, _U32, _POINTER, _U32)),
}
_ERROR_FUNCTION, _TRAPPED = -2, -100


class CompiledModule:
    """A module in a library, as :class:`labous.station.webassembly.Module`. Memory is bounded, and time is not.

    Args:
        library: the bytes of the library.
        file: its name, for errors.
        module: the bytes of the .wasm file that it must have been made from.
        name: of the function that the module exports.
        memory_limit: bytes that its memory may grow to.

    Raises:
        EngineError: the library cannot be used here, or was made from something else.
    """

    def __init__(self, library: bytes, file: str, module: bytes, name: str, memory_limit: int) -> None:
        self.name, self.memory_limit = name, memory_limit
        self.library = libraries.load(library, file)
        for function_name, (result, parameters) in _FUNCTIONS.items():
            try:
                function = getattr(self.library, function_name)
            except AttributeError as error:
                raise EngineError(f"{file} lacks {function_name}; make it with melspec_cpp/boards.py.") from error
            function.restype, function.argtypes = result, parameters
        version = self.library.labous_wasm_abi_version()
        if version != ABI_VERSION:
            raise EngineError(
                f"{file} has version {version} of its interface and this labous knows {ABI_VERSION}; make it again "
                "with melspec_cpp/boards.py."
            )
        if self.library.labous_wasm_source().decode("ascii", "replace") != hashlib.sha256(module).hexdigest():
            raise EngineError(f"{file} was made from another .wasm file; make it again with melspec_cpp/boards.py.")

    def begin(self) -> _CompiledInstance:
        """A new instance; see :class:`labous.station.webassembly.Module`."""
        return _CompiledInstance(self)


class _CompiledInstance:
    def __init__(self, of: CompiledModule) -> None:
        self._library, self._name = of.library, of.name
        handle = _POINTER()
        code = of.library.labous_wasm_create(of.name.encode(), of.memory_limit, ctypes.addressof(handle))
        if code == _ERROR_FUNCTION:
            raise EngineError(f"it exports no function {of.name} of 4 i32 that gives an i32.")
        self._check(code, "its start")
        self._handle = handle.value
        weakref.finalize(self, of.library.labous_wasm_destroy, handle.value).atexit = False

    def allocate(self, size: int) -> int:
        address = _U32()
        code = self._library.labous_wasm_alloc(self._handle, size, ctypes.addressof(address))
        self._check(code, "labous_alloc")
        return address.value

    def call(self, source: int, n: int, target: int, capacity: int) -> int:
        result = _I32()
        code = self._library.labous_wasm_call(self._handle, source, n, target, capacity, ctypes.addressof(result))
        self._check(code, self._name)
        return result.value

    def write(self, address: int, values: NDArray[np.float32]) -> None:
        values = np.ascontiguousarray(values, np.float32)
        code = self._library.labous_wasm_write(self._handle, address, values.ctypes.data, values.nbytes)
        self._check_place(code)

    def read(self, address: int, n: int) -> NDArray[np.float32]:
        values = np.empty(n, np.float32)
        code = self._library.labous_wasm_read(self._handle, address, values.ctypes.data, values.nbytes)
        self._check_place(code)
        return values

    def _check_place(self, code: int) -> None:
        if code != 0:
            raise EngineError("its labous_alloc points outside its own memory.")

    def _check(self, code: int, where: str) -> None:
        if code == 0:
            return
        told = self._library.labous_wasm_message(code).decode("ascii", "replace")
        raise EngineError(f"it trapped in {where}: {told}." if code < _TRAPPED else f"it cannot be begun: {told}.")
