"""clips: the sound of each observation, and a picture of it."""

from __future__ import annotations

import dataclasses
import datetime
import io
import logging
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labous.errors import LabousError, NodeError
from labous.formats import printable
from labous.nodes import Context, Record
from labous.options import option
from labous.station.files import safe_name
from labous.station.log import Seldom
from labous.station.observations import Observation
from labous.station.shelf import Shelf
from labous.station.sonagram import sonagram
from labous.station.writes import Writes, usable_folder

_MEGABYTE = 1_000_000
_WAITING = 16 * _MEGABYTE  # bytes of clips that a full disk may hold up
_BLOCK = 4000  # samples; libsndfile crashes on long writes of Ogg
_TELL_SECONDS = 600.0
_FORMATS = {"flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}

_logger = logging.getLogger("labous")

Samples = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Clips:
    """The sound of each observation with what came before and after, and a picture of its spectrogram, in a folder per
    species: ``eurrob1/20260501T041530Z-1b4e28ba.flac``.

    When the clips have filled their share of the disk, the oldest of the species with the most make room. Sound that a
    privacy node withheld is in no clip. A clip is saved when the sound after it has come; a power cut before that loses
    it.
    """

    path: str | None = option(
        "folder of the clips, relative to the pipeline file; if left out, `clips` in the station's state directory",
        None,
        least=1,
        names="writes",
    )
    format: str = option("of the sound: lossless, or a fifth of that", "flac", choices=tuple(_FORMATS))
    before: float = option("sound before the observation, s", 3.0, minimum=0, maximum=60)
    after: float = option("sound after the observation, s", 3.0, minimum=0, maximum=60)
    spectrogram: bool = option("whether a PNG of the spectrogram is saved too", True)
    megabytes: float = option("of disk that all clips together may take, MB", 1000.0, above=0)
    free_megabytes: float = option("of disk that are left free, MB: below, no clip is saved", 100.0, minimum=0)
    privacy: bool = option(
        "whether a privacy node is put before the first confirm or sink where no node before this is one", True
    )
    input: str = option("column of the sound", "audio", least=1)
    observations: str = option("column of the observations", "observations", least=1)

    def reads(self) -> tuple[str, ...]:
        """Its columns."""
        return self.input, self.observations

    def open(self, context: Context) -> _Node:
        """The node, the clips that there are counted.

        Raises:
            NodeError: soundfile is not installed, or nothing can be written into the folder.
        """
        try:
            import soundfile
        except (ImportError, OSError) as error:  # OSError: soundfile without libsndfile
            raise NodeError("clips: saving sound needs soundfile; run: pip install 'labous[audio]'") from error
        return _Node(self, context, soundfile)


class _Node:
    def __init__(self, options: Clips, context: Context, soundfile: Any) -> None:
        self._options, self._context, self._soundfile = options, context, soundfile
        self._folder = usable_folder(context.state / "clips" if options.path is None else context.path(options.path))
        context.sound_folders.append(self._folder)
        self._shelf = Shelf(self._folder, int(options.megabytes * _MEGABYTE), context.counters)
        self._writes = Writes(context, "clips", _WAITING)
        self._seldom = Seldom(_logger, _TELL_SECONDS)
        self._rate = context.bundle.frontend.sample_rate
        self._before, self._after = round(options.before * self._rate), round(options.after * self._rate)
        self._tapes: dict[str, _Tape] = {}

    def process(self, record: Record) -> Iterator[Record]:
        """The record; the clips that it completes are saved."""
        self._writes.settle()
        tape = self._tapes.get(record.stream)
        if tape is not None and not tape.goes_on_with(record):
            self._save(tape)
            tape = None
        if tape is None:
            tape = self._tapes[record.stream] = _Tape(record.start)
        tape.add(record, record.columns[self._options.input])
        tape.wanted += [(record.start, record.end, seen) for seen in record.columns[self._options.observations]]
        self._save(tape, tape.end - self._after)
        tape.forget(min([record.start, *(start for start, _, _ in tape.wanted)]) - self._before)
        yield record

    def end(self, stream: str) -> tuple[Record, ...]:
        """Nothing is held back, and all is on disk.

        Raises:
            NodeError: it is not, and the station is to stop.
        """
        tape = self._tapes.pop(stream, None)
        if tape is not None:
            self._save(tape)
        self._writes.finish()
        return ()

    def close(self) -> None:
        """Save what has come of the clips whose end has not."""
        for tape in self._tapes.values():
            self._save(tape)
        self._tapes.clear()
        self._writes.close()

    def _save(self, tape: _Tape, until: int | None = None) -> None:
        """Save the clips that are wanted of a tape: all, or those of windows that end by a sample."""
        for start, end, observation in tape.wanted:
            if until is None or end <= until:
                first, samples = tape.cut(start - self._before, end + self._after)
                self._put(observation, samples, ((start - first) / len(samples), (end - first) / len(samples)))
        tape.wanted = [] if until is None else [wanted for wanted in tape.wanted if wanted[1] > until]

    def _put(self, observation: Observation, samples: Samples, marked: tuple[float, float]) -> None:
        files = {f".{self._options.format}": self._encoded(observation, samples)}
        picture = self._picture(samples, marked) if self._options.spectrogram else None
        if picture is not None:
            files[".png"] = picture
        species = safe_name(observation.detection.ebird_code)
        self._writes.put(species, sum(map(len, files.values())), self._writing(species, _clip_name(observation), files))

    def _writing(self, species: str, clip: str, files: dict[str, bytes]) -> Callable[[], None]:
        def write() -> None:
            if shutil.disk_usage(self._folder).free < self._options.free_megabytes * _MEGABYTE:
                self._context.counters.add("lost_clips_total")
                self._seldom.warning("free", "A clip is not saved: the disk of %s is nearly full.", self._folder)
            elif self._shelf.put(species, clip, files):
                self._context.counters.add("clips_total")

        return write

    def _encoded(self, observation: Observation, samples: Samples) -> bytes:
        kind, subtype = _FORMATS[self._options.format]
        detection, out = observation.detection, io.BytesIO()
        safe = np.clip(np.nan_to_num(samples), -1, 1)
        with self._soundfile.SoundFile(out, "w", self._rate, 1, format=kind, subtype=subtype) as file:
            file.title = printable(f"{detection.scientific_name} ({detection.common_name})")
            file.comment = f"{observation.id} probability {detection.score:.3f}"
            if observation.time is not None:
                file.date = observation.time.astimezone(datetime.timezone.utc).isoformat(timespec="seconds")
            for start in range(0, len(safe), _BLOCK):
                file.write(safe[start : start + _BLOCK])
        return out.getvalue()

    def _picture(self, samples: Samples, marked: tuple[float, float]) -> bytes | None:
        try:
            return sonagram(self._context.bundle.decibels(samples), marked)
        except LabousError as error:  # of less than a frame, or of sound that is none
            self._seldom.warning("picture", "A clip has no spectrogram: %s", error)
            return None


class _Tape:
    """The last sound of a stream, without a gap, and what is still wanted of it.

    Attributes:
        end: the sample behind its last.
        wanted: windows of which clips are to be made: start, end, observation.
    """

    def __init__(self, start: int) -> None:
        self.end = start
        self.wanted: list[tuple[int, int, Observation]] = []
        self._pieces: list[tuple[int, Samples]] = []
        self._last = start - 1

    def goes_on_with(self, record: Record) -> bool:
        """Whether a window touches it, and is later than all before."""
        return self._last < record.start <= self.end

    def add(self, record: Record, samples: Samples) -> None:
        """Take what is new of a window."""
        self._last = record.start
        if record.end > self.end:
            whole = samples[: record.end - record.start]  # without padding
            self._pieces.append((self.end, whole[self.end - record.start :].copy()))
            self.end = record.end

    def cut(self, start: int, end: int) -> tuple[int, Samples]:
        """The samples from start to end, as far as there are any; and the first's place."""
        joined = np.concatenate([piece for _, piece in self._pieces])
        origin = self._pieces[0][0]
        first = max(start, origin)
        return first, joined[first - origin : max(end - origin, 0)]

    def forget(self, before: int) -> None:
        """Drop the pieces that end before a sample."""
        while len(self._pieces) > 1 and self._pieces[1][0] <= before:
            self._pieces.pop(0)


def _clip_name(observation: Observation) -> str:
    if observation.time is None:
        return f"undated-{observation.id}"
    return f"{observation.time.astimezone(datetime.timezone.utc):%Y%m%dT%H%M%SZ}-{observation.id[:8]}"
