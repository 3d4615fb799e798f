"""A bundle in use: proved, opened, and asked about recordings. docs/bundle.md describes the files."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labous import libraries, recordings
from labous.archive import read_files, write_checksums
from labous.detect import Detection, Label, Predictions, Scoring, detections
from labous.errors import BundleError, EngineError, LabousError, SamplesError
from labous.frontend import Frontend
from labous.manifest import Manifest, ModelFile, Native, NativeFile
from labous.mel import MelEngine, MelSpectrogram, MelWindows, NativeEngine, WasmEngine, abi, compiled
from labous.models import Library, Model, ModelFiles, alternative, choose_engine, engine_named

__all__ = ["Bundle", "Label", "load", "write_checksums"]

_LABEL_COLUMNS = [field.name for field in dataclasses.fields(Label)]
_REQUIRED = ("manifest.json", "metrics.json", "MODEL_CARD.md")

_logger = logging.getLogger("labous")


def load(path: str | Path, precision: str = "float32", engine: str | None = None) -> Bundle:
    """Open a bundle and prove that this device can use it.

    A bundle trained on synthetic sound is announced with a warning in the log "labous", which Python shows on stderr
    unless a program has configured its logging.

    Args:
        path: a bundle's directory or .zip.
        precision: which of its models to run, "float32" or "int8".
        engine: what runs it, one of labous.models.ENGINES; None for the first one installed.

    Raises:
        BundleError: the bundle is missing, damaged, incomplete, newer than this runtime, or at odds with itself.
        EngineError: an engine is not installed or refuses its file.
    """
    bundle = Bundle.read(path, precision, engine)
    bundle.announce()
    bundle.prepare()
    return bundle


class Bundle:
    """A proved bundle. The mel module and the model are opened when first used; not safe to share between threads.

    Attributes:
        path: where it was read from.
        manifest: what it says about itself.
        labels: one per logit, in the logits' order.
        files: the bytes of each file by its path in the bundle.
        precision: which model is run.
    """

    def __init__(self, path: Path, files: Mapping[str, bytes], precision: str, engine: str | None) -> None:
        self.path = path
        self.files = files
        self.precision = precision
        self._engine = engine
        for name in _REQUIRED:
            self._require(name)
        self.manifest = Manifest.from_json(files["manifest.json"])
        for name in self.manifest.files:
            self._require(name)
        self.labels = read_labels(files[self.manifest.labels], self.manifest.labels)
        self._check_consistency()

    @classmethod
    def read(cls, path: str | Path, precision: str = "float32", engine: str | None = None) -> Bundle:
        """Read and prove the files alone; nothing is run, and no engine need be installed. See :func:`load`."""
        return cls(Path(path), read_files(Path(path)), precision, engine)

    def with_precision(self, precision: str) -> Bundle:
        """The same files, with another of their models."""
        return Bundle(self.path, self.files, precision, self._engine)

    @property
    def frontend(self) -> Frontend:
        """The map from a window to the model's input."""
        return self.manifest.frontend

    @property
    def synthetic(self) -> bool:
        """Whether the model was trained on generated sound, and so knows no real bird."""
        return self.manifest.dataset.synthetic

    def announce(self) -> None:
        """Say in the log that the bundle is synthetic, if it is."""
        if self.synthetic:
            _logger.warning(
                "Bundle %r was trained on synthetic sound (%s): its results say nothing about real birds.",
                str(self.path),
                self.manifest.dataset.name,
            )

    def prepare(self) -> None:
        """Open the mel module and the model now, and check them against the manifest, rather than at first use."""
        _ = self.mel, self.model

    @functools.cached_property
    def scoring(self) -> Scoring:
        """What makes probabilities of logits."""
        told = self.manifest.detection
        if not told.calibration:
            return Scoring.plain(len(self.labels))
        calibration = [told.calibration[label.ebird_code] for label in self.labels]
        return Scoring(
            np.array([c.scale for c in calibration], np.float32),
            np.array([c.offset for c in calibration], np.float32),
            told.neighbor_weight,
        )

    @property
    def native(self) -> Native | None:
        """The libraries that were made for this machine, if the bundle has such."""
        return self.manifest.native.get(libraries.board())

    @functools.cached_property
    def mel(self) -> MelSpectrogram:
        """The front end, computed by the bundle's own WebAssembly module, or by the library that was made of it."""
        return MelSpectrogram(self.frontend, self._mel_engine)

    @functools.cached_property
    def mel_library(self) -> tuple[str, str] | None:
        """The file that stands for the mel module here, and why; None where Wasmtime runs the module itself.

        Raises:
            EngineError: Wasmtime does not work, and the bundle has no such file.
        """
        why = compiled.hindrance()
        if why is None:
            return None
        if self.native is None:
            machine = libraries.machine()
            raise EngineError(
                f"{self.manifest.mel.file}: {why}; and the bundle has no library for {machine}: export it with "
                f"bundle.targets=[{machine}] (docs/bundle.md)."
            )
        return self.native.mel.file, why

    @functools.cached_property
    def _mel_engine(self) -> MelEngine:
        described, library = self.manifest.mel, self.mel_library
        file = described.file if library is None else library[0]
        engine: MelEngine
        try:
            engine = WasmEngine(self.files[file]) if library is None else NativeEngine(file, self.files[file])
        except EngineError as error:
            raise EngineError(f"{file}: {error}") from error
        # which is what the engines have found in it
        if described.abi_version != abi.ABI_VERSION:
            raise BundleError(
                f"Bundle {str(self.path)!r}: {described.file} has ABI version {abi.ABI_VERSION} and the manifest says "
                f"{described.abi_version}; export the bundle again."
            )
        return engine

    @functools.cached_property
    def model(self) -> Model:
        """The model of the chosen precision, its tensors checked against the manifest."""
        described = self.manifest.models.get(self.precision)
        if described is None:
            has = ", ".join(self.manifest.models)
            raise BundleError(f"Bundle {str(self.path)!r} has no {self.precision} model; it has: {has}.")
        files, file = self.model_files(self.precision), described.file
        name = None
        try:
            name = choose_engine(files, self._engine)
            engine = engine_named(name)
            file = self._file_of(engine.READS, described)
            model = engine.open_model(dict(files)[engine.READS], threads=1)
        except EngineError as error:
            # looked for only now: each engine that is asked about is loaded
            other = None if name is None or self._engine else alternative(files, name)
            hint = f"; {other} may run it: --engine {other}" if other else ""
            raise EngineError(f"{file}: {error}{hint}") from error
        for side, shape, dtype, tensor in (
            ("input", model.input_shape, model.input_dtype, described.input),
            ("output", model.output_shape, model.output_dtype, described.output),
        ):
            if (shape, dtype) != (tensor.shape, tensor.dtype):
                raise BundleError(
                    f"Bundle {str(self.path)!r}: the {side} of {file} is {dtype} {list(shape)} and the "
                    f"manifest says {tensor.dtype} {list(tensor.shape)}; export the bundle again."
                )
        return model

    def _file_of(self, kind: str, described: ModelFile) -> str:
        """The path of the kind of file that an engine reads."""
        if kind == "library" and self.native is not None:
            return self.native.model.file
        return self.manifest.onnx.file if kind == "onnx" else described.file

    def model_files(self, precision: str) -> ModelFiles:
        """The files that are the model of a precision, by the kind that :mod:`labous.models` knows them by."""
        described = self.manifest.models[precision]
        files: ModelFiles = {"tflite": self.files[described.file]}
        if precision == "float32":
            files["onnx"] = self.files[self.manifest.onnx.file]
            if self.native is not None:
                made, shapes = self.native.model, (described.input.shape, described.output.shape)
                files["library"] = Library(made.file, self.files[made.file], made.source, *shapes)
        return files

    def analyze(
        self, path: str | Path, top_n: int = 3, overlap: float = 0.0, min_score: float | None = None
    ) -> Iterator[Detection]:
        """Detect species in a recording, window by window, in bounded memory.

        Args:
            path: a file that :func:`labous.recordings.read_blocks` reads.
            top_n: the most detections per window.
            overlap: of one window with the next, s.
            min_score: the lowest score of a detection, for every label alike; None for the bundle's own threshold
                of each.

        Yields:
            Detections in the order of their windows, the likeliest of a window first.

        Raises:
            RecordingError: as read_blocks raises it. Some damage shows only at the end, after good windows.
            LabousError: an option is out of range.
        """
        for found in self.analyze_windows(path, top_n, overlap, min_score):
            yield from found

    def analyze_windows(
        self, path: str | Path, top_n: int = 3, overlap: float = 0.0, min_score: float | None = None
    ) -> Iterator[list[Detection]]:
        """The same as :meth:`analyze`, a list for each window, so that a caller can follow and stop the work."""
        thresholds = self._thresholds(min_score)
        if top_n < 1:
            raise LabousError(f"top_n is {top_n}; it must be at least 1.")
        rate = self.frontend.sample_rate
        blocks = recordings.read_blocks(path, rate)
        for window, probabilities in self.scoring.follow(self._logits(blocks, overlap)):
            start, end = window.start / rate, window.end / rate
            yield detections(str(path), start, end, probabilities, self.labels, thresholds, top_n)

    def predict(
        self,
        recording: str | Path | NDArray[np.floating],
        sample_rate: int | None = None,
        overlap: float = 0.0,
    ) -> Predictions:
        """Every label's logit and probability in every window of a recording.

        Args:
            recording: a file, or samples in -1 … 1: [n_samples], or [n_samples, n_channels] as soundfile gives them.
            sample_rate: of the samples, Hz; None for the front end's. A file knows its own.
            overlap: of one window with the next, s.

        Raises:
            RecordingError: the file cannot be read, is silent, or cut short.
            SamplesError: the samples have the wrong shape, are none, or are not finite.
        """
        rate = self.frontend.sample_rate
        if isinstance(recording, (str, Path)):
            if sample_rate is not None:
                raise ValueError("sample_rate belongs to samples; a file knows its own")
            blocks = recordings.read_blocks(recording, rate)
        else:
            blocks = recordings.resampled([_mono(recording)], sample_rate or rate, rate)
        seen = list(self._logits(blocks, overlap))
        logits = np.array([logits for _, logits in seen], np.float32).reshape(-1, len(self.labels))
        return Predictions(
            starts=np.array([window.start for window, _ in seen], np.float64) / rate,
            ends=np.array([window.end for window, _ in seen], np.float64) / rate,
            logits=logits,
            probabilities=self.scoring.probabilities(logits),
            labels=self.labels,
        )

    def _logits(
        self, blocks: Iterable[recordings.Samples], overlap: float
    ) -> Iterator[tuple[recordings.Window, NDArray[np.float32]]]:
        shared = recordings.check_overlap(overlap, self.frontend)
        mels, heard = self.open_windows(self.frontend.window_samples - shared if shared else None), 0
        try:
            for window in recordings.windows(blocks, self.frontend, overlap):
                fresh = len(window.samples) if heard <= window.start else window.end - heard
                heard = window.end
                yield window, self.model.predict(mels(window.samples, fresh))
        finally:
            mels.close()

    def open_windows(self, step: int | None = None) -> MelWindows:
        """The front end for windows in their order, with the frames that they share computed once.

        Args:
            step: samples from one window to the next, where they overlap; None where that is to be seen.
        """
        return MelWindows(self.mel, self._mel_engine, step)

    def _thresholds(self, min_score: float | None) -> NDArray[np.float32]:
        if min_score is None:
            thresholds = self.manifest.detection.thresholds
            return np.array([thresholds[label.ebird_code] for label in self.labels], np.float32)
        if not 0 <= min_score <= 1:
            raise LabousError(f"min_score is {min_score}; it must be between 0 and 1.")
        return np.full(len(self.labels), min_score, np.float32)

    def _require(self, name: str) -> None:
        if name not in self.files:
            raise BundleError(f"Bundle {str(self.path)!r}: {name} is not listed in SHA256SUMS; fetch the bundle again.")

    def _check_consistency(self) -> None:
        """Check the manifest against the front end and the labels."""
        frontend, n_labels = self.frontend, len(self.labels)
        wanted_in, wanted_out = (1, frontend.n_mels, frontend.n_frames, 1), (1, n_labels)
        if not self.manifest.models:
            raise BundleError(f"Bundle {str(self.path)!r} has no model; export the bundle again.")
        for name, model in self.manifest.models.items():
            self._check_shape(name, "input", model, wanted_in, "the front end gives")
            self._check_shape(name, "output", model, wanted_out, f"{self.manifest.labels} needs")
        told, codes = self.manifest.detection, {label.ebird_code for label in self.labels}
        by_label: dict[str, Mapping[str, object]] = {"thresholds": told.thresholds}
        if self.manifest.schema_version >= 2:
            by_label["calibration"] = told.calibration
        for name, values in by_label.items():
            if codes != set(values):
                odd = sorted(codes ^ set(values))
                raise BundleError(
                    f"Bundle {str(self.path)!r}: detection.{name} and {self.manifest.labels} disagree about "
                    f"{', '.join(odd[:5])}; export the bundle again."
                )
        self._check_libraries()

    def _check_libraries(self) -> None:
        """Check that libraries were made from the files that they stand for."""
        float32 = self.manifest.models.get("float32")
        for native in self.manifest.native.values():
            self._check_source(native.mel, self.manifest.mel.file)
            self._check_source(native.model, "model.tflite" if float32 is None else float32.file)

    def _check_source(self, made: NativeFile, source: str) -> None:
        if hashlib.sha256(self.files.get(source, b"")).hexdigest() != made.source:
            raise BundleError(
                f"Bundle {str(self.path)!r}: {made.file} was not made from its {source}; export the bundle again."
            )

    def _check_shape(self, name: str, side: str, model: ModelFile, wanted: tuple[int, ...], why: str) -> None:
        shape = (model.input if side == "input" else model.output).shape
        if shape != wanted:
            raise BundleError(
                f"Bundle {str(self.path)!r}: models.{name}.{side}.shape is {list(shape)} and {why} {list(wanted)}; "
                "export the bundle again."
            )


