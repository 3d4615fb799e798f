"""The competition through Kaggle's own client, against a server on this machine that speaks what the client speaks."""

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labous.errors import LabousError
from tests.training.http_server import Answer, Request, file_answer, serving
from training import download
from training.config import compose
from training.datasets.base import DatasetError
from training.datasets.birdclef import METADATA_COLUMNS, BirdClef2021
from training.datasets.downloads import archive
from training.datasets.downloads.competition import KEPT, Competition

SLUG = "birdclef-2021"
SERVICE = "/v1/competitions.CompetitionApiService/DownloadDataFiles"
INTROSPECTION = "/v1/security.OAuthService/IntrospectToken"
FILES = {
    "train_short_audio/houspa/XC1.ogg": b"one" * 400,
    "train_short_audio/houspa/XC2.ogg": b"two" * 400,
    "train_short_audio/rocpig/XC3.ogg": b"three" * 400,
    "train_short_audio/acafly/XC4.ogg": b"four" * 400,
    "train_soundscapes/7_COR_20190904.ogg": bytes(3 << 20),  # the client keeps whole blocks of 1 MiB
    "train_soundscape_labels.csv": b"row_id,site,audio_id,seconds,birds\n7_COR_5,COR,7,5,nocall\n",
    "train_metadata.csv": "\n".join(
        [
            ",".join(METADATA_COLUMNS),
            *(
                f"{code},[],[],,,,,Ana,,{name},CC,4.0,?,https://xeno-canto.org/{name[2:-4]}"
                for code, name in (("houspa", "XC1.ogg"), ("houspa", "XC2.ogg"), ("rocpig", "XC3.ogg"))
            ),
        ]
    ).encode(),
}


