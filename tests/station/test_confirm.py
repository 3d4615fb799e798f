"""confirm: what a station reports is what the whole-array rules say, once per interval, of the species that may be."""

from __future__ import annotations

import datetime
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from labous.archive import write_checksums
from labous.detect import Confirmation, Hits, Label, Scoring
from labous.errors import BundleError, NodeError
from labous.nodes import Context, Node, Record
from labous.nodes.confirm import Confirm
from labous.nodes.tflite import Tflite
from labous.nodes.wasm import Wasm
from labous.options import Refused
from labous.station import reports
from labous.station.occurrence import FILE, Occurrence, week_of
from tests.counts import Counted
from tests.runtime import audio, bundles
from tests.runtime.bundles import LABELS
from tests.station import deliveries, middle
from tests.station.middle import RATE, SIZE
from tests.station.needs import small_disk

CODES = [row[0] for row in LABELS]


@pytest.fixture
def context(bundle_path: Path, tmp_path: Path) -> Context:
    return middle.context(bundle_path, tmp_path)


def heard(context: Context, rows: Any, step: int = SIZE, options: Confirm | None = None, **model: Any) -> list[Record]:
    """What comes out for rows of logits, one a window."""
    classifier = middle.classifier(**model)
    records = [
        middle.at(n * step, predictions=middle.predicted(row, classifier), number=n) for n, row in enumerate(rows)
    ]
    return middle.through([(options or Confirm()).open(context)], records, "garden.wav")


def codes(record: Record) -> list[str]:
    return [seen.detection.ebird_code for seen in record.columns["observations"]]


def detection_rules(path: Path, weight: float, hits: int, windows: int) -> None:
    values = bundles.manifest()
    values["detection"] |= {
        "smoothing": {"neighbor_weight": weight},
        "confirmation": {"hits": hits, "windows": windows},
        "thresholds": dict(zip(CODES, (0.3, 0.5, 0.6, 0.2), strict=True)),
        "calibration": {code: {"scale": 0.8, "offset": 0.1 * n} for n, code in enumerate(CODES)},
    }
    bundles.write_manifest(path, values)


def tunes(seconds: float, rate: int) -> np.ndarray:
    """float32 [n_samples] of tones that change every 0.8 s, so that now one species is detected and now another."""
    t = np.arange(round(seconds * rate)) / rate
    pitch = np.random.default_rng(1).uniform(200, 7500, int(seconds) * 2)[(t / 0.8).astype(int)]
    return (0.2 * np.sin(2 * np.pi * np.cumsum(pitch) / rate)).astype(np.float32)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
@pytest.mark.parametrize(("weight", "hits", "windows"), [(0.0, 1, 1), (0.2, 1, 1), (0.0, 2, 3), (0.25, 3, 4)])
def test_a_file_gives_what_analyze_and_the_bundles_confirmation_say(
    weight: float, hits: int, windows: int, overlap: float, bundle_path: Path, tmp_path: Path, counted: Counted
) -> None:
    detection_rules(bundle_path, weight, hits, windows)
    context = middle.context(bundle_path, tmp_path)
    path = audio.write(tmp_path / "a.wav", tunes(60.4, 44_100), 44_100)
    nodes = [options.open(context) for options in (Wasm(), Tflite(), Confirm())]
    records = middle.through(nodes, middle.of_file(path, overlap), str(path))

    shown = list(context.bundle.analyze_windows(path, overlap=overlap))
    detected = np.array([[code in {d.ebird_code for d in window} for code in CODES] for window in shown])
    confirmed = Confirmation(hits, windows).holds(detected)
    expected = [[d for d in window if confirmed[n, CODES.index(d.ebird_code)]] for n, window in enumerate(shown)]
    assert [[seen.detection for seen in record.columns["observations"]] for record in records] == expected
    assert [record.start for record in records] == sorted({record.start for record in records})
    count, everything = sum(map(len, expected)), sum(map(len, shown))
    counted(
        f"{hits} of {windows} windows, an overlap of {overlap:g} s",
        f"{len(records)} windows, {everything} detections, {count} confirmed",
    )
    assert count == everything > 10 if hits == 1 else 0 < count < everything
    assert context.counters.read()["observations_total"] == count


