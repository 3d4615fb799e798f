"""Preparation: what it writes, what it does not do twice, and that neither engine nor interruption shows in it."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.few import few
from tests.training.preparing import Noises, contents, settings_for, write
from training import segments
from training.errors import ConfigError, StageError
from training.features import conf_frontends
from training.preparation import engines, journal
from training.preparation.dask_engine import DaskEngine, do, introduction
from training.preparation.engines import LocalEngine
from training.prepare import prepare
from training.prepared import BACKGROUND_COLUMNS, read_backgrounds, read_prepared, read_table
from training.segments import WHOLE, Extraction, Job, size_of
from training.stages import ROOT


@pytest.fixture
def noises(tmp_path):
    return Noises.made(tmp_path / "root")


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that are decoded."""
    names = []
    read_blocks = segments.read_blocks

    def counted(path, rate):
        names.append(path.rsplit("/", 1)[-1])
        return read_blocks(path, rate)

    monkeypatch.setattr(segments, "read_blocks", counted)
    return names


@pytest.fixture
def settled(monkeypatch):
    """As if every file were older than it is: old enough that its times can be trusted."""
    monkeypatch.setattr(journal, "_SETTLED_NS", -1)


def test_the_tables(noises, tmp_path):
    place = tmp_path / "prepared"
    prepare(settings_for(noises, place))
    recordings, soundscapes, _ = read_prepared(place, noises.root)
    assert len(recordings) == 15
    assert recordings.seconds.tolist() == [1.0 + k % 7 for k in range(15)]
    assert all((place / feature).is_file() for feature in recordings.feature)
    backgrounds = read_backgrounds(place, noises.root)
    assert tuple(backgrounds.columns) == (*BACKGROUND_COLUMNS, "path")
    assert len(backgrounds) == 11
    by_row = backgrounds.set_index(["recording_id", "start_seconds"])
    assert by_row.seconds["scenes/0.wav", 12.5] == 7.5
    assert by_row.seconds["a/0.wav", 0.25] == 0.5
    assert np.isnan(by_row.end_seconds["rain/0.wav", 0.0])
    assert np.load(place / by_row.feature["scenes/0.wav", 12.5]).shape == (1, 64, 1 + (7.5 * 32_000 - 1024) // 500)
    assert np.load(place / by_row.feature["a/0.wav", 0.25]).shape == (1, 64, 318)
    assert by_row.path["rain/0.wav", 0.0] == str(noises.root / "rain/0.wav")

    sides = pd.concat([recordings[["author", "split"]], backgrounds[["author", "split"]]])
    assert (sides.groupby("author").split.nunique() == 1).all()
    scenes = soundscapes.groupby("recording_id").split.first()
    stretches = backgrounds[backgrounds.recording_id.str.startswith("scenes")]
    assert (stretches.split == stretches.recording_id.map(scenes)).all()

    summary = json.loads((place / "summary.json").read_text())
    assert summary["backgrounds"] == sum(summary["backgrounds_by_split"].values()) == 11
    assert summary["background_hours"] == round((2 * 12.5 + 6 * 6.0 + 0.5) / 3600, 4)
    assert read_table(place / "removed.csv").detail.tolist() == ["2.0", "1.0", "XC1"]
    assert summary["removed"] == {"rating": 2, "twice": 1}
    assert summary["removed_by_species"] == {"a": {"rating": 1}, "b": {"rating": 1, "twice": 1}}


def test_no_backgrounds_is_an_empty_table(noises, tmp_path):
    noises.background_rows = noises.removed_rows = noises.soundscape_rows = []
    prepare(settings_for(noises, tmp_path / "prepared"))
    backgrounds = read_backgrounds(tmp_path / "prepared", noises.root)
    assert backgrounds.empty
    assert tuple(backgrounds.columns) == (*BACKGROUND_COLUMNS, "path")
    assert backgrounds.end_seconds.dtype == float


def test_backgrounds_that_cannot_be_used_are_listed(noises, tmp_path):
    (noises.root / "rain/3.wav").write_bytes(b"no sound")
    noises.background_rows.append(("rain/4.wav", 60.0, 65.0, "weather 2"))
    prepare(settings_for(noises, tmp_path / "prepared"))
    skipped = read_table(tmp_path / "prepared/skipped.csv")
    assert skipped.recording_id.tolist() == ["rain/3.wav", "rain/4.wav"]
    assert "ends at 6.0 s" in skipped.reason[1]
    assert len(read_backgrounds(tmp_path / "prepared", noises.root)) == 10


def test_what_was_written_last_time_does_not_stay(noises, tmp_path):
    place = tmp_path / "prepared"
    prepare(settings_for(noises, place))
    noises.background_rows = noises.background_rows[:2]
    noises.recording_rows = noises.recording_rows[:9]
    (place / "features/left-by-a-killed-run").write_text("")
    prepare(settings_for(noises, place))
    kept = {*read_table(place / "recordings.csv").feature, *read_table(place / "backgrounds.csv").feature}
    assert {name for name in contents(place) if name.startswith("features")} == kept


@pytest.mark.parametrize(("test", "scenes"), few([(0.2, False), (0.0, True), (0.0, False)], 1))
def test_to_train_on_everything(noises, tmp_path, capsys, test, scenes):
    if not scenes:
        noises.soundscape_rows.clear()
    prepare(settings_for(noises, tmp_path / "prepared", "split.valid=0", f"split.test={test}"))
    recordings, *_ = read_prepared(tmp_path / "prepared", noises.root)
    assert set(recordings.split) == ({"train", "test"} if test else {"train"})
    told = capsys.readouterr().out
    assert "no test recording" not in told
    assert ("nothing is held out" in told) == (not test and not scenes)


@pytest.mark.slow
def test_every_recordist_is_tested_in_one_fold(noises, tmp_path):
    sides = []
    for fold in range(3):
        prepare(settings_for(noises, tmp_path / "prepared", "split.folds=3", f"split.fold={fold}"))
        recordings, *_ = read_prepared(tmp_path / "prepared", noises.root)
        sides.append(recordings.split)
        assert (recordings.groupby("author").split.nunique() == 1).all()
        assert set(recordings[recordings.split == "train"].primary_label) == set("abc")
    assert (sum((side == "test").astype(int) for side in sides) == 1).all()


# the journal


def test_nothing_is_decoded_twice(noises, tmp_path, settled, decoded):
    place = tmp_path / "prepared"
    prepare(settings_for(noises, place))
    first, n_files = contents(place), len(decoded)
    assert n_files == 15 + 2 + 6 + 1  # a/0.wav twice, whole and for its stretch
    prepare(settings_for(noises, place))
    assert len(decoded) == n_files
    assert contents(place) == first


@pytest.mark.slow
def test_what_has_other_times_or_another_place_is_not_decoded_again(noises, tmp_path, settled, decoded):
    place = tmp_path / "prepared"
    prepare(settings_for(noises, place))
    first = contents(place)
    decoded.clear()
    os.utime(noises.root / "a/1.wav", (1, 1))
    prepare(settings_for(noises, place))
    shutil.copytree(noises.root, tmp_path / "copy")
    prepare(settings_for(dataclasses.replace(noises, root=tmp_path / "copy"), place))
    assert decoded == []
    assert contents(place) == first


@pytest.mark.parametrize("young", few([False, True], 1))
def test_a_changed_file_is_noticed(noises, tmp_path, monkeypatch, decoded, young):
    monkeypatch.setattr(journal, "_SETTLED_NS", 3600e9 if young else -1)
    place, changed = tmp_path / "prepared", noises.root / "a/1.wav"
    prepare(settings_for(noises, place))
    before, stat = read_prepared(place, noises.root)[0], changed.stat()
    decoded.clear()
    write(changed, 2.0, 77)
    os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert changed.stat().st_size == stat.st_size
    prepare(settings_for(noises, place))
    after = read_prepared(place, noises.root)[0]
    assert decoded == ["1.wav"]
    assert after.recording_id[before.feature != after.feature].tolist() == ["a/1.wav"]


@pytest.mark.slow
def test_a_lost_or_cut_feature_is_computed_again(noises, tmp_path, settled, decoded):
    place = tmp_path / "prepared"
    prepare(settings_for(noises, place))
    first, recordings = contents(place), read_prepared(place, noises.root)[0].set_index("recording_id")
    decoded.clear()
    (place / recordings.feature["a/1.wav"]).unlink()
    cut = place / recordings.feature["b/2.wav"]
    cut.write_bytes(cut.read_bytes()[:-10])
    prepare(settings_for(noises, place))
    assert sorted(decoded) == ["1.wav", "2.wav"]
    assert contents(place) == first


@pytest.mark.slow
def test_what_could_not_be_read_is_tried_again(noises, tmp_path, settled):
    place = tmp_path / "prepared"
    damaged = noises.root / "a/1.wav"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:1000])
    prepare(settings_for(noises, place))
    assert len(read_table(place / "skipped.csv")) == 1
    damaged.write_bytes(whole)
    prepare(settings_for(noises, place))
    assert read_table(place / "skipped.csv").empty


