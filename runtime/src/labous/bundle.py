"""A bundle in use: proved, opened, and asked about recordings. docs/bundle.md describes the files."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labous import consistency, libraries, recordings
from labous.archive import read_files, write_checksums
from labous.detect import Detection, Label, Predictions, Scoring, birds_only, detections
from labous.errors import BundleError, EngineError, LabousError, SamplesError
from labous.frontend import Frontend
from labous.labels import read_labels
from labous.manifest import PRECISIONS, Manifest, ModelFile, Native
from labous.mel import MelEngine, MelSpectrogram, MelWindows, NativeEngine, WasmEngine, abi, compiled
from labous.models import Library, Model, ModelFiles, alternative, choose_engine, engine_named
from labous.models.inputs import averaged
from labous.power_law import AnyFrontend, in_decibels

__all__ = ["Bundle", "Label", "load", "read_labels", "write_checksums"]

_REQUIRED = ("manifest.json", "metrics.json", "MODEL_CARD.md")

_logger = logging.getLogger("labous")


def load(path: str | Path, precision: str | None = None, engine: str | None = None) -> Bundle:
    """Open a bundle and prove that this device can use it.

    A bundle trained on synthetic sound is announced with a warning in the log "labous", which Python shows on stderr
    unless a program has configured its logging.

    Args:
        path: a bundle's directory or .zip.
        precision: which of its models to run, "float32", "float16" or "int8"; None for the first of these that it has.
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
        not_birds: bool [n_labels], which labels are never detected, whatever their score.
    """

    def __init__(
        self,
        path: Path,
        files: Mapping[str, bytes],
        precision: str | None = None,
        engine: str | None = None,
        preferred: Sequence[str] = PRECISIONS,
    ) -> None:
        self.path = path
        self.files = files
        self._engine = engine
        for name in _REQUIRED:
            self._require(name)
        self.manifest = Manifest.from_json(files["manifest.json"])
        for name in self.manifest.files:
            self._require(name)
        self.labels = read_labels(files[self.manifest.labels], self.manifest.labels)
        consistency.check(str(path), self.manifest, self.labels, files)
        models = self.manifest.models
        self.precision = precision or next((name for name in preferred if name in models), next(iter(models)))
        told = set(self.manifest.detection.not_birds)
        self.not_birds: NDArray[np.bool_] = np.array([label.ebird_code in told for label in self.labels], np.bool_)

    @classmethod
    def read(
        cls,
        path: str | Path,
        precision: str | None = None,
        engine: str | None = None,
        preferred: Sequence[str] = PRECISIONS,
    ) -> Bundle:
        """Read and prove the files alone; nothing is run, and no engine need be installed. See :func:`load`.

        Args:
            path: as of load.
            precision: as of load; None for the first of ``preferred`` that the bundle has.
            engine: as of load.
            preferred: precisions.
        """
        return cls(Path(path), read_files(Path(path)), precision, engine, preferred)

    def with_precision(self, precision: str) -> Bundle:
        """The same files, with another of their models."""
        return Bundle(self.path, self.files, precision, self._engine)

    @property
    def frontend(self) -> AnyFrontend:
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

    @functools.cached_property
    def thresholds(self) -> NDArray[np.float32]:
        """The lowest probability at which each label is detected, float32 [n_labels]; infinite where it never is."""
        told = self.manifest.detection.thresholds
        return birds_only(np.array([told[label.ebird_code] for label in self.labels], np.float32), self.not_birds)

    @property
    def native(self) -> Native | None:
        """The libraries that were made for this machine, if the bundle has such."""
        return self.manifest.native.get(libraries.board())

    @functools.cached_property
    def mel(self) -> MelSpectrogram:
        """The front end, computed by the bundle's own WebAssembly module, or by the library that was made of it."""
        return MelSpectrogram(self.frontend, self._mel_engine)

    @functools.cached_property
    def decibels(self) -> MelSpectrogram:
        """A log-mel spectrogram of sound of any length, for people to look at: the front end itself, if it is such."""
        frontend = self.frontend
        return self.mel if isinstance(frontend, Frontend) else MelSpectrogram(in_decibels(frontend), self._mel_engine)

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
            law = not isinstance(self.frontend, Frontend)
            how = f"import it again with targets=[{machine}]" if law else f"export it with bundle.targets=[{machine}]"
            raise EngineError(
                f"{self.manifest.mel.file}: {why}; and the bundle has no library for {machine}: {how} "
                f"({'docs/birdnet.md' if law else 'docs/bundle.md'})."
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
        """The model of the chosen precision, its tensors checked against the manifest.

        Where the front end has several shifts, it is asked about each of them, and gives the mean.
        """
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
        return averaged(model, self.frontend.n_inputs)

    def _file_of(self, kind: str, described: ModelFile) -> str:
        """The path of the kind of file that an engine reads."""
        if kind == "library" and self.native is not None and self.native.model is not None:
            return self.native.model.file
        return self.manifest.onnx.file if kind == "onnx" and self.manifest.onnx is not None else described.file

    def model_files(self, precision: str) -> ModelFiles:
        """The files that are the model of a precision, by the kind that :mod:`labous.models` knows them by."""
        described = self.manifest.models[precision]
        files: ModelFiles = {"tflite": self.files[described.file]}
        twinned = next((name for name in ("float32", "float16") if name in self.manifest.models), None)
        if precision == twinned and self.manifest.onnx is not None:
            files["onnx"] = self.files[self.manifest.onnx.file]
        made = self.native.model if self.native is not None else None
        if precision == "float32" and made is not None:
            shapes = described.input.shape, described.output.shape
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
                of each. Labels that are no birds are not detected, whatever it is.

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
            return self.thresholds
        if not 0 <= min_score <= 1:
            raise LabousError(f"min_score is {min_score}; it must be between 0 and 1.")
        return birds_only(np.full(len(self.labels), min_score, np.float32), self.not_birds)

    def _require(self, name: str) -> None:
        if name not in self.files:
            raise BundleError(f"Bundle {str(self.path)!r}: {name} is not listed in SHA256SUMS; fetch the bundle again.")


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