@settings(max_examples=300)
@given(arrays.arrays(bool, st.tuples(st.integers(0, 12), st.just(3))), st.integers(1, 5), st.integers(1, 5))
def test_counting_window_by_window_is_counting_the_whole(detected: np.ndarray, hits: int, windows: int) -> None:
    counter = Hits(windows, 3)
    found = np.array([counter.push(row) >= hits for row in detected]).reshape(detected.shape)
    np.testing.assert_array_equal(found, Confirmation(hits, windows).holds(detected))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    arrays.arrays(np.float32, st.tuples(st.integers(0, 9), st.just(4)), elements=st.floats(-5, 5, width=32)),
    st.sampled_from([0.0, 0.1, 1 / 3]),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_any_stream_of_windows_gives_what_the_whole_arrays_say(
    context: Context, logits: np.ndarray, weight: float, hits: int, windows: int
) -> None:
    hits = min(hits, windows)
    records = heard(context, logits, options=Confirm(hits=hits, windows=windows), neighbor_weight=weight)
    assert [record.columns["number"] for record in records] == list(range(len(logits)))
    probabilities = Scoring(np.ones(4, np.float32), np.zeros(4, np.float32), weight).probabilities(logits)
    detected = probabilities >= 0.5
    confirmed = Confirmation(hits, windows).holds(detected) & detected
    for n, record in enumerate(records):
        assert {CODES.index(code) for code in codes(record)} == set(np.flatnonzero(confirmed[n]))
        for seen in record.columns["observations"]:
            index = CODES.index(seen.detection.ebird_code)
            assert seen.detection.score == probabilities[n, index]
            assert seen.hits == detected[max(0, n - windows + 1) : n + 1, index].sum()


def test_where_sound_is_missing_smoothing_and_counting_begin_anew(context: Context) -> None:
    classifier = middle.classifier(neighbor_weight=1 / 3)
    starts = [0, SIZE, 5 * SIZE, 6 * SIZE, 0]  # a gap, and a stream that begins anew without an end
    records = [
        middle.at(start, predictions=middle.predicted([4 if n != 1 else -6, -9, -9, -9], classifier))
        for n, start in enumerate(starts)
    ]
    found = middle.through([Confirm(hits=2, windows=2).open(context)], records, "garden.wav")
    assert [record.start for record in found] == starts
    # were the gap none, the second would be detected with its neighbors' help; two that touch make two of two
    assert [codes(record) for record in found] == [[], [], [], ["eurrob1"], []]


def test_two_streams_do_not_mix(context: Context) -> None:
    classifier, node = middle.classifier(neighbor_weight=0.25), Confirm().open(context)
    for n in range(4):
        for stream, logit in (("a", 3.0), ("b", -3.0)):
            record = middle.at(n * SIZE, stream=stream, predictions=middle.predicted([logit] * 4, classifier))
            for out in node.process(record):
                assert len(codes(out)) == (4 if out.stream == "a" else 0)
    assert [[out.start for out in node.end(stream)] for stream in "ab"] == [[3 * SIZE], [3 * SIZE]]


def test_a_species_is_reported_once_per_interval_by_its_first_window(context: Context) -> None:
    rows = [[5, -5 if n % 2 else 5, -5, -5] for n in range(10)]
    found = heard(context, rows, options=Confirm(interval=4.0))
    reports = [(record.columns["number"], code) for record in found for code in codes(record)]
    assert [n for n, code in reports if code == "eurrob1"] == [0, 4, 8]
    assert [n for n, code in reports if code == "comcuc"] == [0, 4, 8]
    assert context.counters.read()["observations_total"] == 6


