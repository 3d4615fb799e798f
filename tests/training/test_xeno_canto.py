"""xeno-canto's API against a server on this machine that speaks it: pages, keys, a busy server, a broken line."""

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.http_server import Answer, Request, file_answer, serving
from training.datasets.base import DatasetError
from training.datasets.downloads import polite
from training.datasets.downloads.xeno_canto import Api, license_code, query_for, seconds_of
from training.datasets.xeno_canto import XenoCantoDataset

KEY = "0123456789abcdef-secret"
BY_NC_SA = "//creativecommons.org/licenses/by-nc-sa/4.0/"


class XenoCanto:
    """The service: what it lists, what it hands out, and what it is asked to do wrong."""

    def __init__(self) -> None:
        self.recordings: list[dict[str, object]] = []
        self.trouble: list[Answer] = []  # answers to the next searches, before it behaves
        self.cuts: dict[str, list[int]] = {}  # by number, bytes after which the next answers break off
        self.gone: dict[str, int] = {}  # by number, the status instead of the file
        self.pages: set[str] = set()  # numbers for which a web page comes instead of the file
        self.url = ""

    def add(self, number: int, name: str = "Erithacus rubecula", **more: object) -> None:
        genus, epithet = name.split()
        self.recordings.append(
            {"id": str(number), "gen": genus, "sp": epithet, "grp": "birds", "rec": f"Ana {number % 3}", "q": "A"}
            | {"lat": "48.1", "lon": "-3.2", "length": "0:30", "lic": BY_NC_SA, "url": f"//xeno-canto.org/{number}"}
            | {"file": f"{self.url}/{number}/download", "file-name": f"XC{number}-bird.MP3", "also": [""]}
            | more
        )

    def data(self, number: str) -> bytes:
        return f"sound {number} ".encode() * 9000

    def __call__(self, request: Request) -> Answer:
        if request.path == "/api/3/recordings":
            return self.trouble.pop(0) if self.trouble else self.search(request.query)
        number = request.path.split("/")[1]
        if number in self.gone:
            return Answer(self.gone[number])
        if number in self.pages:
            return Answer(200, b"<html>", {"Content-Type": "text/html"})
        cut = self.cuts[number].pop(0) if self.cuts.get(number) else None
        return file_answer(request, self.data(number), f'"{number}"', cut)

    def search(self, query: dict[str, str]) -> Answer:
        if query.get("key") != KEY:
            body = {"error": "client_error", "message": f"Missing or invalid 'key' parameter {query.get('key')}."}
            return Answer(401, json.dumps(body).encode(), {"Content-Type": "application/json"})
        name = query["query"].split('"')[1]
        found = [row for row in self.recordings if f"{row['gen']} {row['sp']}".lower() == name]
        per_page, page = int(query["per_page"]), int(query["page"])
        pages = max(1, -(-len(found) // per_page))
        body = {"numRecordings": str(len(found)), "numSpecies": "1", "page": page, "numPages": pages}
        body["recordings"] = found[(page - 1) * per_page : page * per_page]
        return Answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})


