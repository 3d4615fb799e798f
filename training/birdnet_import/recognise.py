"""Finding the front end of a graph by what its operators are, and proving that it computes what was read from it.

The way leads forth and back from each RFFT2D. What is read is held against the graph's own values on noise, so that
nothing that was overlooked can make another spectrogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous.errors import FrontendError
from labous.power_law import PowerLawChannel, PowerLawFrontend
from training.birdnet_import.bank import Bank, filter_bank, periodic_hann, read_bank
from training.birdnet_import.graph import Graph, Node
from training.birdnet_import.reference import mel_values
from training.birdnet_import.settings import Tolerances
from training.birdnet_import.trace import Trace, trace

# the same values in another shape, or of another dtype
_VIEWS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
_FRAMING = (*_VIEWS, "GATHER", "STRIDED_SLICE")


@dataclass(frozen=True)
class Peak:
    """The scaling of a window: its constants, and the tensor that it leaves."""

    epsilon: float
    offset: float
    scale: float
    scaled: int


@dataclass(frozen=True)
class Column:
    """One mel map in the graph.

    Attributes:
        n_fft: length of its frames.
        frames: the tensor of the frames before the window function.
        bank: [n_mels, n_bins].
        exponent: of the squared mel value.
        last: the operator whose output is the map, [1, n_mels, n_frames, 1].
    """

    n_fft: int
    frames: int
    bank: NDArray[np.floating]
    exponent: float
    last: Node


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        frontend: the front end, without shifts.
        cut: the tensor that it leaves, the input of all that follows.
        trace: shapes of all tensors, and the values of those that are settled, of one window.
        is_half: whether the graph's filter banks are rounded to float16, which a front end's are not.
    """

    frontend: PowerLawFrontend
    cut: int
    trace: Trace
    is_half: bool


def recognise(graph: Graph, sample_rates: Sequence[int], tolerances: Tolerances) -> Found:
    """Find, read and prove the front end.

    Args:
        graph: the whole.
        sample_rates: those that a graph may be made for, Hz.
        tolerances: what its numbers may differ by.

    Raises:
        GraphError: the graph is of another kind; the message says what differs.
    """
    transforms = [node for node in graph.nodes if node.name == "RFFT2D"]
    if not transforms:
        raise graph.differs("it has no RFFT2D operator, and so no spectrogram to cut off")
    starts = [_back_to_frames(graph, node, tolerances) for node in transforms]
    peaks = {_peak(graph, frames) for frames, _ in starts}
    if len(peaks) != 1:
        raise graph.differs("its spectrograms are not made of one and the same scaled window")
    peak = peaks.pop()
    columns = [_forth(graph, node, frames, n_fft) for node, (frames, n_fft) in zip(transforms, starts, strict=True)]
    columns, cut = _joined(graph, columns)
    n_samples = graph.graph.tensors[graph.input].shape[-1]
    noise = _noise(int(n_samples), peak.epsilon)
    wanted = {peak.scaled, cut, *(column.frames for column in columns)} | {
        t for t in graph.settled if not graph.is_constant(t)
    }
    seen = trace(graph.data, noise, wanted, graph.name)
    hops = [_hop(graph, seen, peak, column) for column in columns]
    banks = [_bank(graph, column, sample_rates, tolerances) for column in columns]
    rates = {bank.sample_rate for bank in banks}
    if len(rates) != 1:
        told = " and ".join(map(str, sorted(rates)))
        raise graph.differs(f"its filter banks are for different sample rates, {told} Hz")
    rate = rates.pop()
    try:
        frontend = PowerLawFrontend(
            sample_rate=rate,
            window_seconds=int(n_samples) / rate,
            n_mels=len(columns[0].bank),
            peak_epsilon=peak.epsilon,
            peak_offset=peak.offset,
            peak_scale=peak.scale,
            channels=tuple(
                PowerLawChannel(
                    n_fft=column.n_fft, hop_length=hop, f_min=bank.f_min, f_max=bank.f_max, exponent=column.exponent
                )
                for column, hop, bank in zip(columns, hops, banks, strict=True)
            ),
            shifts=(0,),
        )
    except FrontendError as error:
        raise graph.differs(f"its front end cannot be computed elsewhere: {str(error).rstrip('.')}") from error
    is_half = all(np.array_equal(column.bank, column.bank.astype(np.float16)) for column in columns)
    _prove(graph, frontend, noise, seen.values[cut], tolerances.half if is_half else tolerances.spectrogram)
    return Found(frontend, cut, seen, is_half)


