"""A dry run: prints what would be sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from ssm_stream.notify.charts.charts import Chart
from ssm_stream.notify.rendering import Text

Print = Callable[[str], None]
_LOCK = threading.Lock()


class PrintSender:
    """Prints messages to people, and requests to systems, in place of sending them."""

    max_length = 32_768
    takes_charts = False

    def __init__(self, name: str, write: Print) -> None:
        self._name, self._write = name, write

    def send(self, text: Text, *, urgent: bool, charts: Sequence[Chart] = (), again: bool = False) -> None:
        """Print a message to people."""
        with _LOCK:
            self._write(f"── {self._name}{' (urgent)' if urgent else ''} ── {text.title}\n{text.body}\n")

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Print a request."""
        kind = next((value for name, value in headers.items() if name == "ce-type"), "POST")
        with _LOCK:
            self._write(f"── {self._name} ── {kind}\n{body.decode('utf-8', 'replace')}\n")