@pytest.mark.slow
def test_other_work_and_lines_cut_short_are_forgotten(noises, tmp_path, settled, decoded):
    place = tmp_path / "prepared"
    prepare(settings_for(noises, place))
    path = tmp_path / ".prepared.journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 15 + 2 + 6
    decoded.clear()
    path.write_text("".join(lines[:-1]) + lines[-1][:40])
    prepare(settings_for(noises, place))
    assert len(decoded) == 1
    assert path.read_text() == "".join(lines)
    decoded.clear()
    path.write_text("".join(lines)[:-1])  # all but the end of the last line
    prepare(settings_for(noises, place))
    assert decoded == []
    prepare(settings_for(noises, place, "features.backend=wasm"))
    assert len(decoded) == 15 + 2 + 6 + 1
    assert len(path.read_text().splitlines()) == 15 + 2 + 6


# engines


@pytest.fixture
def work(tmp_path):
    return Extraction(conf_frontends()["mel64"], "native", "code", tmp_path / "prepared")


@pytest.mark.slow
def test_few_jobs_are_on_their_way_at_once(work, tmp_path):
    path, taken = str(write(tmp_path / "r.wav", 1.0, 1)), 0

    def jobs():
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield Job(path, (WHOLE,), size_of(path))

    for done, outcome in enumerate(LocalEngine(work, 2).run(jobs())):
        assert outcome.seconds == 1.0
        assert taken <= done + 2 * engines._AHEAD + 2
    assert taken == done + 1 == 100