def _noise(n_samples: int, epsilon: float) -> NDArray[np.float32]:
    """Two windows without a repeated stretch, one of them so soft that the scaling's epsilon counts."""
    rng = np.random.default_rng(0)
    loud, soft = rng.normal(0, 0.2, n_samples), rng.normal(0, 4 * epsilon, n_samples)
    return np.stack([np.clip(loud, -1, 1), soft]).astype(np.float32)


def _difference(values: NDArray[np.floating], formula: NDArray[np.float32]) -> float:
    """The largest difference of constants to what they should be, or to that in float16, as a file may keep them."""
    return min(float(np.abs(values - made).max()) for made in (formula, formula.astype(np.float16).astype(np.float32)))


def _told(node: Node | None) -> str:
    return "the graph's input" if node is None else f"{node.name} (operator {node.index})"


def _back_to_frames(graph: Graph, transform: Node, tolerances: Tolerances) -> tuple[int, int]:
    """The tensor of frames before the window function, and the frames' length."""
    place = f"the RFFT2D at operator {transform.index}"
    lengths = graph.constant(transform.inputs[1])
    if lengths is None or lengths.size != 2 or lengths.ravel()[0] != 1:
        raise graph.differs(f"{place} is not of single frames of a fixed length")
    n_fft = int(lengths.ravel()[1])
    tensor = _behind(graph, transform.inputs[0], _VIEWS)
    maker = graph.maker(tensor)
    parts = None if maker is None or maker.name != "MUL" else _with_constant(graph, maker)
    if parts is None:
        raise graph.differs(f"{place} takes the result of {_told(maker)}, not of frames times a window function")
    frames, window = parts
    if window.size != n_fft:
        raise graph.differs(f"the window function before {place} has {window.size} values, and its frames {n_fft}")
    difference = _difference(window.ravel(), periodic_hann(n_fft))
    if not difference <= tolerances.window:
        raise graph.differs(
            f"the window function before {place} is no periodic Hann window: it differs by {difference:.2g}"
        )
    return frames, n_fft


def _behind(graph: Graph, tensor: int, kinds: Sequence[str]) -> int:
    """Back over operators of some kinds, along their first input."""
    while (maker := graph.maker(tensor)) is not None and maker.name in kinds:
        tensor = maker.inputs[0]
    return tensor


def _with_constant(graph: Graph, node: Node) -> tuple[int, NDArray[Any]] | None:
    """The computed and the constant input of an operator of two; None where it has not one of each."""
    if len(node.inputs) != 2 or getattr(node.options, "fusedActivationFunction", False):
        return None
    first, second = (graph.constant(t) for t in node.inputs)
    if (first is None) == (second is None):
        return None
    if second is not None:
        return node.inputs[0], second
    # a constant that something is taken from, or divided, is another matter
    return None if node.name in ("SUB", "DIV", "POW") or first is None else (node.inputs[1], first)


def _scalar(graph: Graph, tensor: int, name: str, what: str) -> tuple[int, float]:
    """The computed input of an operator of this name with one constant number, and the number."""
    maker = graph.maker(tensor)
    parts = None if maker is None or maker.name != name else _with_constant(graph, maker)
    if parts is None or parts[1].size != 1:
        raise graph.differs(f"{what} should be {name} with one number, and is {_told(maker)}")
    return parts[0], float(parts[1].ravel()[0])


