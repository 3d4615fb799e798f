"""A station's delivery that is killed again and again: ``killed.py STATE OPTIONS_JSON KILLS SEED``.

Each round forks a child, which opens the http node, observes, and writes each id to the file STATE/put when ``process``
has returned for it; and kills it, SIGKILL, at a random moment. The last child is left alone until its queue is empty.
The children are forked, not started, so that the moments fall into their work and not into imports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from labous.nodes.http import Http
from labous.options import parse
from tests.station.deliveries import context, record, total, wait_until


def live(state: Path, keys: dict[str, object], seed: int) -> NoReturn:
    """A run of the station, until it is killed."""
    rng = random.Random(seed)
    random.seed(seed)  # of the pauses between attempts; forked children would all have the same
    here = context(state)
    node = parse(Http, keys).open(here)
    put = os.open(state / "put", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for n in range(10**9):
        heard = record(*(f"sp{i}" for i in range(rng.randrange(1, 4))), at=seed * 1e6 + n)
        list(node.process(heard))
        # one write, without a buffer: a kill leaves all of it or nothing
        os.write(put, "".join(f"{o.id}\n" for o in heard.columns["observations"]).encode())
        time.sleep(rng.random() * 0.004)
    raise AssertionError


def main() -> None:
    state, keys, kills, seed = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)
    state.mkdir(parents=True, exist_ok=True)
    for n in range(kills):
        child = os.fork()
        if child == 0:
            live(state, keys, n)
        time.sleep(rng.random() ** 2 * 0.4)  # often while it opens its queue
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"child {n} ended by itself: {status}"
    here = context(state)
    node = parse(Http, keys).open(here)
    wait_until(lambda: total(here.counters, "queue_events") == 0, 120)
    node.close()
    print(json.dumps(dict(here.counters.read())))


if __name__ == "__main__":
    main()
