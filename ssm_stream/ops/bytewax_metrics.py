"""Bytewax's own metrics, collected from its server on this machine."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterable

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

TIMEOUT = 2.0
"""Seconds to wait for its response."""
OURS = ("process_", "python_", "ssm_stream_")
"""Prefixes of metrics that Bytewax's server repeats from the interpreter it shares with us."""


def free_port() -> int:
    """Return a port on which no process listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BytewaxMetrics(Collector):
    """Collects the metrics that Bytewax serves on a port; none while it does not serve."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        try:
            with urllib.request.urlopen(self._url, timeout=TIMEOUT) as response:
                text = response.read().decode()
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return []  # before the start and after the end
        return [family for family in text_string_to_metric_families(text) if not family.name.startswith(OURS)]