def zipped(files: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in files.items():
            file.writestr(zipfile.ZipInfo(name), data, how)
    return buffer.getvalue()


class Kaggle:
    """What the competition's service and its storage answer."""

    def __init__(self) -> None:
        self.data, self.etag = zipped(FILES), '"v1"'
        self.status = 200
        self.cuts: list[int] = []  # bytes after which the next answers break off
        self.url = ""

    def __call__(self, request: Request) -> Answer:
        if request.path == INTROSPECTION:
            active = json.loads(request.body)["token"] == "token-of-ana"
            body = json.dumps({"active": active, "username": "ana" if active else ""}).encode()
            return Answer(200, body, {"Content-Type": "application/json"})
        if request.path == SERVICE:
            known = ("Basic " + base64.b64encode(b"ana:secret").decode(), "Bearer token-of-ana")
            status = self.status if request.headers.get("authorization") in known else 401
            if status != 200 or json.loads(request.body) != {"competitionName": SLUG}:
                body = json.dumps({"code": status, "message": "no"}).encode()
                return Answer(status, body, {"Content-Type": "application/json"})
            return Answer(302, b"", {"Location": f"{self.url}/storage/{SLUG}.zip?X-Goog-Signature=sig"})
        assert request.path == f"/storage/{SLUG}.zip"
        return file_answer(request, self.data, self.etag, self.cuts.pop(0) if self.cuts else None)


@pytest.fixture
def kaggle(monkeypatch, tmp_path) -> Iterator[Kaggle]:
    """The server, a home of its own with credentials in it, and no waiting between the client's attempts."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home" / "kaggle"))
    monkeypatch.setenv("KAGGLE_USERNAME", "ana")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    service = Kaggle()
    with serving(service) as server:
        from kagglesdk import kaggle_env

        # the client takes no address from outside
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.url)
        from kaggle.api import kaggle_api_extended

        monkeypatch.setattr(kaggle_api_extended.time, "sleep", lambda seconds: None)
        service.url = server.url
        service.server = server
        yield service


@pytest.fixture
def dataset(tmp_path):
    def made(**changes) -> BirdClef2021:
        table = tmp_path / "table.csv"
        if not table.exists():
            table.write_text("ebird_code,scientific_name,common_name,french_name\nhouspa,P d,HS,MD\nrocpig,C l,RP,PB\n")
        settings = {"download": Competition(SLUG, recordings=4, folders=3), **changes}
        return BirdClef2021(tmp_path / "data" / "birdclef", table, **settings)

    return made


def files_of(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_the_competition_arrives_and_is_not_fetched_again(kaggle, dataset, capsys):
    data = dataset()
    data.fetch(progress=False)
    assert {name: (data.root / name).read_bytes() for name in files_of(data.root)} == FILES
    assert data.recordings()["primary_label"].tolist() == ["houspa", "houspa", "rocpig"]
    assert data.backgrounds()["end_seconds"].tolist() == [5.0]
    asked = len(kaggle.server.requests)
    dataset().fetch(progress=False)
    assert len(kaggle.server.requests) == asked
    assert capsys.readouterr().out == ""


def test_a_mistake_in_the_table_is_told_before_the_download(kaggle, dataset):
    with pytest.raises(DatasetError, match="has no column tier"):
        dataset(tiers=["Z"]).fetch(progress=False)
    assert kaggle.server.requests == []


def test_only_what_the_table_needs_is_kept_if_asked_and_the_rest_comes_later(kaggle, dataset):
    data = dataset(keep_only_table=True, codes=["houspa"])
    data.fetch(progress=False)
    assert files_of(data.root) == set(FILES) - {
        "train_short_audio/rocpig/XC3.ogg",
        "train_short_audio/acafly/XC4.ogg",
    } | {KEPT}
    asked = len(kaggle.server.requests)
    dataset(codes=["houspa"]).fetch(progress=False)
    assert len(kaggle.server.requests) == asked
    dataset(keep_only_table=True).fetch(progress=False)
    assert files_of(data.root) == set(FILES) - {"train_short_audio/acafly/XC4.ogg"} | {KEPT}
    assert len(dataset(keep_only_table=True).recordings()) == 3


def test_a_connection_cut_in_the_middle_is_taken_up_where_it_broke(kaggle, dataset):
    kaggle.cuts = [(2 << 20) + 5000]
    data = dataset()
    data.fetch(progress=False)
    assert files_of(data.root) == set(FILES)
    ranges = [request.headers.get("range") for request in kaggle.server.asked("GET", "/storage")]
    assert ranges == [None, f"bytes={2 << 20}-"]


def test_a_download_that_fails_goes_on_the_next_time(kaggle, dataset):
    kaggle.cuts = [(1 << 20) + 4000] + [0] * 20
    data = dataset()
    with pytest.raises(DatasetError, match=r"could not be downloaded \(\w+\): .* continues where this one") as error:
        data.fetch(progress=False)
    assert "Signature" not in str(error.value)
    assert "\n" not in str(error.value)
    partial = data.root / ".download" / f"{SLUG}.zip"
    assert partial.stat().st_size == 1 << 20
    with pytest.raises(DatasetError, match=r"training\.download"):
        dataset().recordings()
    kaggle.cuts = []
    before = len(kaggle.server.requests)
    dataset().fetch(progress=False)
    assert files_of(data.root) == set(FILES)
    again = [request for request in kaggle.server.requests[before:] if request.headers.get("range")]
    assert [request.headers["range"] for request in again] == [f"bytes={1 << 20}-"]


def test_half_a_file_of_an_older_archive_is_not_continued(kaggle, dataset):
    kaggle.cuts = [(1 << 20) + 4000] + [0] * 20
    with pytest.raises(DatasetError):
        dataset().fetch(progress=False)
    kaggle.cuts, kaggle.etag = [], '"v2"'
    kaggle.data = zipped(FILES | {"sample_submission.csv": b"row_id,birds\n"})
    data = dataset()
    data.fetch(progress=False)
    assert files_of(data.root) == set(FILES) | {"sample_submission.csv"}


def test_without_credentials_it_says_where_to_put_them(kaggle, dataset, monkeypatch, capsys):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(DatasetError, match=r"kaggle\.json, .* KAGGLE_USERNAME and KAGGLE_KEY\), accept") as error:
        dataset().fetch(progress=False)
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""
    assert kaggle.server.requests == []


def test_a_token_is_as_good_as_a_key(kaggle, dataset, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token-of-ana")
    data = dataset()
    data.fetch(progress=False)
    assert files_of(data.root) == set(FILES)
    storage = kaggle.server.asked("GET", "/storage")
    assert len(storage) == 1


def test_damaged_credentials_are_told(kaggle, dataset, monkeypatch, tmp_path):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    (tmp_path / "home/.kaggle").mkdir(parents=True)
    (tmp_path / "home/.kaggle/credentials.json").write_text('{"refresh_token": "private')
    with pytest.raises(DatasetError, match="does not know who asks") as error:
        dataset().fetch(progress=False)
    assert "private" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, r"\(403\): accept its rules at https://www\.kaggle\.com/c/birdclef-2021/rules"),
        (404, r"no competition birdclef-2021 \(404\)"),
        (500, "answered 500"),
    ],
)
def test_a_refusal_is_told_in_a_sentence(kaggle, dataset, status, said):
    kaggle.status = status
    with pytest.raises(DatasetError, match=said) as error:
        dataset().fetch(progress=False)
    assert "\n" not in str(error.value)


def test_wrong_credentials_are_told(kaggle, dataset, monkeypatch):
    monkeypatch.setenv("KAGGLE_KEY", "s3cr3t")
    with pytest.raises(DatasetError, match=r"refuses your credentials \(401\)") as error:
        dataset().fetch(progress=False)
    assert "s3cr3t" not in str(error.value)


def test_without_a_network_it_says_so(kaggle, dataset, monkeypatch):
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9")
    with pytest.raises(DatasetError, match=r"could not be downloaded \(ConnectionError\): check the network"):
        dataset().fetch(progress=False)


def test_an_archive_with_other_numbers_is_refused(kaggle, dataset):
    data = dataset(download=Competition(SLUG, recordings=62874, folders=397))
    with pytest.raises(DatasetError, match="has 4 recordings in 3 folders instead of 62,874 in 397"):
        data.fetch(progress=False)
    assert not (data.root / "train_metadata.csv").exists()


@pytest.mark.parametrize("keep", [False, True])
def test_an_archive_that_is_there_is_unpacked_and_left(kaggle, dataset, keep):
    data = dataset(download=Competition(SLUG, recordings=4, folders=3, keep_archive=keep))
    data.root.mkdir(parents=True)
    (data.root / f"{SLUG}.zip").write_bytes(kaggle.data)
    data.fetch(progress=False)
    assert files_of(data.root) == set(FILES) | {f"{SLUG}.zip"}
    assert kaggle.server.requests == []


def test_the_archive_stays_if_asked(kaggle, dataset):
    data = dataset(download=Competition(SLUG, recordings=4, folders=3, keep_archive=True))
    data.fetch(progress=False)
    assert files_of(data.root) == set(FILES) | {f"{SLUG}.zip"}


def test_somebody_elses_folder_is_left_alone(kaggle, dataset):
    data = dataset()
    data.root.mkdir(parents=True)
    (data.root / "precious.txt").write_text("mine")
    with pytest.raises(DatasetError, match="holds something else"):
        data.fetch(progress=False)
    assert files_of(data.root) == {"precious.txt"}
    assert kaggle.server.requests == []


def test_the_command_line_fetches_and_tells_what_rules_removed(kaggle, tmp_path, dataset, capsys):
    dataset()
    settings = compose(
        [
            "dataset=birdclef2021",
            f"dataset.root={tmp_path / 'cli'}",
            f"dataset.species={tmp_path / 'table.csv'}",
            "dataset.tiers=null",
            "dataset.download.recordings=4",
            "dataset.download.folders=3",
        ]
    )
    download.run(settings)
    assert "3 recordings of 2 species" in capsys.readouterr().out
    rated = compose(
        [
            "dataset=birdclef2021",
            f"dataset.root={tmp_path / 'cli'}",
            f"dataset.species={tmp_path / 'table.csv'}",
            "dataset.tiers=null",
            "dataset.min_rating=4.5",
        ]
    )
    with pytest.raises(LabousError, match="all recordings left out by min_rating: houspa"):
        download.run(rated)


# Unpacking


def opened(path: Path, files: dict[str, bytes]) -> zipfile.ZipFile:
    path.write_bytes(zipped(files))
    return archive.open_archive(path)


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/out.txt", "C:/out.txt", "..\\out.txt"])
def test_nothing_leaves_the_folder(tmp_path, name):
    with (
        opened(tmp_path / "bad.zip", {"good.txt": b"good", name: b"bad"}) as bad,
        pytest.raises(DatasetError, match="points out of its folder"),
    ):
        archive.unpack(bad, tmp_path / "place", lambda _: True, progress=False)
    assert files_of(tmp_path) == {"bad.zip"}


def test_links_are_not_unpacked(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc")
    (tmp_path / "bad.zip").write_bytes(buffer.getvalue())
    with archive.open_archive(tmp_path / "bad.zip") as bad, pytest.raises(DatasetError, match="points out"):
        archive.unpack(bad, tmp_path / "place", lambda _: True, progress=False)


def test_unpacking_goes_on_where_it_stopped(tmp_path):
    with opened(tmp_path / "some.zip", {"a/1": b"one", "a/2": b"two"}) as some:
        archive.unpack(some, tmp_path, lambda name: name == "a/1", progress=False)
        before = (tmp_path / "a/1").stat()
        (tmp_path / "a/.2.part").write_bytes(b"t")
        assert archive.unpack(some, tmp_path, lambda _: True, progress=False) == ["a/1", "a/2"]
    assert (tmp_path / "a/1").stat() == before
    assert files_of(tmp_path / "a") == {"1", "2"}


@pytest.mark.parametrize(
    ("how", "at", "bits"),
    [
        pytest.param(zipfile.ZIP_STORED, [40], 1, id="stored"),
        pytest.param(zipfile.ZIP_DEFLATED, [31], 4, id="deflated"),  # a kind of block that there is not
        pytest.param(zipfile.ZIP_STORED, [6, 139], 1, id="encrypted"),  # its flag, in the file's head and the index
    ],
)
def test_damaged_archives_are_told(tmp_path, how, at, bits):
    path = tmp_path / "some.zip"
    data = bytearray(zipped({"a": b"0123456789" * 10}, how))
    for k in at:
        data[k] ^= bits
    path.write_bytes(data)
    with archive.open_archive(path) as some, pytest.raises(DatasetError, match=r"some\.zip is damaged at a"):
        archive.unpack(some, tmp_path / "place", lambda _: True, progress=False)
    assert files_of(tmp_path / "place") == set()
    path.write_bytes(data[:40])
    with pytest.raises(DatasetError, match="is not a whole zip archive"):
        archive.open_archive(path)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": archive._NEVER_MIND + 5})
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: usage)
    with opened(tmp_path / "some.zip", {"a": b"0123456789"}) as some, pytest.raises(DatasetError, match="GB free"):
        archive.unpack(some, tmp_path / "place", lambda _: True, progress=False)
    assert files_of(tmp_path / "place") == set()