@pytest.fixture
def service(monkeypatch) -> Iterator[XenoCanto]:
    monkeypatch.setenv("XENO_CANTO_KEY", KEY)
    here = XenoCanto()
    with serving(here) as server:
        here.url, here.server = server.url, server
        yield here


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Seconds that the client would have slept."""
    slept: list[float] = []
    monkeypatch.setattr(polite.time, "sleep", slept.append)
    return slept


@pytest.fixture
def dataset(tmp_path, service, waits):
    table = tmp_path / "table.csv"
    table.write_text(
        "ebird_code,scientific_name,common_name,french_name,tier,xeno_canto_name\n"
        "eurrob1,Erithacus rubecula,European Robin,Rougegorge familier,X,\n"
        "houspa,Passer domesticus,House Sparrow,Moineau domestique,A,\n"
        "eurjac,Corvus monedula,Eurasian Jackdaw,Choucas des tours,Y,Coloeus monedula\n"
    )

    def made(**changes) -> XenoCantoDataset:
        api = Api(f"{service.url}/api/3/recordings", "XENO_CANTO_KEY", 50, 1000.0, 2, 5.0, 100.0)
        return XenoCantoDataset(tmp_path / "xc", table, api, **{"search_tiers": ["X"], **changes})

    return made


def files_of(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_what_is_listed_arrives_page_by_page_and_once(service, dataset):
    for number in range(1, 121):
        service.add(number)
    service.recordings[3] |= {"also": ["Passer domesticus", "Turdus merula", ""], "q": "B", "rec": "  Bo "}
    data = dataset()
    data.fetch(progress=False)
    assert [request.query["page"] for request in service.server.asked("GET", "/api")] == ["1", "2", "3"]
    recordings = data.recordings().set_index("recording_id")
    assert len(recordings) == 120
    fourth = recordings.loc["eurrob1/XC4.mp3"]
    assert Path(fourth["path"]).read_bytes() == service.data("4")
    assert (fourth["primary_label"], fourth["secondary_labels"]) == ("eurrob1", ["houspa"])
    assert (fourth["rating"], fourth["author"], fourth["url"]) == (4.0, "Bo", "https://xeno-canto.org/4")
    assert data.notes().dropped_labels == {"Turdus merula": 1}
    assert [label.ebird_code for label in data.species()] == ["eurjac", "eurrob1", "houspa"]
    asked = len(service.server.requests)
    dataset().fetch(progress=False)
    assert len(service.server.requests) == asked
    assert dataset().revision() == data.revision()


def test_every_file_is_attributed(service, dataset):
    service.add(1, rec="Ana, of the marsh")
    service.add(2)
    service.gone["2"] = 404
    data = dataset()
    data.fetch(progress=False)
    with (data.root / "ATTRIBUTION.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {
            "file": "eurrob1/XC1.mp3",
            "scientific_name": "Erithacus rubecula",
            "recordist": "Ana, of the marsh",
            "license": f"https:{BY_NC_SA}",
            "url": "https://xeno-canto.org/1",
        }
    ]


def test_the_key_goes_to_the_search_alone_and_is_written_nowhere(service, dataset):
    service.add(1, rec=f"somebody who pasted {KEY}")
    data = dataset()
    data.fetch(progress=False)
    with_key = [request.path for request in service.server.requests if KEY in str(request)]
    assert with_key == ["/api/3/recordings"]
    assert not any(KEY.encode() in (data.root / name).read_bytes() for name in files_of(data.root))
    assert KEY not in repr(data.api) + repr(data.api.client())


def test_a_missing_and_a_refused_key_are_told(service, dataset, monkeypatch):
    monkeypatch.setenv("XENO_CANTO_KEY", "wrong-key")
    with pytest.raises(
        DatasetError, match=r"refuses the key in the environment variable XENO_CANTO_KEY \(401\)"
    ) as error:
        dataset().fetch(progress=False)
    assert "wrong-key" not in str(error.value)
    monkeypatch.delenv("XENO_CANTO_KEY")
    with pytest.raises(DatasetError, match=r"put the key of your account .* into the environment variable XENO_CANTO"):
        dataset().fetch(progress=False)


def test_rules_leave_out_and_say_so(service, dataset, waits):
    service.add(1)
    service.add(2, lic="//creativecommons.org/licenses/by-nc-nd/4.0/")
    service.add(3, q="D")
    service.add(4, q="")
    service.add(5, length="10:00")
    service.add(6, length="0:01")
    service.add(7, file="")
    service.add(8)
    service.gone["8"] = 410
    data = dataset(licenses="by-nc-sa", min_quality="C", min_seconds=2.0, max_seconds=180)
    data.fetch(progress=False)
    assert service.server.asked("GET", "/api")[0].query["query"] == (
        'sp:"erithacus rubecula" grp:birds q:">D" len:"2-180"'
    )
    assert data.recordings()["recording_id"].tolist() == ["eurrob1/XC1.mp3"]
    removed = {row.recording_id: (row.rule, row.detail) for row in data.removed().itertuples()}
    assert removed == {
        "eurrob1/XC2.mp3": ("licenses", "under by-nc-nd"),
        "eurrob1/XC3.mp3": ("min_rating", "rated 2, below 3"),
        "eurrob1/XC4.mp3": ("min_rating", "rated 0, below 3"),
        "eurrob1/XC5.mp3": ("max_seconds", "600.0 s, longer than 180 s"),
        "eurrob1/XC6.mp3": ("min_seconds", "1.0 s, shorter than 2 s"),
        "eurrob1/XC7.mp3": ("unavailable", "xeno-canto gives no file"),
        "eurrob1/XC8.mp3": ("unavailable", "xeno-canto answered 410"),
    }
    assert data.notes().removed["min_rating"] == {"eurrob1": 2}
    asked = len(service.server.requests)
    dataset(licenses=["by-nc-sa"], min_quality="C", min_seconds=2.0, max_seconds=180).fetch(progress=False)
    assert len(service.server.requests) == asked


def test_recordists_take_turns_under_the_cap(service, dataset):
    for number in range(1, 9):
        service.add(number, rec="Prolific")
    service.add(20, rec="Bo", q="C")
    service.add(21, rec="Cy", q="B")
    data = dataset(max_recordings=4)
    data.fetch(progress=False)
    assert data.recordings()["recording_id"].tolist() == [f"eurrob1/XC{number}.mp3" for number in (1, 2, 20, 21)]
    assert set(data.removed()["rule"]) == {"max_recordings"}
    assert len(service.server.asked("GET", "/2/")) == 1
    assert service.server.asked("GET", "/3/") == []


def test_the_service_is_asked_by_its_own_name_of_a_bird(service, dataset):
    service.add(1, "Coloeus monedula")
    data = dataset(search_tiers=["Y"])
    data.fetch(progress=False)
    assert data.recordings()["primary_label"].tolist() == ["eurjac"]


def test_it_waits_as_long_as_it_is_asked_to(service, dataset, waits):
    service.add(1)
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 40))
    service.trouble = [Answer(429, headers={"Retry-After": "37"}), Answer(503, headers={"Retry-After": soon})]
    dataset().fetch(progress=False)
    assert 37.0 in waits
    assert any(35 < wait <= 40 and wait != 37.0 for wait in waits)
    service.trouble = [Answer(429)] * 3
    with pytest.raises(DatasetError, match=r"could not be reached 3 times in a row \(it answered 429\)"):
        dataset(min_quality="B").fetch(progress=False)
    assert waits.count(1.0) == waits.count(2.0) == 1  # it doubles
    service.trouble = [Answer(429, headers={"Retry-After": "4000"})]
    with pytest.raises(DatasetError, match="asks to come back in 4000 s"):
        dataset(min_quality="B").fetch(progress=False)


def test_requests_keep_to_the_rate(service, monkeypatch):
    service.add(1)
    client = polite.PoliteClient("here", 20.0, 0, 5.0, 1.0)
    started = time.monotonic()
    for _ in range(5):
        client.json(f"{service.url}/api/3/recordings", {"query": 'sp:"x"', "key": KEY, "per_page": "50", "page": "1"})
    assert time.monotonic() - started >= 4 / 20.0


def test_a_broken_download_is_continued_in_the_same_run_and_in_the_next(service, dataset):
    whole = len(service.data("1"))
    service.add(1)
    service.cuts["1"] = [50_000]
    data = dataset()
    data.fetch(progress=False)
    assert (data.root / "eurrob1/XC1.mp3").read_bytes() == service.data("1")
    second = service.server.asked("GET", "/1/")[1].headers["range"]
    assert 0 < int(second[6:-1]) <= 50_000 < whole

    service.add(2)
    service.cuts["2"] = [50_000, 0, 0]
    with pytest.raises(DatasetError, match=r"3 times in a row .* what has arrived is kept"):
        dataset(min_seconds=1.0).fetch(progress=False)
    assert "eurrob1/XC2.mp3" not in files_of(data.root)
    before = len(service.server.requests)
    again = dataset(min_seconds=1.0)
    again.fetch(progress=False)
    assert (data.root / "eurrob1/XC2.mp3").read_bytes() == service.data("2")
    assert [request.headers["range"][:6] for request in service.server.requests[before:]] == ["bytes="]
    assert not [name for name in files_of(data.root) if name.endswith((".part", ".etag"))]


def test_an_older_part_never_passes_for_one_of_the_new_file(service, dataset, monkeypatch):
    service.add(1)
    data = dataset()
    part = data.root / "eurrob1/.XC1.mp3.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"older")
    part.with_name(".XC1.mp3.etag").write_text('"0"')
    opened = Path.open

    def interrupted(path, *how, **more):
        if path == part:
            raise KeyboardInterrupt
        return opened(path, *how, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            data.fetch(progress=False)
    data.fetch(progress=False)
    assert (data.root / "eurrob1/XC1.mp3").read_bytes() == service.data("1")
    part.write_bytes(service.data("1"))  # all was there but the name
    part.with_name(".XC1.mp3.etag").write_text('"1"')
    (data.root / "eurrob1/XC1.mp3").unlink()
    data.fetch(progress=False)
    assert (data.root / "eurrob1/XC1.mp3").read_bytes() == service.data("1")


def test_what_is_not_xeno_canto_is_told(service, dataset, monkeypatch):
    service.trouble = [Answer(200, b"<html>")]
    with pytest.raises(DatasetError, match="something else than JSON"):
        dataset().fetch(progress=False)
    service.trouble = [Answer(200, b'{"numPages": 1}')]
    with pytest.raises(DatasetError, match=r"no page of recordings \('recordings'\)"):
        dataset().fetch(progress=False)
    service.trouble = [Answer(400, json.dumps({"message": f"bad tag {KEY}"}).encode())]
    with pytest.raises(DatasetError, match=r"answered 400 to the query .*: bad tag …") as error:
        dataset().fetch(progress=False)
    assert KEY not in str(error.value)
    service.add(1)
    service.gone["1"] = 403
    with pytest.raises(DatasetError, match="answered 403 when asked for XC1"):
        dataset().fetch(progress=False)
    service.pages = {service.gone.popitem()[0]}
    with pytest.raises(DatasetError, match=r"answered with a web page instead of XC1\.mp3"):
        dataset().fetch(progress=False)


def test_nothing_is_downloaded_but_by_fetch(service, dataset, tmp_path):
    with pytest.raises(DatasetError, match=r"does not exist: get it with `python -m training\.download`"):
        dataset().recordings()
    (tmp_path / "xc" / "listings").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"has no listing of eurrob1: get it with"):
        dataset().recordings()
    assert service.server.requests == []


def test_a_bird_that_nobody_recorded_is_named(service, dataset):
    data = dataset()
    data.fetch(progress=False)
    with pytest.raises(DatasetError, match=r"xeno-canto lists none: eurrob1 \(line 2\)"):
        data.recordings()
    assert dataset(require_all=False).recordings().empty


@pytest.mark.parametrize(
    ("quality", "shortest", "longest", "tags"),
    [
        (None, None, None, ""),
        ("A", None, None, " q:A"),
        ("B", 2.5, None, ' q:">C" len:">2.5"'),
        ("D", None, 60.0, ' q:">E" len:"<60"'),
        ("E", 1.0, 60.0, ' len:"1-60"'),
    ],
)
def test_queries(quality, shortest, longest, tags):
    assert query_for("Larus fuscus", quality, shortest, longest) == f'sp:"larus fuscus" grp:birds{tags}'


def test_licenses_and_lengths_are_understood():
    assert license_code(BY_NC_SA) == "by-nc-sa"
    assert license_code("https://creativecommons.org/publicdomain/zero/1.0/") == "cc0"
    assert license_code("//creativecommons.org/publicdomain/mark/1.0/") == "pd"
    assert license_code("") == ""
    assert [seconds_of(text) for text in ("0:07", "1:23", "1:02:03")] == [7.0, 83.0, 3723.0]
    assert seconds_of("long") != seconds_of("long")  # NaN


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"min_quality": "F"}, "min_quality is 'F'"),
        ({"min_seconds": 9, "max_seconds": 3}, "is 9 and"),
        ({"max_seconds": "long"}, "max_seconds is 'long'"),
        ({"max_recordings": "many"}, "max_recordings is 'many'"),
        ({"max_recordings": 0}, "max_recordings is 0"),
    ],
)
def test_impossible_settings_are_refused(dataset, change, said):
    with pytest.raises(DatasetError, match=said):
        dataset(**change)