def test_the_interval_follows_samples_within_a_stream_and_the_clock_between_streams(context: Context) -> None:
    node, classifier = Confirm(interval=60).open(context), middle.classifier()

    def reported(stream: str, second: int, minutes: float | None) -> bool:
        said = middle.predicted([5, -5, -5, -5], classifier)
        record = middle.at(second * RATE, stream=stream, audio=np.zeros(SIZE, np.float32), predictions=said)
        record.time = None if minutes is None else middle.MORNING + datetime.timedelta(minutes=minutes)
        (out,) = node.process(record)
        return bool(codes(out))

    assert reported("a", 0, 0)
    assert not reported("a", 30, 5000)  # the clock jumped, the sound did not
    assert not reported("a", 59, -5000)
    assert reported("a", 60, -1)
    assert reported("a", 120, -0.9)
    assert reported("a", 180, 1)
    list(node.end("a"))
    assert not reported("b", 0, 1.5)
    assert reported("b", 0, 2)
    assert reported("b", 60, None)
    list(node.end("b"))
    assert reported("b", 0, None)  # nobody knows how long ago


Heard = list[tuple[str, str]]  # of observations: stream and id


def said(node: Node, stream: str, second: float, when: datetime.datetime | None, *logits: float) -> Heard:
    """What a node reports of one window."""
    record = middle.at(round(second * RATE), stream=stream, audio=np.zeros(SIZE, np.float32))
    record.columns["predictions"] = middle.predicted(logits or [5, -5, -5, -5], middle.classifier())
    record.time = when
    return [(out.stream, seen.id) for out in node.process(record) for seen in out.columns["observations"]]


def test_the_interval_outlives_a_crash(context: Context) -> None:
    options, minute = Confirm(interval=600), datetime.timedelta(minutes=1)
    assert said(options.open(context), "mic", 5000, middle.MORNING)  # and then it is killed
    again = options.open(context)
    assert not said(again, "mic", 0, middle.MORNING + 9 * minute), "the same name, and another beginning"
    assert not said(again, "mic", 59, middle.MORNING + 9.9 * minute)
    assert said(again, "mic", 60, middle.MORNING + 10 * minute)
    assert not said(options.open(context), "camera", 0, middle.MORNING + 19 * minute)
    assert said(options.open(context), "mic", 0, None), "nobody knows how long ago"
    assert said(Confirm().open(context), "mic", 0, middle.MORNING + 11 * minute), "without an interval"
    assert said(Confirm(interval=600, name="other").open(context), "mic", 0, middle.MORNING + 11 * minute)


@pytest.mark.parametrize("ahead", [datetime.timedelta(seconds=1), datetime.timedelta(days=3650)])
def test_a_clock_that_was_set_back_silences_nothing_for_long(ahead: datetime.timedelta, context: Context) -> None:
    options = Confirm(interval=600)
    assert said(options.open(context), "mic", 0, middle.MORNING + ahead)
    assert said(options.open(context), "mic", 0, middle.MORNING)
    assert not said(options.open(context), "mic", 0, middle.MORNING + datetime.timedelta(seconds=599))
    assert said(options.open(context), "mic", 0, middle.MORNING + datetime.timedelta(seconds=600))


def test_what_the_nodes_behind_did_not_get_is_not_remembered(context: Context) -> None:
    node = Confirm(interval=600).open(context)
    record = middle.at(0, stream="mic", predictions=middle.predicted([5, -5, -5, -5], middle.classifier()))
    given = iter(node.process(record))
    assert codes(next(given)) == ["eurrob1"]
    given.close()  # type: ignore[attr-defined]  # as when a sink raises an error
    node.close()
    assert said(Confirm(interval=600).open(context), "mic", 0, middle.MORNING)