def test_a_worker_that_is_killed_is_told():
    with pytest.raises(StageError, match=r"worker process ended .* continues"):
        list(LocalEngine(signal.raise_signal, 2).run([signal.SIGKILL]))


@pytest.mark.slow
def test_a_run_that_was_killed_is_continued(tmp_path):
    """Whenever it is killed; with the bytes of one that was not, and no process left behind."""
    noises = Noises.made(tmp_path / "root", per_label=60)

    def started(place):
        words = ["dataset=folder", f"dataset.root={noises.root}", "features.backend=native", f"paths.prepared={place}"]
        return subprocess.Popen(
            [sys.executable, "-m", "training.prepare", *words], cwd=ROOT, start_new_session=True, text=True
        )

    shutil.rmtree(noises.root / "scenes")
    shutil.rmtree(noises.root / "rain")
    time.sleep(2.1)  # then the files are old enough
    assert started(tmp_path / "whole").wait(timeout=120) == 0
    place, lines = tmp_path / "killed", tmp_path / ".killed.journal.jsonl"
    for at in (1, 40, 90):
        process = started(place)
        while not lines.exists() or lines.read_text().count("\n") < at:
            assert process.poll() is None, "it was over before it could be killed"
            time.sleep(0.002)
        process.kill()
        process.wait()
        kept = lines.read_text().count("\n")
        assert at <= kept < 180
        deadline = time.monotonic() + 10
        while processes_of(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_of(process.pid) == []
        assert not (place / "recordings.csv").exists()
    assert started(place).wait(timeout=120) == 0
    assert contents(place) == contents(tmp_path / "whole")


def processes_of(session):
    """Ids of the processes of a session that are not over."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def dask_settings(dataset, place, scheduler):
    return settings_for(dataset, place, "features.engine=dask", f"dask.scheduler={scheduler}", "dask.timeout=20")


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0") as cluster:
        yield cluster


@pytest.mark.slow
def test_two_dask_workers_write_the_same_bytes(noises, tmp_path, cluster):
    (noises.root / "c/1.wav").write_bytes(b"no sound")
    prepare(settings_for(noises, tmp_path / "local"))
    prepare(dask_settings(noises, tmp_path / "dask", cluster.scheduler_address))
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")
    assert len(read_table(tmp_path / "dask/skipped.csv")) == 1


@pytest.mark.slow
def test_few_dask_jobs_are_on_their_way_at_once(work, noises, tmp_path, cluster):
    told = dask_settings(noises, tmp_path, cluster.scheduler_address).dask
    path, taken = str(write(tmp_path / "r.wav", 1.0, 1)), 0
    code = segments.feature_code("native")

    def jobs():
        nonlocal taken
        for _ in range(60):
            taken += 1
            yield Job(path, (WHOLE,), size_of(path))

    (work.place / "features").mkdir(parents=True)
    for done, _ in enumerate(DaskEngine(dataclasses.replace(work, code=code), told).run(jobs())):
        assert taken <= done + 1 + 4 * 4
    assert taken == done + 1 == 60
    assert {name.split("/")[1][0] for name in contents(work.place)} != {"."}


@pytest.mark.slow
def test_a_dask_worker_without_this_code_is_told(noises, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, processes=False, protocol="tcp", dashboard_address=":0") as cluster:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        with pytest.raises(StageError, match=r"no workers after 2 s; start workers"):
            list(
                DaskEngine(
                    Extraction(conf_frontends()["mel64"], "native", "", tmp_path),
                    dataclasses.replace(dask_settings(noises, tmp_path, cluster.scheduler_address).dask, timeout=2.0),
                ).run([])
            )
        with subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--no-nanny"],
            cwd=elsewhere,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as worker:
            try:
                with pytest.raises(StageError, match=r"cannot run this code \(No module named 'training'\); start"):
                    prepare(dask_settings(noises, tmp_path / "prepared", cluster.scheduler_address))
            finally:
                worker.terminate()


def test_dask_without_a_scheduler_is_a_mistake(noises, tmp_path):
    with pytest.raises(ConfigError, match=r"add dask\.scheduler=tcp://"):
        prepare(settings_for(noises, tmp_path / "prepared", "features.engine=dask"))


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["tcp://127.0.0.1:9", "nonsense://127.0.0.1:9", "127.0.0.1:port"])
def test_a_scheduler_that_cannot_be_reached_is_told(noises, tmp_path, scheduler):
    overrides = ("features.engine=dask", f"dask.scheduler='{scheduler}'", "dask.timeout=0.5")
    with pytest.raises(StageError, match=r"cannot be reached within 0\.5 s"):
        prepare(settings_for(noises, tmp_path / "prepared", *overrides))


def test_a_dask_worker_of_another_version_or_on_other_files_is_told(work, tmp_path):
    path = str(write(tmp_path / "r.wav", 1.0, 1))
    job, ours, sign = Job(path, (WHOLE,), size_of(path)), introduction("native"), tmp_path / "sign"
    with pytest.raises(StageError, match=r"does not see .*prepared.*same paths"):
        do(work, job, ours, sign)
    sign.write_text("")
    assert do(work, job, ours, sign).seconds == 1.0
    for what in ("code of version", "soxr"):
        with pytest.raises(StageError, match=f"has {what} .* and the process that asked it 0.0; start workers"):
            do(work, job, ours | {what: "0.0"}, sign)
