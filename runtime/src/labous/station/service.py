"""The systemd unit of a station: a user of its own, nothing to write but its state, no device but sound."""

from __future__ import annotations

import dataclasses
import itertools
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from labous.errors import PipelineError
from labous.options import named
from labous.station.delivery import credential
from labous.station.pipeline_file import Pipeline, Step

_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_SOUND_FORMATS = ("alsa", "pulse", "jack", "oss", "sndio")  # ffmpeg's, of sound devices
_SIZE = re.compile(r"[1-9][0-9]*[KMGT]?")


@dataclasses.dataclass(frozen=True)
class Service:
    """What a unit is made of.

    Attributes:
        pipeline: what it runs.
        python: the interpreter with Labous.
        user: an existing one; None for one that systemd makes, and that owns nothing else.
        writable: folders that nodes write into, beside the state directory.
        memory: that it may take, as systemd writes it: 512M.
    """

    pipeline: Pipeline
    python: Path
    user: str | None = None
    writable: Sequence[Path] = ()
    memory: str = "512M"

    @property
    def file_name(self) -> str:
        """Of the unit."""
        return f"labous-{self.pipeline.station.name}.service"

    def check(self) -> None:
        """Refuse what could be written and could not run.

        Raises:
            PipelineError: why, and what to do.
        """
        station, source = self.pipeline.station, self.pipeline.steps[0]
        if source.type == "stdin":
            raise PipelineError("A service has no standard input; begin the pipeline with microphone or ffmpeg.")
        if _SIZE.fullmatch(self.memory) is None:
            raise PipelineError(f"--memory is {self.memory!r}; write a number of bytes with K, M or G, as in 512M.")
        self._check_secrets()
        if self.user is not None:
            import pwd

            try:
                pwd.getpwnam(self.user)
            except KeyError as error:
                raise PipelineError(f"There is no user {self.user!r} here; make one, or leave --user out.") from error
            for folder in self._written():  # without which systemd starts nothing
                if not folder.is_dir():
                    raise PipelineError(f"{str(folder)!r} is no folder; make it, and let the user write into it.")
            self._check_sinks()
            return
        if station.state is not None:
            raise PipelineError(
                "A user that systemd makes keeps its state in /var/lib/labous; leave station.state out, or give --user."
            )
        if self.writable:
            raise PipelineError("A user that systemd makes owns no other folders; give --user with --writable.")
        self._check_sinks()
        for path in (
            self.pipeline.path, self.pipeline.bundle, self.python, Path(__file__),
            *(path for _, _, path in self._named("reads")),
        ):  # fmt: skip
            closed = next(_closed(path), None)
            if closed is not None:
                raise PipelineError(
                    f"{str(closed)!r} cannot be read by other users, so not by the service's own; let them, move what "
                    "is in it, to /etc/labous or /opt say, or give --user."
                )

    def unit(self) -> str:
        """The unit's text."""
        station = self.pipeline.station
        name = f"labous/{station.name}"
        restart = "on-failure" if self._ends() else "always"
        lines = [
            "[Unit]",
            f"Description=Labous station {station.name}",
            "After=network.target sound.target",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            f"ExecStart={_quoted(self.python)} -m labous run {_quoted(self.pipeline.path)}",
            f"WorkingDirectory={_escaped(self.pipeline.folder)}",
            f"Restart={restart}",
            "RestartSec=5",
            "TimeoutStartSec=300",
            "TimeoutStopSec=15",
            "WatchdogSec=300",
            f"MemoryMax={self.memory}",
            "",
            "DynamicUser=yes" if self.user is None else f"User={_escaped(self.user)}",
            f"StateDirectory={name}",
            f"RuntimeDirectory={name}",
            "RuntimeDirectoryPreserve=yes",
            f"CacheDirectory={name}",
            f"Environment=LABOUS_CACHE_DIR=%C/{name}",
            *(f"ReadWritePaths={_quoted(path)}" for path in self._written()),
            *(
                f"LoadCredential={credential(step.options.name, key.removesuffix('_file'))}:{_escaped(path)}"  # type: ignore[attr-defined]
                for step, key, path in self._named("secret")
            ),
            "",
            *(["SupplementaryGroups=audio", "DeviceAllow=char-alsa rw"] if self._hears() else ["PrivateDevices=yes"]),
            "DevicePolicy=closed",
            f"ProtectHome={'read-only' if self._needs_homes() else 'yes'}",
            *_HARDENING,
            "",
            "[Install]",
            "WantedBy=multi-user.target",
        ]
        return "\n".join(lines) + "\n"

    def _named(self, what: str) -> Iterator[tuple[Step, str, Path]]:
        """The options that name such a thing of the machine: of which step, their keys, and where it is."""
        for step in self.pipeline.steps:
            for key, meant, value in named(step.options):
                if meant == what:
                    yield step, key, (self.pipeline.folder / value).absolute()

    def _written(self) -> list[Path]:
        """What may be written beside the folders that systemd makes."""
        return [*self.writable, *([self.pipeline.state] if self.pipeline.station.state is not None else [])]

    def _check_secrets(self) -> None:
        for step, key, path in self._named("environment"):
            raise PipelineError(
                f"{step.type}: {key} names the environment variable {path.name}, which a service does not have; put "
                f"the secret into a file, and name that by {key.removesuffix('_env')}_file."
            )
        for step, key, path in self._named("secret"):
            if not path.is_file():
                raise PipelineError(f"{step.type}: {key} names {str(path)!r}, which is no file; make it.")

    def _check_sinks(self) -> None:
        allowed = [folder.resolve() for folder in self._written()]
        for step, key, path in self._named("writes"):
            if not any(path.resolve().is_relative_to(folder) for folder in allowed):
                raise PipelineError(
                    f"{step.type}: {key} is {str(path)!r}, where the service may not write; leave it out, or give "
                    "--user, and --writable with a folder that it is in."
                )

    def _hears(self) -> bool:
        """Whether the source needs the machine's sound devices."""
        source = self.pipeline.steps[0]
        given = getattr(source.options, "input_options", ())
        return source.type == "microphone" or any(
            option == "-f" and value in _SOUND_FORMATS for option, value in itertools.pairwise(given)
        )

    def _ends(self) -> bool:
        """Whether the source comes to an end, after which there is nothing to start again for."""
        source = self.pipeline.steps[0]
        return source.type == "file" or (source.type == "folder" and not getattr(source.options, "watch", True))

    def _needs_homes(self) -> bool:
        """Whether something that the service reads lies in somebody's home."""
        named = [self.pipeline.path, self.pipeline.bundle, self.python, Path(__file__), *self.writable]
        for step in self.pipeline.steps:
            values = dataclasses.asdict(step.options).values()  # type: ignore[call-overload]
            named += [self.pipeline.folder / value for value in values if isinstance(value, str) and "\0" not in value]
        return any(path.resolve().is_relative_to(home) for path in named for home in _HOMES)


_HARDENING = (
    "CapabilityBoundingSet=",
    "LockPersonality=yes",
    "# no MemoryDenyWriteExecute: Wasmtime and the model's engine make machine code",
    "NoNewPrivileges=yes",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RemoveIPC=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallErrorNumber=EPERM",
)


def _closed(path: Path) -> Iterator[Path]:
    """What keeps other users from a path: itself, or a folder above it."""
    for there in {path.absolute(): None, path.resolve(): None}:
        if there.is_symlink():
            continue
        for above in reversed(there.parents):
            if not above.stat().st_mode & stat.S_IXOTH:
                yield above
        wanted = stat.S_IROTH | (stat.S_IXOTH if there.is_dir() else 0)
        if there.exists() and there.stat().st_mode & wanted != wanted:
            yield there


def _escaped(text: object) -> str:
    """A text in which systemd sees no specifier; a control character is refused."""
    plain = str(text)
    if not plain.isprintable():
        raise PipelineError(f"{plain!r} holds a control character; rename it.")
    return plain.replace("%", "%%")


def _quoted(path: Path) -> str:
    """A path as one word of a unit."""
    text = _escaped(path).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{text}"'