def _peak(graph: Graph, frames: int) -> Peak:
    """The scaling of the window that the frames are cut from."""
    what = "the scaling of the window by its peak"
    scaled = _behind(graph, frames, _FRAMING)
    tensor, scale = _scalar(graph, scaled, "MUL", f"{what}, at its end,")
    tensor, offset = _scalar(graph, tensor, "SUB", f"{what}, before its end,")
    divide = graph.maker(tensor)
    if divide is None or divide.name != "DIV":
        raise graph.differs(f"{what} should divide (DIV), and there is {_told(divide)}")
    rest, divisor = divide.inputs
    largest, epsilon = _scalar(graph, divisor, "ADD", f"{what}, in the divisor,")
    most = graph.maker(largest)
    if most is None or most.name != "REDUCE_MAX" or most.inputs[0] != rest:
        raise graph.differs(f"{what} should divide by the largest value (REDUCE_MAX), and there is {_told(most)}")
    subtract = graph.maker(rest)
    if subtract is None or subtract.name != "SUB" or subtract.inputs[0] != graph.input:
        raise graph.differs(f"{what} should begin with the samples less their least, and there is {_told(subtract)}")
    least = graph.maker(subtract.inputs[1])
    if least is None or least.name != "REDUCE_MIN" or least.inputs[0] != graph.input:
        raise graph.differs(f"{what} should take the least value (REDUCE_MIN) off, and there is {_told(least)}")
    return Peak(epsilon, offset, scale, scaled)


def _forth(graph: Graph, transform: Node, frames: int, n_fft: int) -> Column:
    """From an RFFT2D to the map that it becomes."""
    place = f"behind the RFFT2D at operator {transform.index}"
    node = _next(graph, transform, place)
    if node.name in ("COMPLEX_ABS", "IMAG"):
        raise graph.differs(f"{place} there is {node.name}: it takes another part of the spectrum than the real one")
    if node.name not in ("CAST", "REAL"):
        raise graph.differs(f"{place} should be CAST, which keeps the real part, and is {_told(node)}")
    node = _expected(graph, node, "FULLY_CONNECTED", "the filter bank", place)
    bank = graph.constant(node.inputs[1])
    if bank is None or bank.ndim != 2 or bank.shape[1] != n_fft // 2 + 1:
        raise graph.differs(f"{place} the filter bank is no constant of {n_fft // 2 + 1} bins")
    if (len(node.inputs) > 2 and node.inputs[2] >= 0) or node.options.fusedActivationFunction:
        raise graph.differs(f"{place} the filter bank has a bias or an activation")
    node = _expected(graph, node, "MUL", "the square", place)
    if node.inputs[0] != node.inputs[1] or node.options.fusedActivationFunction:
        raise graph.differs(f"{place} the mel values are not multiplied with themselves")
    node = _expected(graph, node, "POW", "the power law", place)
    parts = _with_constant(graph, node)
    if parts is None or parts[1].size != 1:
        raise graph.differs(f"{place} the exponent of the power law is no constant number")
    node = _expected(graph, node, "REVERSE_V2", "the highest band first", place)
    node = _expected(graph, node, "TRANSPOSE", "bands before frames", place)
    return Column(n_fft, frames, bank, float(parts[1].ravel()[0]), node)


def _next(graph: Graph, node: Node, place: str, over: Sequence[str] = _VIEWS) -> Node:
    """The one operator that takes the result, over those that only give it another shape."""
    while True:
        # SHAPE looks at how large a result is, not at what it is
        takers = [taker for taker in graph.takers(node.output) if taker.name != "SHAPE"]
        if len(takers) != 1:
            raise graph.differs(f"{place} the result of {_told(node)} goes to {len(takers)} operators, not to one")
        node = takers[0]
        if node.name not in over:
            return node


def _expected(graph: Graph, node: Node, name: str, what: str, place: str) -> Node:
    found = _next(graph, node, place)
    if found.name != name:
        raise graph.differs(f"{place} should be {name}, {what}, and there is {_told(found)}")
    return found


