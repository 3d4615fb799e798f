"""A microphone, or whatever else the system takes sound from, through PortAudio."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

from labous.errors import NodeError
from labous.formats import printable
from labous.nodes import Context
from labous.options import option
from labous.recordings import Samples
from labous.station.buffer import Buffer
from labous.station.capture import Live, LiveOptions, again_and_again

_BLOCK_SECONDS = 0.1
_HANGS_AFTER_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Microphone(LiveOptions):
    """Sound from a microphone. ``labous devices`` lists their names.

    A microphone that is unplugged, or not there yet, is looked for again and again, by its name.
    """

    device: str | None = option(
        "its name, or a part of the name that no other has; the system's default, if left out", None, least=1
    )
    sample_rate: int | None = option("Hz; the device's own, if left out", None, minimum=1_000, maximum=1_000_000)
    channels: int | None = option("averaged; as few as the device gives, if left out", None, minimum=1, maximum=64)
    stall_seconds: float = option("without sound, after which the device is opened anew, s", 5.0, minimum=1)
    retry_seconds: float = option("the longest wait before a device is opened anew, s", 30.0, minimum=1)

    def untried(self) -> str:
        """Whether it is there."""
        return "whether it gives sound"

    def open(self, context: Context) -> Live:
        """The source; the device need not be there yet.

        Raises:
            NodeError: sounddevice or PortAudio is not installed.
        """
        sounddevice()
        name = printable(self.name or self.device or "microphone")

        def capture(buffer: Buffer) -> None:
            def attempt() -> None:
                self._listen(context, buffer)

            again_and_again(context, "microphone", attempt, buffer, self.retry_seconds, name)

        return Live(context, "microphone", self, name, True, capture)

    def _listen(self, context: Context, buffer: Buffer) -> None:
        """Capture until the device fails, falls silent, or the station is stopping."""
        sd = sounddevice()
        try:
            with _bounded(buffer, "looked for"):
                _look_again(sd)
                device = find(inputs(sd), self.device)
            rate = self.sample_rate or round(device.sample_rate)
            self._capture(sd, device, rate, context, buffer)
        except sd.PortAudioError as error:
            raise NodeError(printable(str(error))) from error

    def _capture(self, sd: Any, device: Device, rate: int, context: Context, buffer: Buffer) -> None:
        heard, failed = [time.monotonic()], threading.Event()

        def take(samples: Samples, frames: int, when: Any, status: Any) -> None:
            # in PortAudio's own thread: what is raised here would end the stream without a word
            if status.input_overflow:
                context.counters.add("audio_overruns_total")
                buffer.begin(rate)
            buffer.put(samples[:, 0].copy() if samples.shape[1] == 1 else samples.mean(axis=1))
            heard[0] = time.monotonic()

        with _bounded(buffer, "opened"):
            stream = sd.InputStream(
                samplerate=rate,
                blocksize=round(_BLOCK_SECONDS * rate),
                device=device.index,
                channels=self._channels(sd, device, rate),
                dtype="float32",
                latency="high",
                callback=take,
                finished_callback=failed.set,
            )
        try:
            with _bounded(buffer, "started"):
                buffer.begin(rate)
                stream.start()
            while not context.stopping.wait(0.25):
                if failed.is_set():
                    raise NodeError("it has stopped")
                if time.monotonic() - heard[0] > self.stall_seconds:
                    raise NodeError(f"no sound has come for {self.stall_seconds:g} s")
        finally:
            with _bounded(buffer, "closed"):
                stream.close()

    def _channels(self, sd: Any, device: Device, rate: int) -> int:
        """How many to ask for: what the user says, or the fewest that the device gives."""
        if self.channels is not None:
            return self.channels
        for channels in (1, 2):
            try:
                sd.check_input_settings(device.index, channels, "float32", samplerate=rate)
            except sd.PortAudioError:
                continue
            return channels
        return device.channels


@dataclasses.dataclass(frozen=True)
class Device:
    """A device that gives sound.

    Attributes:
        index: PortAudio's, which changes when devices come and go.
        host: the sound system that it is reached through.
        channels: the most it gives.
        sample_rate: its own, Hz.
        default: whether it is the system's default.
    """

    index: int
    name: str
    host: str
    channels: int
    sample_rate: float
    default: bool


def sounddevice() -> Any:
    """The package, which loads PortAudio.

    Raises:
        NodeError: one of them is not installed.
    """
    try:
        import sounddevice as package
    except ImportError as error:
        raise NodeError("A microphone needs sounddevice; run: pip install 'labous[microphone]'") from error
    except OSError as error:
        raise NodeError("A microphone needs PortAudio; install the system's package libportaudio2.") from error
    return package


def inputs(sd: Any) -> list[Device]:
    """The devices that give sound, as they were when PortAudio last looked."""
    hosts = sd.query_hostapis()
    default = sd.default.device[0]
    if default < 0 and hosts:
        default = hosts[0]["default_input_device"]
    return [
        Device(
            entry["index"],
            entry["name"],
            hosts[entry["hostapi"]]["name"],
            entry["max_input_channels"],
            entry["default_samplerate"],
            entry["index"] == default,
        )
        for entry in sd.query_devices()
        if entry["max_input_channels"] > 0
    ]


def find(devices: list[Device], wanted: str | None) -> Device:
    """The device of a name: the whole of it, or a part that only one has; of upper or lower case.

    Raises:
        NodeError: there is none, or more than one.
    """
    if wanted is None:
        found = [device for device in devices if device.default]
        name = "the system's default"
    else:
        found = [device for device in devices if device.name.lower() == wanted.lower()]
        found = found or [device for device in devices if wanted.lower() in device.name.lower()]
        name = repr(wanted)
    if len(found) == 1:
        return found[0]
    known = ", ".join(repr(printable(device.name)) for device in found or devices) or "none at all"
    raise NodeError(f"{'several devices are' if found else 'no device is'} {name}; there are: {known}")


def _look_again(sd: Any) -> None:
    """Let PortAudio see which devices there are now; by itself it looks only once."""
    with contextlib.suppress(sd.PortAudioError):  # where it could not begin the last time, it cannot end
        sd._terminate()
    sd._initialize()


@contextlib.contextmanager
def _bounded(buffer: Buffer, what: str) -> Iterator[None]:
    """End the source where PortAudio does not come back, as it may from a device that is gone.

    Its thread cannot be helped then; the service manager starts the station anew.
    """
    error = NodeError(f"The microphone could not be {what} within {_HANGS_AFTER_SECONDS:g} s; the sound system hangs.")
    timer = threading.Timer(_HANGS_AFTER_SECONDS, buffer.end, (error,))
    timer.name, timer.daemon = "labous-microphone-limit", True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