def _mono(samples: NDArray[np.floating]) -> NDArray[np.float32]:
    array = np.asarray(samples)
    if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.floating) or array.size == 0:
        raise SamplesError(
            f"Samples are {array.dtype} {list(array.shape)}; give floats [n_samples] or [n_samples, n_channels]."
        )
    mono = array.astype(np.float32, copy=False)
    if mono.ndim == 2:
        mono = mono.mean(axis=1)
    finite = np.isfinite(mono)
    if not finite.all():
        raise SamplesError(f"Sample {int(np.argmin(finite))} is not finite; replace it before asking.")
    return mono


def read_labels(content: bytes, name: str, remedy: str = "export the bundle again") -> tuple[Label, ...]:
    """A table of labels, each a row, in the order of the logits.

    Args:
        content: of a file like a bundle's ``labels.csv``.
        name: of the file, for errors.
        remedy: what to do about an error.

    Raises:
        BundleError: it is no such table.
    """
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BundleError(f"{name} is not a UTF-8 table ({error}); {remedy}.") from error
    if not rows or rows[0] != _LABEL_COLUMNS:
        raise BundleError(f"{name}: its first line must be {','.join(_LABEL_COLUMNS)}; {remedy}.")
    labels = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(_LABEL_COLUMNS) or not all(cell.isprintable() for cell in row) or not row[0]:
            raise BundleError(f"{name}: line {number} is not four printable columns; {remedy}.")
        labels.append(Label(*row))
    codes = [label.ebird_code for label in labels]
    if not codes or len(set(codes)) != len(codes):
        raise BundleError(f"{name} has no label, or the same ebird_code twice; {remedy}.")
    return tuple(labels)