def _joined(graph: Graph, columns: Sequence[Column]) -> tuple[list[Column], int]:
    """The maps in the order of the model's channels, and the tensor that holds them all."""
    if len(columns) == 1:
        takers = graph.takers(columns[0].last.output)
        if len(takers) == 1 and takers[0].name in _VIEWS:
            return list(columns), takers[0].output
        raise graph.differs("behind the spectrogram should be one operator that adds the axis of the channels")
    order = {}
    join: Node | None = None
    for column in columns:
        tensor, taker = column.last.output, None
        for _ in range(8):
            takers = graph.takers(tensor)
            if len(takers) != 1 or takers[0].name not in (*_VIEWS, "CONCATENATION"):
                break
            taker = takers[0]
            if taker.name == "CONCATENATION":
                break
            tensor = taker.output
        if taker is None or taker.name != "CONCATENATION" or (join is not None and taker != join):
            raise graph.differs("its spectrograms do not meet in one CONCATENATION")
        join = taker
        order[taker.inputs.index(tensor)] = column
    if join is None or sorted(order) != list(range(len(join.inputs))):
        raise graph.differs("where its spectrograms meet, there is something beside them")
    return [order[i] for i in sorted(order)], join.output


def _hop(graph: Graph, seen: Trace, peak: Peak, column: Column) -> int:
    """Samples from one frame to the next; the frames are what the graph cut from noise, which nothing repeats in."""
    sound = seen.values[peak.scaled][0].ravel()
    frames = seen.values[column.frames][0].reshape(-1, column.n_fft)
    if len(frames) < 2:
        raise graph.differs("its window has fewer than two frames")
    views = np.lib.stride_tricks.sliding_window_view(sound, column.n_fft)
    starts = np.flatnonzero((views[:, :4] == frames[1, :4]).all(axis=1))
    if len(starts) != 1 or starts[0] < 1:
        raise graph.differs("its frames are not stretches of the scaled window")
    hop = int(starts[0])
    if not np.array_equal(views[::hop], frames):
        raise graph.differs(
            f"its frames of {column.n_fft} samples are not all that fit, each {hop} samples after the last"
        )
    return hop


def _bank(graph: Graph, column: Column, sample_rates: Sequence[int], tolerances: Tolerances) -> Bank:
    bank = read_bank(column.bank, sample_rates)
    if bank is None:
        raise graph.differs("a filter bank in it is none of overlapping triangles")
    formula = filter_bank(len(column.bank), column.bank.shape[1], bank.sample_rate, bank.f_min, bank.f_max)
    if not _difference(column.bank, formula) <= tolerances.bank:
        raise graph.differs(
            "a filter bank in it is not TensorFlow's linear_to_mel_weight_matrix for any of "
            f"{', '.join(map(str, sample_rates))} Hz: for {bank.sample_rate} Hz, {bank.f_min:g} to {bank.f_max:g} Hz, "
            f"it differs by {bank.difference:.2g}"
        )
    return bank


def _prove(
    graph: Graph,
    frontend: PowerLawFrontend,
    noise: NDArray[np.float32],
    theirs: NDArray[np.float32],
    tolerance: float,
) -> None:
    """Hold the graph's maps against what was read from it.

    Raises:
        GraphError: they differ.
    """
    exponents = np.array([channel.exponent for channel in frontend.channels])
    if theirs.shape[1:] != frontend.input_shape:
        raise graph.differs(
            f"its spectrogram is {list(theirs.shape[1:])}, and bands, frames and channels make "
            f"{list(frontend.input_shape)}"
        )
    for window, map_ in zip(noise, theirs[:, 0], strict=True):
        ours = np.abs(mel_values(frontend, window))
        # before the power law, which makes much of a small difference near zero
        there = map_.astype(np.float64) ** (1 / (2 * exponents))
        difference = float((np.abs(ours - there).max(axis=(0, 1)) / ours.max(axis=(0, 1))).max())
        if not difference <= tolerance:
            raise graph.differs(
                f"its spectrogram differs by {difference:.2g} of the peak from what its operators seem to describe"
            )
