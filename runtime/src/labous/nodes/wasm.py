"""wasm: a WebAssembly function over a column; by default the bundle's mel spectrogram."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labous import libraries
from labous.errors import EngineError, LabousError, NodeError
from labous.mel import compiled
from labous.nodes import Context, Record
from labous.options import option
from labous.station.log import Seldom

if TYPE_CHECKING:
    from labous.station.webassembly import Module

_MOST_VALUES = 1 << 24
_TELL_SECONDS = 600.0

_logger = logging.getLogger("labous")


@dataclasses.dataclass(frozen=True)
class Wasm:
    """A WebAssembly function over a column: by default the bundle's melspec.wasm, which makes of a window of sound the
    mel spectrogram that its model sees, and of windows that overlap only what is new.

    Another module is called with one column's float32 values, in C's order, and gives another's. It imports nothing
    and exports, beside ``memory`` (32-bit), these:

    - ``int32_t labous_alloc(int32_t bytes)``: the address of that many bytes, aligned for floats, or 0 where there is
      no room. It is called twice before the first window, for its input and for its output, and they are kept.
    - ``int32_t NAME(int32_t input, int32_t n, int32_t output, int32_t capacity)``: reads n floats at ``input``,
      writes at most ``capacity`` floats at ``output``, and gives how many it wrote, or a negative code of its own
      where it refuses the window. NAME is the option ``function``.
    - ``void _initialize(void)``, if there is one, is called once, first.

    Its state lives from window to window, but not beyond a window on which it failed: the next gets a new instance.

    Boards that Wasmtime is not made for (riscv64, armv7l) run machine code in its place: MY-riscv64.so beside MY.wasm,
    which ``python melspec_cpp/boards.py --module MY.wasm`` makes of it. Memory is bounded there as well, and a trap is
    an error of the window; but ``seconds`` and ``fuel`` bound nothing: a call that does not end, ends with the station.
    """

    module: str | None = option(
        "path of a WebAssembly module, relative to the pipeline file; the bundle's melspec.wasm, if left out",
        None,
        least=1,
        names="reads",
    )
    function: str = option("name of the module's function", "labous_run", least=1)
    input: str = option("column that it reads", "audio", least=1)
    output: str = option("column that it writes", "mel", least=1)
    shape: tuple[int, ...] = option(
        "of the module's output, each number at least 1; if left out, a flat array of at most as many values as the "
        "input has",
        (),
        minimum=1,
    )
    memory_megabytes: float = option("that the module's memory may grow to, MB", 64.0, above=0, maximum=4096)
    seconds: float = option("that a call of the module may take, s", 5.0, above=0, maximum=3600)
    fuel: int = option("WebAssembly instructions that a call may take, about; 0 for any number", 10**10, minimum=0)
    on_error: str = option(
        "what happens to a window on which the module fails: the run ends, or the window is dropped, counted and told",
        "stop",
        choices=("stop", "drop"),
    )

    def open(self, context: Context) -> _Node:
        """The node, its module compiled."""
        return _Node(self, context, self._mel(context) if self.module is None else self._function(context))

    def _mel(self, context: Context) -> _Mel:
        if self.shape:
            raise NodeError("wasm: shape is for a module of your own; the bundle's melspec.wasm knows its own.")
        return _Mel(context)

    def _function(self, context: Context) -> _Function:
        from labous.station.webassembly import WasmFunction

        assert self.module is not None
        if math.prod(self.shape) > _MOST_VALUES:
            raise NodeError(f"wasm: shape has more than {_MOST_VALUES} values; a module's output must be smaller.")
        try:
            called = WasmFunction(self._module(context, self.module))
        except EngineError as error:
            raise NodeError(f"wasm: the module {str(context.path(self.module))!r} cannot be used: {error}") from error
        return _Function(called, str(context.path(self.module)), self.shape)

    def _module(self, context: Context, name: str) -> Module:
        from labous.station.compiled_function import CompiledModule
        from labous.station.webassembly import WasmtimeModule

        content, memory, why = context.read(name, "wasm"), int(self.memory_megabytes * 1e6), compiled.hindrance()
        if why is None:
            return WasmtimeModule(content, self.function, memory, self.seconds, self.fuel)
        library = f"{Path(name).with_suffix('')}-{libraries.machine()}.so"
        if not context.path(library).is_file():
            raise EngineError(
                f"{why}; and there is no {library}: make it with python melspec_cpp/boards.py --module {name} "
                f"{libraries.machine()}."
            )
        _logger.info("wasm: %s is run as %s: seconds and fuel bound nothing", name, library)
        return CompiledModule(context.read(library, "wasm"), library, content, self.function, memory)


class _Mel:
    """The bundle's front end, whichever windows come."""

    def __init__(self, context: Context) -> None:
        self._windows = context.bundle.open_windows()
        self._stream, self._end = "", -1
        self.close = self._windows.close

    def __call__(self, record: Record, values: np.ndarray) -> np.ndarray:
        # the record before, of which it counts as fresh, need not have come this way
        follows = record.stream == self._stream and record.end - record.fresh == self._end
        self._stream, self._end = record.stream, record.end
        return self._windows(values, record.fresh if follows else len(values))


class _Function:
    """A stranger's function."""

    def __init__(self, called: Any, path: str, shape: tuple[int, ...]) -> None:
        self._called, self._path, self._shape = called, path, shape

    def __call__(self, record: Record, values: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(values, np.float32).ravel()
        wanted = math.prod(self._shape)
        try:
            found: np.ndarray = self._called(flat, wanted if self._shape else flat.size)
        except EngineError as error:
            raise NodeError(f"wasm: the module {self._path!r} failed: {error}") from error
        if not self._shape:
            return found
        if found.size != wanted:
            raise NodeError(
                f"wasm: the module {self._path!r} gave {found.size} values and shape asks for {wanted}; set shape to "
                "what it gives."
            )
        return found.reshape(self._shape)

    def close(self) -> None:
        """Nothing is held that garbage collection would not free."""


class _Node:
    def __init__(self, options: Wasm, context: Context, function: _Mel | _Function) -> None:
        self._options, self._context, self._function = options, context, function
        self._seldom = Seldom(_logger, _TELL_SECONDS)
        self.close = function.close

    def process(self, record: Record) -> Iterator[Record]:
        """With the function's result."""
        try:
            record.columns[self._options.output] = self._function(record, record.columns[self._options.input])
        except LabousError as error:
            if self._options.on_error == "stop":
                raise error if isinstance(error, NodeError) else NodeError(f"wasm: {error}") from error
            self._context.counters.add('dropped_windows_total{node="wasm"}')
            self._seldom.warning("failed", "A window of %s is dropped: %s", record.stream, error)
            return
        yield record

    def end(self, stream: str) -> tuple[Record, ...]:
        """Nothing is held back."""
        return ()
