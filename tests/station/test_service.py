"""The systemd unit: what it lets a station do, and that systemd takes it."""

from __future__ import annotations

import getpass
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labous.errors import PipelineError
from labous.station import pipeline_file
from labous.station.service import Service, _quoted
from tests.counts import Counted
from tests.station import pipelines
from tests.station.needs import programs
from tests.station.pipelines import MIDDLE, node

STATION = '[station]\nbundle = "bundle"\nname = "garden"\n'
ME = getpass.getuser()
HTTP = node("http", url='"https://birds.example/"')


def service(folder: Path, source: str, *parts: str, station: str = STATION, **told: object) -> Service:
    pipeline = pipeline_file.read(pipelines.write(folder, source, *parts, station=station))
    return Service(pipeline, Path(sys.executable), **{"user": ME, **told})  # type: ignore[arg-type]


def lines(made: Service) -> list[str]:
    made.check()
    return made.unit().splitlines()


def _analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    programs("systemd-analyze", untested="the unit")
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


SOURCES = {
    "microphone": node("microphone"),
    "ffmpeg": node("ffmpeg", url='"rtsp://camera.example/1"'),
    "folder": node("folder", path='"sound"', watch="true"),
    "file": node("file", path='"a.wav"'),
}


@pytest.mark.parametrize("user", [None, ME])
@pytest.mark.parametrize("source", SOURCES)
def test_systemd_takes_the_unit_and_finds_it_closed(
    tmp_path: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, user: str | None, counted: Counted
) -> None:
    monkeypatch.setattr("labous.station.service._closed", lambda path: iter(()))  # this machine's folders are no matter
    made = service(bundle_path.parent, SOURCES[source], MIDDLE, HTTP, user=user)
    made.check()
    unit = tmp_path / made.file_name
    unit.write_text(made.unit())
    verified = _analyze("verify", "--man=no", unit)
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = _analyze("security", "--offline=true", "--no-pager", unit)
    exposure = float(judged.stdout.rpartition("exposure level for")[2].split(":")[1].split()[0])
    counted(
        f"the unit of a {source}, {'a user of its own' if user is None else 'the user at hand'}",
        f"exposure {exposure} (10 is open, 0 is closed)",
    )
    assert exposure <= (2.0 if user is None else 2.2)


def test_a_microphone_has_sound_and_no_other_source_has_a_device(bundle_path: Path) -> None:
    folder = bundle_path.parent
    heard = lines(service(folder, SOURCES["microphone"]))
    assert {"SupplementaryGroups=audio", "DeviceAllow=char-alsa rw", "DevicePolicy=closed"} <= {*heard}
    assert "PrivateDevices=yes" not in heard
    camera = lines(service(folder, SOURCES["ffmpeg"]))
    assert {"PrivateDevices=yes", "DevicePolicy=closed"} <= {*camera}
    assert not [line for line in camera if line.startswith(("DeviceAllow", "SupplementaryGroups"))]


def test_a_source_that_ends_is_not_begun_again_for_ever(bundle_path: Path) -> None:
    restarts = {
        name: next(line for line in lines(service(bundle_path.parent, source)) if line.startswith("Restart="))
        for name, source in {**SOURCES, "once": node("folder", path='"sound"', watch="false")}.items()
    }
    assert restarts == {
        "microphone": "Restart=always", "ffmpeg": "Restart=always", "folder": "Restart=always",
        "file": "Restart=on-failure", "once": "Restart=on-failure",
    }  # fmt: skip


def test_a_user_of_its_own_owns_its_state_and_nothing_else(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labous.station.service._closed", lambda path: iter(()))
    folder = bundle_path.parent
    unit = lines(service(folder, SOURCES["microphone"], user=None))
    assert {"DynamicUser=yes", "StateDirectory=labous/garden", "ProtectSystem=strict", "MemoryMax=512M"} <= {*unit}
    assert not [line for line in unit if line.startswith(("ReadWritePaths", "User="))]
    (folder / "s").mkdir()
    (folder / "x y").mkdir()
    clips = node("clips", path='"x y/clips"')
    own = lines(
        service(
            folder, SOURCES["microphone"], MIDDLE, clips, station=STATION + 'state = "s"\n', writable=[folder / "x y"]
        )
    )
    assert f"User={ME}" in own and "DynamicUser=yes" not in own
    assert [line for line in own if line.startswith("ReadWritePaths")] == [
        f'ReadWritePaths="{folder}/x y"', f'ReadWritePaths="{folder}/s"',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "station", "told", "match"),
    [
        (node("stdin"), STATION, {}, "A service has no standard input"),
        (SOURCES["file"], STATION, {"memory": "much"}, r"--memory is 'much'; write a number of bytes"),
        (SOURCES["file"], STATION, {"memory": "1G\nUser=root"}, "--memory is"),
        (SOURCES["file"], STATION, {"user": "nobody-has-this-name"}, "There is no user 'nobody-has-this-name' here"),
        (SOURCES["file"], STATION + 'state = "s"\n', {"user": None}, "leave station.state out, or give --user"),
        (SOURCES["file"], STATION, {"user": None, "writable": [Path("/usr")]}, "give --user with --writable"),
        (SOURCES["file"], STATION, {"writable": [Path("/nowhere")]}, "'/nowhere' is no folder; make it"),
        (SOURCES["file"], STATION + 'state = "s"\n', {}, "/s' is no folder; make it"),
        *(
            (
                SOURCES["file"] + MIDDLE + node("clips", path='"/mnt/usb/clips"'),
                STATION,
                told,
                "clips: path is '/mnt/usb/clips', where the service may not write; leave it out, or give --user",
            )
            for told in ({"user": None}, {}, {"writable": [Path("/usr")]})
        ),
        (
            SOURCES["file"] + MIDDLE + node("http", url='"https://x.example/"', token_env='"T"'),
            STATION,
            {},
            "http: token_env names the environment variable T, which a service does not have; .* by token_file",
        ),
        (
            SOURCES["file"] + MIDDLE + node("http", url='"https://x.example/"', token_file='"token"'),
            STATION,
            {},
            "http: token_file names '.*/token', which is no file; make it",
        ),
    ],
)
def test_what_could_not_run_is_refused(
    bundle_path: Path, source: str, station: str, told: dict[str, object], match: str
) -> None:
    with pytest.raises(PipelineError, match=match):
        service(bundle_path.parent, source, station=station, **told).check()


