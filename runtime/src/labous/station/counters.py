"""Numbers that tell how a station fares: counted by its nodes, read by status, the log and Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Mapping


class Counters:
    """Named numbers; any thread may change and read them.

    Names are Prometheus's without the prefix: ``windows_total``, ``audio_dropped_seconds_total``, ``queue_bytes``.
    Those that end in ``_total`` only grow. A name may carry labels: ``sink_errors_total{node="http"}``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, float] = {}

    def add(self, name: str, amount: float = 1) -> None:
        """Count."""
        with self._lock:
            self._values[name] = self._values.get(name, 0) + amount

    def set(self, name: str, value: float) -> None:
        """What is now so."""
        with self._lock:
            self._values[name] = value

    def read(self) -> Mapping[str, float]:
        """All of them, as they are now, by name."""
        with self._lock:
            return dict(sorted(self._values.items()))