@pytest.mark.parametrize("interval", [2.0, 9.0, 100.0])
def test_recordings_that_are_heard_again_after_a_crash_are_reported_as_they_were(
    interval: float, context: Context, monkeypatch: pytest.MonkeyPatch, counted: Counted
) -> None:
    """Wherever it crashes, between a recording's end and its being marked as done as well, and in whatever order."""
    monkeypatch.setattr(reports, "write_whole", lambda path, content: path.write_bytes(content))  # without its fsync
    options, seconds, crashes, silenced = Confirm(interval=interval), SIZE / RATE, 0, 0
    for seed in range(20):
        dice = random.Random(seed)
        numbers = range(dice.randint(1, 5))
        began = [middle.MORNING + n * datetime.timedelta(seconds=7) for n in dice.sample(numbers, len(numbers))]
        rows = [[dice.choices([-5.0, 5.0], k=4) for _ in range(dice.randint(1, 6))] for _ in numbers]

        def hear(node: Node, number: int) -> Iterator[Heard]:
            """One recording, window by window."""
            for n, row in enumerate(rows[number]):  # noqa: B023
                after = datetime.timedelta(seconds=n * seconds)
                yield said(node, f"{number}.wav", n * seconds, began[number] + after, *row)  # noqa: B023
            assert list(node.end(f"{number}.wav")) == []
            yield []

        path = context.state / "confirm-reports.json"
        path.unlink(missing_ok=True)
        calm = options.open(context)
        wanted = [list(itertools.chain(*hear(calm, number))) for number in numbers]
        silenced += sum(row.count(5.0) for part in rows for row in part) - sum(map(len, wanted))
        path.unlink(missing_ok=True)
        monkeypatch.setattr(reports, "_SAVE_SECONDS", dice.choice([0.0, 1000.0]))
        node, number = options.open(context), 0
        while number < len(numbers):
            steps = dice.randint(1, len(rows[number]) + 3)
            found = list(itertools.chain(*itertools.islice(hear(node, number), steps)))
            if steps > len(rows[number]) + 1:
                assert found == wanted[number]
                number += 1
            else:  # it crashes, and the next run hears it from its beginning
                assert found == wanted[number][: len(found)]
                node, crashes = options.open(context), crashes + 1
    counted(
        f"{crashes} crashes of confirm", f"{silenced} detections within {interval:g} s of a report, none told twice"
    )
    assert crashes > 50 and silenced > 50


