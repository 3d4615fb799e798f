"""The steps of a device pipeline: one protocol, and a module per kind of node.

A pipeline is a list of nodes. The first is a source, which makes records of sound; each other takes one record at a
time and gives none, one or several to the next; sinks are nodes that give on what they took. A kind of node is known
by its options, a frozen dataclass whose fields are the keys of its table in the pipeline file (see
:mod:`labous.options`) and whose ``open`` makes the node. Packages add kinds through the entry-point group
``labous.nodes``: the entry's name is the ``type`` in the pipeline file, and its object the class of the options.

What a kind is, its class says:

- a source has the class attribute ``source: ClassVar[bool] = True``;
- the key ``input``, if there is one, names the column that a node reads, and ``output`` the one that it writes. A kind
  with others has the methods ``reads(self) -> tuple[str, ...]`` or ``writes(self) -> tuple[str, ...]``, which then
  name all of them, as the options at hand have it. What a node can do without it does not name;
- what ``labous run --check`` may do: open a node that comes with this package, or that writes columns, in a state
  directory that is thrown away. A kind that has effects elsewhere when it is opened has the method
  ``check(self, context) -> None`` instead, which tries what it can without them. ``untried(self) -> str | None`` says
  in some words what opening it leaves unproved;
- the key ``name``, if a node other than the source has one, is different for each node of a pipeline.

A node that needs time to end, as one that delivers does, has the method ``stop(self) -> None`` as well, which begins
that and does not wait: all nodes are told before the first is closed, so that they need the time together.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from labous.errors import NodeError

if TYPE_CHECKING:
    from labous.bundle import Bundle
    from labous.station.counters import Counters
    from labous.station.settings import Station

GROUP = "labous.nodes"


@dataclasses.dataclass
class Record:
    """What flows from node to node: one window of sound and what has been made of it.

    Attributes:
        stream: where the sound comes from: a path, a device's name, an address without its password. Windows of one
            stream come in order; when its end has been told, the same name may begin anew.
        start, end: samples from the stream's beginning, at the front end's rate. ``end`` is the stream's end where the
            window was padded. Windows on the two sides of a gap do not touch: the later one begins behind the ``end``
            of the one before.
        fresh: how many of the window's samples no window of the stream has had yet; all of them, where the one before
            does not touch it.
        time: when ``start`` was captured, in UTC; None where nobody knows.
        columns: values by name, as the nodes' ``input`` and ``output`` name them. The first is the source's, float32
            [window_samples].
    """

    stream: str
    start: int
    end: int
    fresh: int
    time: datetime.datetime | None
    columns: dict[str, Any]

    def digest(self) -> str:
        """Hexadecimal digits that tell the sound of the first column from other sound, and are its own each time."""
        sound: Any = next(iter(self.columns.values()))
        return hashlib.blake2b(sound.tobytes(), digest_size=16).hexdigest()


@dataclasses.dataclass(frozen=True)
class EndOfStream:
    """No more windows of this stream.

    Attributes:
        done: called when all its windows have gone through all nodes, and all that they held back; by then every sink
            has what it took on disk, or wherever it keeps it.
    """

    stream: str
    done: Callable[[], None] = lambda: None


class Source(Protocol):
    """The first node."""

    def records(self) -> Iterator[Record | EndOfStream]:
        """Windows as they become whole, until there are no more or ``context.stopping`` is set.

        A stream that the next run would begin anew, a file, has no EndOfStream where the station stops within it.
        While there are none, ``context.stopping`` is asked or waited on now and then: a source that does neither for
        minutes is taken to hang, and systemd starts the service anew.

        Raises:
            NodeError: it cannot go on, and trying again would not help.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class Node(Protocol):
    """Any other. All its methods are called from one thread."""

    def process(self, record: Record) -> Iterable[Record]:
        """What the next node gets for a record.

        Raises:
            NodeError: it cannot go on, and trying again would not help. What may pass (a full disk, a server that is
                down) it counts, tells in the log, and tries again.
        """
        ...

    def end(self, stream: str) -> Iterable[Record]:
        """What it held back of a stream that has ended."""
        ...

    def close(self) -> None:
        """Finish what can be finished in a second or two, and free what it holds."""
        ...


class NodeOptions(Protocol):
    """A kind of node: the keys of its table, how it is made, and what the head of this module says of kinds."""

    def open(self, context: Context) -> Node | Source:
        """The node, ready.

        Raises:
            LabousError: it cannot be: what is wrong, and what to do.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Context:
    """What every node of a pipeline may use.

    Attributes:
        bundle: of the station; proved, its engines not yet opened.
        station: the station's table of the pipeline file: its name, its place.
        state: a directory of the station's own that outlives it.
        counters: what ``labous status`` tells.
        stopping: set when the pipeline is to end: whatever waits, waits on it.
        folder: of the pipeline file.
        sound_folders: where nodes save sound: each adds its own when it is opened, so that a source, which begins
            when all are, does not hear it again.
    """

    bundle: Bundle
    station: Station
    state: Path
    counters: Counters
    stopping: threading.Event
    folder: Path = Path()
    sound_folders: list[Path] = dataclasses.field(default_factory=list)

    def path(self, text: str) -> Path:
        """Where a path of the pipeline file leads: relative ones begin at its folder."""
        return self.folder / text

    def read(self, text: str, node: str) -> bytes:
        """What is in a file that the pipeline file names.

        Args:
            text: its path there.
            node: the type of the node that wants it, for the error.

        Raises:
            NodeError: it cannot be read.
        """
        path = self.path(text)
        try:
            return path.read_bytes()
        except OSError as error:
            raise NodeError(f"{node}: {str(path)!r} cannot be read ({error.strerror}); check the path.") from error


def is_source(kind: type[NodeOptions]) -> bool:
    """Whether a kind makes records rather than taking them."""
    return bool(getattr(kind, "source", False))


def reads(options: NodeOptions) -> tuple[str, ...]:
    """The columns that a node needs, by name."""
    return _columns(options, "reads", "input")


def writes(options: NodeOptions) -> tuple[str, ...]:
    """The columns that a node adds or replaces, by name."""
    return _columns(options, "writes", "output")


def _columns(options: NodeOptions, method: str, key: str) -> tuple[str, ...]:
    if hasattr(options, method):
        return tuple(getattr(options, method)())
    return (getattr(options, key),) if hasattr(options, key) else ()


def built_in() -> dict[str, str]:
    """Each kind that comes with this package: its ``type``, and ``module:class`` of its options."""
    return {
        "microphone": "labous.nodes.microphone:Microphone",
        "file": "labous.nodes.files:File",
        "folder": "labous.nodes.files:Folder",
        "stdin": "labous.nodes.stdin:Stdin",
        "ffmpeg": "labous.nodes.ffmpeg:Ffmpeg",
        "wasm": "labous.nodes.wasm:Wasm",
        "tflite": "labous.nodes.tflite:Tflite",
        "confirm": "labous.nodes.confirm:Confirm",
        "privacy": "labous.nodes.privacy:Privacy",
        "jsonl": "labous.nodes.tables:JsonLines",
        "csv": "labous.nodes.tables:Csv",
        "raven": "labous.nodes.tables:Raven",
        "audacity": "labous.nodes.tables:Audacity",
        "clips": "labous.nodes.clips:Clips",
        "http": "labous.nodes.http:Http",
        "mqtt": "labous.nodes.mqtt:Mqtt",
    }
