"""500 kills while detections flow to a receiver that itself fails at random."""

from __future__ import annotations

import collections
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.counts import Counted
from tests.station.deliveries import HURRY, certificates, contexts
from tests.station.receiver import Fate, receiving

FAILURES = {
    "refuses": Fate(reset=True),
    "hangs": Fate(hangs=True, keeps=False),
    "hangs with them": Fate(hangs=True, keeps=True),
    "half an answer": Fate(cut=20, keeps=False),
    "half an answer, with them": Fate(cut=60, body=b"x" * 100, keeps=True),
    "500": Fate(status=500),
    "500 with them": Fate(status=500, keeps=True),
    "429": Fate(status=429, headers=(("Retry-After", "0"),)),
    "503": Fate(status=503),
    "wrong certificate": Fate(wrong_certificate=True),
}


@pytest.mark.parametrize("kills", [10, pytest.param(500, marks=pytest.mark.slow)])
def test_every_detection_arrives_and_none_twice(kills: int, tmp_path: Path, counted: Counted) -> None:
    made = certificates(tmp_path)
    rng, fates = random.Random(kills), collections.Counter[str]()

    def fate() -> Fate:
        name = "takes them" if rng.random() < 0.4 else rng.choice(list(FAILURES))
        fates[name] += 1
        return FAILURES.get(name, Fate())

    state = tmp_path / "state"
    with receiving(fate, contexts(made)) as receiver:
        keys = HURRY | {"url": receiver.url, "ca_file": str(made["good"]), "timeout_seconds": 0.2, "batch_events": 50}
        ended = subprocess.run(
            [sys.executable, "-m", "tests.station.killed", str(state), json.dumps(keys), str(kills), "1"],
            cwd=Path(__file__).parents[2], check=False, stdout=subprocess.PIPE, text=True, timeout=600,
        )  # fmt: skip
    assert ended.returncode == 0
    put = (state / "put").read_text().split()
    assert len(put) == len(set(put)) > kills
    missing = set(put) - set(receiver.kept)
    beyond = set(receiver.kept) - set(put)
    last = json.loads(ended.stdout.splitlines()[-1])
    counted(
        f"{kills} kills of the delivery",
        f"{len(put):,} detections put, {len(put) - len(missing):,} arrived, {len(missing)} missing, "
        f"{receiver.repeats:,} repeats dropped by id, {len(beyond)} arrived whose put was cut short by a kill; "
        f"{sum(fates.values()):,} connections: " + ", ".join(f"{n} {name}" for name, n in sorted(fates.items())),
    )
    assert not missing
    # a kill may fall between the commit and the writing down of what was put; such events are real too, and few
    assert len(beyond) <= 3 * kills
    assert all(event["id"] == name for name, event in receiver.kept.items())
    occurrences = [event["data"]["dynamicProperties"]["startSeconds"] for event in receiver.kept.values()]
    heard = {(start, event["subject"]) for start, event in zip(occurrences, receiver.kept.values(), strict=True)}
    assert len(heard) == len(receiver.kept), "one id per detection"
    assert last['queue_events{node="http"}'] == 0
    assert not [path.name for path in state.iterdir() if "damaged" in path.name or path.name.endswith("-parked")]
