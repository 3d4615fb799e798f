"""Several replicas and several hosts train what one would."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.config import CONF_DIR
from training.errors import ConfigError
from training.strategies import Task, Team, task

pytestmark = pytest.mark.tensorflow

HERE = Path(__file__).parent
WORKER = [sys.executable, str(HERE / "fit_fixtures.py")]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def start(strategy: str, place: Path, *words: str, config: str | None = None) -> subprocess.Popen[str]:
    environment = dict(os.environ) | QUIET | {"PYTHONPATH": str(CONF_DIR.parent)}
    if config is not None:
        environment["TF_CONFIG"] = config
    return subprocess.Popen(
        [*WORKER, strategy, str(place), *words],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finished(process: subprocess.Popen[str], place: Path, worker: int = 0) -> tuple[list[np.ndarray], list[dict], str]:
    """Weights, history and what a worker that ended well has said."""
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, said + errors
    with np.load(place / f"weights-{worker}.npz") as arrays:
        weights = [arrays[name] for name in arrays.files]
    return weights, json.loads((place / f"history-{worker}.json").read_text()), said


def configs(n: int = 2) -> list[str]:
    """A TF_CONFIG for each of n workers here, on ports that are free."""
    sockets = [socket.socket() for _ in range(n)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{opened.getsockname()[1]}" for opened in sockets]
    for opened in sockets:
        opened.close()
    return [json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}) for i in range(n)]


def assert_close(first: tuple, second: tuple) -> None:
    for a, b in zip(first[0], second[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    for one, other in zip(first[1], second[1], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def run_workers(place: Path, *words: str) -> list[tuple[list[np.ndarray], list[dict], str]]:
    processes = [start("multi_worker", place, *words, config=config) for config in configs()]
    return [finished(process, place, i) for i, process in enumerate(processes)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same training in one replica."""
    place = tmp_path_factory.mktemp("alone")
    return finished(start("none", place, "ema=0.9"), place)


@pytest.mark.slow
def test_two_workers_end_with_the_weights_of_one_interrupted_or_not(alone, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    chief, other = run_workers(whole, "ema=0.9")
    for a, b in zip(chief[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert chief[1] == other[1]
    assert_close(chief, alone)
    # the chief writes files, the others do not
    assert (whole / "worker-0/checkpoint/best.keras").is_file()
    assert (whole / "worker-0/timing.json").is_file()
    assert not list((whole / "worker-1").glob("[!0-9]*"))

    run_workers(parts, "ema=0.9", "stop=1")
    # the second has nothing to continue from but the chief's words
    again = run_workers(parts, "ema=0.9")
    assert "continues after epoch 1" in again[0][2]
    assert again[1][2] == ""
    for worker in again:
        assert worker[1] == chief[1]
        for a, b in zip(worker[0], chief[0], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_two_devices_end_with_the_weights_of_one(alone, tmp_path, precision):
    mirrored = finished(start("mirrored", tmp_path, "ema=0.9", f'precision="{precision}"'), tmp_path)
    if precision == "float32":
        assert_close(mirrored, alone)
    for one, other in zip(mirrored[1], alone[1], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.05)


@pytest.mark.slow
def test_two_workers_learn_from_a_teacher_with_muon_as_one_does(tmp_path):
    words = ("taught=true", 'optimizer="muon"')
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    alone = finished(start("none", one, *words), one)
    chief, other = run_workers(two, *words)
    for a, b in zip(chief[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    for together, single in zip(chief[1], alone[1], strict=True):
        # orthogonal steps follow directions of no weight as well, so that rounding shows sooner
        assert together["loss"] == pytest.approx(single["loss"], rel=0.02)


@pytest.mark.slow
def test_a_worker_set_up_otherwise_says_so_and_the_others_do_not_wait_for_ever(tmp_path):
    chief, other = (
        start("multi_worker", tmp_path, f'key="{key}"', config=config)
        for key, config in zip(("one", "other"), configs(), strict=True)
    )
    for process, said in (
        (other, "another configuration, other code or other prepared data"),
        (chief, "has lost another"),
    ):
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 1, errors
        assert said in errors
        assert "Traceback" not in errors


def test_one_replica_takes_every_batch_whole():
    team = Team("none")
    assert (team.replicas, team.worker, team.is_chief) == (1, 0, True)
    assert team.rows(7) == range(7)
    assert team.as_the_chief_says([1, "é", None]) == [1, "é", None]


@pytest.mark.parametrize(
    ("replicas", "workers", "worker", "rows"), [(2, 2, 1, range(4, 8)), (4, 2, 0, range(4)), (4, 1, 0, range(8))]
)
def test_each_worker_makes_its_part_of_a_batch(replicas, workers, worker, rows):
    team = Team("none")
    team.replicas, team._workers, team.worker = replicas, workers, worker
    assert team.rows(8) == rows
    with pytest.raises(ConfigError, match=f"fit.batch_size is 7, which {replicas} replicas cannot share"):
        team.rows(7)


def cluster(kind="worker", index=0, **addresses):
    return json.dumps({"cluster": addresses or {"worker": ["a:1", "b:2"]}, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (cluster(), Task(0, 2)),
        (cluster(index=1), Task(1, 2)),
        (cluster("chief", 0, chief=["c:0"], worker=["a:1", "b:2"]), Task(0, 3)),
        (cluster("worker", 1, chief=["c:0"], worker=["a:1", "b:2"]), Task(2, 3)),
    ],
)
def test_tf_config_says_who_one_is(monkeypatch, config, found):
    monkeypatch.setenv("TF_CONFIG", config)
    assert task() == found
    assert task().is_chief == (found.number == 0)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (None, "TF_CONFIG is not set; set it on each host"),
        ("", "TF_CONFIG is not set"),
        ("{", "cannot be understood"),
        ("[]", "cannot be understood"),
        ('{"cluster": {}}', "cannot be understood"),
        (cluster(index=2), "the task is one of the cluster's"),
        (cluster("evaluator"), "the task is one of the cluster's"),
        (cluster("worker", 0, worker=["a", "b:2"]), "'a', which is not host:port"),
        (cluster("worker", 0, worker=["a:x"]), "'a:x', which is not host:port"),
    ],
)
def test_a_broken_tf_config_is_told_in_a_sentence(monkeypatch, config, told):
    if config is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ConfigError, match=told) as caught:
        Team("multi_worker")
    assert "\n" not in str(caught.value)