def test_a_secret_that_only_root_can_read_is_handed_over(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labous.station.service._closed", lambda path: iter(()))
    folder = bundle_path.parent
    (folder / "a token").write_text("s3cret")
    (folder / "a token").chmod(0o600)
    sink = node("http", url='"https://birds.example/"', token_file='"a token"')
    broker = node("mqtt", host='"h"', username='"u"', password_file='"a token"', name='"ha"')
    unit = lines(service(folder, SOURCES["file"], MIDDLE, sink, broker, user=None))
    assert [line for line in unit if line.startswith("LoadCredential=")] == [
        f"LoadCredential=http-token:{folder}/a token", f"LoadCredential=ha-password:{folder}/a token",
    ]  # fmt: skip
    assert "s3cret" not in "\n".join(unit)
    (folder / "labous-garden.service").write_text("\n".join(unit))
    verified = _analyze("verify", "--man=no", folder / "labous-garden.service")
    assert (verified.returncode, verified.stderr) == (0, "")


def test_whatever_a_node_reads_must_be_readable(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle_path.parent
    monkeypatch.setattr("labous.station.service._closed", lambda path: (p for p in [path] if p.name == "list.txt"))
    confirm = node("confirm", species_list='"list.txt"')
    middle = node("wasm") + node("tflite") + confirm
    with pytest.raises(PipelineError, match=r"list\.txt' cannot be read by other users"):
        service(folder, SOURCES["file"], middle, HTTP, user=None).check()


@pytest.mark.parametrize("form", ["alsa", "pulse"])
def test_ffmpeg_has_sound_where_it_listens_to_a_device(form: str, bundle_path: Path) -> None:
    source = node("ffmpeg", url='"hw:1"', input_options=f'["-f", "{form}"]', live='"yes"')
    unit = lines(service(bundle_path.parent, source, MIDDLE, HTTP))
    assert {"SupplementaryGroups=audio", "DeviceAllow=char-alsa rw", "DevicePolicy=closed"} <= {*unit}
    assert "PrivateDevices=yes" not in unit


def test_what_other_users_cannot_read_is_refused_for_a_user_of_its_own(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundle_path.parent
    made = service(folder, SOURCES["file"], user=None)
    monkeypatch.setattr("pathlib.Path.parents", property(lambda self: ()))  # pytest's folders are its own alone
    opened = {folder: 0o755, bundle_path: 0o755, made.pipeline.path: 0o644}
    for path, mode in opened.items():
        path.chmod(mode)
    for path, mode in ((bundle_path, 0o750), (bundle_path, 0o754), (made.pipeline.path, 0o640)):
        path.chmod(mode)
        with pytest.raises(PipelineError, match=rf"^'{path}' cannot be read by other users"):
            made.check()
        path.chmod(opened[path])


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], include_characters='%$"\\ '), min_size=1))
def test_any_path_is_one_word_of_the_command(name: str) -> None:
    """Systemd's quoting is close to the shell's; % and $ are doubled."""
    if not name.isprintable():
        return
    quoted = _quoted(Path("/" + name)).replace("%%", "%")
    assert [word.replace("$$", "$") for word in shlex.split(quoted)] == [str(Path("/" + name))]


def test_a_control_character_cannot_add_a_line() -> None:
    with pytest.raises(PipelineError, match="holds a control character"):
        _quoted(Path("/a\nUser=root"))


def test_the_command_prints_and_writes_only_when_told(bundle_path: Path, tmp_path: Path) -> None:
    path = pipelines.write(bundle_path.parent, SOURCES["ffmpeg"], MIDDLE, HTTP, station=STATION)
    units = tmp_path / "units"
    units.mkdir()
    told = ["install-service", path, "--user", ME, "--folder", units, "--memory", "256M"]
    dry = pipelines.run(*told)
    assert dry.returncode == 0, dry.stderr
    assert not list(units.iterdir())
    assert f"--write would write {units}/labous-garden.service" in dry.stderr
    assert f'ExecStart="{sys.executable}" -m labous run "{path}"' in dry.stdout
    assert "MemoryMax=256M" in dry.stdout
    wet = pipelines.run(*told, "--write")
    assert wet.returncode == 0, wet.stderr
    assert [(p.name, p.read_text(), p.stat().st_mode & 0o777) for p in units.iterdir()] == [
        ("labous-garden.service", dry.stdout, 0o644)
    ]
    assert "systemctl enable --now labous-garden.service" in wet.stdout
    refused = pipelines.run(
        "install-service", path, "--folder", units / "labous-garden.service", "--user", ME, "--write"
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Cannot write" in refused.stderr