GOOD = {"version": 1, "reports": [["eurrob1", "mic", "2026-05-01 04:00:00+00:00", "2026-05-01 04:15:30+00:00"]]}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff\x00" * 99, b"[" * 100_000, b"null", b"[]", b"{}", b'{"version": 2, "reports": []}',
        bytes(2**24 + 1),
        *(
            json.dumps(GOOD | {"reports": rows}).encode()
            for rows in (
                None, {}, [1], [[]], [["eurrob1", "mic", 1, 2]], [["eurrob1", "mic", "2026-05-01", "2026-05-01"]],
                [["eurrob1", "mic", "yesterday", "today"]], [[None, "mic", *GOOD["reports"][0][2:]]],  # type: ignore[index]
            )
        ),
    ],
)  # fmt: skip
def test_a_list_of_reports_that_is_damaged_is_told_and_replaced(
    content: bytes, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    path, options = context.state / "confirm-reports.json", Confirm(interval=600)
    path.write_bytes(content)
    node = options.open(context)
    (message,) = caplog.messages
    assert "species may be reported again" in message and message.isprintable() and len(message) < 500
    assert said(node, "mic", 0, middle.MORNING)
    assert not said(options.open(context), "mic", 1, middle.MORNING)
    assert len(caplog.messages) == 1
    path.write_text(json.dumps(GOOD))
    assert not said(options.open(context), "mic", 0, middle.MORNING)


def test_a_full_disk_costs_no_report(bundle_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        context, options = middle.context(bundle_path, disk), Confirm(interval=600)
        node = options.open(context)
        ballast = deliveries.fill(disk)
        assert said(node, "mic", 0, middle.MORNING)
        assert not said(node, "mic", 1, middle.MORNING)
        assert context.counters.read()["reports_errors_total"] >= 1
        assert sum("No space left on device" in line for line in caplog.messages) == 1
        assert list(context.state.iterdir()) == []
        ballast.unlink()
        node.close()
        assert not said(options.open(context), "mic", 1, middle.MORNING)


def test_the_list_of_reports_stays_short(context: Context, monkeypatch: pytest.MonkeyPatch, counted: Counted) -> None:
    monkeypatch.setattr(reports, "_SAVE_SECONDS", 0.0)
    options, day = Confirm(interval=600), datetime.timedelta(days=1)
    path, sizes, node = context.state / "confirm-reports.json", [], options.open(context)
    for n in range(30):  # of recordings, and runs
        node = options.open(context) if n % 3 == 0 else node
        for second in (0, 700, 1400):
            when = middle.MORNING + n * day + datetime.timedelta(seconds=second)
            assert len(said(node, f"{n:03}.wav", second, when, 5, 5, 5, 5)) == 4
        list(node.end(f"{n:03}.wav"))
        sizes.append(path.stat().st_size)
    counted("reports of 30 recordings and runs", f"{max(sizes)} bytes at most")
    assert len(json.loads(path.read_text())["reports"]) == len(CODES)
    assert max(sizes) == sizes[0]


def test_ids_of_undated_sound_are_those_of_its_samples(context: Context) -> None:
    classifier = middle.classifier()

    def ids(level: float, dated: bool = False) -> list[str]:
        said = middle.predicted([5, 5, -5, -5], classifier)
        record = middle.at(0, stream="stdin", audio=np.full(SIZE, level, np.float32), predictions=said)
        record.time = record.time if dated else None
        (out,) = middle.through([Confirm().open(context)], [record], "stdin")
        return [observation.id for observation in out.columns["observations"]]

    assert len({*ids(0.1), *ids(0.2), *ids(0.1, dated=True)}) == 6
    assert ids(0.1) == ids(0.1)
    assert ids(0.1, dated=True) == ids(0.2, dated=True)


def test_thresholds_of_the_user_go_before_the_bundles(context: Context) -> None:
    row = [[0.0, 1.0, 2.0, 3.0]]  # probabilities 0.5, 0.73, 0.88, 0.95
    assert codes(heard(context, row)[0]) == ["hergul", "winwre4", "comcuc", "eurrob1"]
    options = Confirm(thresholds={"European robin": 0.51, "COMCUC": 0.74, "Troglodyte mignon": 0.1})
    assert codes(heard(context, row, options=options)[0]) == ["hergul", "winwre4"]
    assert codes(heard(context, row, options=Confirm(threshold=0.9))[0]) == ["hergul"]
    options = Confirm(threshold=0.9, thresholds={"eurrob1": 0.2})
    assert codes(heard(context, row, options=options)[0]) == ["hergul", "eurrob1"]
    assert codes(heard(context, row, top_n=2)[0]) == ["hergul", "winwre4"]


def test_half_a_rule_of_the_user_bends_the_other_half(context: Context, bundle_path: Path, tmp_path: Path) -> None:
    detection_rules(bundle_path, 0.0, 2, 3)
    context = middle.context(bundle_path, tmp_path)
    always = [[5, -5, -5, -5]] * 6
    for options, first in ((Confirm(), 1), (Confirm(windows=1), 0), (Confirm(hits=5), 4), (Confirm(hits=1), 0)):
        found = heard(context, always, options=options)
        assert next(n for n, record in enumerate(found) if codes(record)) == first
    with pytest.raises(Refused, match="at most their number"):
        Confirm(hits=3, windows=2)


def test_species_lists(context: Context, tmp_path: Path) -> None:
    row = [[5.0] * 4]
    listed = "\ufeff# of the garden\neurrob1\nlarus argentatus  # at the coast\nnosuch1\n\n"
    (tmp_path / "list.txt").write_text(listed, encoding="utf-8")
    for options, expected in (
        (Confirm(species_list="list.txt"), {"eurrob1", "hergul"}),
        (Confirm(species_list="list.txt", include=("Coucou gris",)), {"eurrob1", "hergul", "comcuc"}),
        (Confirm(species_list="list.txt", exclude=("hergul",)), {"eurrob1"}),
        (Confirm(exclude=("hergul", "winwre4")), {"eurrob1", "comcuc"}),
        (Confirm(include=("hergul",)), set(CODES)),
    ):
        assert set(codes(heard(context, row, options=options)[0])) == expected
    # what is not reported takes no other's place
    found = heard(context, [[1.0, 4.0, 3.0, 2.0]], options=Confirm(exclude=("comcuc",)), top_n=2)
    assert codes(found[0]) == ["winwre4", "hergul"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (Confirm(thresholds={"robin": 0.7}), r"thresholds\.robin names 'robin', .* perhaps eurrob1 \(European Robin\)"),
        (Confirm(exclude=("blackbird",)), "exclude names 'blackbird', and the model has no such species"),
        (Confirm(include=("\x1b[31m",)), r"include names '\\x1b\[31m'"),
        (Confirm(include=(" ",)), "include names ' '"),
        (Confirm(species_list="missing.txt"), "cannot be read"),
        (Confirm(species_list="empty.txt"), "names none of the model's species"),
        (Confirm(species_list="latin.txt"), "is not UTF-8 text"),
        (Confirm(labels="empty.txt"), "its first line must be"),
    ],
)
def test_names_and_lists_that_cannot_be_are_told_at_once(
    options: Confirm, told: str, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\nblackbird\n")
    (tmp_path / "latin.txt").write_bytes("goéland".encode("latin-1"))
    with pytest.raises(NodeError, match=told) as caught:
        options.open(context)
    assert str(caught.value).isprintable()


def occurrence(*rows: tuple[str, str, str, list[float]]) -> bytes:
    header = ",".join(["ebird_code", "latitude", "longitude", *(f"week_{n}" for n in range(1, 49))])
    return "\n".join(
        [header, *(",".join([code, lat, lon, *map(str, weeks)]) for code, lat, lon, weeks in rows)]
    ).encode()


SUMMER = [0.0] * 16 + [0.5] * 16 + [0.0] * 16  # May to August


def with_occurrence(bundle_path: Path, content: bytes) -> None:
    (bundle_path / FILE).write_bytes(content)
    write_checksums(bundle_path)


def test_the_bundles_occurrence_limits_species_by_place_and_week(bundle_path: Path, tmp_path: Path) -> None:
    everywhere, nowhere = [0.9] * 48, [0.0] * 48
    with_occurrence(
        bundle_path,
        occurrence(
            ("comcuc", "48.1", "-4.5", SUMMER), ("hergul", "48.1", "-4.5", everywhere),
            ("hergul", "48.1", "-1.7", nowhere), ("other1", "48.1", "-1.7", nowhere),
        ),
    )  # fmt: skip
    brest = middle.context(bundle_path, tmp_path, latitude=48.4, longitude=-4.5)
    rennes = middle.context(bundle_path, tmp_path, latitude=48.1, longitude=-1.7)

    def in_month(context: Context, month: int | None, options: Confirm | None = None) -> set[str]:
        said = middle.predicted([5.0] * 4, middle.classifier())
        record = middle.at(0, audio=np.zeros(SIZE, np.float32), predictions=said)
        record.time = None if month is None else datetime.datetime(2026, month, 15, tzinfo=datetime.timezone.utc)
        (found,) = middle.through([(options or Confirm()).open(context)], [record])
        return set(codes(found))

    assert in_month(brest, 6) == set(CODES)
    assert in_month(brest, 12) == set(CODES) - {"comcuc"}
    assert in_month(brest, None) == set(CODES)  # some week has it
    assert in_month(rennes, 6) == set(CODES) - {"hergul"}  # of the cuckoo nothing is known there
    assert in_month(brest, 6, Confirm(occurrence=0.6)) == set(CODES) - {"comcuc"}
    assert in_month(brest, 12, Confirm(occurrence=0)) == set(CODES)
    assert in_month(brest, 12, Confirm(include=("comcuc",))) == set(CODES)
    assert in_month(brest, 6, Confirm(exclude=("comcuc",))) == set(CODES) - {"comcuc"}
    (tmp_path / "list.txt").write_text("comcuc\n")
    assert in_month(brest, 12, Confirm(species_list="list.txt")) == {"comcuc"}
    with pytest.raises(NodeError, match="say where the station stands"):
        Confirm().open(middle.context(bundle_path, tmp_path))
    Confirm(occurrence=0).open(middle.context(bundle_path, tmp_path))


def test_weeks_and_tables() -> None:
    days = [datetime.datetime(2028, 1, 1) + datetime.timedelta(days=n) for n in range(366)]
    weeks = Counter(week_of(day) for day in days)
    assert sorted(weeks) == list(range(48))
    assert (week_of(days[0]), week_of(days[-1]), min(weeks.values()), max(weeks.values())) == (0, 47, 7, 10)
    labels = tuple(Label(*row) for row in LABELS)
    plain = Occurrence.read(occurrence(("comcuc", "", "", SUMMER)), labels, None)
    assert plain.kilometers is None
    assert plain.likely(datetime.datetime(2026, 1, 1), 0.01).tolist() == [True, False, True, True]
    near = Occurrence.read(occurrence(("comcuc", "48.0", "-4.0", SUMMER)), labels, (48.0, -3.0))
    assert near.kilometers == pytest.approx(74.4, abs=0.5)
    good = occurrence(("comcuc", "48", "-4", SUMMER)).decode()
    for bad in (
        "", "ebird_code\n", good.split("\n")[0], good + ",1", good.replace("0.5", "1.5"), good.replace("0.5", "nan"),
        good.replace(",48,", ",98,"), good.replace(",48,", ",,"), good.replace("comcuc", ""), good + "\n\xff",
    ):  # fmt: skip
        with pytest.raises(BundleError, match="again"):
            Occurrence.read(bad.encode("latin-1"), labels, None)


def test_a_model_without_thresholds_needs_one(context: Context) -> None:
    model = middle.classifier()
    bare = type(model)(model.labels, model.scoring, None, model.top_n, "own.tflite")
    record = middle.at(0, predictions=middle.predicted([5, -5, -5, -5], bare))
    with pytest.raises(NodeError, match=r"'own\.tflite' has no thresholds of its own; set threshold"):
        middle.through([Confirm().open(context)], [record])
    assert codes(middle.through([Confirm(threshold=0.5).open(context)], [record])[0]) == ["eurrob1"]
    other = type(model)(model.labels[:2], Scoring.plain(2), None, 3, "own.tflite")
    record = middle.at(0, predictions=middle.predicted([5, -5], other))
    with pytest.raises(NodeError, match="other labels than expected"):
        middle.through([Confirm(threshold=0.5).open(context)], [record])


def test_ids_are_the_same_when_a_file_is_heard_again(bundle_path: Path, wav: Path, tmp_path: Path) -> None:
    def ids() -> list[str]:
        context = middle.context(bundle_path, tmp_path)
        nodes = [options.open(context) for options in (Wasm(), Tflite(), Confirm(threshold=0.01))]
        records = middle.through(nodes, middle.of_file(wav), str(wav))
        return [seen.id for record in records for seen in record.columns["observations"]]

    first = ids()
    assert len(set(first)) == len(first) > 4
    assert ids() == first
